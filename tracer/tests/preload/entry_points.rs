//! Every way to allocate and free.

use crate::harness::{Case, machine};

#[test]
fn c_entry_points() {
    Case::new("entry_points.c").unchanged().exact().rooted_in("main");
}

#[test]
fn c_entry_points_sampled() {
    Case::new("entry_points.c").settings("interval=1k").unchanged();
}

#[test]
fn operators() {
    Case::new("operators.cpp").unchanged().exact().rooted_in("main");
}

#[test]
fn short_lived_millions() {
    if machine().only_samples() {
        return;
    }
    Case::new("churn.c").arg("1").unchanged().exact().rooted_in("main");
}

#[test]
fn known_sites() {
    if machine().only_samples() {
        return;
    }
    Case::new("known_sites.cpp").arg("4").unchanged().exact().rooted_in("main");
}

/// 640 samples a site: its standard error is 4 %, and the bound six times that.
#[test]
fn known_sites_sampled() {
    let traced = Case::new("known_sites.cpp").arg("40").settings("interval=64k").unchanged();
    let measured = traced.measured();
    for (site, (bytes, _)) in traced.truth("live") {
        let ratio = measured[&site].0 as f64 / bytes as f64;
        assert!((0.76..1.24).contains(&ratio), "{site}: {ratio} of the truth");
    }
}
