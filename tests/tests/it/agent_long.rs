//! Very many pages: memory stays flat, and a kill costs seconds.

use std::time::Duration;

use e2e::{
    long_run::{LongRun, Report, long_run},
    soak,
};

async fn through(run: LongRun) -> Report {
    let folder = tempfile::tempdir().unwrap();
    long_run(folder.path(), run).await.unwrap()
}

fn holds(report: &Report) {
    assert!(report.max_kib() * 1024 <= 150_000_000, "the agent grew above 150 MB");
    let (early, late) = report.early_and_late_kib();
    assert!(late <= early + early / 5, "the agent grew from {early} to {late} KiB");
    assert!(report.going_again < Duration::from_secs(10), "{:?}", report.going_again);
}

/// In `make test` it only has to work: how large an unoptimised agent is says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_in_the_middle_goes_on() {
    for model in [false, true] {
        let report = through(LongRun { pages: 600, part_pages: 10, model }).await;
        assert!(report.max_kib() > 0, "{report}");
    }
}

/// For `make soak-million`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a quarter of an hour: make soak-million"]
async fn a_million_pages_by_the_rules() {
    let report = through(LongRun { pages: soak("PAGES", 1_000_000), part_pages: 500, model: false }).await;
    println!("{report}");
    holds(&report);
}

/// For `make soak-million`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a quarter of an hour: make soak-million"]
async fn a_hundred_thousand_pages_through_a_model_server() {
    let report =
        through(LongRun { pages: soak("PAGES", 1_000_000) / 10, part_pages: 250, model: true }).await;
    println!("{report}");
    holds(&report);
}
