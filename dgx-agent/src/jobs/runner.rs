//! Runs the jobs, one at a time, until the daemon drains.
//!
//! A service that is away is waited for, without an end: the job says since when and why. Draining tells the run to
//! stop and waits for it a bounded time; the job stays RUNNING on disk, for the next start.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::{sync::watch, task::JoinHandle, time};
use tokio_util::sync::CancellationToken;

use super::{
    Jobs,
    job::{Event, Identity, Job, JobProgress, Waiting},
    on_disk,
    store::JobStoreError,
    work::Work,
};
use crate::batch::{BatchError, Progress};

/// Pauses between two tries to reach a service: doubled each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Progress is passed on no more often: a page may take less than a millisecond.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 4000;

/// Runs jobs until the daemon drains, or until the store fails: then nothing can be promised any more.
pub struct Runner<W> {
    pub jobs: Arc<Jobs>,
    pub work: Arc<W>,
    /// How long a run that was told to stop may take.
    pub patience: Duration,
}

impl<W: Work> Runner<W> {
    pub async fn run(&self) -> Result<(), JobStoreError> {
        let drain = &self.jobs.drain;
        while !drain.is_cancelled() {
            let queued = self.jobs.queued.notified();
            let stop = drain.child_token();
            let taken = on_disk(&self.jobs, {
                let stop = stop.clone();
                move |jobs| jobs.take(&stop)
            });
            match taken.await {
                Ok(Some(job)) => {
                    let ended = self.run_job(&job, stop).await;
                    self.jobs.release();
                    ended?;
                }
                Err(super::JobError::Store(error)) => return Err(error),
                // Refused: it was cancelled between the look and the start.
                Ok(None) | Err(_) => tokio::select! {
                    () = queued => {}
                    () = drain.cancelled() => {}
                },
            }
        }
        Ok(())
    }

    async fn run_job(&self, job: &Arc<Job>, stop: CancellationToken) -> Result<(), JobStoreError> {
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
        let told = on_disk(&self.jobs, {
            let batch = batch.clone();
            move |jobs| jobs.tell(&batch, event)
        });
        if let Some(job) = told.await? {
            tracing::info!(%batch, state = %job.state, "the job ends");
        }
        Ok(())
    }

    /// Plans and runs until that succeeds, fails or is stopped, waiting while a service is away.
    async fn end_of(
        &self,
        job: &Arc<Job>,
        stop: &CancellationToken,
    ) -> Result<Result<(), BatchError>, JobStoreError> {
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
            self.wait_shown(job, since, reason).await?;
            tokio::select! {
                () = time::sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
                () = stop.cancelled() => return Ok(Err(BatchError::Cancelled)),
            }
        }
    }

    async fn wait_shown(
        &self,
        job: &Arc<Job>,
        since: DateTime<Utc>,
        reason: String,
    ) -> Result<(), JobStoreError> {
        let batch = job.batch.clone();
        on_disk(&self.jobs, move |jobs| {
            let Ok(job) = jobs.get(&batch) else { return Ok(()) };
            let progress = JobProgress {
                waiting: Some(Waiting { since, reason }),
                in_flight: 0,
                ..job.progress.clone()
            };
            jobs.advance(&batch, progress)
        })
        .await
    }

    /// One try; None when it was stopped, or did not end in time after it was told to.
    async fn once(
        &self,
        job: &Arc<Job>,
        stop: &CancellationToken,
    ) -> Result<Option<Result<(), BatchError>>, JobStoreError> {
        let planned = tokio::select! {
            planned = self.work.plan(&job.batch, &job.ask) => planned,
            () = stop.cancelled() => return Ok(None),
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
        let heard = on_disk(&self.jobs, move |jobs| jobs.tell(&batch, Event::Identified(identity))).await?;
        if heard.is_none() {
            return Ok(None);
        }

        let (sender, progress) = watch::channel(Progress::default());
        let mut run: JoinHandle<Result<(), BatchError>> = tokio::spawn({
            let (work, stop) = (self.work.clone(), stop.clone());
            async move { work.run(&plan, &sender, stop).await }
        });
        let ended = self.follow(job, progress, &mut run, stop).await;
        // Whoever does not wait for the run any longer ends it.
        run.abort();
        ended
    }

    /// Passes progress on until the run ends.
    async fn follow(
        &self,
        job: &Arc<Job>,
        mut progress: watch::Receiver<Progress>,
        run: &mut JoinHandle<Result<(), BatchError>>,
        stop: &CancellationToken,
    ) -> Result<Option<Result<(), BatchError>>, JobStoreError> {
        let overdue = async {
            stop.cancelled().await;
            time::sleep(self.patience).await;
        };
        tokio::pin!(overdue);
        let mut open = true;
        let mut tells = time::interval(TELL_EVERY);
        tells.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let ended = loop {
            tokio::select! {
                ended = &mut *run => break ended,
                () = &mut overdue => {
                    tracing::warn!(batch = %job.batch, patience = ?self.patience, "the run is dropped: it did not stop in time");
                    return Ok(None);
                }
                _ = tells.tick(), if open => match progress.has_changed() {
                    Ok(true) => self.advance(job, &mut progress).await?,
                    Ok(false) => {}
                    Err(_) => open = false,
                },
            }
        };
        self.advance(job, &mut progress).await?;
        Ok(Some(ended.unwrap_or_else(|panic| {
            Err(BatchError::Internal(format!(
                "the run of batch {} broke ({panic}): retry the job, and report this",
                job.batch
            )))
        })))
    }

    async fn advance(
        &self,
        job: &Arc<Job>,
        progress: &mut watch::Receiver<Progress>,
    ) -> Result<(), JobStoreError> {
        let latest = progress.borrow_and_update().clone();
        // The empty first value says nothing: what an earlier run committed is still true.
        if latest == Progress::default() {
            return Ok(());
        }
        let latest = JobProgress::from(&latest);
        let batch = job.batch.clone();
        on_disk(&self.jobs, move |jobs| jobs.advance(&batch, latest)).await
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
