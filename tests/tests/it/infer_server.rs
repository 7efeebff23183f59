//! The agent and a model server with slots: each page asked about once; gone in mid-batch and back again.

use std::{net::TcpListener, path::Path};

use e2e::{
    agent_jobs::{AgentJobs, write_parts},
    batch_dir::{BatchDir, parts},
    harness::{Agent, OllamaSim, Process, agent_run_json},
    ollama_double::MODEL,
    ollama_sim::sheets::sheets,
};
use proto::grpc::Batch;
use proto::rows::Outcome;

const BATCH: &str = "slots";

#[tokio::test(flavor = "multi_thread")]
async fn each_page_is_asked_about_once_and_a_fixed_number_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let batch = BatchDir::new(root.path(), BATCH).unwrap();
    batch.write_parts(&parts(&sheets(240).await.unwrap(), 60)).await.unwrap();
    let sim = OllamaSim::start(root.path(), &["--slots", "4", "--service-ms", "40"]).unwrap();
    let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", &sim.url];
    agent_run_json(root.path(), BATCH, &args).unwrap();
    let stats = sim.stats("?samples").await.unwrap();
    let asked: i32 = batch.ledger().await.unwrap().iter().map(|row| row.attempts).sum();
    assert_eq!(stats.now.requests, asked as u64 + 1, "one each, and the warm-up");

    let fixed = BatchDir::new(root.path(), "fixed").unwrap();
    fixed.write_parts(&parts(&sheets(30).await.unwrap(), 30)).await.unwrap();
    let sim = OllamaSim::start(&root.path().join("again"), &["--slots", "4", "--service-ms", "10"]).unwrap();
    let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", &sim.url, "--concurrency", "2"];
    agent_run_json(root.path(), "fixed", &args).unwrap();
    assert_eq!(sim.stats("").await.unwrap().max_in_flight, 2);
}

fn sim_at(folder: &Path, port: u16) -> Process {
    let port_file = folder.join("sim.port");
    let _ = std::fs::remove_file(&port_file);
    let configure = |command: &mut std::process::Command| {
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--service-ms", "20"]);
        command.arg("--port-file").arg(&port_file);
    };
    let mut process = Process::start("ollama-sim", configure, &folder.join("sim.log")).unwrap();
    process.address(&port_file).unwrap();
    process
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlasts_its_server_without_the_loss_of_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root").display().to_string();
    let pages = sheets(150).await.unwrap();
    let chunks: Vec<_> = pages.chunks(50).collect();
    write_parts(&root, BATCH, &chunks).await.unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut sim = sim_at(folder.path(), port);
    let url = format!("http://127.0.0.1:{port}");
    let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", &url];
    let agent = Agent::start(&root, &folder.path().join("work"), &args, &[]).unwrap();
    let mut jobs = AgentJobs::connect(&agent.url).await.unwrap();
    jobs.submit(BATCH).await.unwrap();
    let begun = jobs.until(BATCH, |job| job.progress.as_ref().is_some_and(|p| p.pages_done >= 20)).await;
    let progress = begun.unwrap().progress.unwrap();
    assert!(
        progress.limit >= 1 && !progress.limit_reason.is_empty() && progress.requests > 20,
        "{progress:?}"
    );
    sim.kill().unwrap();
    // At first the reason may be how the requests under way ended.
    let is_away = |job: &Batch| {
        let waits = job.progress.as_ref().is_some_and(|progress| progress.waiting_since.is_some());
        waits && job.reason.contains("cannot reach Ollama")
    };
    jobs.until(BATCH, is_away).await.unwrap();
    let _sim = sim_at(folder.path(), port);
    let done = jobs.complete(BATCH).await.unwrap().progress.unwrap();
    assert_eq!((done.pages_done, done.waiting_since), (pages.len() as u64, None));
    assert_eq!(done.outcomes.get(Outcome::Failed.to_string().as_str()), Some(&0), "{done:?}");
}
