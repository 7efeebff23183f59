//! Durable jobs: one a batch, some run at once and share the model server by their weights, the others wait: the heaviest
//! first, then in the order of submission.
//!
//! ```text
//! submit ─► book (memory, watched) ─► runner ─► Work (the pipeline)
//!             │                         │
//!             └──────► store (disk) ◄───┘
//! ```
//! - A change is on disk before anybody is told; only progress between two commits lives in memory alone. A disk that takes
//!   nothing is waited for: no run ends for it.
//! - A job is about a kilobyte, and the book holds all of them.
//! - The functions of [`Jobs`] wait for the disk: async callers go through [`on_disk`].

pub mod event;
#[cfg(test)]
pub mod fake;
pub mod job;
pub mod runner;
pub mod store;
pub mod work;

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use proto::ids::BatchId;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use event::{Event, JobState, Refused};
use job::{Ask, Identity, Job, JobProgress};
use store::{JobStore, JobStoreError};

use crate::batch::Stop;

#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error("there is no job for batch {0}: submit it first")]
    Unknown(BatchId),
    #[error(
        "batch {batch} is a job already ({state}), with other content (what differs: {}); {}",
        .differs.join(", "),
        if *.differs == [job::SHARD] {
            "submit this when that job has ended, or to another agent"
        } else {
            "submit this under another batch id"
        }
    )]
    Differs { batch: BatchId, state: JobState, differs: Vec<&'static str> },
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the agent is shutting down and takes no work: try again when it is back")]
    Draining,
    #[error(transparent)]
    Store(#[from] JobStoreError),
}

/// All jobs of a daemon.
#[derive(Debug)]
pub struct Jobs {
    store: JobStore,
    book: Mutex<Book>,
    /// Rung when a job may have become runnable.
    queued: Notify,
    drain: CancellationToken,
    clock: fn() -> DateTime<Utc>,
}

#[derive(Debug)]
struct Book {
    jobs: BTreeMap<BatchId, watch::Sender<Arc<Job>>>,
    /// The next number, or turn.
    next: u64,
    /// What the runner has in hand, and how to stop it.
    current: BTreeMap<BatchId, Stop>,
}

impl Jobs {
    /// Takes up the jobs of an earlier run. Once `drain` is cancelled, no job is taken or queued again.
    pub fn open(
        store: JobStore,
        drain: CancellationToken,
        clock: fn() -> DateTime<Utc>,
    ) -> Result<Self, JobStoreError> {
        let jobs = store.load()?;
        let next = jobs.iter().map(|job| job.turn.max(job.number) + 1).max().unwrap_or(1);
        let jobs =
            jobs.into_iter().map(|job| (job.batch.clone(), watch::Sender::new(Arc::new(job)))).collect();
        let book = Mutex::new(Book { jobs, next, current: BTreeMap::new() });
        Ok(Self { store, book, queued: Notify::new(), drain, clock })
    }

    /// The job, and whether it is new. The same batch with the same content finds its job, whatever its state; another
    /// shard of it takes the place of a job that has ended.
    pub fn submit(
        &self,
        batch: BatchId,
        ask: Ask,
        identity: Option<Identity>,
    ) -> Result<(Arc<Job>, bool), JobError> {
        self.submit_weighed(batch, ask, identity, None)
    }

    /// The same with a weight, for a job that is new.
    pub fn submit_weighed(
        &self,
        batch: BatchId,
        ask: Ask,
        identity: Option<Identity>,
        weight: Option<u32>,
    ) -> Result<(Arc<Job>, bool), JobError> {
        let mut book = self.book();
        if let Some(job) = book.jobs.get(&batch).map(|job| job.borrow().clone()) {
            let differs = job.differs(&ask, identity.as_ref());
            if differs.is_empty() {
                return Ok((job, false));
            }
            // A shard that is done or given up makes room for another one: this agent may take over from one that is gone.
            let another_shard = differs == [job::SHARD] && job.state.is_final();
            if !another_shard || book.current.contains_key(&batch) {
                return Err(JobError::Differs { batch, state: job.state, differs });
            }
        }
        if self.drain.is_cancelled() {
            return Err(JobError::Draining);
        }
        let mut job = Job::new(batch.clone(), book.next, ask, identity, (self.clock)());
        job.weight = weight.unwrap_or(job.weight);
        let job = Arc::new(job);
        self.store.save(&job)?;
        book.next += 1;
        book.jobs.insert(batch, watch::Sender::new(job.clone()));
        self.queued.notify_one();
        Ok((job, true))
    }

    /// Keeps the labelset that a job has from the agent, for as long as it runs.
    pub fn keep_labelset(&self, toml: &str) -> Result<(), JobStoreError> {
        self.store.keep_labelset(toml)
    }

    /// The labelset that a job began with, where that was the agent's.
    fn labelset_of(&self, batch: &BatchId) -> Result<Option<String>, JobStoreError> {
        let identity = self.get(batch).ok().and_then(|job| job.identity.clone());
        identity.map_or(Ok(None), |identity| self.store.labelset(&identity.provenance.labelset_sha256))
    }

    /// Cancelled once no work is taken any more.
    pub fn drain(&self) -> &CancellationToken {
        &self.drain
    }

    pub fn get(&self, batch: &BatchId) -> Result<Arc<Job>, JobError> {
        Ok(self.watch(batch)?.borrow().clone())
    }

    /// The job now and after each change; the latest state wins.
    pub fn watch(&self, batch: &BatchId) -> Result<watch::Receiver<Arc<Job>>, JobError> {
        let book = self.book();
        Ok(book.jobs.get(batch).ok_or_else(|| JobError::Unknown(batch.clone()))?.subscribe())
    }

    /// Up to `limit` jobs with a number below `before`, the newest first.
    pub fn list(&self, before: Option<u64>, limit: usize) -> Vec<Arc<Job>> {
        let mut jobs: Vec<_> = self.book().jobs.values().map(|job| job.borrow().clone()).collect();
        jobs.retain(|job| before.is_none_or(|before| job.number < before));
        jobs.sort_by_key(|job| std::cmp::Reverse(job.number));
        jobs.truncate(limit);
        jobs
    }

    /// Its claim on the model server from now on.
    pub fn weigh(&self, batch: &BatchId, weight: u32) -> Result<Arc<Job>, JobError> {
        self.change(&mut self.book(), batch, Event::Weigh(weight))
    }

    /// Stops a job softly, until it is resumed.
    pub fn pause(&self, batch: &BatchId) -> Result<Arc<Job>, JobError> {
        let mut book = self.book();
        let job = self.change(&mut book, batch, Event::Pause)?;
        if let Some(stop) = book.current.get(batch) {
            stop.drain.cancel();
        }
        Ok(job)
    }

    /// Queues a paused job again, at its old place.
    pub fn resume(&self, batch: &BatchId) -> Result<Arc<Job>, JobError> {
        if self.drain.is_cancelled() {
            return Err(JobError::Draining);
        }
        let job = self.change(&mut self.book(), batch, Event::Resume)?;
        self.queued.notify_one();
        Ok(job)
    }

    /// Forgets a job that has ended; what it made stays.
    pub fn delete(&self, batch: &BatchId) -> Result<Arc<Job>, JobError> {
        let mut book = self.book();
        let sender = book.jobs.get(batch).ok_or_else(|| JobError::Unknown(batch.clone()))?;
        let job = sender.borrow().clone();
        let refuse = |hint: &'static str| {
            JobError::Refused(Refused { batch: batch.clone(), state: job.state, hint: hint.into() })
        };
        if !job.state.is_final() {
            return Err(refuse("cancel it first"));
        }
        if book.current.contains_key(batch) {
            return Err(refuse("its run is still ending, try again"));
        }
        self.store.remove(batch)?;
        book.jobs.remove(batch);
        Ok(job)
    }

    /// Stops a job. Its run is told to end; what it still says is not heard.
    pub fn cancel(&self, batch: &BatchId) -> Result<Arc<Job>, JobError> {
        let mut book = self.book();
        let job = self.change(&mut book, batch, Event::Cancel("it was cancelled on request".into()))?;
        if let Some(stop) = book.current.get(batch) {
            stop.now.cancel();
        }
        Ok(job)
    }

    /// Queues a failed or cancelled job again, behind all others. `lost_files`: a complete one, too, for what got lost of it.
    pub fn retry(&self, batch: &BatchId, lost_files: bool) -> Result<Arc<Job>, JobError> {
        if self.drain.is_cancelled() {
            return Err(JobError::Draining);
        }
        let mut book = self.book();
        let turn = book.next;
        let event = if lost_files { Event::Restore(turn) } else { Event::Retry(turn) };
        let job = self.change(&mut book, batch, event)?;
        book.next += u64::from(job.turn == turn);
        self.queued.notify_one();
        Ok(job)
    }

    /// The next job, started; the one that ran when the daemon ended comes first. `stop` ends its run.
    fn take(&self, stop: &Stop) -> Result<Option<Arc<Job>>, JobError> {
        let mut book = self.book();
        let waiting = book.jobs.values().map(|job| job.borrow().clone()).filter(|job| {
            matches!(job.state, JobState::Queued | JobState::Running)
                && !book.current.contains_key(&job.batch)
        });
        let key = |job: &Arc<Job>| (job.state != JobState::Running, Reverse(job.weight), job.turn);
        let Some(next) = waiting.min_by_key(key) else { return Ok(None) };
        let job = self.change(&mut book, &next.batch, Event::Start)?;
        book.current.insert(job.batch.clone(), stop.clone());
        Ok(Some(job))
    }

    /// What the run found out; None when the job is no longer run.
    fn tell(&self, batch: &BatchId, event: Event) -> Result<Option<Arc<Job>>, JobStoreError> {
        match self.change(&mut self.book(), batch, event) {
            Ok(job) => Ok(Some(job)),
            Err(JobError::Store(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The run has ended; the job is as it was told before.
    fn release(&self, batch: &BatchId) {
        self.book().current.remove(batch);
        // It may have been queued again meanwhile.
        self.queued.notify_one();
    }

    /// Takes over how far the run is; durable where a part was committed since, if the disk takes it: after a restart
    /// it is found out anew.
    fn advance(&self, batch: &BatchId, progress: JobProgress) {
        let book = self.book();
        let Some(sender) = book.jobs.get(batch) else { return };
        let mut job = sender.borrow().as_ref().clone();
        let committed = job.progress.parts_committed;
        if !job.advance(progress) {
            return;
        }
        if job.progress.parts_committed > committed
            && let Err(error) = self.store.save(&job)
        {
            tracing::warn!(%batch, %error, "how far the job is, is not on disk");
        }
        sender.send_replace(Arc::new(job));
    }

    fn change(&self, book: &mut Book, batch: &BatchId, event: Event) -> Result<Arc<Job>, JobError> {
        let sender = book.jobs.get(batch).ok_or_else(|| JobError::Unknown(batch.clone()))?;
        let mut job = sender.borrow().as_ref().clone();
        if job.apply(event, (self.clock)())? {
            self.store.save(&job)?;
            sender.send_replace(Arc::new(job));
        }
        let job = sender.borrow().clone();
        Ok(job)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // A panic in between leaves the book as it was: it is changed after the disk is.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what waits for the disk off the async threads.
pub async fn on_disk<T: Send + 'static>(
    jobs: &Arc<Jobs>,
    work: impl FnOnce(&Jobs) -> T + Send + 'static,
) -> T {
    let jobs = jobs.clone();
    match tokio::task::spawn_blocking(move || work(&jobs)).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests;
