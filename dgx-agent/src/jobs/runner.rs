//! Runs the jobs, some at once, until the daemon drains.
//!
//! A service that is away is waited for, without an end, and so is a disk that takes no change: the job says since when and
//! why. Draining tells the runs to stop and waits for them a bounded time; the jobs stay RUNNING on disk, for the next
//! start.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use proto::ids::BatchId;
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle, JoinSet, spawn_blocking},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    JobError, Jobs,
    event::Event,
    job::{Identity, Job, JobProgress, Waiting},
    on_disk,
    store::JobStoreError,
    work::Work,
};
use crate::{
    batch::{BatchError, Progress, Stop},
    memory,
};

/// Pauses between two tries to reach a service: doubled each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Between two tries to put a change on a disk that is full.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// Progress is passed on no more often: a page may take less than a millisecond.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// What a run that was told to stop at once may take.
const ABORT: Duration = Duration::from_secs(2);

/// Until what the last job held is let go of, and can be given back.
const LET_GO: Duration = Duration::from_secs(1);

/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 4000;

/// Runs jobs until the daemon drains, or until their store is broken: then nothing can be promised any more.
pub struct Runner<W> {
    pub jobs: Arc<Jobs>,
    pub work: Arc<W>,
    /// Jobs that run at once.
    pub at_once: usize,
    /// How long a run that was told to stop softly may take.
    pub patience: Duration,
    /// Ends all runs at once.
    pub now: CancellationToken,
}

impl<W> Clone for Runner<W> {
    fn clone(&self) -> Self {
        let Self { jobs, work, at_once, patience, now } = self;
        Self {
            jobs: jobs.clone(),
            work: work.clone(),
            at_once: *at_once,
            patience: *patience,
            now: now.clone(),
        }
    }
}

impl<W: Work> Runner<W> {
    pub async fn run(&self) -> Result<(), JobStoreError> {
        let drain = &self.jobs.drain;
        let mut runs = JoinSet::new();
        while !drain.is_cancelled() {
            let queued = self.jobs.queued.notified();
            while runs.len() < self.at_once {
                let stop = Stop { drain: drain.child_token(), now: self.now.child_token() };
                let taken = self.on_disk(None, {
                    let stop = stop.clone();
                    move |jobs| match jobs.take(&stop) {
                        Err(JobError::Store(error)) => Err(error),
                        // Refused: it was cancelled between the look and the start.
                        taken => Ok(taken.ok().flatten()),
                    }
                });
                match taken.await? {
                    Some(job) => {
                        let runner = self.clone();
                        runs.spawn(async move {
                            let ended = runner.run_job(&job, stop).await;
                            runner.jobs.release(&job.batch);
                            ended
                        });
                    }
                    None => break,
                }
            }
            tokio::select! {
                () = queued => {}
                () = drain.cancelled() => {}
                Some(ended) = runs.join_next() => {
                    whole(ended)?;
                    if runs.is_empty() {
                        rest();
                    }
                }
            }
        }
        while let Some(ended) = runs.join_next().await {
            whole(ended)?;
        }
        Ok(())
    }

    async fn run_job(&self, job: &Arc<Job>, stop: Stop) -> Result<(), JobStoreError> {
        let batch = job.batch.clone();
        tracing::info!(%batch, "the job starts");
        let event = match self.end_of(job, &stop).await? {
            Ok(()) => Event::Complete,
            Err(BatchError::Cancelled) => {
                tracing::info!(%batch, "the job stops before its end");
                return Ok(());
            }
            Err(error) => {
                tracing::error!(%batch, %error, "the job fails");
                Event::Fail(short(&error.to_string()))
            }
        };
        let told = self.on_disk(Some(&batch), {
            let batch = batch.clone();
            move |jobs| jobs.tell(&batch, event.clone())
        });
        if let Some(job) = told.await? {
            tracing::info!(%batch, state = %job.state, "the job ends");
        }
        Ok(())
    }

    /// Plans and runs until that succeeds, fails or is stopped, waiting while a service is away.
    async fn end_of(&self, job: &Arc<Job>, stop: &Stop) -> Result<Result<(), BatchError>, JobStoreError> {
        let mut pause = FIRST_PAUSE;
        let mut away_since = None;
        loop {
            let start = time::Instant::now();
            let Some(tried) = self.once(job, stop).await? else { return Ok(Err(BatchError::Cancelled)) };
            let reason = match tried {
                Err(error @ (BatchError::ModelServerAway(_) | BatchError::StoreUnreachable(_))) => {
                    error.to_string()
                }
                ended => return Ok(ended),
            };
            tracing::warn!(batch = %job.batch, reason, "the job waits");
            // One that worked for a while was not turned away at the door: this is another outage.
            if start.elapsed() > LONGEST_PAUSE {
                (pause, away_since) = (FIRST_PAUSE, None);
            }
            let since = *away_since.get_or_insert_with(self.jobs.clock);
            self.wait_shown(&job.batch, since, reason).await;
            tokio::select! {
                () = time::sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
                () = stop.told() => return Ok(Err(BatchError::Cancelled)),
            }
        }
    }

    async fn wait_shown(&self, batch: &BatchId, since: DateTime<Utc>, reason: String) {
        let batch = batch.clone();
        on_disk(&self.jobs, move |jobs| {
            let Ok(job) = jobs.get(&batch) else { return };
            let progress = JobProgress {
                waiting: Some(Waiting { since, reason }),
                in_flight: 0,
                ..job.progress.clone()
            };
            jobs.advance(&batch, progress);
        })
        .await;
    }

    /// Has a change made of the book, however long the disk takes none; a drain does not wait for it. `batch`: whose job
    /// says so meanwhile.
    async fn on_disk<T: Send + 'static>(
        &self,
        batch: Option<&BatchId>,
        change: impl Fn(&Jobs) -> Result<T, JobStoreError> + Clone + Send + 'static,
    ) -> Result<T, JobStoreError> {
        let mut since = None;
        loop {
            let error = match on_disk(&self.jobs, change.clone()).await {
                Err(error) if error.may_pass() => error,
                ended => return ended,
            };
            if since.is_none() {
                tracing::error!(%error, "jobs wait for the disk");
            }
            let since = *since.get_or_insert_with(self.jobs.clock);
            if let Some(batch) = batch {
                self.wait_shown(batch, since, error.to_string()).await;
            }
            tokio::select! {
                () = time::sleep(DISK_PAUSE) => {}
                () = self.jobs.drain.cancelled() => return Err(error),
            }
        }
    }

    /// One try; None when it was stopped, or did not end in time after it was told to.
    async fn once(
        &self,
        job: &Arc<Job>,
        stop: &Stop,
    ) -> Result<Option<Result<(), BatchError>>, JobStoreError> {
        let batch = job.batch.clone();
        let labelset = self.on_disk(Some(&job.batch), move |jobs| jobs.labelset_of(&batch)).await?;
        let planned = tokio::select! {
            planned = self.work.plan(&job.batch, &job.ask, labelset) => planned,
            () = stop.told() => return Ok(None),
        };
        let plan = match planned {
            Ok(plan) => plan,
            Err(error) => return Ok(Some(Err(error))),
        };
        let identity = W::identity(&plan);
        let known = self.jobs.get(&job.batch).ok().and_then(|job| job.identity.clone());
        if let Some(known) = known.filter(|known| known.fingerprint != identity.fingerprint) {
            return Ok(Some(Err(changed(job, &known, &identity))));
        }
        let batch = job.batch.clone();
        let lent = W::lent(&plan).map(str::to_owned);
        let heard = self.on_disk(Some(&job.batch), move |jobs| {
            lent.as_deref().map_or(Ok(()), |toml| jobs.keep_labelset(toml))?;
            jobs.tell(&batch, Event::Identified(identity.clone()))
        });
        let heard = heard.await?;
        if heard.is_none() {
            return Ok(None);
        }

        let (sender, progress) = watch::channel(Progress::default());
        let plan = Arc::new(plan);
        let mut run: JoinHandle<Result<(), BatchError>> = tokio::spawn({
            let (work, plan, stop) = (self.work.clone(), plan.clone(), stop.clone());
            async move { work.run(&plan, &sender, stop).await }
        });
        let ended = self.follow(job, &plan, progress, &mut run, stop).await;
        // Whoever does not wait for the run any longer ends it.
        run.abort();
        ended
    }

    /// Passes progress on until the run ends.
    async fn follow(
        &self,
        job: &Arc<Job>,
        plan: &W::Plan,
        mut progress: watch::Receiver<Progress>,
        run: &mut JoinHandle<Result<(), BatchError>>,
        stop: &Stop,
    ) -> Result<Option<Result<(), BatchError>>, JobStoreError> {
        let overdue = async {
            tokio::select! {
                () = async { stop.drain.cancelled().await; time::sleep(self.patience).await } => {}
                () = async { stop.now.cancelled().await; time::sleep(ABORT).await } => {}
            }
        };
        tokio::pin!(overdue);
        let mut open = true;
        let mut weight = None;
        let mut tells = time::interval(TELL_EVERY);
        tells.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let ended = loop {
            tokio::select! {
                ended = &mut *run => break ended,
                () = &mut overdue => {
                    tracing::warn!(batch = %job.batch, patience = ?self.patience, "the run is dropped: it did not stop in time");
                    return Ok(None);
                }
                _ = tells.tick(), if open => {
                    let asked = self.jobs.get(&job.batch).ok().map(|job| job.weight);
                    if asked != weight {
                        asked.into_iter().for_each(|asked| W::weigh(plan, asked));
                        weight = asked;
                    }
                    match progress.has_changed() {
                        Ok(true) => self.advance(job, &mut progress).await,
                        Ok(false) => {}
                        Err(_) => open = false,
                    }
                }
            }
        };
        self.advance(job, &mut progress).await;
        Ok(Some(ended.unwrap_or_else(|panic| {
            Err(BatchError::Internal(format!(
                "the run of batch {} broke ({panic}): retry the job, and report this",
                job.batch
            )))
        })))
    }

    async fn advance(&self, job: &Arc<Job>, progress: &mut watch::Receiver<Progress>) {
        let latest = progress.borrow_and_update().clone();
        // The empty first value says nothing: what an earlier run committed is still true.
        if latest == Progress::default() {
            return;
        }
        let latest = JobProgress::from(&latest);
        let batch = job.batch.clone();
        on_disk(&self.jobs, move |jobs| jobs.advance(&batch, latest)).await;
    }
}

/// An idle agent gives back what its last job took.
fn rest() {
    tokio::spawn(async {
        time::sleep(LET_GO).await;
        spawn_blocking(memory::trim).await
    });
}

/// A panic of ours is one here.
fn whole(ended: Result<Result<(), JobStoreError>, JoinError>) -> Result<(), JobStoreError> {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(ended) => ended,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime ends.
        Err(Err(_)) => Ok(()),
    }
}

/// A batch of ten thousand broken files has a long story; a client takes messages of bounded size.
fn short(reason: &str) -> String {
    match reason.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{} … (the log of the agent has it whole)", &reason[..end]),
        None => reason.to_owned(),
    }
}

fn changed(job: &Job, known: &Identity, now: &Identity) -> BatchError {
    let before = Job { identity: Some(known.clone()), ..job.clone() };
    let differs = before.differs(&job.ask, Some(now)).join(", ");
    BatchError::Differs(format!(
        "batch {} is no longer what was submitted (what differs: {differs}); restore that and retry the job, or submit the \
         pages as a new batch",
        job.batch
    ))
}
