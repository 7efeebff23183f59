//! SIGKILL at each step of a commit, and another run: the same rows as if nothing had happened.

use std::path::Path;

use e2e::{
    agent_jobs::{Made, example_pages},
    batch_dir::{BatchDir, parts},
    harness::{Process, agent_run_json},
};
use proto::keys::PartKind;

async fn batch(root: &Path) -> BatchDir {
    let batch = BatchDir::new(root, "crash").unwrap();
    batch.write_parts(&parts(&example_pages().await.unwrap()[..24], 8)).await.unwrap();
    batch
}

/// Kills a run where it pauses, and says what was there then.
async fn killed_at(point: &str) -> (Made, Vec<bool>) {
    let root = tempfile::tempdir().unwrap();
    let batch = batch(root.path()).await;
    let log = root.path().join("log");
    let configure = |command: &mut std::process::Command| {
        command.args(["run", "--batch-id", "crash", "--root"]).arg(root.path());
        command.env("DGX_AGENT_PAUSE_AT", point);
    };
    let mut process = Process::start("dgx-agent", configure, &log).unwrap();
    let paused = || std::fs::read_to_string(&log).ok()?.contains("paused at").then_some(());
    process.until("pause (is it built with the feature `failpoints`?)", paused).unwrap();
    process.kill().unwrap();
    let mut there = Vec::new();
    for kind in [PartKind::Suggestions, PartKind::Ledger, PartKind::Commits] {
        there.push(batch.has(&batch.keys.part(kind, 1)).await.unwrap());
    }
    assert!(batch.has(&batch.keys.part(PartKind::Commits, 0)).await.unwrap(), "the first part is committed");
    assert!(!batch.is_complete().await.unwrap());
    let committed = batch.store.get(&batch.keys.part(PartKind::Commits, 0)).await.unwrap();

    agent_run_json(root.path(), "crash", &[]).unwrap();
    let after = batch.store.get(&batch.keys.part(PartKind::Commits, 0)).await.unwrap();
    assert_eq!(after, committed, "the first commit stands");
    (Made::read(root.path().to_str().unwrap(), "crash").await.unwrap(), there)
}

#[tokio::test]
async fn a_kill_at_any_point_changes_no_row() {
    let root = tempfile::tempdir().unwrap();
    batch(root.path()).await;
    agent_run_json(root.path(), "crash", &[]).unwrap();
    let whole = Made::read(root.path().to_str().unwrap(), "crash").await.unwrap();
    assert!(whole.suggestions.len() > 24);
    for (point, there) in [
        ("part:1", [false, false, false]),
        ("suggestions:1", [true, false, false]),
        ("ledger:1", [true, true, false]),
        ("manifest", [true, true, true]),
    ] {
        let (again, was_there) = killed_at(point).await;
        assert_eq!(was_there, there, "{point}");
        assert_eq!(again.suggestions, whole.suggestions, "{point}");
        assert_eq!(again.ledger, whole.ledger, "{point}");
        let counts = |made: &Made| made.manifest.as_ref().map(|manifest| manifest.counts.clone());
        assert_eq!(counts(&again), counts(&whole), "{point}");
    }
}
