//! The daemon is killed where it hurts and started again: what it made equals an undisturbed run.

use e2e::{
    agent_jobs::{AgentJobs, Made, commits, example_pages, write_parts},
    harness::Agent,
};
use proto::{grpc::BatchState, rows::BatchPage};
use tempfile::TempDir;

const BATCH: &str = "crash";

/// A root with the corpus in three parts.
async fn corpus() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root").display().to_string();
    let pages = example_pages().await.unwrap();
    let parts: Vec<&[BatchPage]> = pages.chunks(pages.len().div_ceil(3)).collect();
    assert_eq!(parts.len(), 3);
    write_parts(&root, BATCH, &parts).await.unwrap();
    (folder, root)
}

async fn undisturbed() -> Made {
    let (folder, root) = corpus().await;
    let agent = Agent::start(&root, &folder.path().join("work"), &[], &[]).unwrap();
    let mut jobs = AgentJobs::connect(&agent.url).await.unwrap();
    jobs.submit(BATCH).await.unwrap();
    jobs.complete(BATCH).await.unwrap();
    Made::read(&root, BATCH).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_point_changes_nothing_of_what_is_made() {
    let expected = undisturbed().await;
    // Where, how it shows in the log, and how many parts are committed then.
    for (point, shown, committed) in [
        ("part:1", "part of part 1", 1),
        ("suggestions:1", "suggestions of part 1", 1),
        ("ledger:1", "ledger of part 1", 1),
        ("manifest", "manifest of part 0", 3),
    ] {
        let (folder, root) = corpus().await;
        let work = folder.path().join("work");
        let mut agent = Agent::start(&root, &work, &[], &[("DGX_AGENT_PAUSE_AT", point)]).unwrap();
        let mut jobs = AgentJobs::connect(&agent.url).await.unwrap();
        jobs.submit(BATCH).await.unwrap();
        let log = work.join("dgx-agent.log");
        let paused =
            || std::fs::read_to_string(&log).ok()?.contains(&format!("paused at {shown}")).then_some(());
        agent.process.until("pause", paused).unwrap();
        agent.process.kill().unwrap();
        let killed = Made::read(&root, BATCH).await.unwrap();
        assert!(killed.manifest.is_none(), "{point}");
        let before = commits(&root, BATCH).await.unwrap();
        assert_eq!(before.len(), committed, "{point}");

        let agent = Agent::start(&root, &work, &[], &[]).unwrap();
        let mut jobs = AgentJobs::connect(&agent.url).await.unwrap();
        let (job, created) = jobs.submit(BATCH).await.unwrap();
        assert!(!created, "{point}: the job survived, as {}", job.state().as_str_name());
        let done = jobs.complete(BATCH).await.unwrap();
        assert_eq!(done.state(), BatchState::Complete, "{point}");

        let made = Made::read(&root, BATCH).await.unwrap();
        assert_eq!(made.suggestions, expected.suggestions, "{point}");
        assert_eq!(made.ledger, expected.ledger, "{point}");
        let (manifest, other) = (made.manifest.unwrap(), expected.manifest.clone().unwrap());
        assert_eq!((manifest.fingerprint, manifest.counts), (other.fingerprint, other.counts), "{point}");
        let after = commits(&root, BATCH).await.unwrap();
        assert_eq!(after.len(), 3, "{point}");
        assert!(before.iter().all(|commit| after.contains(commit)), "{point}: the first commit stands");
        assert_eq!(done.progress.unwrap().pages_done, expected.ledger.len() as u64, "{point}");
    }
}
