//! A timeline as SVG: the parts as areas upon each other, the resident set as a line above them, and what happened.
//!
//! The picture needs nothing else: no script, no style sheet, no font. Its colours are those of Okabe and Ito, which people
//! with any kind of colour vision tell apart.

use crate::output::axis::{size_step, time_ticks};
use crate::output::svg::escape;
use crate::output::table::lost;
use crate::output::timeline_text::interval;
use crate::timeline::{Series, Timeline};
use crate::units::{Bytes, Seconds, plain};
use crate::verdict::Name;
use std::fmt::Write as _;
use std::io;

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 1180.0;
const PLOT_HEIGHT: f64 = 400.0;

/// Of titles, before the first lane of marks.
const HEAD: f64 = 66.0;

/// Between two lines of small text.
const LINE: f64 = 15.0;

/// Of a character of small text, at most.
const CHARACTER: f64 = 6.6;

/// Lanes for the names of marks.
const LANES: usize = 4;

/// Marks, pauses and changes of the interval that are drawn, each.
const MOST: usize = 500;

/// Characters of a mark's name.
const MOST_CHARACTERS: usize = 28;

fn color(name: Option<Name>) -> &'static str {
    match name {
        Some(Name::Live) => "#d55e00",
        Some(Name::AllocatorOverhead) => "#e69f00",
        Some(Name::AllocatorHeld) => "#56b4e9",
        Some(Name::Mapped) => "#009e73",
        Some(Name::ThreadStacks) => "#cc79a7",
        Some(Name::FileShm) => "#f0e442",
        Some(Name::Tracer) => "#8c8c8c",
        Some(Name::CopyOnWrite | Name::Unexplained) | None => "#d9d9d9",
    }
}

const RESIDENT: &str = "#000000";
const LIVE: &str = "#7a3500";
const LIMIT: &str = "#a00000";
const MARK: &str = "#0072b2";

/// Draws all of it.
///
/// # Errors
/// Those of `out`.
pub fn write(timeline: &Timeline, mut out: impl io::Write) -> io::Result<()> {
    let mut svg = Svg::new(timeline);
    // Writing to a string does not fail.
    let _ = svg.draw();
    out.write_all(svg.finish().as_bytes())
}

struct Svg<'a> {
    timeline: &'a Timeline,
    span: (f64, f64),
    /// Bytes at the upper edge, and from one line to the next.
    top: f64,
    step: f64,
    /// Of the marks that are drawn.
    labels: Vec<Label>,
    /// Where the plot begins and ends.
    upper: f64,
    lower: f64,
    /// Where the next line of text goes.
    cursor: f64,
    body: String,
}

/// The name of a mark.
struct Label {
    text: String,
    /// Its left end.
    x: f64,
    /// Its lane; none where there is no room.
    lane: Option<usize>,
}

impl<'a> Svg<'a> {
    fn new(timeline: &'a Timeline) -> Svg<'a> {
        let highest = timeline.highest().max(timeline.limit_in_sight().unwrap_or(0)).max(1) as f64;
        let step = size_step(highest, 8);
        let top = (highest * 1.02 / step).ceil() * step;
        let mut svg = Svg {
            timeline,
            span: timeline.span(),
            top,
            step,
            labels: Vec::new(),
            upper: HEAD,
            lower: HEAD,
            cursor: HEAD,
            body: String::new(),
        };
        svg.labels = svg.place_labels();
        let lanes = svg.labels.iter().filter_map(|label| label.lane).map(|lane| lane + 1).max();
        svg.upper = HEAD + lanes.unwrap_or(0) as f64 * LINE + 6.0;
        svg.lower = svg.upper + PLOT_HEIGHT;
        svg
    }

    fn x(&self, at: f64) -> f64 {
        let (from, to) = self.span;
        let share = if to > from { ((at - from) / (to - from)).clamp(0.0, 1.0) } else { 0.0 };
        LEFT + share * (RIGHT - LEFT)
    }

    fn y(&self, bytes: f64) -> f64 {
        self.lower - (bytes / self.top).clamp(0.0, 1.0) * PLOT_HEIGHT
    }

    fn draw(&mut self) -> std::fmt::Result {
        self.draw_head()?;
        self.draw_scale()?;
        self.draw_areas()?;
        self.draw_pauses()?;
        self.draw_resident()?;
        self.draw_limit()?;
        self.draw_time()?;
        self.draw_marks()?;
        self.draw_intervals()?;
        self.draw_legend()
    }

    fn finish(self) -> String {
        let (height, body) = (self.cursor + LINE, self.body);
        let title = text(&self.timeline.title());
        format!(
            r##"<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<svg version="1.1" width="{WIDTH}" height="{height:.0}" viewBox="0 0 {WIDTH} {height:.0}" xmlns="http://www.w3.org/2000/svg" role="img" font-family="Verdana, DejaVu Sans, sans-serif" font-size="11">
<title>{title}</title>
<defs><pattern id="paused" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="8" height="8" fill="#000000" fill-opacity="0.06"/><rect width="2" height="8" fill="#000000" fill-opacity="0.25"/></pattern></defs>
<rect width="100%" height="100%" fill="#ffffff"/>
{body}</svg>
"##
        )
    }

    fn draw_head(&mut self) -> std::fmt::Result {
        let timeline = self.timeline;
        let title = text(&shorten(&timeline.title(), 120));
        writeln!(self.body, r#"<text x="{LEFT}" y="24" font-size="15">{title}</text>"#)?;
        let about = match timeline.resident {
            Some(_) => {
                "areas add up to the resident set and swap; the line of the live heap rises above its area where memory was never touched, or the samples overestimate it"
            }
            None => {
                "the recording has no measurements of the process's memory: this is about the live heap alone"
            }
        };
        let how = format!("live heap: {}; {}", timeline.recording, lost(timeline.lost_events));
        for (line, y) in [(how.as_str(), 42), (about, 57)] {
            writeln!(self.body, r##"<text x="{LEFT}" y="{y}" fill="#505050">{}</text>"##, text(line))?;
        }
        Ok(())
    }

    fn draw_scale(&mut self) -> std::fmt::Result {
        let lines = (self.top / self.step).round() as usize;
        for line in 0..=lines.min(20) {
            let bytes = line as f64 * self.step;
            let y = self.y(bytes);
            writeln!(
                self.body,
                r##"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="#e4e4e4"/><text x="{:.0}" y="{:.1}" text-anchor="end">{}</text>"##,
                LEFT - 8.0,
                y + 4.0,
                Bytes(bytes)
            )?;
        }
        Ok(())
    }

    fn draw_areas(&mut self) -> std::fmt::Result {
        let timeline = self.timeline;
        let instants = timeline.times.len();
        let areas: Vec<Vec<i64>> = (0..instants).map(|at| timeline.areas(at)).collect();
        let mut floor = vec![0.0; instants];
        for (number, part) in timeline.parts.iter().enumerate().filter(|(_, part)| !part.is_zero()) {
            let bytes = |areas: &Vec<i64>| areas.get(number).copied().unwrap_or(0) as f64;
            let top: Vec<f64> = floor.iter().zip(&areas).map(|(sum, areas)| sum + bytes(areas)).collect();
            let mut path = String::new();
            self.line(&mut path, timeline.times.iter().copied().zip(top.iter().copied()))?;
            let below = timeline.times.iter().copied().zip(floor.iter().copied()).rev();
            self.line_on(&mut path, "L", below)?;
            let (fill, words) = (color(part.name), text(part.words));
            writeln!(
                self.body,
                r#"<path class="part" d="{path}Z" fill="{fill}" fill-opacity="0.9"><title>{words}</title></path>"#
            )?;
            floor = top;
        }
        let live = timeline.times.iter().enumerate().map(|(number, at)| (*at, timeline.live(number) as f64));
        let mut path = String::new();
        self.line(&mut path, live)?;
        let words = text(Name::Live.words());
        writeln!(
            self.body,
            r#"<path class="live" d="{path}" fill="none" stroke="{LIVE}" stroke-width="1.4"><title>{words}</title></path>"#
        )
    }

    /// `M x y L x y …`, of seconds and bytes.
    fn line(&self, path: &mut String, points: impl Iterator<Item = (f64, f64)>) -> std::fmt::Result {
        self.line_on(path, "M", points)
    }

    fn line_on(
        &self,
        path: &mut String,
        first: &str,
        points: impl Iterator<Item = (f64, f64)>,
    ) -> std::fmt::Result {
        let mut command = first;
        for (at, bytes) in points {
            write!(path, "{command}{:.1} {:.1}", self.x(at), self.y(bytes))?;
            command = "L";
        }
        Ok(())
    }

    fn draw_resident(&mut self) -> std::fmt::Result {
        let Some(series) = &self.timeline.resident else { return Ok(()) };
        let known = self.timeline.times.iter().zip(&series.values);
        let mut known = known.filter_map(|(at, bytes)| Some((*at, (*bytes)? as f64)));
        let readings = self.timeline.readings.iter().map(|(at, bytes)| (*at, *bytes as f64));
        let first = known.next();
        let mut points: Vec<(f64, f64)> =
            first.into_iter().chain(readings).chain(known.next_back()).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut path = String::new();
        self.line(&mut path, points.into_iter())?;
        let words = text(series.words);
        writeln!(
            self.body,
            r#"<path class="resident" d="{path}" fill="none" stroke="{RESIDENT}" stroke-width="1.8"><title>{words}</title></path>"#
        )
    }

    fn draw_limit(&mut self) -> std::fmt::Result {
        let Some(limit) = self.timeline.limit_in_sight() else { return Ok(()) };
        let y = self.y(limit as f64);
        writeln!(
            self.body,
            r#"<path class="limit" d="M{LEFT} {y:.1}H{RIGHT}" stroke="{LIMIT}" stroke-width="1.5" stroke-dasharray="8 5"/><text x="{:.0}" y="{:.1}" text-anchor="end" fill="{LIMIT}">the control group's limit, {}</text>"#,
            RIGHT - 4.0,
            y - 4.0,
            Bytes(limit as f64)
        )
    }

    fn draw_time(&mut self) -> std::fmt::Result {
        let (upper, lower) = (self.upper, self.lower);
        writeln!(self.body, r##"<path d="M{LEFT} {upper}V{lower}H{RIGHT}" fill="none" stroke="#303030"/>"##)?;
        for tick in time_ticks(self.span, 12) {
            let (x, text) = (self.x(tick), Seconds(tick));
            writeln!(
                self.body,
                r##"<path d="M{x:.1} {lower}v5" stroke="#303030"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{text}</text>"##,
                lower + 18.0
            )?;
        }
        self.cursor = lower + 18.0;
        Ok(())
    }

    fn draw_pauses(&mut self) -> std::fmt::Result {
        let timeline = self.timeline;
        for (from, to) in timeline.pauses.iter().take(MOST) {
            let (left, right) = (self.x(*from), self.x(to.unwrap_or(self.span.1)));
            let (width, upper) = ((right - left).max(1.0), self.upper);
            let words = match to {
                Some(to) => format!("recording paused from {} to {}", Seconds(*from), Seconds(*to)),
                None => format!("recording paused from {} on", Seconds(*from)),
            };
            writeln!(
                self.body,
                r##"<rect class="pause" x="{left:.1}" y="{upper}" width="{width:.1}" height="{PLOT_HEIGHT}" fill="url(#paused)"><title>{words}</title></rect>"##
            )?;
            if width > 7.0 * CHARACTER {
                let (x, y) = (left + width / 2.0, upper + 14.0);
                writeln!(self.body, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle">paused</text>"#)?;
            }
        }
        Ok(())
    }

    /// Each name in the first lane in which there is room beside its line; before the line where the picture ends.
    fn place_labels(&self) -> Vec<Label> {
        let mut free = [LEFT; LANES];
        let marks = self.timeline.marks.iter().take(MOST);
        let place = marks.map(|(name, at)| {
            let (line, text) = (self.x(*at), shorten(&plain(name), MOST_CHARACTERS));
            let width = (text.chars().count() + 1) as f64 * CHARACTER;
            let x = if line + width > WIDTH { line - width } else { line };
            let lane = free.iter().position(|free| *free <= x);
            lane.and_then(|lane| free.get_mut(lane)).into_iter().for_each(|free| *free = x + width);
            Label { text, x, lane }
        });
        place.collect()
    }

    fn draw_marks(&mut self) -> std::fmt::Result {
        for ((name, at), label) in self.timeline.marks.iter().zip(&self.labels) {
            let (x, lower) = (self.x(*at), self.lower);
            let y = label.lane.map_or(self.upper, |lane| HEAD + lane as f64 * LINE);
            let words = text(&format!("{} at {}", plain(name), Seconds(*at)));
            writeln!(
                self.body,
                r#"<g class="mark"><title>{words}</title><path d="M{x:.1} {y:.1}V{lower:.1}" stroke="{MARK}" stroke-dasharray="2 2"/>"#
            )?;
            if label.lane.is_some() {
                let (x, y, text) = (label.x + 3.0, y + 10.0, text(&label.text));
                writeln!(self.body, r#"<text x="{x:.1}" y="{y:.1}" fill="{MARK}">{text}</text>"#)?;
            }
            writeln!(self.body, "</g>")?;
        }
        Ok(())
    }

    /// Below the axis, the interval that holds from each change on.
    fn draw_intervals(&mut self) -> std::fmt::Result {
        let timeline = self.timeline;
        if timeline.intervals.is_empty() {
            return Ok(());
        }
        self.cursor += LINE + 4.0;
        let (mut free, y, lower) = (LEFT, self.cursor, self.lower);
        writeln!(self.body, r#"<text x="{:.0}" y="{y:.1}" text-anchor="end">interval</text>"#, LEFT - 8.0)?;
        for (number, (at, bytes)) in timeline.intervals.iter().take(MOST).enumerate() {
            let (x, label) = (self.x(*at), interval(*bytes));
            let words = format!("sampling interval {label} from {}", Seconds(*at));
            writeln!(self.body, r#"<g class="interval"><title>{words}</title>"#)?;
            if number > 0 {
                writeln!(self.body, r##"<path d="M{x:.1} {lower:.1}l-4 -8h8Z" fill="#303030"/>"##)?;
            }
            let width = (label.chars().count() + 1) as f64 * CHARACTER;
            if x >= free && x + width <= WIDTH {
                let (bar, x) = (x, x + 4.0);
                writeln!(
                    self.body,
                    r##"<path d="M{bar:.1} {:.1}v11" stroke="#303030"/><text x="{x:.1}" y="{y:.1}">{label}</text>"##,
                    y - 9.0
                )?;
                free = x + width;
            }
            writeln!(self.body, "</g>")?;
        }
        Ok(())
    }

    fn draw_legend(&mut self) -> std::fmt::Result {
        self.cursor += 2.0 * LINE;
        self.row(["START", "END", "PEAK", "AT"].map(str::to_owned), "")?;
        let Timeline { resident, kinds, parts, unknown, .. } = self.timeline;
        if let Some(series) = resident {
            let y = self.cursor + LINE - 4.0;
            writeln!(self.body, r#"<path d="M{LEFT} {y:.1}h18" stroke="{RESIDENT}" stroke-width="1.8"/>"#)?;
            self.figures(series, "")?;
        }
        for series in kinds.iter().filter(|series| !series.is_zero()) {
            self.figures(series, "of it ")?;
        }
        for part in parts.iter().rev().filter(|part| part.name == Some(Name::Live) || !part.is_zero()) {
            let (y, fill) = (self.cursor + LINE - 10.0, color(part.name));
            let edge = if part.name == Some(Name::Live) { LIVE } else { "none" };
            writeln!(
                self.body,
                r#"<rect x="{LEFT}" y="{y:.1}" width="18" height="11" fill="{fill}" stroke="{edge}" fill-opacity="0.9"/>"#
            )?;
            self.figures(part, "")?;
        }
        if let Some(limit) = self.timeline.limit.filter(|_| self.timeline.limit_in_sight().is_none()) {
            let limit = Bytes(limit as f64);
            self.row(Default::default(), &format!("the control group's limit, {limit}, is far above"))?;
        }
        if !unknown.is_empty() {
            let name = |name: &Name| name.words().split(':').next().unwrap_or("");
            let unknown: Vec<&str> = unknown.iter().map(name).collect();
            self.row(Default::default(), &format!("not measured: {}", unknown.join(", ")))?;
        }
        let events =
            [&self.timeline.marks.len(), &self.timeline.pauses.len(), &self.timeline.intervals.len()];
        if events.iter().any(|events| **events > MOST) {
            self.row(
                Default::default(),
                &format!("of marks, pauses and intervals the first {MOST} are drawn"),
            )?;
        }
        for warning in &self.timeline.warnings {
            self.row(Default::default(), &format!("warning: {}", shorten(&plain(warning), 110)))?;
        }
        Ok(())
    }

    fn figures(&mut self, series: &Series, before: &str) -> std::fmt::Result {
        let size =
            |bytes: Option<i64>| bytes.map_or("–".to_owned(), |bytes| Bytes(bytes as f64).to_string());
        let (peak, at) = series.peak.unzip();
        let at = at.map_or("–".to_owned(), |at| Seconds(at).to_string());
        let cells = [size(series.start()), size(series.end()), size(peak), at];
        self.row(cells, &format!("{before}{}", series.words))
    }

    fn row(&mut self, cells: [String; 4], words: &str) -> std::fmt::Result {
        self.cursor += LINE;
        let y = self.cursor;
        for (cell, x) in cells.iter().zip([200.0, 290.0, 380.0, 470.0]).filter(|(cell, _)| !cell.is_empty()) {
            writeln!(self.body, r#"<text x="{x}" y="{y:.1}" text-anchor="end">{cell}</text>"#)?;
        }
        if words.is_empty() {
            return Ok(());
        }
        writeln!(self.body, r#"<text x="490" y="{y:.1}">{}</text>"#, text(words))
    }
}

/// Text as it stands in an element: no character that XML does not allow.
fn text(text: &str) -> String {
    let allowed = |c: char| !matches!(c, '\u{fffe}' | '\u{ffff}');
    escape(&plain(text).replace(|c| !allowed(c), "\u{fffd}"))
}

/// The beginning of a text, and `…` for the rest.
fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
