//! The service. Unary calls are few at a time and turned away beyond that; streams wait for what happens.

use std::{num::NonZeroUsize, pin::Pin, sync::Arc};

use chrono::{DateTime, Utc};
use futures::{Stream, stream};
use prost::Message;
use proto::{
    grpc::{self, agent_server::Agent},
    ids::{BatchId, IdError},
    store::RootUri,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};

use super::{
    convert,
    pages::{self, Session},
    status::{IntoStatus, Refusal, draining, too_many},
};
use crate::{
    batch::BatchError,
    jobs::{
        self, JobError, Jobs,
        job::{Ask, Job, WEIGHTS},
        work::Work,
    },
};

/// Unary calls at a time; a submission reads the batch, so they are not free.
const MAX_CALLS: usize = 32;
/// Callers whose pages are annotated at a time.
const MAX_PAGE_STREAMS: usize = 128;
const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;
/// Of a list's jobs, encoded: clients take messages of up to 4 MiB.
const MAX_PAGE_BYTES: usize = 3 << 20;

pub struct AgentService<W> {
    jobs: Arc<Jobs>,
    work: Arc<W>,
    root: RootUri,
    /// No job moves any more.
    stopped: CancellationToken,
    clock: fn() -> DateTime<Utc>,
    calls: Semaphore,
    page_streams: Arc<Semaphore>,
    /// No page is taken any more.
    drain: CancellationToken,
    /// Of pages: to be waited for.
    streams: TaskTracker,
}

type Answer<T> = Result<Response<T>, Status>;

impl<W: Work> AgentService<W> {
    /// Streams end when `stopped` is cancelled.
    pub fn new(
        jobs: Arc<Jobs>,
        work: Arc<W>,
        root: RootUri,
        stopped: CancellationToken,
        clock: fn() -> DateTime<Utc>,
    ) -> Self {
        Self {
            drain: jobs.drain().clone(),
            jobs,
            work,
            root,
            stopped,
            clock,
            calls: Semaphore::new(MAX_CALLS),
            page_streams: Arc::new(Semaphore::new(MAX_PAGE_STREAMS)),
            streams: TaskTracker::new(),
        }
    }

    /// Streams of pages that go on.
    pub fn streams(&self) -> TaskTracker {
        self.streams.clone()
    }

    fn admit(&self) -> Result<SemaphorePermit<'_>, Status> {
        self.calls.try_acquire().map_err(|_| {
            too_many(MAX_CALLS, format!("the agent answers {MAX_CALLS} calls already: try again"))
        })
    }

    /// A change of jobs, off the async threads: it waits for the disk.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Jobs) -> Result<T, JobError> + Send + 'static,
    ) -> Result<T, Status> {
        jobs::on_disk(&self.jobs, change).await.map_err(JobError::into_status)
    }
}

#[tonic::async_trait]
impl<W: Work> Agent for AgentService<W> {
    async fn describe(&self, request: Request<grpc::DescribeRequest>) -> Answer<grpc::DescribeResponse> {
        let _call = self.admit()?;
        let asked = request.into_inner();
        let engine = convert::asked_engine(asked.engine)?;
        let described = self
            .work
            .describe(engine, convert::said(asked.model), convert::said(asked.labelset_toml))
            .await
            .map_err(BatchError::into_status)?;
        Ok(Response::new(grpc::DescribeResponse {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            root_uri: self.root.to_string(),
            provenance: Some(convert::provenance(&described.provenance)),
            model_server: described.model_server.map(convert::model_server),
            now: Some(convert::timestamp((self.clock)())),
        }))
    }

    async fn submit_batch(
        &self,
        request: Request<grpc::SubmitBatchRequest>,
    ) -> Answer<grpc::SubmitBatchResponse> {
        let _call = self.admit()?;
        let asked = request.into_inner();
        let batch = batch_id(&asked.batch_id)?;
        let root = convert::asked_root(&asked.root_uri, &self.root)?;
        let engine = convert::asked_engine(asked.engine)?.map(|engine| engine.as_str().to_owned());
        let shard = convert::asked_shard(asked.shard)?;
        let ask = Ask { root: root.to_string(), engine, model: convert::said(asked.model), shard };
        let weight = asked_weight(asked.weight)?;
        let (identity, lent) = match self.work.plan(&batch, &ask, None).await {
            Ok(plan) => (Some(W::identity(&plan)), W::lent(&plan).map(str::to_owned)),
            // The job waits for what is away.
            Err(BatchError::ModelServerAway(_)) => (None, None),
            Err(error) => return Err(error.into_status()),
        };
        let submit = move |jobs: &Jobs| {
            lent.map_or(Ok(()), |toml| jobs.keep_labelset(&toml))?;
            jobs.submit_weighed(batch, ask, identity, weight)
        };
        let (job, created) = self.change(submit).await?;
        tracing::info!(batch = %job.batch, created, state = %job.state, "a batch is submitted");
        Ok(Response::new(grpc::SubmitBatchResponse { batch: Some(convert::batch(&job)), created }))
    }

    async fn get_batch(&self, request: Request<grpc::GetBatchRequest>) -> Answer<grpc::GetBatchResponse> {
        let _call = self.admit()?;
        let batch = batch_id(&request.get_ref().batch_id)?;
        let job = self.jobs.get(&batch).map_err(JobError::into_status)?;
        Ok(Response::new(grpc::GetBatchResponse { batch: Some(convert::batch(&job)) }))
    }

    async fn list_batches(
        &self,
        request: Request<grpc::ListBatchesRequest>,
    ) -> Answer<grpc::ListBatchesResponse> {
        let _call = self.admit()?;
        let asked = request.into_inner();
        let before = match asked.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| {
                let message =
                    format!("page token {token:?} is not one that this agent gave: start without one");
                Refusal::field("page_token", message).status()
            })?),
        };
        let size = usize::try_from(asked.page_size).ok().and_then(NonZeroUsize::new);
        let size = size.map_or(DEFAULT_PAGE, NonZeroUsize::get).min(MAX_PAGE);
        // One more shows whether there are more.
        let jobs = self.jobs.list(before, size + 1);
        Ok(Response::new(page(&jobs, size)))
    }

    type WatchBatchStream = Pin<Box<dyn Stream<Item = Result<grpc::WatchBatchResponse, Status>> + Send>>;

    async fn watch_batch(&self, request: Request<grpc::WatchBatchRequest>) -> Answer<Self::WatchBatchStream> {
        let batch = batch_id(&request.get_ref().batch_id)?;
        let watch = self.jobs.watch(&batch).map_err(JobError::into_status)?;
        Ok(Response::new(Box::pin(told(watch, self.stopped.clone()))))
    }

    async fn cancel_batch(
        &self,
        request: Request<grpc::CancelBatchRequest>,
    ) -> Answer<grpc::CancelBatchResponse> {
        let _call = self.admit()?;
        let batch = batch_id(&request.get_ref().batch_id)?;
        let job = self.change(move |jobs| jobs.cancel(&batch)).await?;
        tracing::info!(batch = %job.batch, "a job is cancelled");
        Ok(Response::new(grpc::CancelBatchResponse { batch: Some(convert::batch(&job)) }))
    }

    async fn retry_batch(
        &self,
        request: Request<grpc::RetryBatchRequest>,
    ) -> Answer<grpc::RetryBatchResponse> {
        let _call = self.admit()?;
        let batch = batch_id(&request.get_ref().batch_id)?;
        let lost_files = request.get_ref().lost_files;
        let job = self.change(move |jobs| jobs.retry(&batch, lost_files)).await?;
        tracing::info!(batch = %job.batch, state = %job.state, "a job is to be tried again");
        Ok(Response::new(grpc::RetryBatchResponse { batch: Some(convert::batch(&job)) }))
    }

    type AnnotatePagesStream =
        Pin<Box<dyn Stream<Item = Result<grpc::AnnotatePagesResponse, Status>> + Send>>;

    async fn annotate_pages(
        &self,
        request: Request<Streaming<grpc::AnnotatePagesRequest>>,
    ) -> Answer<Self::AnnotatePagesStream> {
        if self.drain.is_cancelled() {
            return Err(draining("the agent is shutting down: try again when it is back"));
        }
        let permit = self.page_streams.clone().try_acquire_owned().map_err(|_| {
            let message = format!("the agent annotates for {MAX_PAGE_STREAMS} callers already: try again");
            too_many(MAX_PAGE_STREAMS, message)
        })?;
        let session = Session {
            work: self.work.clone(),
            deadline: pages::timeout(request.metadata()).map(|timeout| Instant::now() + timeout),
            requests: request.into_inner(),
            drain: self.drain.clone(),
            held: (permit, self.streams.token()),
        };
        Ok(Response::new(Box::pin(session.start())))
    }

    async fn pause_batch(
        &self,
        request: Request<grpc::PauseBatchRequest>,
    ) -> Answer<grpc::PauseBatchResponse> {
        let _call = self.admit()?;
        let batch = batch_id(&request.get_ref().batch_id)?;
        let job = self.change(move |jobs| jobs.pause(&batch)).await?;
        tracing::info!(batch = %job.batch, "a job is paused");
        Ok(Response::new(grpc::PauseBatchResponse { batch: Some(convert::batch(&job)) }))
    }

    async fn resume_batch(
        &self,
        request: Request<grpc::ResumeBatchRequest>,
    ) -> Answer<grpc::ResumeBatchResponse> {
        let _call = self.admit()?;
        let batch = batch_id(&request.get_ref().batch_id)?;
        let job = self.change(move |jobs| jobs.resume(&batch)).await?;
        tracing::info!(batch = %job.batch, state = %job.state, "a job is resumed");
        Ok(Response::new(grpc::ResumeBatchResponse { batch: Some(convert::batch(&job)) }))
    }

    async fn set_batch_weight(
        &self,
        request: Request<grpc::SetBatchWeightRequest>,
    ) -> Answer<grpc::SetBatchWeightResponse> {
        let _call = self.admit()?;
        let asked = request.into_inner();
        let batch = batch_id(&asked.batch_id)?;
        let none = || Refusal::field("weight", "no weight: give a number from 1 to 100").status();
        let weight = asked_weight(asked.weight)?.ok_or_else(none)?;
        let job = self.change(move |jobs| jobs.weigh(&batch, weight)).await?;
        tracing::info!(batch = %job.batch, weight, "a job has another weight");
        Ok(Response::new(grpc::SetBatchWeightResponse { batch: Some(convert::batch(&job)) }))
    }

    async fn delete_batch(
        &self,
        request: Request<grpc::DeleteBatchRequest>,
    ) -> Answer<grpc::DeleteBatchResponse> {
        let _call = self.admit()?;
        let batch = batch_id(&request.get_ref().batch_id)?;
        let job = self.change(move |jobs| jobs.delete(&batch)).await?;
        tracing::info!(batch = %job.batch, "a job is deleted");
        Ok(Response::new(grpc::DeleteBatchResponse { batch: Some(convert::batch(&job)) }))
    }
}

/// None where nothing is said.
pub(super) fn asked_weight(asked: u32) -> Result<Option<u32>, Status> {
    match asked {
        0 => Ok(None),
        weight if WEIGHTS.contains(&weight) => Ok(Some(weight)),
        weight => {
            let (least, most) = (WEIGHTS.start(), WEIGHTS.end());
            let message = format!("weight {weight} is none: give a number from {least} to {most}");
            Err(Refusal::field("weight", message).status())
        }
    }
}

fn batch_id(id: &str) -> Result<BatchId, Status> {
    id.parse().map_err(IdError::into_status)
}

/// Up to `size` of the jobs, and no more bytes than a client takes; at least one, so that the list goes on.
fn page(jobs: &[Arc<Job>], size: usize) -> grpc::ListBatchesResponse {
    let mut batches = Vec::new();
    let mut bytes = 0;
    for job in jobs.iter().take(size) {
        let batch = convert::batch(job);
        bytes += batch.encoded_len();
        if bytes > MAX_PAGE_BYTES && !batches.is_empty() {
            break;
        }
        batches.push(batch);
    }
    let more = batches.len() < jobs.len();
    let last = batches.len().checked_sub(1).and_then(|last| jobs.get(last));
    let next_page_token = last.filter(|_| more).map(|job| job.number.to_string()).unwrap_or_default();
    grpc::ListBatchesResponse { batches, next_page_token }
}

/// The job now and after each change, to its final state, or until no job moves any more.
fn told(
    watch: watch::Receiver<Arc<Job>>,
    stopped: CancellationToken,
) -> impl Stream<Item = Result<grpc::WatchBatchResponse, Status>> + Send {
    enum Next {
        Now,
        Change,
        End,
    }
    stream::unfold((watch, stopped, Next::Now), |(mut watch, stopped, next)| async move {
        match next {
            Next::End => return None,
            Next::Now => {}
            Next::Change => {
                // What happened last comes first: a job may have ended just before.
                let gone = tokio::select! {
                    biased;
                    changed = watch.changed() => changed.is_err(),
                    () = stopped.cancelled() => true,
                };
                if gone {
                    let status = draining("the agent is shutting down: the job goes on when it is back");
                    return Some((Err(status), (watch, stopped, Next::End)));
                }
            }
        }
        let job = watch.borrow_and_update().clone();
        let next = if job.state.is_final() { Next::End } else { Next::Change };
        let answer = grpc::WatchBatchResponse { batch: Some(convert::batch(&job)) };
        Some((Ok(answer), (watch, stopped, next)))
    })
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tonic::Code;

    use super::*;
    use crate::jobs::{
        event::Event,
        fake::{Does, Fake},
        store::JobStore,
    };

    fn job(number: u64, reason: usize) -> Job {
        let ask = Ask { root: "/data".into(), engine: None, model: None, shard: None };
        let batch = format!("b-{number}").parse().expect("an id");
        let mut job = Job::new(batch, number, ask, None, DateTime::UNIX_EPOCH);
        job.reason = Some("x".repeat(reason));
        job
    }

    #[test]
    fn a_page_holds_no_more_than_a_client_takes() {
        let jobs: Vec<_> = (0..5).rev().map(|number| Arc::new(job(number, 1 << 20))).collect();
        let first = page(&jobs, 5);
        assert_eq!((first.batches.len(), first.next_page_token.as_str()), (2, "3"));
        let small: Vec<_> = (0..3).rev().map(|number| Arc::new(job(number, 0))).collect();
        assert_eq!(page(&small, 2).next_page_token, "1");
        assert_eq!(page(&small, 3).next_page_token, "");
        assert_eq!(page(&[], 3), grpc::ListBatchesResponse::default());
        let giant = [Arc::new(job(1, 4 << 20))];
        assert_eq!(page(&giant, 3).batches.len(), 1);
    }

    #[tokio::test]
    async fn calls_beyond_the_bound_are_turned_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let stopped = CancellationToken::new();
        let store = JobStore::open(folder.path()).expect("a store");
        let jobs = Arc::new(Jobs::open(store, stopped.clone(), crate::clock::now).expect("loaded"));
        let root = "/data".parse().expect("a root");
        let service =
            AgentService::new(jobs, Fake::new(|_, _| Does::Completes), root, stopped, crate::clock::now);
        let list = || service.list_batches(Request::new(grpc::ListBatchesRequest::default()));
        let under_way: Vec<_> = (0..MAX_CALLS).map(|_| service.admit().expect("admitted")).collect();
        assert_eq!(list().await.expect_err("too many").code(), Code::ResourceExhausted);
        drop(under_way);
        list().await.expect("there is room again");
    }

    #[tokio::test]
    async fn a_watch_ends_with_the_final_state() {
        let (sender, watch) = watch::channel(Arc::new(job(1, 0)));
        let stopped = CancellationToken::new();
        let mut stream = Box::pin(told(watch, stopped.clone()));
        let mut state =
            async || stream.next().await.map(|told| told.map(|told| told.batch.expect("there").state()));
        assert_eq!(state().await.expect("now").expect("ok"), grpc::BatchState::Queued);
        let mut running = job(1, 0);
        for event in [Event::Start, Event::Fail("broken".into())] {
            running.apply(event, DateTime::UNIX_EPOCH).expect("allowed");
            sender.send_replace(Arc::new(running.clone()));
        }
        // Both are ready: the job's end is told, not the agent's.
        stopped.cancel();
        assert_eq!(state().await.expect("the latest").expect("ok"), grpc::BatchState::Failed);
        assert!(state().await.is_none());
    }

    #[tokio::test]
    async fn a_watch_ends_when_the_agent_does() {
        let (_sender, watch) = watch::channel(Arc::new(job(1, 0)));
        let stopped = CancellationToken::new();
        stopped.cancel();
        let told: Vec<_> = told(watch, stopped).collect().await;
        assert_eq!(told.len(), 2);
        assert_eq!(told[1].as_ref().expect_err("closed").code(), Code::Unavailable);
    }
}
