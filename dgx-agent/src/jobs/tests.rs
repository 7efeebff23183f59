//! The book and the runner over a store on disk, with work that does as a test says.

use std::{path::Path, time::Duration};

use super::{
    fake::{Does, Fake, identity},
    runner::Runner,
    *,
};

fn id(batch: &str) -> BatchId {
    batch.parse().expect("an id")
}

fn ask() -> Ask {
    Ask { root: "/data".into(), engine: None, model: None, shard: None }
}

fn open(folder: &Path, drain: &CancellationToken) -> Arc<Jobs> {
    let store = JobStore::open(folder).expect("a store");
    Arc::new(Jobs::open(store, drain.clone(), crate::clock::now).expect("loaded"))
}

struct Daemon {
    _folder: tempfile::TempDir,
    jobs: Arc<Jobs>,
    drain: CancellationToken,
}

fn daemon() -> Daemon {
    let folder = tempfile::tempdir().expect("a folder");
    let drain = CancellationToken::new();
    Daemon { jobs: open(folder.path(), &drain), _folder: folder, drain }
}

fn start(jobs: &Arc<Jobs>, work: &Arc<Fake>) -> tokio::task::JoinHandle<Result<(), JobStoreError>> {
    let runner = Runner {
        jobs: jobs.clone(),
        work: work.clone(),
        at_once: 1,
        patience: Duration::from_millis(50),
        now: CancellationToken::new(),
    };
    tokio::spawn(async move { runner.run().await })
}

async fn until(jobs: &Jobs, batch: &str, what: impl FnMut(&Arc<Job>) -> bool) -> Arc<Job> {
    let mut watch = jobs.watch(&id(batch)).expect("a job");
    let found = tokio::time::timeout(Duration::from_secs(30), watch.wait_for(what)).await;
    found.expect("in time").expect("the book lives").clone()
}

#[test]
fn submitting_twice_finds_the_job_and_other_content_is_refused() {
    let Daemon { jobs, drain, _folder } = daemon();
    let (first, created) = jobs.submit(id("a"), ask(), Some(identity("f"))).expect("taken");
    assert!(created);
    let (again, created) = jobs.submit(id("a"), ask(), Some(identity("f"))).expect("found");
    assert_eq!((again, created), (first, false));
    let error = jobs.submit(id("a"), ask(), Some(identity("g"))).expect_err("other").to_string();
    assert!(error.contains("batch a") && error.contains("what differs: the pages"), "{error}");
    assert!(matches!(jobs.get(&id("b")), Err(JobError::Unknown(_))));
    drain.cancel();
    assert!(matches!(jobs.submit(id("b"), ask(), None), Err(JobError::Draining)));
    assert!(!jobs.submit(id("a"), ask(), None).expect("found while it drains").1);
}

#[test]
fn another_shard_is_other_content_until_the_job_has_ended() {
    let Daemon { jobs, .. } = daemon();
    let shard = |shard: &str| Ask { shard: Some(shard.into()), ..ask() };
    jobs.submit(id("a"), shard("0/2"), Some(identity("f"))).expect("taken");
    let error = jobs.submit(id("a"), shard("1/2"), Some(identity("f"))).expect_err("other").to_string();
    assert!(
        error.contains("what differs: the shard") && error.contains("when that job has ended"),
        "{error}"
    );
    let job = jobs.cancel(&id("a")).expect("cancelled");
    let error = jobs.submit(id("a"), shard("1/2"), Some(identity("g"))).expect_err("other").to_string();
    assert!(error.contains("the shard, the pages") && error.contains("another batch id"), "{error}");
    let (other, created) = jobs.submit(id("a"), shard("1/2"), Some(identity("f"))).expect("taken");
    assert!(created && other.number > job.number && other.ask.shard.as_deref() == Some("1/2"));
    assert_eq!(other.state, JobState::Queued);
}

#[test]
fn the_list_is_newest_first_and_goes_on_where_it_stopped() {
    let Daemon { jobs, .. } = daemon();
    for batch in ["c", "a", "b"] {
        jobs.submit(id(batch), ask(), None).expect("taken");
    }
    let names = |jobs: &[Arc<Job>]| jobs.iter().map(|job| job.batch.to_string()).collect::<Vec<_>>().join("");
    let page = jobs.list(None, 2);
    assert_eq!(names(&page), "ba");
    assert_eq!(names(&jobs.list(page.last().map(|job| job.number), 2)), "c");
}

#[tokio::test]
async fn jobs_run_in_the_order_of_submission() {
    let Daemon { jobs, drain, _folder } = daemon();
    let work = Fake::new(|_, _| Does::Completes);
    for batch in ["b", "a", "c"] {
        jobs.submit(id(batch), ask(), None).expect("taken");
    }
    let runner = start(&jobs, &work);
    let last = until(&jobs, "c", |job| job.state.is_final()).await;
    assert_eq!((last.state, last.progress.parts_committed), (JobState::Complete, 2));
    assert_eq!(last.identity, Some(identity("c")));
    assert_eq!(work.runs(), ["b", "a", "c"]);
    jobs.submit(id("d"), ask(), None).expect("taken while it waits for work");
    until(&jobs, "d", |job| job.state == JobState::Complete).await;
    drain.cancel();
    runner.await.expect("no panic").expect("no fault of the store");
}

#[tokio::test]
async fn a_cancelled_run_stops_and_a_retry_goes_behind_the_others() {
    let Daemon { jobs, drain: _drain, _folder } = daemon();
    let work = Fake::new(|_, before| if before == 0 { Does::Hangs } else { Does::Completes });
    jobs.submit(id("a"), ask(), None).expect("taken");
    let _runner = start(&jobs, &work);
    until(&jobs, "a", |job| job.progress.parts_committed == 1).await;
    let job = jobs.cancel(&id("a")).expect("running");
    assert_eq!(job.state, JobState::Cancelled);
    assert_eq!(jobs.cancel(&id("a")).expect("twice"), job);
    jobs.retry(&id("a"), false).expect("cancelled");
    let job = until(&jobs, "a", |job| job.state.is_final()).await;
    assert_eq!((job.state, job.reason.clone()), (JobState::Complete, None));
    assert_eq!(work.runs(), ["a", "a"]);
}

#[tokio::test]
async fn a_job_goes_on_after_a_drain() {
    let folder = tempfile::tempdir().expect("a folder");
    for does in [|_: &str, _| Does::Hangs, |_: &str, _| Does::IsDeaf] {
        let drain = CancellationToken::new();
        let jobs = open(folder.path(), &drain);
        let _ = jobs.submit(id("a"), ask(), None).expect("taken");
        let _ = jobs.submit(id("b"), ask(), None).expect("taken");
        let runner = start(&jobs, &Fake::new(does));
        until(&jobs, "a", |job| job.progress.parts_committed == 1).await;
        drain.cancel();
        runner.await.expect("no panic").expect("no fault of the store");
        assert_eq!(jobs.get(&id("a")).expect("a job").state, JobState::Running);
        assert_eq!(jobs.get(&id("b")).expect("a job").state, JobState::Queued);
    }
    let jobs = open(folder.path(), &CancellationToken::new());
    assert_eq!(jobs.get(&id("a")).expect("a job").progress.parts_committed, 1);
    let work = Fake::new(|_, _| Does::Completes);
    let _runner = start(&jobs, &work);
    until(&jobs, "b", |job| job.state == JobState::Complete).await;
    assert_eq!(work.runs(), ["a", "b"]);
}

#[tokio::test]
async fn a_job_waits_while_the_server_is_away() {
    let Daemon { jobs, drain: _drain, _folder } = daemon();
    let work = Fake::new(|_, before| if before == 0 { Does::IsAway } else { Does::Completes });
    jobs.submit(id("a"), ask(), None).expect("taken");
    let _runner = start(&jobs, &work);
    let job = until(&jobs, "a", |job| job.progress.waiting.is_some()).await;
    assert_eq!(
        job.progress.waiting.as_ref().map(|waiting| waiting.reason.as_str()),
        Some("the server is away")
    );
    assert_eq!(job.state, JobState::Running);
    let job = until(&jobs, "a", |job| job.state.is_final()).await;
    assert_eq!((job.state, job.progress.waiting.clone()), (JobState::Complete, None));
}

#[tokio::test]
async fn a_job_that_fails_says_why_and_the_next_one_runs() {
    let Daemon { jobs, drain: _drain, _folder } = daemon();
    let work = Fake::new(|batch, _| match batch {
        "a" => Does::Fails,
        "b" => Does::Panics,
        _ => Does::Completes,
    });
    for batch in ["a", "b", "c"] {
        jobs.submit(id(batch), ask(), None).expect("taken");
    }
    let _runner = start(&jobs, &work);
    until(&jobs, "c", |job| job.state == JobState::Complete).await;
    let failed = jobs.get(&id("a")).expect("a job");
    let reason = failed.reason.as_deref().expect("a reason");
    assert!(failed.state == JobState::Failed && reason.starts_with("part 2 is broken"), "{reason}");
    assert!(reason.chars().count() < 4100 && reason.contains("the log"), "a client can take it");
    let panicked = jobs.get(&id("b")).expect("a job");
    assert!(panicked.reason.as_deref().expect("a reason").contains("mistake in dgx-agent"));
}

#[tokio::test]
async fn a_batch_that_changed_since_it_was_submitted_is_not_run() {
    let Daemon { jobs, drain: _drain, _folder } = daemon();
    let work = Fake::new(|_, _| Does::Completes);
    jobs.submit(id("a"), ask(), Some(identity("other"))).expect("taken");
    let _runner = start(&jobs, &work);
    let job = until(&jobs, "a", |job| job.state.is_final()).await;
    assert!(job.reason.as_deref().expect("a reason").contains("what differs: the pages"), "{:?}", job.reason);
    assert!(work.runs().is_empty());
    jobs.retry(&id("a"), false).expect("failed");
    until(&jobs, "a", |job| job.state == JobState::Complete).await;
}

/// Back by years, on by centuries, and back again.
fn jumping() -> DateTime<Utc> {
    static READ: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let seconds = [1_700_000_000, 1_000_000_000, 9_000_000_000, 0];
    let read = READ.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    DateTime::from_timestamp(seconds[read % seconds.len()], 0).expect("a time")
}

#[tokio::test]
async fn a_clock_that_jumps_changes_what_is_shown_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let drain = CancellationToken::new();
    let open = || {
        let store = JobStore::open(folder.path()).expect("a store");
        Arc::new(Jobs::open(store, drain.clone(), jumping).expect("loaded"))
    };
    let jobs = open();
    for batch in ["b", "a"] {
        jobs.submit(id(batch), ask(), None).expect("taken");
    }
    drop(jobs);
    let jobs = open();
    jobs.submit(id("c"), ask(), None).expect("taken");
    let listed: Vec<_> = jobs.list(None, 9).iter().map(|job| job.batch.to_string()).collect();
    assert_eq!(listed, ["c", "a", "b"], "by their numbers, whatever their times");
    let work =
        Fake::new(|batch, runs| if batch == "b" && runs == 0 { Does::IsAway } else { Does::Completes });
    let runner = start(&jobs, &work);
    for batch in ["b", "a", "c"] {
        let done = until(&jobs, batch, |job| job.state.is_final()).await;
        assert_eq!(done.state, JobState::Complete);
        assert!(done.started_at.is_some() && done.finished_at.is_some());
    }
    assert_eq!(work.runs(), ["b", "b", "a", "c"]);
    drain.cancel();
    runner.await.expect("no panic").expect("drained");
}
