//! A disk that is really full (a small file system, filled to its last byte): under the journal, under the jobs, under the
//! root. Each says so, loses nothing that was done, and goes on when there is room again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use e2e::{
    agent_jobs::{AgentJobs, Made, write_parts},
    batch_dir::page,
    harness::{Agent, OllamaSim, Process, SmallDisk},
    ollama_double::MODEL,
};
use proto::{
    grpc::{BatchState, SubmitBatchRequest},
    reasons,
    rows::BatchPage,
};
use tempfile::TempDir;
use tonic::Code;
use tonic_types::StatusExt;

const FULL: &str = "No space left on device";

/// The folder of a test with a small disk in it.
struct Stage {
    folder: TempDir,
    disk: SmallDisk,
}

impl Stage {
    /// None where nothing can be mounted, which is told.
    #[allow(clippy::print_stdout, reason = "a test that was skipped must not look like one that passed")]
    fn new(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        match SmallDisk::mount(&folder.path().join("small"), megabytes).unwrap() {
            Ok(disk) => Some(Self { folder, disk }),
            Err(why) => {
                println!("skipped: no file system can be mounted here: {why}");
                None
            }
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn simulator(&self, args: &[&str]) -> OllamaSim {
        OllamaSim::start(&self.path("sim"), args).unwrap()
    }

    async fn serve(&self, root: &Path, state: &Path, args: &[&str]) -> (Agent, AgentJobs) {
        let agent = Agent::start_on(&self.disk, root, state, &self.path("work"), args).unwrap();
        let jobs = AgentJobs::connect(&agent.url).await.unwrap();
        (agent, jobs)
    }

    fn run(&self, root: &Path, batch: &str, args: &[&str]) -> Process {
        let mut command = self.disk.command("dgx-agent").unwrap();
        command.args(["run", "--batch-id", batch, "--root"]).arg(root).args(args);
        Process::spawn("dgx-agent", command, &self.path(&format!("{batch}.log"))).unwrap()
    }
}

fn pages(of: &str, count: i32) -> Vec<BatchPage> {
    (1..=count).map(|number| page(of, number, &format!("{of} {number}: IMO 9074729"))).collect()
}

/// In parts of ten.
async fn write(root: &Path, batch: &str, pages: &[BatchPage]) {
    let parts: Vec<_> = pages.chunks(10).collect();
    write_parts(root.to_str().unwrap(), batch, &parts).await.unwrap();
}

/// What an undisturbed agent makes of the pages.
async fn undisturbed(folder: &Path, batch: &str, pages: &[BatchPage], args: &[&str]) -> Made {
    let root = folder.join("undisturbed");
    write(&root, batch, pages).await;
    let done = e2e::harness::agent_run(&root, batch, args).unwrap();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    Made::read(root.to_str().unwrap(), batch).await.unwrap()
}

fn equal(made: &Made, expected: &Made) {
    assert!(made.manifest.is_some(), "it is complete");
    assert_eq!(made.ledger, expected.ledger);
    assert_eq!(made.suggestions, expected.suggestions);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_the_journal_it_costs_no_page() {
    let Some(stage) = Stage::new(8) else { return };
    let simulator = stage.simulator(&[]);
    let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", &simulator.url];
    let (root, pages) = (stage.path("root"), pages("d", 60));
    let state = stage.disk.path().join("state").display().to_string();
    let with_state = [&args[..], &["--state-dir", &state]].concat();
    for batch in ["a", "b", "c"] {
        write(&root, batch, &pages).await;
    }
    stage.disk.fill().unwrap();
    let mut full = stage.run(&root, "a", &with_state);
    assert!(full.wait().unwrap().success(), "{}", full.log());
    let told: Vec<_> =
        full.log().lines().filter(|line| line.contains("the journal is off")).map(str::to_owned).collect();
    assert!(told.len() == 1 && told[0].contains(FULL), "{}", full.log());
    let root_uri = root.to_str().unwrap();
    let expected = undisturbed(stage.folder.path(), "a", &pages, &args).await;
    equal(&Made::read(root_uri, "a").await.unwrap(), &expected);

    // With room, it is made as if nothing had been: the second batch asks, the third does not.
    stage.disk.free().unwrap();
    for batch in ["b", "c"] {
        let mut roomy = stage.run(&root, batch, &with_state);
        assert!(roomy.wait().unwrap().success() && !roomy.log().contains("journal"), "{}", roomy.log());
        if batch == "b" {
            stage.disk.fill().unwrap();
        }
    }
    let asked = simulator.stats("").await.unwrap().now.requests;
    // Of the undisturbed run, and of a and b: each page, and one to see that the model is there.
    assert_eq!(asked, 3 * (pages.len() as u64 + 1), "what is kept is read from a full disk, too");
    equal(&Made::read(root_uri, "c").await.unwrap(), &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_the_jobs_it_is_waited_out() {
    const JOBS: usize = 300;
    let Some(stage) = Stage::new(8) else { return };
    let root = stage.path("root");
    let state = stage.disk.path().join("state");
    let simulator = stage.simulator(&["--slots", "2", "--service-ms", "10"]);
    let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", &simulator.url, "--jobs", "1"];
    let pages = pages("d", 100);
    write(&root, "long", &pages).await;
    let (mut agent, mut jobs) = stage.serve(&root, &state, &args).await;
    jobs.submit("long").await.unwrap();
    jobs.until("long", |job| job.progress.as_ref().is_some_and(|progress| progress.parts_committed > 0))
        .await
        .unwrap();
    stage.disk.fill().unwrap();
    // What it has on disk already it uses up.
    let mut refused = None;
    let mut submitted = Vec::new();
    while refused.is_none() {
        let batch = format!("short-{}", submitted.len());
        assert!(submitted.len() < JOBS, "the disk takes them all");
        write(&root, &batch, &pages[..1]).await;
        let ask = SubmitBatchRequest {
            batch_id: batch.clone(),
            engine: proto::grpc::Engine::Rules.into(),
            ..SubmitBatchRequest::default()
        };
        match jobs.ask(ask).await {
            Ok(_) => submitted.push(batch),
            Err(status) => refused = Some(status),
        }
    }
    let refused = refused.unwrap();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains(FULL) && refused.message().contains("jobs.redb"), "{refused}");
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, reasons::STATE_UNWRITABLE);
    assert!(details.retry_info().is_some());

    // The job that runs does all that it can, and waits with its last word.
    let waits = |job: &proto::grpc::Batch| job.reason.contains(FULL);
    let job = jobs.until("long", waits).await.unwrap();
    assert_eq!(job.state(), BatchState::Running);
    let made = Made::read(root.to_str().unwrap(), "long").await.unwrap();
    equal(&made, &undisturbed(stage.folder.path(), "long", &pages, &args[..6]).await);
    assert!(agent.process.is_running().unwrap());

    stage.disk.free().unwrap();
    let job = jobs.complete("long").await.unwrap();
    assert_eq!((job.reason.as_str(), job.progress.unwrap().waiting_since), ("", None));
    for batch in &submitted {
        jobs.complete(batch).await.unwrap();
    }
    // All of it is on disk.
    agent.process.kill().unwrap();
    let (_agent, mut jobs) = stage.serve(&root, &state, &args).await;
    for batch in submitted.iter().map(String::as_str).chain(["long"]) {
        assert_eq!(jobs.get(batch).await.unwrap().state(), BatchState::Complete, "{batch}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_the_jobs_a_start_says_so_and_may_be_tried_again() {
    let Some(stage) = Stage::new(8) else { return };
    let state = stage.disk.path().join("state");
    let start = || {
        let mut command = stage.disk.command("dgx-agent").unwrap();
        command.args(["serve", "--listen", "127.0.0.1:0", "--root"]).arg(stage.path("root"));
        command.arg("--state-dir").arg(&state);
        Process::spawn("dgx-agent", command, &stage.path("start.log")).unwrap()
    };
    stage.disk.fill().unwrap();
    let mut agent = start();
    assert_eq!(agent.wait().unwrap().code(), Some(4), "{}", agent.log());
    assert!(agent.log().contains(FULL) && agent.log().contains("state"), "{}", agent.log());
    stage.disk.free().unwrap();
    let (_agent, mut jobs) = stage.serve(&stage.path("root"), &state, &[]).await;
    assert_eq!(jobs.list(10, "").await.unwrap().0, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn under_the_root_a_job_waits_for_room() {
    let Some(stage) = Stage::new(8) else { return };
    let (inside, outside) = (stage.disk.path().join("root"), stage.disk.from_outside().join("root"));
    let pages = pages("d", 50);
    write(&outside, "b", &pages).await;
    let (mut agent, mut jobs) = stage.serve(&inside, &stage.path("state"), &["--engine", "rules"]).await;
    stage.disk.fill().unwrap();
    jobs.submit("b").await.unwrap();
    let job = jobs.until("b", |job| job.reason.contains(FULL)).await.unwrap();
    assert_eq!(job.state(), BatchState::Running);
    assert!(job.progress.unwrap().waiting_since.is_some());
    assert!(agent.process.is_running().unwrap());
    stage.disk.free().unwrap();
    jobs.complete("b").await.unwrap();
    let expected = undisturbed(stage.folder.path(), "b", &pages, &["--engine", "rules"]).await;
    equal(&Made::read(outside.to_str().unwrap(), "b").await.unwrap(), &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_the_root_a_run_waits_and_asks_for_nothing_twice() {
    let Some(stage) = Stage::new(8) else { return };
    let (inside, outside) = (stage.disk.path().join("root"), stage.disk.from_outside().join("root"));
    let simulator = stage.simulator(&["--slots", "2", "--service-ms", "10"]);
    let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", &simulator.url];
    let pages = pages("d", 100);
    write(&outside, "b", &pages).await;
    // Without a journal: what is lost is asked for again.
    let mut run = stage.run(&inside, "b", &args);
    let commits = outside.join("argilla/in/vessels_ocr_b/commits");
    run.until("commit", || commits.is_dir().then_some(())).unwrap();
    stage.disk.fill().unwrap();
    let log = stage.path("b.log");
    let waits = || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("waiting for the store") && log.contains(FULL))
    };
    run.until("wait", || waits().then_some(())).unwrap();
    stage.disk.free().unwrap();
    assert!(run.wait().unwrap().success(), "{}", run.log());
    let asked = simulator.stats("").await.unwrap().now.requests;
    assert_eq!(asked, pages.len() as u64 + 1, "each page, and one to see that the model is there");
    let expected = undisturbed(stage.folder.path(), "b", &pages, &args).await;
    equal(&Made::read(outside.to_str().unwrap(), "b").await.unwrap(), &expected);

    // Not for ever, and not at all where that is asked for.
    write(&outside, "c", &pages).await;
    stage.disk.fill().unwrap();
    let mut hasty = stage.run(&inside, "c", &["--engine", "rules", "--patience", "0"]);
    assert_eq!(hasty.wait().unwrap().code(), Some(4), "{}", hasty.log());
    assert!(hasty.log().contains(FULL), "{}", hasty.log());
}
