//! A flamegraph, through inferno.

use crate::calltree::{CallTree, NodeHandle, Pruned};
use crate::modules::file_name;
use crate::output::folded;
use crate::symbols::{Frame, Names};
use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap, StrokeColor};
use inferno::flamegraph::{self, Options};
use rustc_hash::FxHashMap;
use std::io::{self, Write};
use std::path::Path;

/// Branches below this share of the whole are gathered: at 1200 pixels they are 0.6 wide.
pub const LEAST: f64 = 0.0005;

const BACKGROUND: Color = Color { r: 0xfa, g: 0xfa, b: 0xfa };

/// Of what is of no module.
const GREY: Color = Color { r: 0xd8, g: 0xd8, b: 0xd8 };

/// What stands above the picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captions {
    /// What is drawn, and how much.
    pub title: String,
    /// What a width means, and what it rests on.
    pub subtitle: String,
}

/// Draws the branches of a tree.
///
/// # Errors
/// Those of `out`.
pub fn write<V>(
    tree: &CallTree<V>,
    pruned: &Pruned,
    names: &Names,
    captions: &Captions,
    mut out: impl Write,
) -> io::Result<()> {
    let labels = Labels::new(tree, pruned, names);
    let lines = folded::lines(pruned, |node| labels.path(tree, node));
    let lines: Vec<String> = lines
        .into_iter()
        .filter(|(_, bytes)| *bytes >= 0.5)
        .map(|(stack, bytes)| format!("{stack} {bytes:.0}"))
        .collect();
    if lines.is_empty() {
        return write_empty(captions, out);
    }
    let mut palette = labels.palette;
    let mut options = Options::default();
    options.title = captions.title.clone();
    options.subtitle = Some(captions.subtitle.clone());
    options.count_name = "bytes".to_owned();
    options.bgcolors = Some(BackgroundColor::Flat(BACKGROUND));
    options.stroke_color = StrokeColor::Color(BACKGROUND);
    options.palette_map = Some(&mut palette);
    options.deterministic = true;
    options.min_width = 0.0;
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut out)
}

/// inferno merges frames by their text: siblings that look alike and are not get different texts, by spaces of no
/// width.
struct Labels {
    by_node: FxHashMap<NodeHandle, String>,
    palette: PaletteMap,
}

impl Labels {
    fn new<V>(tree: &CallTree<V>, pruned: &Pruned, names: &Names) -> Labels {
        let mut labels = Labels { by_node: FxHashMap::default(), palette: PaletteMap::default() };
        let mut siblings = FxHashMap::<(Option<NodeHandle>, String), usize>::default();
        labels.palette.insert("", GREY);
        labels.palette.insert(folded::OTHER, GREY);
        for branch in &pruned.branches {
            let path: Vec<(NodeHandle, &Frame)> = tree.path(branch.node).collect();
            let mut parent = None;
            for (node, frame) in path.into_iter().rev() {
                if !labels.by_node.contains_key(&node) {
                    let name = folded::fold(names.get(frame.symbol));
                    let alike = siblings.entry((parent, name.clone())).or_default();
                    let label = name + &"\u{200b}".repeat(*alike);
                    *alike += 1;
                    let module = tree.symbols.get(frame.symbol).map_or("", |symbol| &*symbol.module);
                    labels.palette.insert(&label, color(module));
                    labels.by_node.insert(node, label);
                }
                parent = Some(node);
            }
        }
        labels
    }

    /// Outermost first.
    fn path<V>(&self, tree: &CallTree<V>, node: NodeHandle) -> Vec<String> {
        let label = |node| self.by_node.get(&node).cloned().unwrap_or_default();
        let mut path: Vec<String> = tree.path(node).map(|(node, _)| label(node)).collect();
        path.reverse();
        path
    }
}

/// One light colour for each module, dark enough to tell apart and light enough to read black text on.
fn color(module: &str) -> Color {
    let hash = file_name(Path::new(module)).bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hue = (hash % 360) as f64 / 60.0;
    let (chroma, least) = (0.22 + (hash >> 32 & 7) as f64 * 0.01, 0.68);
    let part = |offset: f64| {
        let k = (offset + hue) % 6.0;
        let share = k.min(4.0 - k).clamp(0.0, 1.0);
        ((least + chroma * (1.0 - share)) * 255.0) as u8
    };
    Color { r: part(5.0), g: part(3.0), b: part(1.0) }
}

/// inferno refuses to draw nothing.
fn write_empty(captions: &Captions, mut out: impl Write) -> io::Result<()> {
    let (title, subtitle) = (escape(&captions.title), escape(&captions.subtitle));
    writeln!(
        out,
        r##"<?xml version="1.0" standalone="no"?>
<svg version="1.1" width="1200" height="120" viewBox="0 0 1200 120" xmlns="http://www.w3.org/2000/svg">
<rect width="100%" height="100%" fill="#fafafa"/>
<g font-family="monospace" text-anchor="middle">
<text x="600" y="32" font-size="17">{title}</text>
<text x="600" y="58" font-size="12" fill="#606060">{subtitle}</text>
<text x="600" y="92" font-size="12">nothing to draw: no stack has any bytes</text>
</g>
</svg>"##
    )
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
