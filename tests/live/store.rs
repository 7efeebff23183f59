//! The agent over a real MinIO: one that stops in mid-batch, and leases by its conditional writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use e2e::{
    agent_jobs::AgentJobs,
    batch_dir::{BatchDir, parts},
    campaign::made,
    harness::{Agent, OllamaSim, Process},
    ollama_double::MODEL,
    ollama_sim::sheets::slip,
};
use proto::{
    grpc::{Batch, Progress},
    keys::BatchKeys,
    rows::BatchPage,
    store::{Env, Store},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{place::Place, services::env};

const BATCH: &str = "b";
const BUCKET: &str = "outage";
const OUTAGE: Duration = Duration::from_secs(20);

/// A MinIO of the test's own, so that other suites keep theirs.
struct Minio<'a> {
    folder: &'a Path,
    port: u16,
}

impl Minio<'_> {
    fn env(&self) -> Env {
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Env::from([
            of("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{}", self.port)),
            of("AWS_ACCESS_KEY_ID", "outage-user"),
            of("AWS_SECRET_ACCESS_KEY", "outage-password"),
            of("AWS_REGION", "us-east-1"),
        ])
    }

    /// Ready when this returns.
    async fn start(&self) -> Process {
        // A folder of its data is a bucket.
        std::fs::create_dir_all(self.folder.join("data").join(BUCKET)).unwrap();
        let mut command = Command::new(env("LIVE_MINIO_BIN"));
        command.args(["server", "--address", &format!("127.0.0.1:{}", self.port)]);
        command.arg(self.folder.join("data")).env("HOME", self.folder);
        command.envs([("MINIO_ROOT_USER", "outage-user"), ("MINIO_ROOT_PASSWORD", "outage-password")]);
        command.envs([("MINIO_BROWSER", "off"), ("MINIO_UPDATE", "off")]);
        let mut process = Process::spawn("minio", command, &self.folder.join("minio.log")).unwrap();
        let store = Store::open_once(&format!("s3://{BUCKET}"), &self.env()).unwrap();
        for _ in 0..600 {
            assert!(process.is_running().unwrap(), "{}", process.log());
            if store.list_sorted("").await.is_ok() {
                return process;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("MinIO does not answer: {}", process.log());
    }
}

fn signal(process: &Process, signal: Signal) {
    kill_process(Pid::from_raw(process.id().try_into().unwrap()).unwrap(), signal).unwrap();
}

fn progress(job: &Batch) -> Progress {
    job.progress.clone().unwrap_or_default()
}

fn pages(count: usize) -> Vec<BatchPage> {
    (0..count).map(slip).collect()
}

fn on(store: Store) -> BatchDir {
    let batch = BATCH.parse().unwrap();
    BatchDir { store, keys: BatchKeys::new(&batch), batch }
}

/// The same pages in a folder, by an agent that nothing disturbs.
async fn calm(folder: &Path, parts: &[Vec<BatchPage>], url: &str) -> BatchDir {
    let batch = BatchDir::new(&folder.join("calm"), BATCH).unwrap();
    batch.write_parts(parts).await.unwrap();
    let root = folder.join("calm").display().to_string();
    let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", url];
    let agent = Agent::start(&root, &folder.join("calm-work"), &args, &[]).unwrap();
    let mut jobs = AgentJobs::connect(&agent.url).await.unwrap();
    jobs.submit(BATCH).await.unwrap();
    jobs.complete(BATCH).await.unwrap();
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_is_away_for_20_seconds_twice() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let minio = Minio { folder: folder.path(), port };
    let mut server = minio.start().await;
    let root = format!("s3://{BUCKET}/root");
    let batch = on(Store::open(&root, &minio.env()).unwrap());
    let parts = parts(&pages(900), 20);
    batch.write_parts(&parts).await.unwrap();
    let simulator =
        OllamaSim::start(&folder.path().join("sim"), &["--slots", "4", "--service-ms", "60"]).unwrap();
    let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", &simulator.url, "--concurrency", "4"];
    let env = minio.env();
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let agent = Agent::start(&root, &folder.path().join("work"), &args, &env).unwrap();
    let mut jobs = AgentJobs::connect(&agent.url).await.unwrap();
    jobs.submit(BATCH).await.unwrap();

    // It takes connections and answers nothing: requests hang, and come through after it.
    jobs.until(BATCH, |job| progress(job).parts_committed >= 3).await.unwrap();
    signal(&server, Signal::STOP);
    tokio::time::sleep(OUTAGE).await;
    let hung = jobs.get(BATCH).await.unwrap();
    signal(&server, Signal::CONT);

    // It is gone: the job waits, and says for what.
    let parts_before = progress(&hung).parts_committed;
    jobs.until(BATCH, |job| progress(job).parts_committed >= parts_before + 3).await.unwrap();
    let gone = Instant::now();
    server.kill().unwrap();
    let waits = jobs.until(BATCH, |job| progress(job).waiting_since.is_some()).await.unwrap();
    assert!(waits.reason.contains("cannot be reached"), "{}", waits.reason);
    tokio::time::sleep(OUTAGE.saturating_sub(gone.elapsed())).await;
    let _server = minio.start().await;
    let done = jobs.complete(BATCH).await.unwrap();
    assert!(progress(&done).waiting_since.is_none() && done.reason.is_empty(), "{done:?}");

    let asked = simulator.stats("").await.unwrap().now.requests;
    let quick = OllamaSim::start(&folder.path().join("quick"), &[]).unwrap();
    let (made, expected) =
        (made(&batch).await.unwrap(), made(&calm(folder.path(), &parts, &quick.url).await).await.unwrap());
    assert_eq!(made.ledger, expected.ledger);
    assert_eq!(made.suggestions, expected.suggestions);
    let (stopped, killed) = (progress(&hung), progress(&waits));
    println!(
        "MinIO stopped at {} of {} pages and killed at {}, each for 20 s: the job waited ({}) and lost nothing; \
         {asked} requests, {} answers from the journal",
        stopped.pages_done,
        stopped.pages,
        killed.pages_done,
        waits.reason,
        progress(&done).replayed
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_share_a_batch_by_leases_in_minio() {
    let place = Place::new("leases");
    let batch = on(place.store.clone());
    let parts = parts(&pages(480), 12);
    batch.write_parts(&parts).await.unwrap();
    let simulator =
        OllamaSim::start(&place.folder.path().join("sim"), &["--slots", "4", "--service-ms", "30"]).unwrap();
    let start = |agent: usize| {
        let configure = |command: &mut Command| {
            command.env_clear().envs(&place.env).args(["run", "--batch-id", BATCH, "--root", &place.root]);
            command.args(["--engine", "ollama", "--model", MODEL, "--ollama-url", &simulator.url]);
            command.arg("--state-dir").arg(place.folder.path().join(format!("state-{agent}")));
        };
        Process::start("dgx-agent", configure, &place.folder.path().join(format!("{agent}.log"))).unwrap()
    };
    let mut agents = [start(0), start(1)];
    let mut holders = BTreeMap::<String, BTreeSet<String>>::new();
    while agents[0].is_running().unwrap() || agents[1].is_running().unwrap() {
        for object in batch.store.list_sorted(&batch.keys.leases()).await.unwrap() {
            // It may have been given back since.
            let Some(lease) = batch.store.get_opt(&object.key).await.unwrap() else { continue };
            let lease: Value = serde_json::from_slice(&lease).unwrap();
            let holder = lease["instance"].as_str().unwrap().to_owned();
            holders.entry(object.key.as_str().to_owned()).or_default().insert(holder);
        }
    }
    for agent in &mut agents {
        assert!(agent.wait().unwrap().success(), "{}", agent.log());
    }
    let twice: Vec<_> = holders.iter().filter(|(_, holders)| holders.len() > 1).collect();
    let ledger = batch.ledger().await.unwrap();
    assert_eq!(ledger.len(), 480);
    let both: BTreeSet<_> = holders.values().flatten().collect();
    assert_eq!(both.len(), 2, "both had parts: {holders:?}");
    // One of each agent is to see that the model is there.
    let asked = simulator.stats("").await.unwrap().now.requests;
    let spent: i32 = ledger.iter().map(|row| row.attempts).sum();
    assert!(
        asked <= u64::from(spent.unsigned_abs()) + 2,
        "{asked} requests for {spent} in the ledger: {twice:?}"
    );
    assert_eq!(batch.store.list_sorted(&batch.keys.leases()).await.unwrap(), [], "nothing is left behind");
    println!(
        "two agents, {} parts, leases in MinIO: {} leases seen, {} of them with both agents one after the other; \
         {asked} requests for {spent} attempts in the ledger",
        parts.len(),
        holders.len(),
        twice.len()
    );
}
