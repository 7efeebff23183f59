//! What jobs need of the pipeline, so that they can be tested without one; and the pipeline as that.

use std::future::Future;

use futures::future::BoxFuture;
use proto::{
    docs::{Counts, Provenance},
    ids::BatchId,
    labelset::Labelset,
    rows::{BatchPage, Outcome},
    store::{Env, Store},
};
use tokio::sync::watch;

use super::job::{Ask, Identity, JobProgress, ModelUse, Waiting};
use crate::{
    batch::{BatchError, Description, Loose, LoosePage, Pipeline, Plan, Progress, Shard, Stop},
    engine::Engine,
};

/// How batches are run.
pub trait Work: Send + Sync + 'static {
    type Plan: Send + Sync + 'static;
    /// Of a caller whose pages belong to no batch.
    type Session: Send + Sync + 'static;

    /// Reads what the batch is; writes nothing. `labelset`: for a batch that carries none; the agent's without.
    fn plan(
        &self,
        batch: &BatchId,
        ask: &Ask,
        labelset: Option<String>,
    ) -> impl Future<Output = Result<Self::Plan, BatchError>> + Send;

    fn identity(plan: &Self::Plan) -> Identity;

    /// The labelset that the agent lends to a batch that carries none, as TOML: it is to be the same until the batch ends.
    fn lent(plan: &Self::Plan) -> Option<&str>;

    /// The plan's claim on the model server.
    fn weigh(plan: &Self::Plan, weight: u32);

    /// Runs the batch to its manifest. Once it is told to stop it ends, at a point from which a later run goes on.
    fn run(
        &self,
        plan: &Self::Plan,
        progress: &watch::Sender<Progress>,
        stop: Stop,
    ) -> impl Future<Output = Result<(), BatchError>> + Send;

    /// Makes ready for pages of no batch; the agent's own choice where the arguments are silent.
    fn open(
        &self,
        engine: Option<Engine>,
        model: Option<String>,
        labelset_toml: Option<String>,
        weight: Option<u32>,
    ) -> impl Future<Output = Result<Self::Session, BatchError>> + Send;

    fn session_provenance(session: &Self::Session) -> &Provenance;

    /// Fails when the model is another by now than the session's provenance says.
    fn check_unchanged(session: &Self::Session) -> impl Future<Output = Result<(), BatchError>> + Send;

    /// How many pages to have under way.
    fn pages_at_once(session: &Self::Session) -> usize;

    /// Takes a page in when there is room for it; what is to be waited for then.
    fn page(
        session: &Self::Session,
        page: BatchPage,
    ) -> impl Future<Output = Result<BoxFuture<'static, Result<LoosePage, BatchError>>, BatchError>> + Send;

    /// What would be stamped on suggestions; the agent's own choice where the arguments are silent. A model server
    /// that is away is no error.
    fn describe(
        &self,
        engine: Option<Engine>,
        model: Option<String>,
        labelset_toml: Option<String>,
    ) -> impl Future<Output = Result<Description, BatchError>> + Send;
}

/// The batches below the agent's root.
#[derive(Debug)]
pub struct Batches {
    pipeline: Pipeline,
    /// Opens what lies below the root.
    env: Env,
}

impl Batches {
    pub fn new(pipeline: Pipeline, env: Env) -> Self {
        Self { pipeline, env }
    }

    fn at(&self, root: &str) -> Result<Pipeline, BatchError> {
        if root == self.pipeline.store().root().to_string() {
            return Ok(self.pipeline.clone());
        }
        Ok(self.pipeline.with_store(Store::open(root, &self.env)?))
    }
}

impl Work for Batches {
    type Plan = (Pipeline, Plan, Option<Shard>);
    type Session = Loose;

    async fn plan(
        &self,
        batch: &BatchId,
        ask: &Ask,
        labelset: Option<String>,
    ) -> Result<Self::Plan, BatchError> {
        let engine =
            ask.engine.as_deref().map(str::parse::<Engine>).transpose().map_err(BatchError::Config)?;
        let shard = ask.shard.as_deref().map(str::parse::<Shard>).transpose().map_err(BatchError::Config)?;
        let mut pipeline = self.at(&ask.root)?;
        if let Some(toml) = labelset.filter(|toml| toml != pipeline.labelset().toml()) {
            let known = Labelset::known(&toml).map_err(|error| BatchError::BadData(error.to_string()))?;
            pipeline = pipeline.with_labelset(known);
        }
        let plan = pipeline.plan(batch, engine, ask.model.as_deref()).await?;
        Ok((pipeline, plan, shard))
    }

    fn weigh((_, plan, _): &Self::Plan, weight: u32) {
        plan.weigh(weight);
    }

    fn lent((pipeline, plan, _): &Self::Plan) -> Option<&str> {
        pipeline.lent(plan).map(Labelset::toml)
    }

    fn identity((_, plan, _): &Self::Plan) -> Identity {
        Identity { fingerprint: plan.fingerprint.clone(), provenance: plan.provenance.clone() }
    }

    async fn run(
        &self,
        (pipeline, plan, shard): &Self::Plan,
        progress: &watch::Sender<Progress>,
        stop: Stop,
    ) -> Result<(), BatchError> {
        pipeline.run(plan, *shard, progress, stop).await.map(drop)
    }

    async fn open(
        &self,
        engine: Option<Engine>,
        model: Option<String>,
        labelset_toml: Option<String>,
        weight: Option<u32>,
    ) -> Result<Loose, BatchError> {
        self.pipeline.loose(engine, model.as_deref(), labelset_toml.as_deref(), weight).await
    }

    fn session_provenance(session: &Loose) -> &Provenance {
        session.provenance()
    }

    async fn check_unchanged(session: &Loose) -> Result<(), BatchError> {
        session.check_unchanged().await
    }

    fn pages_at_once(session: &Loose) -> usize {
        session.pages_at_once()
    }

    async fn page(
        session: &Loose,
        page: BatchPage,
    ) -> Result<BoxFuture<'static, Result<LoosePage, BatchError>>, BatchError> {
        session.page(page).await
    }

    async fn describe(
        &self,
        engine: Option<Engine>,
        model: Option<String>,
        labelset_toml: Option<String>,
    ) -> Result<Description, BatchError> {
        self.pipeline.describe(engine, model.as_deref(), labelset_toml.as_deref()).await
    }
}

impl From<&Progress> for JobProgress {
    fn from(progress: &Progress) -> Self {
        let of = |outcome| progress.outcomes.get(&outcome).copied().unwrap_or_default();
        let counts = Counts {
            pages: progress.pages_done,
            suggested: of(Outcome::Suggested),
            empty: of(Outcome::Empty),
            failed: of(Outcome::Failed),
            skipped: of(Outcome::Skipped),
            spans: progress.spans,
            ungrounded: progress.ungrounded,
            ..Counts::default()
        };
        let reason = progress.waiting_for.clone();
        Self {
            parts: progress.parts,
            parts_committed: progress.parts_committed,
            pages: progress.pages,
            counts,
            in_flight: progress.model.in_flight,
            waiting: progress.waiting_since.map(|since| Waiting { since, reason }),
            model: ModelUse {
                limit: progress.model.limit,
                limit_reason: match progress.model.limit {
                    0 => String::new(),
                    _ => progress.model.limit_reason.to_string(),
                },
                requests: progress.model.requests,
                retries: progress.model.retries,
                salvaged: progress.model.salvaged,
                size_bytes: progress.model.loaded.map_or(0, |loaded| loaded.size_bytes),
                size_vram_bytes: progress.model.loaded.map_or(0, |loaded| loaded.size_vram_bytes),
                repairs: progress
                    .model
                    .repairs
                    .iter()
                    .map(|(repair, n)| (repair.as_str().to_owned(), *n))
                    .collect(),
                replayed: progress.model.replayed,
                journal_off: progress.model.journal_off.clone(),
            },
        }
    }
}
