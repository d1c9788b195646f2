//! Timelines of files that nobody would write.

use crate::input::Input;
use crate::instant::At;
use crate::output::timeline_text::Canvas;
use crate::output::{timeline_json, timeline_svg, timeline_text};
use crate::profile::Profile;
use crate::synthetic::{File, Log, SECOND, every};
use crate::timeline::{Timeline, draw};
use prof::record::Vital;
use prof::{Nanos, Record};
use std::path::Path;

fn drawn(bytes: Vec<u8>) -> Option<Timeline> {
    let after = Input::find(Profile::in_memory(Path::new("run.prof"), bytes), &At::End).ok()?;
    let before = after.moved(&At::Start).ok()?;
    draw(&before, &after).ok()
}

/// What is shown in so much room, after everything else has been written too.
fn shown(timeline: &Timeline, canvas: Canvas) -> String {
    let (mut text, mut svg) = (Vec::new(), Vec::new());
    timeline_text::write(timeline, canvas, &mut text).expect("a text");
    timeline_svg::write(timeline, &mut svg).expect("a picture");
    serde_json::to_string(&timeline_json::Document::new(timeline).expect("columns")).expect("JSON");
    assert!(svg.len() < 1_000_000, "bounded");
    String::from_utf8(text).expect("UTF-8")
}

const SMALL: Canvas = Canvas { width: 60, height: 10, is_unicode: true };

#[test]
fn a_file_that_is_cut_anywhere() {
    let whole = every(1, 3);
    let mut drawable = 0;
    for len in (0..whole.len()).step_by(3) {
        if let Some(timeline) = drawn(whole[..len].to_vec()) {
            shown(&timeline, SMALL);
            drawable += 1;
        }
    }
    assert!(drawable > whole.len() / 6, "{drawable} of {}", whole.len() / 3);
}

#[test]
fn values_at_their_limits() {
    let mut log = Log::new(0);
    let mut file = File::new(1);
    file.preamble("every");
    log.generation(0).alloc(1, 5, u64::MAX, &[0x40_0100]).alloc(2, 6, u64::MAX, &[0x40_0100]);
    file.events(10, &mut log);
    for (number, value) in [0, u64::MAX, 1, u64::MAX / 2, u64::MAX].into_iter().enumerate() {
        let time = Nanos(if value == u64::MAX { u64::MAX - 9 + number as u64 } else { number as u64 });
        let values = Vital::ALL.iter().map(|vital| (*vital, value)).collect();
        file.records(time.0, &[Record::Vitals { time, values }, Record::Interval { time, bytes: value }]);
    }
    let names = ["\u{1b}[2J\u{fffe}]]>", "", "<&>"];
    for number in 0..3000u64 {
        let (time, name) = (Nanos(number << 40), names[number as usize % 3]);
        file.records(time.0, &[Record::Mark { time, name }, Record::Interval { time, bytes: number % 2 }]);
    }
    file.complete(u64::MAX - 3);
    let text = shown(&drawn(file.0).expect("a timeline"), SMALL);
    assert!(text.lines().count() < 100 && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn the_picture_fits_its_room() {
    let timeline = drawn(every(1, 20)).expect("a timeline");
    for (width, height) in [(40, 4), (60, 10), (80, 16), (200, 40)] {
        let text = shown(&timeline, Canvas { width, height, is_unicode: true });
        let picture: Vec<&str> = text.lines().filter(|line| line.contains(['│', '└'])).collect();
        assert_eq!(picture.len(), height + 1, "{text}");
        assert!(text.contains('█') && !text.contains('#'), "{text}");
        assert!(picture.iter().all(|line| line.chars().count() <= width), "{width}:\n{text}");
        let plain = shown(&timeline, Canvas { width, height, is_unicode: false });
        assert!(plain.contains('#') && plain.lines().nth(4).is_some_and(str::is_ascii), "{plain}");
    }
}

#[test]
fn an_instant_is_a_timeline_too() {
    let mut file = File::new(1);
    file.preamble("every").complete(SECOND);
    let after = Input::find(Profile::in_memory(Path::new("run.prof"), file.0), &At::End).expect("a profile");
    let timeline = draw(&after, &after).expect("a timeline");
    assert_eq!((timeline.times.len(), timeline.highest()), (1, 0));
    assert!(shown(&timeline, SMALL).contains("s  live heap\n"));
}
