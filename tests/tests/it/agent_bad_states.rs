//! What a model server or a file can do to a job: each a state with its reason and the way out, and nothing that was
//! finished is lost.

use std::net::TcpListener;

use e2e::{
    agent_jobs::{AgentJobs, Made, commits},
    batch_dir::{BatchDir, parts},
    harness::{Agent, ArgillaStandIn, OllamaSim},
    ollama_double::MODEL,
    ollama_sim::sheets::sheets,
};
use proto::{
    grpc::{Batch, BatchState, DescribeRequest, Progress},
    keys::PartKind,
    parquet_io::encode,
    rows::{BatchPage, Outcome},
};
use tempfile::TempDir;
use tonic::{Code, Status};

const BATCH: &str = "bad-states";
/// Pages of a part: small, so that parts are committed while others are still asked about.
const PART: usize = 20;
/// A server that answers for some two parts and holds all that comes then: a test has the time to do what it does.
const TWO_PARTS: [&str; 6] = ["--slots", "2", "--service-ms", "10", "--then", "50:0"];

/// A batch, and a port for the servers that come and go; the agent is started by the test.
struct Setup {
    folder: TempDir,
    batch: BatchDir,
    pages: Vec<BatchPage>,
    port: u16,
}

impl Setup {
    async fn new(pages: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let batch = BatchDir::new(&folder.path().join("root"), BATCH).unwrap();
        let pages = sheets(pages).await.unwrap();
        batch.write_parts(&parts(&pages, PART)).await.unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder, batch, pages, port }
    }

    fn root(&self) -> String {
        self.folder.path().join("root").display().to_string()
    }

    fn server(&self, args: &[&str]) -> OllamaSim {
        OllamaSim::start_on(self.port, self.folder.path(), args).unwrap()
    }

    async fn agent(&self, args: &[&str], env: &[(&str, &str)]) -> (Agent, AgentJobs) {
        let url = format!("http://127.0.0.1:{}", self.port);
        let args = [&["--engine", "ollama", "--model", MODEL, "--ollama-url", &url], args].concat();
        let agent = Agent::start(&self.root(), &self.folder.path().join("work"), &args, env).unwrap();
        let jobs = AgentJobs::connect(&agent.url).await.unwrap();
        (agent, jobs)
    }

    /// Submitted to an agent without further flags.
    async fn refused(&self, server: &[&str], agent: &[&str]) -> Status {
        let _server = self.server(server);
        let (_agent, mut jobs) = self.agent(agent, &[]).await;
        let refused = jobs.submit(BATCH).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert_eq!(jobs.get(BATCH).await.unwrap_err().code(), Code::NotFound, "no job is made of it");
        refused
    }

    async fn commits(&self) -> usize {
        commits(&self.root(), BATCH).await.unwrap().len()
    }

    /// What stood in the way is gone: a retry ends it.
    async fn goes_on(&self, jobs: &mut AgentJobs) {
        jobs.retry(BATCH).await.unwrap();
        jobs.complete(BATCH).await.unwrap();
        self.accounted_for().await;
    }

    /// Every page has its one row, and none failed.
    async fn accounted_for(&self) {
        let ledger = self.batch.ledger().await.unwrap();
        let keys: std::collections::BTreeSet<_> =
            ledger.iter().map(|row| (row.doc_id.clone(), row.page_num)).collect();
        assert_eq!((ledger.len(), keys.len()), (self.pages.len(), self.pages.len()));
        assert!(ledger.iter().all(|row| row.outcome != Outcome::Failed));
        assert!(self.batch.is_complete().await.unwrap());
    }
}

fn progress(job: &Batch) -> Progress {
    job.progress.clone().unwrap_or_default()
}

fn waits(job: &Batch) -> bool {
    progress(job).waiting_since.is_some()
}

/// Failed, with a reason that names the batch's trouble and the way out.
async fn failed(jobs: &mut AgentJobs, says: &[&str]) -> Batch {
    let job = jobs.ended(BATCH).await.unwrap();
    assert_eq!(job.state(), BatchState::Failed);
    for says in says {
        assert!(job.reason.contains(says), "{says:?} in {:?}", job.reason);
    }
    assert!(progress(&job).waiting_since.is_none());
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_work_is_refused_when_it_is_submitted() {
    let setup = Setup::new(2).await;
    let too_long = setup.refused(&[], &["--num-ctx", "200000"]).await;
    let says =
        "--num-ctx 200000 is above the context length 131072 of stand-in; pass --num-ctx 131072 or less";
    assert!(too_long.message().contains(says), "{too_long}");
    let too_short = setup.refused(&[], &["--num-ctx", "2048", "--num-predict", "1024"]).await;
    assert!(too_short.message().contains("--num-ctx 2048 has no room for a page"), "{too_short}");
    let missing = setup.refused(&["--missing-model"], &[]).await;
    assert!(missing.message().contains("run `ollama pull stand-in`"), "{missing}");
    for status in ["302", "200"] {
        let login = setup.refused(&[&format!("--login-page={status}")], &[]).await;
        assert!(login.message().contains("set CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET"), "{login}");
        assert!(login.message().contains(&format!("HTTP {status}")), "{login}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_web_server_is_no_ollama() {
    let setup = Setup::new(2).await;
    let other = ArgillaStandIn::start(&setup.folder.path().join("other")).unwrap();
    let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", &other.url];
    let agent = Agent::start(&setup.root(), &setup.folder.path().join("work"), &args, &[]).unwrap();
    let refused = AgentJobs::connect(&agent.url).await.unwrap().submit(BATCH).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("correct --ollama-url"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_proxy_lets_the_service_token_through() {
    let setup = Setup::new(4).await;
    let access = ["--access", "id.access:hunter2"];
    let without = setup.refused(&access, &[]).await;
    assert!(without.message().contains("set CF_ACCESS_CLIENT_ID"), "{without}");
    let _server = setup.server(&access);
    let env = [("CF_ACCESS_CLIENT_ID", "id.access"), ("CF_ACCESS_CLIENT_SECRET", "hunter2")];
    let (agent, mut jobs) = setup.agent(&[], &env).await;
    jobs.submit(BATCH).await.unwrap();
    jobs.complete(BATCH).await.unwrap();
    assert!(!agent.process.log().contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_the_server_refuses() {
    let setup = Setup::new(4).await;
    let server = setup.server(&["--refuse-schema"]);
    let (_agent, mut jobs) = setup.agent(&[], &[]).await;
    jobs.submit(BATCH).await.unwrap();
    failed(&mut jobs, &["does not take the labelset's JSON schema", "invalid JSON schema", "update Ollama"])
        .await;
    assert_eq!(setup.commits().await, 0);
    assert_eq!(server.stats("").await.unwrap().now.requests, 1, "the warm-up; no page is asked about");
    drop(server);
    let _newer = setup.server(&[]);
    setup.goes_on(&mut jobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_removed_in_mid_batch() {
    let setup = Setup::new(8 * PART).await;
    let server = setup.server(&["--lose-model-after", "120", "--slots", "2", "--service-ms", "5"]);
    let (_agent, mut jobs) = setup.agent(&[], &[]).await;
    jobs.submit(BATCH).await.unwrap();
    let job = failed(&mut jobs, &["Ollama has no model stand-in", "run `ollama pull stand-in`"]).await;
    let committed = setup.commits().await;
    assert!((1..8).contains(&committed), "{committed}");
    assert_eq!(progress(&job).parts_committed as usize, committed);
    drop(server);
    let again = setup.server(&[]);
    setup.goes_on(&mut jobs).await;
    let asked = again.stats("").await.unwrap().now.requests as usize;
    assert!(
        asked <= setup.pages.len() * 2 - committed * PART,
        "committed parts are not asked about: {asked}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_changes_in_mid_batch() {
    let setup = Setup::new(8 * PART).await;
    let server = setup.server(&["--pull-again-after", "120", "--slots", "2", "--service-ms", "5"]);
    let (_agent, mut jobs) = setup.agent(&[], &[]).await;
    jobs.submit(BATCH).await.unwrap();
    failed(
        &mut jobs,
        &["the model stand-in at http://127.0.0.1", "changed during the batch", "make a new batch"],
    )
    .await;
    let standing = commits(&setup.root(), BATCH).await.unwrap();
    assert!((1..8).contains(&standing.len()), "{}", standing.len());
    assert!(standing.iter().all(|commit| commit.provenance == standing[0].provenance), "of one model alone");
    // Neither is the batch gone on with under the other model.
    jobs.retry(BATCH).await.unwrap();
    failed(&mut jobs, &["no longer what was submitted (what differs: the model's digest)"]).await;
    drop(server);
    let old = setup.server(&[]);
    setup.goes_on(&mut jobs).await;
    let asked = old.stats("").await.unwrap().now.requests as usize;
    assert!(
        asked >= setup.pages.len() - 120,
        "what the other model said is not kept as the old one's: {asked}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_cannot_be_read_in_mid_batch() {
    let setup = Setup::new(8 * PART).await;
    let first = setup.server(&TWO_PARTS);
    let (_agent, mut jobs) = setup.agent(&[], &[]).await;
    jobs.submit(BATCH).await.unwrap();
    // No more than four parts are under way, and two committed: the last two are not opened yet.
    jobs.until(BATCH, |job| progress(job).pages_done >= 2 * PART as u64).await.unwrap();
    // The last two: one is gone, of the other half is left.
    let (gone, cut) = (setup.batch.keys.part(PartKind::Pages, 6), setup.batch.keys.part(PartKind::Pages, 7));
    let whole = [&setup.pages[6 * PART..7 * PART], &setup.pages[7 * PART..]];
    setup.batch.store.delete(&gone).await.unwrap();
    let half = encode(whole[1]).unwrap();
    setup.batch.write_file(7, half.slice(..half.len() / 2)).await.unwrap();
    drop(first);
    let server = setup.server(&["--slots", "2", "--service-ms", "10"]);
    let job =
        failed(&mut jobs, &["2 of 8 parts cannot be done, all others are", gone.as_str(), cut.as_str()])
            .await;
    assert!(job.reason.contains("restore it"), "{}", job.reason);
    assert_eq!((setup.commits().await, progress(&job).parts_committed), (6, 6));
    let before = server.stats("").await.unwrap().now.requests;
    for (number, pages) in (6..).zip(whole) {
        setup.batch.write_file(number, encode(pages).unwrap()).await.unwrap();
    }
    setup.goes_on(&mut jobs).await;
    let asked = (server.stats("").await.unwrap().now.requests - before) as usize;
    assert!((2 * PART..4 * PART).contains(&asked), "two parts are asked about, not eight: {asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_turns_requests_off_in_mid_batch_is_waited_out() {
    const LOGIN: [&str; 2] =
        ["an access proxy refused the request", "set CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET"];
    let setup = Setup::new(10 * PART).await;
    let mut server = setup.server(&TWO_PARTS);
    let (_agent, mut jobs) = setup.agent(&[], &[]).await;
    jobs.submit(BATCH).await.unwrap();
    for (status, done, next, says) in [
        ("302", PART, &TWO_PARTS[..], LOGIN),
        ("200", 3 * PART, &TWO_PARTS[..], LOGIN),
        ("403", 5 * PART, &TWO_PARTS[..], ["HTTP 403", "what stands before it"]),
        ("404", 7 * PART, &[], ["HTTP 404", "what stands before it"]),
    ] {
        jobs.until(BATCH, |job| progress(job).pages_done >= done as u64).await.unwrap();
        drop(server);
        let proxy = setup.server(&[&format!("--login-page={status}")]);
        let turned_off = |job: &Batch| waits(job) && job.reason.contains(says[0]);
        // The connections that the first one cut are told first.
        let away =
            jobs.until(BATCH, |job| turned_off(job) || job.state() != BatchState::Running).await.unwrap();
        assert_eq!(away.state(), BatchState::Running, "{}", away.reason);
        assert!(away.reason.contains(says[1]), "{}", away.reason);
        drop(proxy);
        server = setup.server(next);
    }
    let done = jobs.complete(BATCH).await.unwrap();
    assert!(!waits(&done) && done.reason.is_empty());
    setup.accounted_for().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_on_the_cpu_is_told_by_job_and_describe() {
    let setup = Setup::new(4).await;
    let _server = setup.server(&["--on-cpu"]);
    let (agent, mut jobs) = setup.agent(&[], &[]).await;
    jobs.submit(BATCH).await.unwrap();
    let told = progress(&jobs.complete(BATCH).await.unwrap());
    assert!(told.model_size_bytes > 0 && told.model_size_vram_bytes == 0, "{told:?}");
    let described = jobs.client.describe(DescribeRequest::default()).await.unwrap().into_inner();
    let server = described.model_server.unwrap();
    assert!(server.size_bytes > 0 && server.size_vram_bytes == 0, "{server:?}");
    assert!(agent.process.log().contains("not all on a GPU"));
    assert!(Made::read(&setup.root(), BATCH).await.unwrap().manifest.is_some());
}
