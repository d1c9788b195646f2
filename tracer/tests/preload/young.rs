//! What dies between two flushes is counted, and only counted.

use crate::harness::{Case, analyzer, machine};

/// Allocated bytes and blocks, by the report and by the program.
fn allocated(millions: &str, mode: &str) -> [(i64, i64); 2] {
    let traced = Case::new("churn.c").arg(millions).settings(mode).unchanged();
    let report = analyzer(&["report", traced.profile.to_str().unwrap(), "--json"]);
    assert_eq!(report["lost_events"], 0, "events were lost");
    let of = |key: &str| report[key].as_i64().unwrap();
    let sites = traced.truth("allocated");
    let truth = sites.values().fold((0, 0), |sum, site| (sum.0 + site.0, sum.1 + site.1));
    [(of("allocated_bytes"), of("allocated_count")), truth]
}

/// Besides its sites a program allocates through the C library, each time the same.
#[test]
fn every_allocation_counts_exactly() {
    if machine().only_samples() {
        return;
    }
    let mode = "interval=every,lossless=on";
    let [[measured, truth], [twice_measured, twice_truth]] =
        ["1", "2"].map(|millions| allocated(millions, mode));
    let difference = |more: (i64, i64), less: (i64, i64)| (more.0 - less.0, more.1 - less.1);
    assert_eq!(difference(twice_measured, measured), difference(twice_truth, truth));
}

/// Nearly all of some hundred thousand samples die young; the sum's standard deviation is below 0.4 %.
#[test]
fn samples_that_die_young_count_for_what_they_stand() {
    for mode in ["interval=4096,lossless=on", "interval=4096,lossless=on,settle=10ms"] {
        let [(bytes, _), (truth, _)] = allocated("2", mode);
        let error = (bytes - truth) as f64 / truth as f64;
        assert!(error.abs() < 0.03, "{bytes} bytes of {truth}, {mode}");
    }
}
