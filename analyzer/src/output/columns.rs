//! Figures in columns, and names: beside figures that are exact, else below the intervals of 95 % that stand below the figures.
//!
//! ```text
//!        RETAINED             COUNT
//!   95 % INTERVAL     95 % INTERVAL
//!               FUNCTION < CALLERS
//!        77.2 MiB           111,850
//! 65.0 – 91.2 MiB  94,164 – 132,119
//!               std::basic_string::_M_construct < serving::Session::GetOrCreateExecutors < …
//!               steady: +4.20 MiB/s (3.46 – 5.07 MiB/s)
//! ```

use crate::calltree::{CallTree, NodeHandle};
use crate::estimate::Estimated;
use crate::growth::Grown;
use crate::output::top;
use crate::symbols::Names;
use crate::units::{Bytes, Count, interval, plain};
use std::io::{self, Write};

/// How far lines are indented that belong to a row.
const INDENT: usize = 14;

/// The least room for a name beside figures; with less it goes to a line of its own.
const LEAST_NAME: usize = 20;

/// A figure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cell {
    text: String,
    /// Nothing where the figure is no estimate, or is exact.
    interval: Option<String>,
}

/// A row: figures, and what they are of.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) cells: Vec<Cell>,
    pub(crate) name: String,
    /// Of a stack: the function's callers, the nearest first.
    pub(crate) callers: Vec<String>,
    /// What else is said of it.
    pub(crate) note: Option<String>,
}

impl Cell {
    /// A figure that is no estimate.
    pub(crate) fn plain(text: impl ToString) -> Cell {
        Cell { text: text.to_string(), interval: None }
    }

    /// An estimate, with its 95 % interval.
    pub(crate) fn estimate<T: ToString>(of: impl Into<Estimated>, unit: impl Fn(f64) -> T) -> Cell {
        let Estimated { value, ci95 } = of.into();
        let interval = (ci95.0 < ci95.1).then(|| interval(ci95, &unit));
        Cell { text: unit(value).to_string(), interval }
    }

    /// Whether it has no interval.
    pub(crate) fn is_exact(&self) -> bool {
        self.interval.is_none()
    }

    fn width(&self) -> usize {
        self.interval.iter().chain([&self.text]).map(|text| text.chars().count()).max().unwrap_or(0)
    }
}

impl Line {
    /// Of a stack.
    pub(crate) fn of_stack<V>(
        cells: Vec<Cell>,
        tree: &CallTree<V>,
        node: NodeHandle,
        names: &Names,
        note: Option<String>,
    ) -> Line {
        let mut top = top::of_stack(tree, node, names).into_iter().map(str::to_owned);
        Line { cells, name: top.next().unwrap_or_default(), callers: top.collect(), note }
    }
}

/// Stands under the head of a column that has intervals.
const UNDER: &str = "95 % INTERVAL";

/// The width of each column, with the space before it.
pub(crate) fn widths(heads: &[&str], lines: &[Line]) -> Vec<usize> {
    let of_column = |(at, head): (usize, &&str)| {
        let cells = || lines.iter().filter_map(|line| line.cells.get(at));
        let under = if cells().any(|cell| cell.interval.is_some()) { UNDER.len() } else { 0 };
        let widest = cells().map(Cell::width).max().unwrap_or(0).max(head.chars().count()).max(under);
        if at == 0 { widest.max(10) } else { widest + 2 }
    };
    heads.iter().enumerate().map(of_column).collect()
}

/// Where things go on a line.
struct Layout {
    widths: Vec<usize>,
    width: usize,
    /// For names beside the figures, where that is where they go.
    beside: Option<usize>,
}

impl Layout {
    fn new(heads: &[&str], lines: &[Line], width: usize) -> Layout {
        let widths = widths(heads, lines);
        let are_exact = lines.iter().flat_map(|line| &line.cells).all(Cell::is_exact);
        let room = width.saturating_sub(widths.iter().sum::<usize>() + 2);
        Layout { widths, width, beside: (are_exact && room >= LEAST_NAME).then_some(room) }
    }

    fn write_row(
        &self,
        texts: &[&str],
        under: &[&str],
        (name, callers): (&str, &[String]),
        out: &mut impl Write,
    ) -> io::Result<()> {
        if let Some(room) = self.beside {
            writeln!(out, "{}  {}", self.figures(texts), cut(name, room))?;
            let callers = chain("", callers, self.width);
            return if callers.is_empty() { Ok(()) } else { writeln!(out, "{callers}") };
        }
        writeln!(out, "{}", self.figures(texts))?;
        if under.iter().any(|text| !text.is_empty()) {
            writeln!(out, "{}", self.figures(under).trim_end())?;
        }
        writeln!(out, "{}", chain(name, callers, self.width))
    }

    fn figures(&self, texts: &[&str]) -> String {
        texts.iter().zip(&self.widths).map(|(text, width)| format!("{text:>width$}")).collect()
    }

    fn write_line(&self, line: &Line, out: &mut impl Write) -> io::Result<()> {
        let texts: Vec<&str> = line.cells.iter().map(|cell| &*cell.text).collect();
        let under: Vec<&str> = line.cells.iter().map(|cell| cell.interval.as_deref().unwrap_or("")).collect();
        self.write_row(&texts, &under, (&line.name, &line.callers), out)?;
        let notes = line.note.iter().flat_map(|note| wrapped(note, self.width.saturating_sub(INDENT)));
        notes.into_iter().try_for_each(|note| writeln!(out, "{:INDENT$}{note}", ""))
    }
}

/// Writes heads and lines.
///
/// # Errors
/// Those of `out`.
pub(crate) fn write(
    (heads, name_head): (&[&str], &str),
    lines: &[Line],
    width: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    let layout = Layout::new(heads, lines, width);
    let under = |at: usize| {
        let mut cells = lines.iter().filter_map(|line| line.cells.get(at));
        if cells.any(|cell| cell.interval.is_some()) { UNDER } else { "" }
    };
    let under: Vec<&str> = (0..heads.len()).map(under).collect();
    layout.write_row(heads, &under, (name_head, &[]), out)?;
    lines.iter().try_for_each(|line| layout.write_line(line, out))
}

/// Says what is in the lines that are not shown: `12.7 MiB  in 3 more stacks (9.10 – 17.0 MiB)`.
///
/// # Errors
/// Those of `out`.
pub(crate) fn write_rest(rest: &Grown, (count, what): (usize, &str), out: &mut impl Write) -> io::Result<()> {
    let Estimated { value, ci95 } = rest.estimated_bytes();
    let range = if ci95.0 < ci95.1 { format!(" ({})", interval(ci95, Bytes)) } else { String::new() };
    let (bytes, number) = (Bytes(value).to_string(), Count(count as f64));
    writeln!(out, "{bytes:>10}  in {number} more {what}{}{range}", if count == 1 { "" } else { "s" })
}

/// A text in lines of at most `width` characters, where its words are no longer. A number stays with its unit, and the ends of
/// an interval with each other.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let text = plain(text);
    let is_number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '(');
    let mut lines = vec![String::new()];
    let (mut used, mut glued) = (0, String::new());
    let mut words = text.split(' ').peekable();
    while let Some(word) = words.next() {
        glued.push_str(word);
        let has_unit = is_number(word) && !word.ends_with(|c: char| ".,:)".contains(c));
        if words.peek().is_some_and(|next| has_unit || word == "–" || *next == "–") {
            glued.push(' ');
            continue;
        }
        let len = glued.chars().count();
        if used > 0 && used + 1 + len > width {
            lines.push(String::new());
            used = 0;
        }
        let Some(line) = lines.last_mut() else { continue };
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(&std::mem::take(&mut glued));
        used += len;
    }
    lines
}

/// A name with as many callers as fit into one line, at least one where there is no name.
fn chain(name: &str, callers: &[String], width: usize) -> String {
    let room = width.saturating_sub(INDENT).max(LEAST_NAME);
    let mut line = cut(name, room);
    for (i, caller) in callers.iter().enumerate() {
        let is_last = i + 1 == callers.len();
        let used = line.chars().count();
        let needed = 3 + caller.chars().count() + if is_last { 0 } else { 4 };
        if used > 0 && used + needed > room {
            line.push_str(" < …");
            break;
        }
        line.push_str(" < ");
        line.push_str(&cut(caller, room - 3));
    }
    if line.is_empty() { line } else { format!("{:INDENT$}{}", "", line.trim_start()) }
}

/// The last characters of a name, which say more than the first, and of a library the first; `…` for the rest.
pub(crate) fn cut(text: &str, width: usize) -> String {
    let text = plain(text);
    let len = text.chars().count();
    if len <= width {
        return text;
    }
    let is_library = text.ends_with(".so") || text.contains(".so.");
    if is_library {
        return text.chars().take(width.saturating_sub(1)).chain(['…']).collect();
    }
    ['…'].into_iter().chain(text.chars().skip(len + 1 - width)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_fill_the_line_and_no_more() {
        let callers = ["alpha", "beta", "gamma", "delta"].map(str::to_owned);
        assert_eq!(chain("", &callers, 100).trim(), "< alpha < beta < gamma < delta");
        assert_eq!(chain("leaf", &callers, 100).trim(), "leaf < alpha < beta < gamma < delta");
        let narrow = chain("", &callers, 36);
        assert_eq!(narrow.trim(), "< alpha < beta < …");
        assert!(narrow.chars().count() <= 36);
        assert_eq!(chain("", &[], 80), "");
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(cut("größer", 6), "größer");
        assert_eq!(cut("größer!", 6), "…ößer!");
        assert_eq!(cut("_umath.cpython-38-x86_64-linux-gnu.so", 12), "_umath.cpyt…");
        assert_eq!(cut("libgfortran-ed201abd.so.3.0.0", 12), "libgfortran…");
        assert_eq!(cut("libgfortran.so!fn+0x1240", 12), "…o!fn+0x1240");
    }

    #[test]
    fn what_belongs_together_stays_on_one_line() {
        let text = "It grew by 61.2 MiB (52.0 – 71.6 MiB), or 400 B – 1.2 KiB a second";
        assert_eq!(
            wrapped(text, 25),
            ["It grew by 61.2 MiB", "(52.0 – 71.6 MiB), or", "400 B – 1.2 KiB a second"]
        );
        assert_eq!(wrapped("", 10), [""]);
    }

    fn written(lines: &[Line], width: usize) -> Vec<String> {
        let mut out = Vec::new();
        write((&["BYTES", "COUNT"], "NAME"), lines, width, &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn intervals_stand_below_their_figures() {
        let about = |value, low, high| Estimated { value, ci95: (low, high) };
        let cells = vec![Cell::estimate(about(2048.0, 1024.0, 4096.0), Bytes), Cell::plain("7")];
        let line = |cells| Line { cells, name: "f".into(), callers: vec!["main".into()], note: None };
        let exact = Cell::estimate(about(512.0, 512.0, 512.0), Bytes);
        let lines = [line(cells), line(vec![exact, Cell::plain("12,345")])];
        assert_eq!(
            written(&lines, 60),
            [
                "          BYTES   COUNT",
                "  95 % INTERVAL",
                "              NAME",
                "       2.00 KiB       7",
                "1.00 – 4.00 KiB",
                "              f < main",
                "          512 B  12,345",
                "              f < main",
            ]
        );
        assert_eq!(
            written(&lines[1..], 60),
            ["     BYTES   COUNT  NAME", "     512 B  12,345  f", "              < main"]
        );
        assert_eq!(written(&lines[1..], 30)[..2], ["     BYTES   COUNT", "              NAME"]);
    }
}
