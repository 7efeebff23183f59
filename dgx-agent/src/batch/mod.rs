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
mod plan;
mod progress;
mod protocol;
mod repeats;
mod stop;
mod survey;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use proto::{
    docs::{CommitRecord, Counts, Provenance},
    ids::BatchId,
    keys::BatchKeys,
    labelset::Labelset,
    store::Store,
};
use tokio::sync::{Mutex, watch};

pub use error::BatchError;
pub use lease::AgentId;
pub use loose::{Loose, LoosePage};
pub use plan::{PartPlan, Plan, Shard};
pub use progress::{InFlight, Meter, ModelProgress, Progress};
pub use stop::Stop;

use crate::{
    config::EngineConfig,
    engine::{self, Engine, ModelServer, Server},
    journal::Journal,
};
use commit::Standing;
use failpoint::{Point, reach};
use lease::{Holder, Leases};
use part::Budget;
use protocol::{Protocol, Settled};
use survey::{Survey, Vouched};

/// Parts under way: one whose pages are asked about, one or two that are committed, and the next one, opened already.
/// So the model server has work while a part is written.
const PARTS: usize = 4;

/// Between two looks at parts that other agents have.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Commits looked at together.
const LOOKS: usize = 8;

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
        }
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
        let run = Run {
            pipeline: self,
            plan,
            keys: BatchKeys::new(&plan.batch),
            meter: Meter::new(progress),
            budget: self.budget.clone(),
            turn: Arc::default(),
            committed: watch::Sender::new(0),
            kept: std::sync::Mutex::default(),
            leases: Leases::new(&self.store, &BatchKeys::new(&plan.batch), &self.identity, lease::PERIOD),
        };
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

/// A plan under way.
struct Run<'a> {
    pipeline: &'a Pipeline,
    plan: &'a Plan,
    keys: BatchKeys,
    meter: Meter,
    /// Of page text under way.
    budget: Budget,
    /// Held by the part whose pages are begun: they are begun part after part.
    turn: Arc<Mutex<()>>,
    /// Parts that are through: they are committed in their order.
    committed: watch::Sender<usize>,
    /// What is committed, for the manifest.
    kept: std::sync::Mutex<BTreeMap<u32, Standing>>,
    /// Parts that are ours to do.
    leases: Leases,
}

/// Parts to look at, parts of other agents, and how many were ours so far.
type State<'a> = (VecDeque<&'a PartPlan>, VecDeque<(&'a PartPlan, Holder)>, usize);

/// What is to be done next.
enum Next<'a> {
    /// Ours, and how many of ours come before it.
    Do(usize, &'a PartPlan),
    /// Another agent committed it meanwhile.
    Found(&'a PartPlan, Box<CommitRecord>),
}

impl Run<'_> {
    fn protocol(&self) -> Protocol<'_> {
        let Plan { batch, fingerprint, .. } = self.plan;
        Protocol { store: &self.pipeline.store, keys: &self.keys, batch, fingerprint }
    }

    async fn run(&self, shard: Option<Shard>) -> Result<Done, BatchError> {
        let survey = self.survey().await?;
        if let Some(done) = self.complete_already(&survey).await? {
            return Ok(done);
        }
        let mine = |part: &&PartPlan| shard.is_none_or(|shard| shard.has(part.number));
        let parts: Vec<&PartPlan> = self.plan.parts.iter().filter(mine).collect();
        let (store, annotator) = (&self.pipeline.store, &self.plan.annotator);
        calibration::pin(store, &self.keys, &self.plan.provenance, annotator.calibration()).await?;
        self.meter.begin(number(parts.len()), parts.iter().map(|part| part.rows).sum());
        let mut counts = Counts::default();
        let mut bad = Vec::new();
        let mut done = self.work(&parts, &survey);
        while let Some((part, done)) = done.next().await {
            match done {
                Ok(done) => counts.add(&done),
                Err(error) if error.is_of_a_part() => {
                    tracing::error!(batch = %self.plan.batch, part = part.number, %error, "the part is left out");
                    bad.push(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        drop(done);
        if !bad.is_empty() {
            return Err(BatchError::BadData(format!(
                "batch {}: {} of {} parts cannot be done, all others are: {}",
                self.plan.batch,
                bad.len(),
                parts.len(),
                bad.join("; ")
            )));
        }
        self.finish(number(parts.len()), counts).await
    }

    async fn survey(&self) -> Result<Survey, BatchError> {
        Survey::take(&self.pipeline.store, &self.keys).await
    }

    /// A batch whose manifest stands, and whose files are there: without a look at its records.
    async fn complete_already(&self, survey: &Survey) -> Result<Option<Done>, BatchError> {
        let Some(manifest) = self.protocol().manifest().await? else { return Ok(None) };
        let mut files = manifest.parts.iter().flat_map(|part| [&part.suggestions, &part.ledger]);
        if !files.all(|file| survey.has_size(file)) {
            tracing::warn!(batch = %self.plan.batch, "files of a complete batch are lost: their parts are done again");
            return Ok(None);
        }
        if survey.has_staged() {
            self.protocol().sweep().await?;
        }
        let parts = number(manifest.parts.len());
        self.meter.complete(parts, &manifest.counts);
        Ok(Some(Done::Complete { parts, counts: manifest.counts }))
    }

    /// Parts without a record are done, a few at a time and in their order; beside that the others' records are read.
    fn work<'a>(
        &'a self,
        parts: &[&'a PartPlan],
        survey: &'a Survey,
    ) -> BoxStream<'a, (&'a PartPlan, Result<Counts, BatchError>)> {
        let (there, missing): (Vec<&PartPlan>, Vec<&PartPlan>) =
            parts.iter().partition(|part| survey.has_commit(part.number));
        let there = stream::iter(there).map(move |part| async move {
            let done = Box::pin(self.committed_part(part, survey)).await;
            (part, done)
        });
        let missing = self.shared(missing.into()).map(move |(part, next)| async move {
            let done = match next {
                Ok(Next::Do(index, part)) => {
                    let done = Box::pin(self.redo(Some(index), part)).await;
                    self.leases.release(part.number).await;
                    // Committed or bad: the next one may be committed. A bad one must not take the turn back.
                    self.turn_of(index).await;
                    self.committed.send_replace(index + 1);
                    done
                }
                Ok(Next::Found(part, record)) => Box::pin(self.accept(part, *record, None)).await,
                Err(error) => Err(error),
            };
            (part, done)
        });
        stream::select(missing.buffered(PARTS), there.buffer_unordered(LOOKS)).boxed()
    }

    /// A part that a listing had the record of.
    async fn committed_part(&self, part: &PartPlan, survey: &Survey) -> Result<Counts, BatchError> {
        let Some(record) = self.protocol().record(part.number).await? else {
            return self.redo(None, part).await;
        };
        self.accept(part, record, Some(survey)).await
    }

    /// Counts a part that is committed, if its files are there.
    async fn accept(
        &self,
        part: &PartPlan,
        record: CommitRecord,
        survey: Option<&Survey>,
    ) -> Result<Counts, BatchError> {
        let counts = record.counts.clone();
        let wrong = survey.is_some_and(|survey| survey.vouches(&record.clone().into()) == Vouched::Wrong);
        let record = match wrong {
            false => record,
            true => match self.protocol().settle(record, None).await? {
                Settled::Whole(record) => record,
                Settled::Lost(_) => return self.redo(None, part).await,
            },
        };
        self.keep(record);
        self.meter.committed(&Counts::default(), &counts);
        Ok(counts)
    }

    /// Parts without a record, each when it is ours to do or another agent has done it. Those that others have come last.
    fn shared<'a>(
        &'a self,
        parts: VecDeque<&'a PartPlan>,
    ) -> BoxStream<'a, (&'a PartPlan, Result<Next<'a>, BatchError>)> {
        let state = (parts, VecDeque::new(), 0);
        let next = move |(mut parts, mut held, mut index): State<'a>| async move {
            loop {
                let Some(part) = parts.pop_front() else {
                    let (first, holder) = held.front()?;
                    let (first, left) = (first.number, held.len());
                    self.meter
                        .held(format!("{left} parts are with other agents: part {first} is with {holder}"));
                    tokio::time::sleep(LOOK_AGAIN).await;
                    parts.extend(held.drain(..).map(|(part, _)| part));
                    continue;
                };
                let found = async {
                    if let Some(holder) = self.leases.take(part.number).await? {
                        return Ok(Err(holder));
                    }
                    let record = self.protocol().record(part.number).await?;
                    Ok::<_, BatchError>(Ok(record))
                };
                let next = match found.await {
                    Ok(Err(holder)) => {
                        held.push_back((part, holder));
                        continue;
                    }
                    Ok(Ok(None)) => {
                        index += 1;
                        Ok(Next::Do(index - 1, part))
                    }
                    Ok(Ok(Some(record))) => {
                        self.leases.release(part.number).await;
                        Ok(Next::Found(part, Box::new(record)))
                    }
                    Err(error) => Err(error),
                };
                return Some(((part, next), (parts, held, index)));
            }
        };
        stream::unfold(state, next).boxed()
    }

    /// Brings a part to its commit. `after`: how many parts must be through before it.
    async fn redo(&self, after: Option<usize>, part: &PartPlan) -> Result<Counts, BatchError> {
        let (annotated, told) = Box::pin(part::annotate(self, part)).await?;
        self.plan.annotator.check_unchanged(&self.meter).await?;
        if let Some(after) = after {
            self.turn_of(after).await;
        }
        let record = Box::pin(commit::commit(self, part, annotated)).await?;
        let counts = record.counts.clone();
        self.keep(record);
        self.meter.committed(&told, &counts);
        Ok(counts)
    }

    fn keep(&self, record: CommitRecord) {
        self.kept().insert(record.part, record.into());
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<u32, Standing>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many parts are through.
    async fn turn_of(&self, parts: usize) {
        // The sender lives as long as the run.
        let _ = self.committed.subscribe().wait_for(|committed| *committed >= parts).await;
    }

    /// Completes the batch if every part of every shard is committed.
    async fn finish(&self, parts: u32, counts: Counts) -> Result<Done, BatchError> {
        let survey = self.survey().await?;
        let all = &self.plan.parts;
        let missing = all.iter().filter(|part| !survey.has_commit(part.number)).count();
        if missing > 0 {
            return Ok(Done::Shard { parts, counts, missing: number(missing) });
        }
        let manifest = match self.protocol().manifest().await? {
            Some(manifest) => manifest,
            None => {
                let parts = stream::iter(all.iter()).map(|part| self.verified(part, &survey));
                let parts = parts.buffered(LOOKS).boxed().try_collect().await?;
                let Plan { batch, fingerprint, provenance, .. } = self.plan;
                let manifest = commit::manifest(batch, fingerprint, provenance, parts);
                reach(Point::Manifest, 0).await;
                self.protocol().complete(manifest).await?
            }
        };
        self.protocol().sweep().await?;
        self.leases.sweep().await?;
        Ok(Done::Complete { parts: number(all.len()), counts: manifest.counts })
    }

    /// A part whose files are what its record says, by now.
    async fn verified(&self, part: &PartPlan, survey: &Survey) -> Result<Standing, BatchError> {
        let kept = self.kept().get(&part.number).cloned();
        if let Some(standing) = self.protocol().verified(part.number, kept, survey).await? {
            return Ok(standing);
        }
        self.redo(None, part).await?;
        let kept = self.kept().get(&part.number).cloned();
        kept.ok_or_else(|| {
            BatchError::Internal(format!("part {} was committed and is not kept", part.number))
        })
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
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
