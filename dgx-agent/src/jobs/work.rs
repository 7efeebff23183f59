//! What the runner needs of the pipeline, so that jobs can be tested without one.

use std::future::Future;

use proto::{docs::Provenance, grpc, ids::BatchId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::job::{Ask, Identity, JobProgress};

/// How a batch is run.
pub trait Work: Send + Sync + 'static {
    type Plan: Send + Sync + 'static;

    /// Reads what the batch is; writes nothing.
    fn plan(&self, batch: &BatchId, ask: &Ask) -> impl Future<Output = Result<Self::Plan, WorkError>> + Send;

    fn identity(plan: &Self::Plan) -> Identity;

    /// What would be stamped on suggestions; the agent's own choice where the arguments are silent. A model server
    /// that is away is no error.
    fn describe(
        &self,
        engine: Option<String>,
        model: Option<String>,
        labelset_toml: Option<String>,
    ) -> impl Future<Output = Result<Described, WorkError>> + Send;

    /// Runs the batch to its manifest. Once `stop` is cancelled it ends soon, at a point from which a later run goes
    /// on.
    fn run(
        &self,
        plan: &Self::Plan,
        progress: &watch::Sender<JobProgress>,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<(), WorkError>> + Send;
}

/// What the agent would work with.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    pub provenance: Provenance,
    /// None for the rules engine.
    pub model_server: Option<grpc::ModelServer>,
}

/// How planning or running ends, for what the runner does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// The model server or the object store is away: it is worth waiting for.
    #[error("{0}")]
    Away(String),
    /// It was told to stop.
    #[error("stopped before its end")]
    Stopped,
    /// The request cannot be right.
    #[error("{0}")]
    Invalid(String),
    /// There is no such batch.
    #[error("{0}")]
    NotFound(String),
    /// The batch or the agent is not as it must be: the job fails.
    #[error("{0}")]
    Failed(String),
}
