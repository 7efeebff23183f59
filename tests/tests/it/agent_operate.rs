//! Operating jobs: several share the model server by weight, one is paused, resumed, weighed, deleted; a daemon and a
//! run that are told to end. Over the simulator, counting requests, never time.

use std::{path::Path, process::Command};

use e2e::{
    agent_jobs::{AgentJobs, Made},
    batch_dir::{BatchDir, page, parts},
    harness::{Agent, OllamaSim, Process},
    ollama_double::MODEL,
    ollama_sim::Stats,
};
use proto::{
    grpc::{
        BatchState, DeleteBatchRequest, PauseBatchRequest, ResumeBatchRequest, SetBatchWeightRequest,
        SubmitBatchRequest,
    },
    rows::BatchPage,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::Code;

struct Stage {
    folder: TempDir,
    simulator: OllamaSim,
}

impl Stage {
    fn new(simulator: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let simulator = OllamaSim::start(&folder.path().join("sim"), simulator).unwrap();
        Self { simulator, folder }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn args<'a>(&'a self, concurrency: &'a str) -> Vec<&'a str> {
        let url = &self.simulator.url;
        vec!["--engine", "ollama", "--model", MODEL, "--ollama-url", url, "--concurrency", concurrency]
    }

    async fn agent(&self, args: &[&str]) -> (Agent, AgentJobs) {
        let root = self.root().display().to_string();
        let agent = Agent::start(&root, &self.root().join("work"), args, &[]).unwrap();
        let jobs = AgentJobs::connect(&agent.url).await.unwrap();
        (agent, jobs)
    }

    async fn batch(&self, batch: &str, count: i32) -> BatchDir {
        let directory = BatchDir::new(self.root(), batch).unwrap();
        let pages: Vec<BatchPage> = (1..=count)
            .map(|number| page(batch, number, &format!("{batch} {number}: IMO 9074729")))
            .collect();
        directory.write_parts(&parts(&pages, 100)).await.unwrap();
        directory
    }

    async fn until(&self, what: impl Fn(&Stats) -> bool) -> Stats {
        for _ in 0..6000 {
            let stats = self.simulator.stats("").await.unwrap();
            if what(&stats) {
                return stats;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the simulator did not get there");
    }

    async fn requests(&self) -> u64 {
        self.simulator.stats("").await.unwrap().now.requests
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_jobs_share_the_server_by_their_weights() {
    // Long enough that each job has pages waiting, also on a busy machine.
    let stage = Stage::new(&["--slots", "4", "--service-ms", "25"]);
    let (_agent, mut jobs) = stage.agent(&stage.args("4")).await;
    let weights = [("w10", 10), ("w20", 20), ("w30", 30), ("w40", 40)];
    for (batch, weight) in weights {
        stage.batch(batch, 1000).await;
        let asked = SubmitBatchRequest { batch_id: batch.into(), weight, ..SubmitBatchRequest::default() };
        let (job, created) = jobs.ask(asked).await.unwrap();
        assert!(created && job.weight == weight);
    }
    let done = |jobs: &AgentJobs, batch: &'static str| {
        let mut jobs = jobs.clone();
        async move { jobs.get(batch).await.unwrap().progress.unwrap_or_default().pages_done }
    };
    // All four run from here.
    for (batch, _) in weights {
        jobs.until(batch, |job| job.progress.as_ref().is_some_and(|p| p.pages_done > 0)).await.unwrap();
    }
    let mut before = Vec::new();
    for (batch, _) in weights {
        before.push(done(&jobs, batch).await);
    }
    let asked = stage.requests().await;
    // What a job says of itself may be a tenth of a second old: sixteen pages of all four.
    stage.until(|stats| stats.now.requests > asked + 1400).await;
    let mut served = Vec::new();
    for ((batch, _), before) in weights.iter().zip(before) {
        served.push((done(&jobs, batch).await - before) as f64);
    }
    let all: f64 = served.iter().sum();
    for ((batch, weight), served) in weights.iter().zip(&served) {
        let (share, wanted) = (served / all, f64::from(*weight) / 100.0);
        println!("{batch}: {served} of {all} pages, {:.1} % where {weight} % is its weight", share * 100.0);
        assert!((share / wanted - 1.0).abs() <= 0.1, "{batch}: {share} of {wanted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_paused_weighed_resumed_and_deleted() {
    let stage = Stage::new(&["--slots", "4", "--service-ms", "20"]);
    let batch = stage.batch("a", 200).await;
    let (agent, mut jobs) = stage.agent(&stage.args("4")).await;
    jobs.submit("a").await.unwrap();
    stage.until(|stats| stats.now.answers > 20).await;

    let delete = || DeleteBatchRequest { batch_id: "a".into() };
    let refused = jobs.client.delete_batch(delete()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("running"), "{refused}");

    let pause = || PauseBatchRequest { batch_id: "a".into() };
    for _ in 0..2 {
        let paused = jobs.client.pause_batch(pause()).await.unwrap().into_inner().batch.unwrap();
        assert_eq!(paused.state(), BatchState::Paused);
    }
    let still = stage.until(|stats| stats.in_flight == 0).await;
    assert_eq!(still.disconnects, 0, "what was in flight was waited for");
    let weigh = |weight| SetBatchWeightRequest { batch_id: "a".into(), weight };
    let bad = jobs.client.set_batch_weight(weigh(101)).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    let weighed = jobs.client.set_batch_weight(weigh(99)).await.unwrap().into_inner().batch.unwrap();
    assert_eq!(weighed.weight, 99);

    // A pause outlasts the daemon.
    let mut agent = agent;
    agent.process.terminate().unwrap();
    assert!(agent.process.wait().unwrap().success());
    drop(agent);
    let (_agent, mut jobs) = stage.agent(&stage.args("4")).await;
    let paused = jobs.get("a").await.unwrap();
    assert_eq!((paused.state(), paused.weight), (BatchState::Paused, 99));
    assert_eq!(stage.requests().await, still.now.requests, "nothing is asked while it is paused");

    jobs.client.resume_batch(ResumeBatchRequest { batch_id: "a".into() }).await.unwrap();
    jobs.complete("a").await.unwrap();
    // Each page once, and two requests to see that the server is well.
    assert_eq!(stage.requests().await, 202);
    assert_eq!(batch.ledger().await.unwrap().len(), 200);

    jobs.client.delete_batch(delete()).await.unwrap();
    assert_eq!(jobs.get("a").await.unwrap_err().code(), Code::NotFound);
    assert!(batch.is_complete().await.unwrap(), "what it made stays");
    assert!(jobs.submit("a").await.unwrap().1);
    jobs.complete("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_waits_for_what_is_in_flight_and_a_second_one_drops_it() {
    let stage = Stage::new(&["--slots", "4", "--service-ms", "300"]);
    let batch = stage.batch("a", 40).await;
    let (mut agent, mut jobs) = stage.agent(&stage.args("4")).await;
    jobs.submit("a").await.unwrap();
    let asked = stage.until(|stats| stats.now.answers >= 1 && stats.in_flight == 4).await;
    agent.process.terminate().unwrap();
    assert_eq!(agent.process.wait().unwrap().code(), Some(0), "{}", agent.process.log());
    let drained = stage.until(|stats| stats.in_flight == 0).await;
    assert_eq!(drained.disconnects, 0, "what was in flight was answered");
    assert!(drained.now.requests <= asked.now.requests + 8, "nothing new was begun");

    let (mut agent, _jobs) = stage.agent(&stage.args("4")).await;
    stage.until(|stats| stats.now.requests > drained.now.requests + 1 && stats.in_flight == 4).await;
    agent.process.terminate().unwrap();
    agent.process.until("drain", || agent_log(&stage).matches("draining").nth(1).map(drop)).unwrap();
    agent.process.terminate().unwrap();
    assert_eq!(agent.process.wait().unwrap().code(), Some(130), "{}", agent.process.log());
    let dropped = stage.until(|stats| stats.in_flight == 0).await.disconnects;
    assert!(dropped > 0, "what was in flight was dropped");

    let (_agent, mut jobs) = stage.agent(&stage.args("4")).await;
    jobs.complete("a").await.unwrap();
    // Each page once, what was dropped again, and a request a start.
    let requests = stage.requests().await;
    assert!(requests <= 40 + dropped + 3 + 4, "{requests}, {dropped} dropped");
    assert_eq!(batch.ledger().await.unwrap().len(), 40);
    let root = stage.root().display().to_string();
    assert!(Made::read(&root, "a").await.unwrap().manifest.is_some());
}

fn agent_log(stage: &Stage) -> String {
    std::fs::read_to_string(stage.root().join("work/dgx-agent.log")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_of_a_run_drains_and_the_second_one_cuts_it_short() {
    let stage = Stage::new(&["--slots", "2", "--service-ms", "400"]);
    stage.batch("a", 20).await;
    let interrupt = |process: &Process| {
        let id = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        kill_process(id, Signal::INT).unwrap();
    };
    let state = stage.root().join("state").display().to_string();
    for twice in [false, true] {
        let before = stage.simulator.stats("").await.unwrap();
        let configure = |command: &mut Command| {
            command.args(["run", "--batch-id", "a", "--state-dir", &state, "--root"]).arg(stage.root());
            command.args(stage.args("2"));
        };
        let log = stage.root().join(format!("run-{twice}.log"));
        let mut run = Process::start("dgx-agent", configure, &log).unwrap();
        stage.until(|stats| stats.now.requests > before.now.requests + 2 && stats.in_flight == 2).await;
        interrupt(&run);
        if twice {
            let said = || std::fs::read_to_string(&log).ok()?.contains("interrupt again").then_some(());
            run.until("say that it stops", said).unwrap();
            interrupt(&run);
        }
        assert_eq!(run.wait().unwrap().code(), Some(130), "{}", run.log());
        let after = stage.until(|stats| stats.in_flight == 0).await;
        assert_eq!(after.disconnects > before.disconnects, twice, "{}", run.log());
    }
}
