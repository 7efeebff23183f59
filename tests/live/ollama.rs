//! The real Ollama killed in mid-batch, and started again: the job waits, says since when, and loses nothing.

use std::collections::BTreeSet;

use e2e::{
    agent_jobs::AgentJobs,
    batch_dir::{BatchDir, page, parts},
    conformance::ollama::{Instance, Launch, Target},
    harness::Agent,
};
use proto::{
    grpc::{Batch, BatchState, Progress},
    rows::Outcome,
};

use crate::services::env;

const BATCH: &str = "killed";
const PAGES: i32 = 240;

/// A page that fails for one of these failed because the server was gone.
const OF_AN_OUTAGE: [&str; 6] = [
    "service_unavailable",
    "service_refused",
    "service_error",
    "connection_broken",
    "timed_out",
    "model_output_unfinished",
];

fn progress(job: &Batch) -> Progress {
    job.progress.clone().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_mid_batch_and_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let batch = BatchDir::new(&root, BATCH).unwrap();
    let pages: Vec<_> = (0..PAGES)
        .map(|number| {
            page("doc", number + 1, &format!("Page {number}\nIMO No.: 9074729\nFlag State: France"))
        })
        .collect();
    batch.write_parts(&parts(&pages, 40)).await.unwrap();

    // A server of the test's own, so that other suites keep theirs; its runners die with it.
    let launch =
        Launch::Real { binary: env("LIVE_OLLAMA_BIN").into(), models: env("LIVE_OLLAMA_MODELS").into() };
    let model = env("LIVE_OLLAMA_TINY_MODEL");
    let target =
        Target::new(&env("OLLAMA_HOST"), &model, &model, launch, folder.path().join("ollama")).unwrap();
    let server = Instance::start(&target, 2, &[]).await.unwrap();
    let args = ["--engine", "ollama", "--model", &model, "--ollama-url", &server.url, "--num-predict", "64"];
    let agent = Agent::start(root.to_str().unwrap(), &folder.path().join("work"), &args, &[]).unwrap();
    let mut jobs = AgentJobs::connect(&agent.url).await.unwrap();
    jobs.submit(BATCH).await.unwrap();
    let begun = jobs.until(BATCH, |job| progress(job).parts_committed >= 1).await.unwrap();
    assert_eq!(begun.state(), BatchState::Running);
    let port = server.kill();
    let away = jobs.until(BATCH, |job| progress(job).waiting_since.is_some()).await.unwrap();
    assert_eq!(away.state(), BatchState::Running);
    assert!(progress(&away).pages_done < PAGES as u64, "in mid-batch");
    let told = jobs.until(BATCH, |job| job.reason.contains("cannot reach Ollama")).await.unwrap();
    assert!(told.reason.contains("start it, or pass another --ollama-url"), "{}", told.reason);

    let _back = Instance::back(&target, port).await.unwrap();
    let done = jobs.complete(BATCH).await.unwrap();
    assert!(progress(&done).waiting_since.is_none() && done.reason.is_empty());
    let ledger = batch.ledger().await.unwrap();
    let keys: BTreeSet<_> = ledger.iter().map(|row| row.page_num).collect();
    assert_eq!((ledger.len(), keys.len()), (pages.len(), pages.len()), "every page once");
    let lost: Vec<_> = ledger
        .iter()
        .filter(|row| row.reason.as_deref().is_some_and(|reason| OF_AN_OUTAGE.contains(&reason)))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(batch.is_complete().await.unwrap());
    let told = progress(&done);
    let failed = ledger.iter().filter(|row| row.outcome == Outcome::Failed).count();
    println!(
        "killed at {} of {PAGES} pages, waited ({}), went on; {} requests, {} retries; {failed} pages failed, none of \
         the outage; on a GPU {} of {} bytes",
        progress(&away).pages_done,
        away.reason,
        told.requests,
        told.retries,
        told.model_size_vram_bytes,
        told.model_size_bytes
    );
}
