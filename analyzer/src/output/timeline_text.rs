//! A timeline for a terminal: the parts stacked upon each other, the resident set as a line, and what happened below.

use crate::output::axis::{size_step, time_ticks};
use crate::output::table::{lost, write_warnings};
use crate::timeline::{Series, Timeline};
use crate::units::{Bytes, Seconds, plain};
use crate::verdict::Name;
use std::io::{self, Write};

/// How much room there is, and which characters can be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Canvas {
    /// Columns.
    pub width: usize,
    /// Rows of the picture itself.
    pub height: usize,
    /// Whether characters beyond ASCII can be shown.
    pub is_unicode: bool,
}

/// Columns of the sizes beside the picture.
const MARGIN: usize = 10;

/// Lines for marks, pauses and intervals, each.
const MOST_LINES: usize = 12;

/// The same for every part: in Unicode, and in ASCII.
fn fill(name: Name, is_unicode: bool) -> char {
    let (unicode, ascii) = match name {
        Name::Live => ('█', '#'),
        Name::AllocatorOverhead => ('▓', '%'),
        Name::AllocatorHeld => ('▒', 'o'),
        Name::Mapped => ('░', ':'),
        Name::ThreadStacks => ('╪', '='),
        Name::FileShm => ('·', '.'),
        Name::CopyOnWrite => ('c', 'c'),
        Name::Tracer => ('t', 't'),
        Name::Unexplained => ('?', '?'),
    };
    if is_unicode { unicode } else { ascii }
}

/// Lines of the picture.
struct Strokes {
    resident: char,
    live: char,
    limit: char,
    side: char,
    corner: char,
    floor: char,
    tick: char,
    pause: char,
    change: char,
}

const UNICODE: Strokes = Strokes {
    resident: '━',
    live: '≈',
    limit: '╌',
    side: '│',
    corner: '└',
    floor: '─',
    tick: '┴',
    pause: '═',
    change: '◆',
};

const ASCII: Strokes = Strokes {
    resident: '-',
    live: 'L',
    limit: '~',
    side: '|',
    corner: '+',
    floor: '-',
    tick: '+',
    pause: '=',
    change: '*',
};

/// Writes picture, legend with figures, and what happened.
///
/// # Errors
/// Those of `out`.
pub fn write(timeline: &Timeline, canvas: Canvas, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", plain(&timeline.title()))?;
    writeln!(out, "live heap: {}; {}", timeline.recording, lost(timeline.lost_events))?;
    if timeline.resident.is_none() {
        writeln!(
            out,
            "The recording has no measurements of the process's memory: this is about the live heap alone."
        )?;
    }
    writeln!(out)?;
    Picture::new(timeline, canvas).write(out)?;
    write_figures(timeline, canvas, out)?;
    write_events(timeline, out)?;
    write_warnings(&timeline.warnings, out)
}

struct Picture<'a> {
    timeline: &'a Timeline,
    columns: usize,
    height: usize,
    is_unicode: bool,
    strokes: &'static Strokes,
    /// Bytes at the upper edge, and from one line of the scale to the next.
    top: f64,
    step: f64,
}

impl<'a> Picture<'a> {
    fn new(timeline: &'a Timeline, canvas: Canvas) -> Picture<'a> {
        let columns = canvas.width.saturating_sub(MARGIN + 3).clamp(20, 400);
        let highest = timeline.highest().max(timeline.limit_in_sight().unwrap_or(0)).max(1) as f64;
        let height = canvas.height.clamp(4, 60);
        let step = size_step(highest, (height / 3).min(8));
        let top = (highest * 1.02 / step).ceil() * step;
        let strokes = if canvas.is_unicode { &UNICODE } else { &ASCII };
        Picture { timeline, columns, height, is_unicode: canvas.is_unicode, strokes, top, step }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let columns: Vec<Vec<char>> = (0..self.columns).map(|column| self.column(column)).collect();
        for row in (0..self.height).rev() {
            let label = self.label(row);
            let line: String = columns.iter().filter_map(|column| column.get(row)).collect();
            writeln!(out, "{}", format!("{label:>MARGIN$} {}{line}", self.strokes.side).trim_end())?;
        }
        self.write_axis(out)?;
        let marks = self.timeline.marks.iter().take(NUMBERS.len());
        let numbered = marks.zip(NUMBERS.chars()).map(|((_, at), number)| (self.place(*at), number));
        self.write_lane("marks", numbered, out)?;
        let pauses = self.timeline.pauses.iter().flat_map(|(from, to)| {
            let to = to.map_or(self.columns - 1, |to| self.place(to));
            (self.place(*from)..=to).map(|column| (column, self.strokes.pause))
        });
        self.write_lane("paused", pauses, out)?;
        let changes = self.timeline.intervals.iter().skip(1);
        let changes = changes.map(|(at, _)| (self.place(*at), self.strokes.change));
        self.write_lane("interval", changes, out)?;
        writeln!(out)
    }

    /// The row that a number of bytes reaches into.
    fn row(&self, bytes: f64) -> usize {
        ((bytes / self.top * self.height as f64) as usize).min(self.height - 1)
    }

    /// The size at the lower edge of a row, where a line of the scale lies in it.
    fn label(&self, row: usize) -> String {
        let bytes = |row: usize| self.top * row as f64 / self.height as f64;
        let line = (bytes(row) / self.step - 1e-9).max(0.0).ceil() * self.step;
        if line < bytes(row + 1) - self.top * 1e-9 { Bytes(line).to_string() } else { String::new() }
    }

    /// One column, from below.
    fn column(&self, column: usize) -> Vec<char> {
        let (first, last) = self.points(column);
        let resident = |at: usize| {
            let series = self.timeline.resident.as_ref()?;
            series.values.get(at).copied().flatten()
        };
        let value = |at: &usize| resident(*at).unwrap_or_else(|| self.timeline.live(*at));
        // What was highest in the time that the column stands for.
        let at = (first..last).rev().max_by_key(value).unwrap_or(first);
        let mut cells = vec![' '; self.height];
        if let Some(limit) = self.timeline.limit_in_sight() {
            let row = self.row(limit as f64);
            cells.iter_mut().skip(row).take(1).for_each(|cell| *cell = self.strokes.limit);
        }
        // A cell belongs to the part that its middle lies in.
        let middle = |bytes: f64| (bytes / self.top * self.height as f64).round() as usize;
        let areas = self.timeline.areas(at);
        let mut sum = 0.0;
        for (part, bytes) in self.timeline.parts.iter().zip(&areas) {
            let (from, to) = (middle(sum), middle(sum + *bytes as f64));
            let glyph = part.name.map_or(' ', |name| fill(name, self.is_unicode));
            cells.iter_mut().take(to).skip(from).for_each(|cell| *cell = glyph);
            sum += *bytes as f64;
        }
        let live = self.timeline.live(at) as f64;
        if middle(live) > areas.first().map_or(0, |area| middle(*area as f64)) {
            cells.iter_mut().skip(self.row(live)).take(1).for_each(|cell| *cell = self.strokes.live);
        }
        if let Some(bytes) = resident(at) {
            let row = self.row(bytes as f64);
            cells.iter_mut().skip(row).take(1).for_each(|cell| *cell = self.strokes.resident);
        }
        cells
    }

    /// The timeline's instants that a column stands for; where there is none, the one before.
    fn points(&self, column: usize) -> (usize, usize) {
        let (from, to) = self.timeline.span();
        let after = |column: usize| {
            let edge = from + (to - from) * column as f64 / self.columns as f64;
            self.timeline.times.partition_point(|time| *time < edge)
        };
        let last = if column + 1 < self.columns { after(column + 1) } else { self.timeline.times.len() };
        (after(column).min(last.saturating_sub(1)), last.max(1))
    }

    /// The column of an instant.
    fn place(&self, at: f64) -> usize {
        let (from, to) = self.timeline.span();
        let share = if to > from { (at - from) / (to - from) } else { 0.0 };
        (share * (self.columns - 1) as f64).round().clamp(0.0, (self.columns - 1) as f64) as usize
    }

    fn write_axis(&self, out: &mut impl Write) -> io::Result<()> {
        let mut floor = vec![self.strokes.floor; self.columns];
        let mut labels = vec![' '; self.columns + MARGIN];
        let mut free = 0;
        for tick in time_ticks(self.timeline.span(), self.columns / 12) {
            let place = self.place(tick);
            floor.iter_mut().skip(place).take(1).for_each(|cell| *cell = self.strokes.tick);
            let text = Seconds(tick).to_string();
            let start = place.saturating_sub(text.len() / 2);
            if start >= free {
                labels.iter_mut().skip(start).zip(text.chars()).for_each(|(cell, c)| *cell = c);
                free = start + text.len() + 1;
            }
        }
        let (floor, labels): (String, String) = (floor.iter().collect(), labels.iter().collect());
        writeln!(out, "{:>MARGIN$} {}{floor}", "", self.strokes.corner)?;
        writeln!(out, "{}", format!("{:>MARGIN$}  {labels}", "").trim_end())
    }

    /// A row of what happened, where anything did.
    fn write_lane(
        &self,
        label: &str,
        cells: impl Iterator<Item = (usize, char)>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let mut lane = vec![' '; self.columns];
        let mut any = false;
        for (column, c) in cells {
            any = true;
            lane.iter_mut().skip(column).take(1).for_each(|cell| *cell = c);
        }
        let lane: String = lane.iter().collect();
        if any { writeln!(out, "{}", format!("{label:>MARGIN$}  {lane}").trim_end()) } else { Ok(()) }
    }
}

/// Marks are shown by these.
const NUMBERS: &str = "123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

fn write_figures(timeline: &Timeline, canvas: Canvas, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:>12}{:>11}{:>11}{:>11}  PART", "START", "END", "PEAK", "AT")?;
    let strokes = if canvas.is_unicode { UNICODE } else { ASCII };
    if let Some(series) = &timeline.resident {
        write_line(strokes.resident, series, "", canvas.width, out)?;
    }
    for series in timeline.kinds.iter().filter(|series| !series.is_zero()) {
        write_line(' ', series, "of it ", canvas.width, out)?;
    }
    for part in timeline.parts.iter().rev().filter(|part| part.name == Some(Name::Live) || !part.is_zero()) {
        let sign = part.name.map_or(' ', |name| fill(name, canvas.is_unicode));
        write_line(sign, part, "", canvas.width, out)?;
    }
    if (0..timeline.times.len()).any(|at| timeline.areas(at).first() < Some(&timeline.live(at))) {
        writeln!(
            out,
            "{}{:44}  live heap above its area: never touched, or overestimated",
            strokes.live, ""
        )?;
    }
    let name = |name: &Name| name.words().split(':').next().unwrap_or("");
    if !timeline.unknown.is_empty() {
        let unknown: Vec<&str> = timeline.unknown.iter().map(name).collect();
        writeln!(out, "{:45}  not measured: {}", "", unknown.join(", "))?;
    }
    if let Some(limit) = timeline.limit {
        let sign = timeline.limit_in_sight().map_or(' ', |_| strokes.limit);
        let text = Bytes(limit as f64).to_string();
        writeln!(out, "{sign}{:11}{text:>11}{:22}  the control group's limit", "", "")?;
    }
    Ok(())
}

/// What stands before the words of a line.
const FIGURES: usize = 12 + 3 * 11 + 2;

fn write_line(
    sign: char,
    series: &Series,
    before: &str,
    width: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    let text = |bytes: Option<i64>| bytes.map_or("-".to_owned(), |bytes| Bytes(bytes as f64).to_string());
    let (peak, at) = series.peak.unzip();
    let (start, end, peak) = (text(series.start()), text(series.end()), text(peak));
    let at = at.map_or("-".to_owned(), |at| Seconds(at).to_string());
    let fits = FIGURES + before.len() + series.words.len() <= width;
    let words = if fits { series.words } else { series.words.split(':').next().unwrap_or("") };
    writeln!(out, "{sign}{start:>11}{end:>11}{peak:>11}{at:>11}  {before}{words}")
}

fn write_events(timeline: &Timeline, out: &mut impl Write) -> io::Result<()> {
    let numbers: Vec<char> = NUMBERS.chars().collect();
    let marks = timeline.marks.iter().enumerate().map(|(at, (name, time))| {
        let number = numbers.get(at).unwrap_or(&' ');
        format!("{number} {:>10}  {}", Seconds(*time).to_string(), plain(name))
    });
    write_list("marks", marks, out)?;
    let pauses = timeline.pauses.iter().map(|(from, to)| match to {
        Some(to) => format!("from {} to {}", Seconds(*from), Seconds(*to)),
        None => format!("from {} on", Seconds(*from)),
    });
    write_list("paused", pauses, out)?;
    let intervals = timeline.intervals.iter();
    let intervals =
        intervals.map(|(at, bytes)| format!("{:>12}  {}", Seconds(*at).to_string(), interval(*bytes)));
    write_list("interval", intervals, out)
}

/// A sampling interval in words.
pub(super) fn interval(bytes: u64) -> String {
    match bytes {
        1 => "every allocation".to_owned(),
        bytes => Bytes(bytes as f64).to_string(),
    }
}

fn write_list(
    label: &str,
    lines: impl ExactSizeIterator<Item = String>,
    out: &mut impl Write,
) -> io::Result<()> {
    let more = lines.len().saturating_sub(MOST_LINES);
    let mut label = Some(label);
    for line in lines.take(MOST_LINES) {
        writeln!(out, "{:10} {line}", label.take().unwrap_or(""))?;
    }
    if more > 0 { writeln!(out, "{:10} and {more} more", "") } else { Ok(()) }
}
