//! Any content in sound blocks, through the whole analyzer up to its texts, without symbol files.
//!
//! A checksum would stop nearly all inputs, so the input is not a file: it is cut into payloads (kind in
//! one byte, length in two, time in eight, content), which are framed here.
#![no_main]

use analyzer::breakdown::{By, Column};
use analyzer::choice::{Choice, Rows};
use analyzer::compare::compare;
use analyzer::input::Input;
use analyzer::instant::At;
use analyzer::names::Style;
use analyzer::output::timeline_text::Canvas;
use analyzer::output::{folded, json, report_json, report_text, table, timeline_svg, timeline_text};
use analyzer::profile::Profile;
use analyzer::story::tell;
use analyzer::symbols::Lookup;
use analyzer::timeline::draw;
use analyzer::weigh::{Value, weigh};
use clap::ValueEnum;
use libfuzzer_sys::fuzz_target;
use prof::{BlockKind, Header, Nanos, block};
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let (run, content) = bytes.split_at_checked(1).unwrap_or((&[0], &[]));
    let file = framed(run[0] & 1, content);
    let _ = texts(&file, At::Start);
    let _ = texts(&file, At::Percent(50.0));
    let _ = across(&framed(run[0] & 1, &content[content.len() / 2..]), &file);
});

fn framed(run: u8, mut content: &[u8]) -> Vec<u8> {
    let mut file = Header::new([run; 16]).to_bytes().to_vec();
    while let Some(([kind, low, high, time @ ..], rest)) = content.split_first_chunk::<11>() {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, rest) = rest.split_at(len);
        let kind = if kind & 1 == 0 { BlockKind::Records } else { BlockKind::Events };
        block::write(&mut file, kind, Nanos(u64::from_le_bytes(*time)), payload);
        content = rest;
    }
    file
}

fn input(file: &[u8], at: At) -> Option<Input> {
    Input::find(Profile::in_memory(Path::new("run.prof"), file), &at).ok()
}

fn texts(file: &[u8], from: At) -> Option<()> {
    let after = input(file, At::End)?;
    say(&after.moved(&from).ok()?, &after)?;
    report(&after.moved(&from).ok()?, &after.clone().until_exit())?;
    let timeline = draw(&after.moved(&from).ok()?, &after).ok()?;
    let canvas = Canvas { width: 80, height: 16, is_unicode: true };
    timeline_text::write(&timeline, canvas, &mut std::io::sink()).ok()?;
    timeline_svg::write(&timeline, std::io::sink()).ok()?;
    for value in [Value::Live, Value::Peak, Value::Allocated] {
        let weighed = weigh(&after, value, &Lookup::default(), |_| {}).ok()?;
        let names = weighed.tree.symbols.display(Style::Short);
        let pruned = weighed.tree.prune(0.01, |bytes| bytes.value);
        folded::write(&weighed.tree, &pruned, &names, std::io::sink()).ok()?;
    }
    Some(())
}

fn report(before: &Input, after: &Input) -> Option<()> {
    let lookup = Lookup::default();
    let mut story = tell(before, after, &lookup, Style::Short, |_| {}).ok()?;
    let style = (&mut story.names, Style::Short);
    let inputs = [before, &story.after];
    let chosen = Choice::default().apply(&mut story.comparison, style, inputs, &lookup, |_| {}).ok()?;
    let extent = table::Extent { width: 80, top: 5 };
    let survey = &story.after.survey;
    report_text::write(&story, survey, &chosen, extent, &mut std::io::sink()).ok()?;
    serde_json::to_writer(std::io::sink(), &report_json::Report::new(&story, survey, &chosen, 5)).ok()
}

fn across(a: &[u8], b: &[u8]) -> Option<()> {
    say(&input(a, At::Peak)?, &input(b, At::End)?)
}

fn say(before: &Input, after: &Input) -> Option<()> {
    let lookup = Lookup::default();
    let mut comparison = compare(before, after, &lookup, |_| {}).ok()?;
    let mut names = comparison.tree.symbols.display(Style::Short);
    let rows = Rows { by: By::Library, sort: Column::Allocated, columns: Column::value_variants().to_vec() };
    let choice = Choice { rows: Some(rows), ..Choice::default() };
    let style = (&mut names, Style::Short);
    let chosen = choice.apply(&mut comparison, style, [before, after], &lookup, |_| {}).ok()?;
    let extent = table::Extent { width: 80, top: 5 };
    table::write(&comparison, &names, &chosen, extent, std::io::sink()).ok()?;
    let pruned = comparison.growth.prune(&comparison.tree, 0.0);
    folded::write(&comparison.tree, &pruned, &names, std::io::sink()).ok()?;
    serde_json::to_writer(std::io::sink(), &json::Diff::new(&comparison, &names, &chosen)).ok()
}
