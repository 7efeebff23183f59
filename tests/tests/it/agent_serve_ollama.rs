//! Jobs with a model: the daemon outlasts the model server, by process.

use std::{net::TcpListener, path::Path};

use e2e::{
    agent_jobs::{AgentJobs, Made, example_pages, write_parts},
    harness::{Agent, Process},
};
use proto::{
    grpc::{BatchState, DescribeRequest, Engine},
    rows::BatchPage,
};
use tonic::Code;

const BATCH: &str = "model";

async fn root(folder: &Path) -> (String, Vec<BatchPage>) {
    let root = folder.join("root").display().to_string();
    let mut pages = example_pages().await.unwrap();
    pages.truncate(6);
    write_parts(&root, BATCH, &[&pages[..3], &pages[3..]]).await.unwrap();
    (root, pages)
}

/// A port that nobody listens on; a server that ends and comes back has one address.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn double(folder: &Path, port: u16, args: &[&str]) -> Process {
    let port_file = folder.join("ollama.port");
    let _ = std::fs::remove_file(&port_file);
    let configure = |command: &mut std::process::Command| {
        command
            .arg("--listen")
            .arg(format!("127.0.0.1:{port}"))
            .arg("--port-file")
            .arg(&port_file)
            .args(args);
    };
    let mut process = Process::start("ollama-double", configure, &folder.join("ollama.log")).unwrap();
    process.address(&port_file).unwrap();
    process
}

async fn agent(root: &str, folder: &Path, port: u16) -> (Agent, AgentJobs) {
    let url = format!("http://127.0.0.1:{port}");
    let args = ["--engine", "ollama", "--model", "stand-in", "--ollama-url", &url];
    let agent = Agent::start(root, &folder.join("work"), &args, &[]).unwrap();
    let jobs = AgentJobs::connect(&agent.url).await.unwrap();
    (agent, jobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_a_server_that_is_not_there_yet() {
    let folder = tempfile::tempdir().unwrap();
    let (root, pages) = root(folder.path()).await;
    let port = free_port();
    let (_agent, mut jobs) = agent(&root, folder.path(), port).await;
    let described = jobs.client.describe(DescribeRequest::default()).await.unwrap().into_inner();
    let server = described.model_server.unwrap();
    assert!(!server.reachable && !server.error.is_empty(), "{server:?}");

    let (job, created) = jobs.submit(BATCH).await.unwrap();
    assert!(created && job.fingerprint.is_empty(), "what the batch is shows when the server is there");
    let waits =
        jobs.until(BATCH, |job| job.progress.as_ref().is_some_and(|p| p.waiting_since.is_some())).await;
    let waits = waits.unwrap();
    assert_eq!(waits.state(), BatchState::Running);
    assert!(waits.reason.contains("Ollama") && waits.reason.contains(&port.to_string()), "{}", waits.reason);

    let _double = double(folder.path(), port, &[]);
    let done = jobs.complete(BATCH).await.unwrap();
    let progress = done.progress.unwrap();
    assert!(progress.waiting_since.is_none() && done.reason.is_empty());
    assert_eq!(progress.pages_done, pages.len() as u64);
    assert_eq!(done.provenance.unwrap().engine(), Engine::Ollama);
    let made = Made::read(&root, BATCH).await.unwrap();
    assert_eq!(made.suggestions.len() as u64, progress.spans);
    assert!(made.suggestions.iter().all(|span| span.source == "ollama") && progress.spans > 0);
    assert!(!jobs.submit(BATCH).await.unwrap().1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlasts_a_server_that_dies_under_it() {
    let folder = tempfile::tempdir().unwrap();
    let (root, pages) = root(folder.path()).await;
    let port = free_port();
    let mut stalled = double(folder.path(), port, &["--stall"]);
    let (_agent, mut jobs) = agent(&root, folder.path(), port).await;
    jobs.submit(BATCH).await.unwrap();
    let asked =
        jobs.until(BATCH, |job| job.progress.as_ref().is_some_and(|p| p.in_flight > 0)).await.unwrap();
    assert!(!asked.fingerprint.is_empty());
    stalled.kill().unwrap();
    jobs.until(BATCH, |job| job.progress.as_ref().is_some_and(|p| p.waiting_since.is_some())).await.unwrap();

    let _double = double(folder.path(), port, &[]);
    let done = jobs.complete(BATCH).await.unwrap();
    let progress = done.progress.unwrap();
    assert_eq!(progress.pages_done, pages.len() as u64);
    assert_eq!(progress.outcomes.get("failed"), Some(&0), "its death says nothing about a page");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_model_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (root, _) = root(folder.path()).await;
    let port = free_port();
    let _double = double(folder.path(), port, &["--missing-model"]);
    let (_agent, mut jobs) = agent(&root, folder.path(), port).await;
    let refused = jobs.submit(BATCH).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("ollama pull"), "{refused}");
}
