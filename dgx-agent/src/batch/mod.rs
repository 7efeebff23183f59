//! A batch, part by part: the pipeline behind both doors, `serve` and `run`.
//!
//! ```text
//! plan ─► for each part: read ─► admit ─► engine ─► commit (suggestions, ledger, record) ─► manifest
//! ```
//!
//! Constraints: a part is the unit of work and of commit; what is committed is not done again; a file that cannot be
//! read costs its own part alone; dropping or cancelling a run at any point loses no committed part.

mod admit;
mod calibration;
mod commit;
mod error;
mod failpoint;
mod files;
mod lease;
mod loose;
#[cfg(test)]
mod model;
mod part;
mod patience;
mod plan;
mod progress;
mod protocol;
mod repeats;
mod run;
mod share;
mod standing;
mod stop;
mod survey;

use std::{sync::Arc, time::Duration};

use proto::{
    docs::{Counts, Provenance},
    ids::BatchId,
    labelset::Labelset,
    store::Store,
};
use tokio::sync::watch;

pub use error::BatchError;
pub use lease::AgentId;
pub use loose::{Loose, LoosePage};
pub use patience::PATIENCE;
pub use plan::{PartPlan, Plan, Shard};
pub use progress::{InFlight, Meter, ModelProgress, Progress};
pub use stop::Stop;

use crate::{
    config::EngineConfig,
    engine::{self, Engine, ModelServer, Server},
    journal::Journal,
};
use part::Budget;
use run::Run;

/// All that batches of one root need. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pipeline {
    store: Store,
    labelset: Arc<Labelset>,
    config: Arc<EngineConfig>,
    server: Server,
    /// Of page text under way, over all batches.
    budget: Budget,
    identity: Arc<AgentId>,
    /// How long a store that is away is waited for in the middle of a run.
    patience: Duration,
}

/// What an agent is, and what it would stamp on its suggestions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// With an empty `model_digest` where the model server cannot be asked.
    pub provenance: Provenance,
    /// None for the rules.
    pub model_server: Option<ModelServer>,
}

/// How a run ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Every part is committed, and the manifest is written.
    Complete { parts: u32, counts: Counts },
    /// The shard's parts are committed, those of others are not yet. `counts`: of the shard.
    Shard { parts: u32, counts: Counts, missing: u32 },
}

impl Done {
    pub fn counts(&self) -> &Counts {
        match self {
            Self::Complete { counts, .. } | Self::Shard { counts, .. } => counts,
        }
    }
}

impl Pipeline {
    /// `labelset`: of batches that carry none.
    pub fn new(store: Store, labelset: Labelset, config: EngineConfig) -> Self {
        let (server, budget) = (Server::new(&config), Budget::new(config.limits.bytes_in_memory));
        Self {
            store,
            labelset: Arc::new(labelset),
            config: Arc::new(config),
            server,
            budget,
            identity: Arc::default(),
            patience: Duration::ZERO,
        }
    }

    /// Waiting for a store that is away in the middle of a run.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// With the answers of earlier batches.
    #[must_use]
    pub fn with_journal(self, journal: Journal) -> Self {
        Self { server: self.server.with_journal(journal), ..self }
    }

    /// As the agent of a state directory, which knows its leases again.
    #[must_use]
    pub fn with_identity(self, identity: AgentId) -> Self {
        Self { identity: Arc::new(identity), ..self }
    }

    /// The same over another root.
    #[must_use]
    pub fn with_store(&self, store: Store) -> Self {
        Self { store, ..self.clone() }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What a batch would be annotated with. A model server that cannot be asked is told of, and no error.
    pub async fn describe(
        &self,
        engine: Option<Engine>,
        model: Option<&str>,
        labelset_toml: Option<&str>,
    ) -> Result<Description, BatchError> {
        let engine = engine.unwrap_or(self.config.engine);
        let labelset = match labelset_toml {
            Some(toml) => {
                Arc::new(Labelset::parse(toml).map_err(|error| BatchError::BadData(error.to_string()))?)
            }
            None => self.labelset.clone(),
        };
        let (provenance, model_server) = engine::describe(engine, model, &labelset, &self.config).await?;
        Ok(Description { provenance, model_server })
    }

    /// Makes a batch ready. `engine` and `model` win over what the batch says, and that over the agent's own.
    pub async fn plan(
        &self,
        batch: &BatchId,
        engine: Option<Engine>,
        model: Option<&str>,
    ) -> Result<Plan, BatchError> {
        Box::pin(plan::plan(self, batch, engine, model)).await
    }

    /// Does every part that is not committed, and completes the batch when none is missing. A file that cannot be
    /// read is told at the end, when all others are done. A run that is told to stop ends as [`BatchError::Cancelled`].
    pub async fn run(
        &self,
        plan: &Plan,
        shard: Option<Shard>,
        progress: &watch::Sender<Progress>,
        stop: impl Into<Stop>,
    ) -> Result<Done, BatchError> {
        let run = Run::new(self, plan, progress);
        let shared = async {
            tokio::select! {
                done = Box::pin(run.run(shard)) => done,
                () = run.leases.renew() => Err(BatchError::Cancelled),
            }
        };
        let done = stop.into().until_told(&plan.annotator, shared).await;
        run.leases.release_all().await;
        done.unwrap_or(Err(BatchError::Cancelled))
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn is_send<T: Send>(_: &T) {}

    #[tokio::test]
    async fn the_daemon_can_spawn_its_work() {
        let folder = tempfile::tempdir().expect("a folder");
        let env = proto::store::Env::new();
        let store = Store::open(folder.path().to_str().expect("UTF-8"), &env).expect("a store");
        let config = EngineConfig::resolve(Default::default(), &env).expect("a configuration");
        let pipeline = Pipeline::new(store, Labelset::embedded(), config);
        let batch: BatchId = "b".parse().expect("a batch id");
        let work = async {
            let plan = pipeline.plan(&batch, None, None).await?;
            let (progress, _) = watch::channel(Progress::default());
            pipeline.run(&plan, None, &progress, CancellationToken::new()).await
        };
        is_send(&work);
        assert!(
            matches!(work.await, Err(BatchError::NotFound(message)) if message.contains("batch b has no pages"))
        );
    }
}
