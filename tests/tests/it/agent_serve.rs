//! The daemon as its clients meet it: a real process, asked over gRPC.

use std::path::Path;

use anyhow::{Context, Result};
use e2e::{
    agent_jobs::{AgentJobs, Made, commits, example_pages, write_parts},
    harness::{Agent, Process},
};
use proto::{
    grpc::{BatchState, Engine, SubmitBatchRequest},
    hash::sha256_hex,
    rows::BatchPage,
};
use tempfile::TempDir;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// A root with batches of a few small pages in two parts each, and an agent over it.
struct Stage {
    folder: TempDir,
    root: String,
}

impl Stage {
    async fn with(batches: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = folder.path().join("root").display().to_string();
        for batch in batches {
            let pages: Vec<_> = (1..=6).map(|number| page(batch, number)).collect();
            write_parts(&root, batch, &[&pages[..3], &pages[3..]]).await?;
        }
        Ok(Self { folder, root })
    }

    fn work(&self) -> std::path::PathBuf {
        self.folder.path().join("work")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.work().join("dgx-agent.log")).unwrap_or_default()
    }

    async fn agent(&self, env: &[(&str, &str)]) -> Result<(Agent, AgentJobs)> {
        // One after the other: what these tests look at.
        let agent = Agent::start(&self.root, &self.work(), &["--jobs", "1"], env)?;
        let jobs = AgentJobs::connect(&agent.url).await?;
        Ok((agent, jobs))
    }

    /// Polls until the agent says that it stands at a fail point.
    fn paused(&self, agent: &mut Agent, at: &str) -> Result<()> {
        agent.process.until("pause", || self.log().contains(&format!("paused at {at}")).then_some(()))
    }
}

fn page(doc: &str, number: i32) -> BatchPage {
    let text = format!("Vessel: MV OCEAN STAR {number}\nIMO 9074729\nFlag: Panama\n");
    BatchPage {
        doc_id: Some(format!("{doc}/1")),
        page_num: Some(number),
        text_sha256: Some(sha256_hex(&text)),
        text: Some(text),
        run_id: Some(1),
        ocr_confidence: None,
        source_uri: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_submitted_watched_and_complete_and_its_counts_add_up() {
    let stage = Stage::with(&[]).await.unwrap();
    let pages = example_pages().await.unwrap();
    let (first, second) = pages.split_at(pages.len() / 2);
    write_parts(&stage.root, "corpus", &[first, second]).await.unwrap();
    let (_agent, mut jobs) = stage.agent(&[]).await.unwrap();

    let (submitted, created) = jobs.submit("corpus").await.unwrap();
    assert!(created && !submitted.fingerprint.is_empty() && submitted.submitted_at.is_some());
    let done = jobs.complete("corpus").await.unwrap();
    let progress = done.progress.clone().unwrap();
    assert_eq!((progress.parts, progress.parts_committed), (2, 2));
    assert_eq!((progress.pages, progress.pages_done), (pages.len() as u64, pages.len() as u64));
    assert_eq!(progress.outcomes.values().sum::<u64>(), progress.pages_done);
    assert!(progress.in_flight == 0 && progress.waiting_since.is_none() && done.reason.is_empty());

    let made = Made::read(&stage.root, "corpus").await.unwrap();
    assert_eq!(made.ledger.len(), pages.len());
    assert!(!made.suggestions.is_empty());
    assert_eq!(made.suggestions.len() as u64, progress.spans);
    let manifest = made.manifest.unwrap();
    assert_eq!(manifest.fingerprint, done.fingerprint);
    assert_eq!(manifest.counts.pages, progress.pages_done);
    let provenance = done.provenance.clone().unwrap();
    assert_eq!((provenance.engine(), provenance.model.as_str()), (Engine::Rules, "rules"));
    assert_eq!(provenance.model_digest, manifest.provenance.model_digest);
    assert_eq!(commits(&stage.root, "corpus").await.unwrap().len(), 2);

    let (again, created) = jobs.submit("corpus").await.unwrap();
    assert_eq!((again, created), (done.clone(), false), "the same batch finds its job");
    assert_eq!(jobs.get("corpus").await.unwrap(), done);
    let refused = jobs.retry("corpus").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("none of its pages failed"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_batch_id_with_other_content_is_refused() {
    let stage = Stage::with(&["b-1"]).await.unwrap();
    let (_agent, mut jobs) = stage.agent(&[]).await.unwrap();
    jobs.submit("b-1").await.unwrap();
    jobs.complete("b-1").await.unwrap();
    write_parts(&stage.root, "b-1", &[&[page("another", 1)]]).await.unwrap();
    let refused = jobs.submit("b-1").await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("b-1") && refused.message().contains("the pages"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_queue_and_are_listed_page_by_page() {
    let stage = Stage::with(&["c", "a", "b"]).await.unwrap();
    let (_agent, mut jobs) = stage.agent(&[]).await.unwrap();
    for batch in ["c", "a", "b"] {
        assert!(jobs.submit(batch).await.unwrap().1);
    }
    let mut ended = None;
    for batch in ["c", "a", "b"] {
        let done = jobs.complete(batch).await.unwrap();
        let started = done.started_at.map(|at| (at.seconds, at.nanos));
        assert!(started.is_some() && ended <= started, "{batch} waits for the one before it");
        ended = done.finished_at.map(|at| (at.seconds, at.nanos));
    }
    let (page, token) = jobs.list(2, "").await.unwrap();
    assert_eq!(page, ["b", "a"], "the newest first");
    let (page, token) = jobs.list(2, &token).await.unwrap();
    assert_eq!((page, token.as_str()), (vec!["c".to_owned()], ""));
    assert_eq!(jobs.list(0, "").await.unwrap().0.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_batch_stops_and_a_retry_ends_it() {
    let stage = Stage::with(&["a", "b"]).await.unwrap();
    let (mut agent, mut jobs) = stage.agent(&[("DGX_AGENT_PAUSE_AT", "ledger:1")]).await.unwrap();
    for batch in ["a", "b"] {
        jobs.submit(batch).await.unwrap();
    }
    stage.paused(&mut agent, "ledger of part 1").unwrap();
    let running = jobs.get("a").await.unwrap();
    assert_eq!(running.state(), BatchState::Running);
    assert_eq!(jobs.get("b").await.unwrap().state(), BatchState::Queued);

    // One that waits, then the one that runs.
    for batch in ["b", "a"] {
        let cancelled = jobs.cancel(batch).await.unwrap();
        assert_eq!(cancelled.state(), BatchState::Cancelled);
        assert!(!cancelled.reason.is_empty());
        assert_eq!(jobs.cancel(batch).await.unwrap(), cancelled, "cancelling twice is no error");
        assert_eq!(jobs.ended(batch).await.unwrap().state(), BatchState::Cancelled);
    }
    assert!(Made::read(&stage.root, "a").await.unwrap().manifest.is_none());
    agent.process.terminate().unwrap();
    assert!(agent.process.wait().unwrap().success());

    let (_agent, mut jobs) = stage.agent(&[]).await.unwrap();
    for batch in ["a", "b"] {
        assert_eq!(
            jobs.get(batch).await.unwrap().state(),
            BatchState::Cancelled,
            "a restart runs no such job"
        );
        assert_eq!(jobs.retry(batch).await.unwrap().state(), BatchState::Queued);
    }
    for batch in ["a", "b"] {
        let done = jobs.complete(batch).await.unwrap();
        assert_eq!(done.progress.unwrap().pages_done, 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_allowed_is_named() {
    let stage = Stage::with(&["a"]).await.unwrap();
    let (_agent, mut jobs) = stage.agent(&[]).await.unwrap();
    for status in [
        jobs.get("ghost").await.unwrap_err(),
        jobs.cancel("ghost").await.unwrap_err(),
        jobs.retry("ghost").await.unwrap_err(),
        jobs.submit("ghost").await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::NotFound, "{status}");
        assert!(status.message().contains("ghost"), "{status}");
    }
    let status = jobs.submit("Not/A/Batch").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("Not/A/Batch"), "{status}");

    let outside = stage.folder.path().display().to_string();
    let at = |root: &str| SubmitBatchRequest {
        batch_id: "a".into(),
        root_uri: root.into(),
        ..SubmitBatchRequest::default()
    };
    for root in [&outside, &format!("{}/../elsewhere", stage.root), "s3://bucket/prefix"] {
        let status = jobs.ask(at(root)).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(status.message().contains(&stage.root), "{status}");
    }
    let status = jobs.ask(at("ftp://host/path")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");

    let below = format!("{}/team", stage.root);
    write_parts(&below, "a", &[&[page("team", 1)]]).await.unwrap();
    let (job, created) = jobs.ask(at(&below)).await.unwrap();
    assert!(created && job.root_uri == below, "{job:?}");
    jobs.complete("a").await.unwrap();
    assert!(Made::read(&below, "a").await.unwrap().manifest.is_some());
    let status = jobs.ask(at(&stage.root)).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains("the root"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_are_served() {
    let stage = Stage::with(&[]).await.unwrap();
    let (agent, _) = stage.agent(&[]).await.unwrap();
    let channel = Channel::from_shared(agent.url.clone()).unwrap().connect().await.unwrap();
    for service in ["", "dgx.agent.v1.Agent"] {
        let asked = HealthCheckRequest { service: service.into() };
        let answer = HealthClient::new(channel.clone()).check(asked).await.unwrap();
        assert_eq!(answer.get_ref().status(), ServingStatus::Serving);
    }
    let services = services(channel).await.unwrap();
    for service in ["dgx.agent.v1.Agent", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(services.iter().any(|other| other == service), "{service}: {services:?}");
    }

    let health = |url: &str| {
        let log = stage.folder.path().join(format!("health-{}.log", sha256_hex(url)));
        let configure = |command: &mut std::process::Command| {
            command.args(["health", "--agent", url]);
        };
        let mut process = Process::start("dgx-agent", configure, &log)?;
        Ok::<_, anyhow::Error>((process.wait()?.code(), process.log()))
    };
    let (code, said) = health(&agent.url).unwrap();
    assert_eq!((code, said.contains("serving")), (Some(0), true), "{said}");
    drop(agent);
    let (code, said) = health("http://127.0.0.1:9").unwrap();
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
}

async fn services(channel: Channel) -> Result<Vec<String>> {
    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(futures::stream::iter([asked])).await?.into_inner();
    match answers.message().await?.context("an answer")?.message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => anyhow::bail!("no list of services: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_on_one_state_folder_are_one_too_many() {
    let stage = Stage::with(&[]).await.unwrap();
    let (agent, _) = stage.agent(&[]).await.unwrap();
    let state = stage.work().join("state");
    let error = serve(&stage, "127.0.0.1:0", &state).unwrap();
    assert_eq!(error.0, Some(3), "{}", error.1);
    assert!(error.1.contains("another dgx-agent") && error.1.contains("--state-dir"), "{}", error.1);
    drop(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_loopback_is_listened_on() {
    let stage = Stage::with(&[]).await.unwrap();
    let (code, said) = serve(&stage, "0.0.0.0:0", &stage.work()).unwrap();
    assert_eq!(code, Some(3));
    assert!(said.contains("0.0.0.0:0") && said.contains("loopback"), "{said}");
}

/// Starts a daemon that should not start: its exit code and what it said.
fn serve(stage: &Stage, listen: &str, state: &Path) -> Result<(Option<i32>, String)> {
    let configure = |command: &mut std::process::Command| {
        command.args(["serve", "--root", &stage.root, "--listen", listen]).arg("--state-dir").arg(state);
    };
    let mut process = Process::start("dgx-agent", configure, &stage.folder.path().join("refused.log"))?;
    Ok((process.wait()?.code(), process.log()))
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_the_next_start_goes_on() {
    let stage = Stage::with(&["a", "b"]).await.unwrap();
    let (mut agent, mut jobs) = stage.agent(&[("DGX_AGENT_PAUSE_AT", "part:1")]).await.unwrap();
    for batch in ["a", "b"] {
        jobs.submit(batch).await.unwrap();
    }
    stage.paused(&mut agent, "part of part 1").unwrap();
    // Told to end once somebody watches: a later watch might find nobody to ask.
    let told = std::sync::Once::new();
    let watch = jobs.until("b", |_| {
        told.call_once(|| agent.process.terminate().unwrap());
        false
    });
    let closed = watch.await.unwrap_err().to_string();
    assert!(closed.contains("shutting down"), "{closed}");
    assert!(agent.process.wait().unwrap().success(), "{}", stage.log());

    let (_agent, mut jobs) = stage.agent(&[]).await.unwrap();
    for batch in ["a", "b"] {
        jobs.complete(batch).await.unwrap();
    }
    let undisturbed = Stage::with(&["a"]).await.unwrap();
    let (_agent, mut jobs) = undisturbed.agent(&[]).await.unwrap();
    jobs.submit("a").await.unwrap();
    jobs.complete("a").await.unwrap();
    let (one, other) = (Made::read(&stage.root, "a").await, Made::read(&undisturbed.root, "a").await);
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.suggestions, other.suggestions);
    assert_eq!(one.ledger, other.ledger);
}
