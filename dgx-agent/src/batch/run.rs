//! A batch from its survey to its manifest. How its parts are shared with other agents is in `share`.
//!
//! Constraints: what is committed is not done again; a part that cannot be done is told when all others are; each step may
//! be begun again when the store was away (`patience`).

use std::sync::{Arc, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use proto::{
    docs::{CommitRecord, Counts, ManifestPart},
    keys::BatchKeys,
    lease,
};
use tokio::sync::{Mutex, watch};

use super::{
    BatchError, Done, Meter, PartPlan, Pipeline, Plan, Progress, Shard, calibration, commit,
    failpoint::{Point, reach},
    lease::Leases,
    part::{self, Annotated, Budget},
    protocol::{Protocol, Settled},
    standing::Standing,
    survey::{Survey, Vouched},
};

/// Commits looked at together.
pub(super) const LOOKS: usize = 8;

/// A plan under way.
pub(super) struct Run<'a> {
    pub pipeline: &'a Pipeline,
    pub plan: &'a Plan,
    pub keys: BatchKeys,
    pub meter: Meter,
    /// Of page text under way.
    pub budget: Budget,
    /// Held by the part whose pages are begun: they are begun part after part.
    pub turn: Arc<Mutex<()>>,
    /// Parts that are through: they are committed in their order.
    pub committed: watch::Sender<usize>,
    /// What is committed, for the manifest: as the plan has its parts.
    kept: std::sync::Mutex<Vec<Option<Standing>>>,
    /// Parts that are ours to do.
    pub leases: Leases,
}

impl<'a> Run<'a> {
    pub fn new(pipeline: &'a Pipeline, plan: &'a Plan, progress: &watch::Sender<Progress>) -> Self {
        let keys = BatchKeys::new(&plan.batch);
        Self {
            pipeline,
            plan,
            meter: Meter::new(progress),
            budget: pipeline.budget.clone(),
            turn: Arc::default(),
            committed: watch::Sender::new(0),
            kept: std::sync::Mutex::new(vec![None; plan.parts.len()]),
            leases: Leases::new(&pipeline.store, &keys, &pipeline.identity, lease::PERIOD),
            keys,
        }
    }

    pub fn protocol(&self) -> Protocol<'_> {
        let Plan { batch, fingerprint, .. } = self.plan;
        Protocol { store: &self.pipeline.store, keys: &self.keys, batch, fingerprint }
    }

    /// To the manifest, or to the end of the shard.
    pub async fn run(&self, shard: Option<Shard>) -> Result<Done, BatchError> {
        let survey = self.patiently(|| self.survey()).await?;
        if let Some(done) = self.patiently(|| self.complete_already(&survey)).await? {
            return Ok(done);
        }
        let mine = |part: &&PartPlan| shard.is_none_or(|shard| shard.has(part.number));
        let parts: Vec<&PartPlan> = self.plan.parts.iter().filter(mine).collect();
        let (store, annotator) = (&self.pipeline.store, &self.plan.annotator);
        let pin = || calibration::pin(store, &self.keys, &self.plan.provenance, annotator.calibration());
        self.patiently(pin).await?;
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
        self.patiently(|| self.finish(number(parts.len()), &counts)).await
    }

    async fn survey(&self) -> Result<Survey, BatchError> {
        Survey::take(&self.pipeline.store, &self.keys).await
    }

    /// A batch whose manifest stands, and whose files are there: without a look at its records.
    async fn complete_already(&self, survey: &Survey) -> Result<Option<Done>, BatchError> {
        let Some(manifest) = self.protocol().manifest().await? else { return Ok(None) };
        if !manifest.parts.iter().all(|part| survey.has_sizes(part)) {
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

    /// A part that a listing had the record of.
    pub async fn committed_part(&self, part: &PartPlan, survey: &Survey) -> Result<Counts, BatchError> {
        let protocol = self.protocol();
        let Some(record) = self.patiently(|| protocol.record(part.number)).await? else {
            return self.redo(None, part).await;
        };
        self.accept(part, record, Some(survey)).await
    }

    /// Counts a part that is committed, if its files are there.
    pub async fn accept(
        &self,
        part: &PartPlan,
        record: CommitRecord,
        survey: Option<&Survey>,
    ) -> Result<Counts, BatchError> {
        let counts = record.counts.clone();
        let is_wrong = |survey: &Survey| {
            Standing::of(&record).is_none_or(|it| survey.vouches(part.number, &it) == Vouched::Wrong)
        };
        let wrong = survey.is_some_and(is_wrong);
        let protocol = self.protocol();
        let record = match wrong {
            false => record,
            true => match self.patiently(|| protocol.settle(record.clone(), None)).await? {
                Settled::Whole(record) => record,
                Settled::Lost(_) => return self.redo(None, part).await,
            },
        };
        self.keep(&record);
        self.meter.committed(&Counts::default(), &counts);
        Ok(counts)
    }

    /// Brings a part to its commit. `after`: how many parts must be through before it.
    pub async fn redo(&self, after: Option<usize>, part: &PartPlan) -> Result<Counts, BatchError> {
        let (annotated, told) = self.patiently(|| self.annotated(part)).await?;
        self.plan.annotator.check_unchanged(&self.meter).await?;
        if let Some(after) = after {
            self.turn_of(after).await;
        }
        let annotated = Arc::new(annotated);
        let record = self.patiently(|| commit::commit(self, part, annotated.clone())).await?;
        commit::drop_aside(annotated);
        let counts = record.counts.clone();
        self.keep(&record);
        self.meter.committed(&told, &counts);
        Ok(counts)
    }

    /// Its pages, each with its outcome, and what was told of them.
    async fn annotated(&self, part: &PartPlan) -> Result<(Annotated, Counts), BatchError> {
        let mut told = Counts::default();
        let annotated = Box::pin(part::annotate(self, part, &mut told)).await;
        match annotated {
            Ok(annotated) => Ok((annotated, told)),
            Err(error) => {
                self.meter.take_back(&told);
                Err(error)
            }
        }
    }

    fn keep(&self, record: &CommitRecord) {
        if let Some(place) = self.place(record.part) {
            self.all_kept()[place] = Standing::of(record);
        }
    }

    fn kept(&self, part: &PartPlan) -> Option<Standing> {
        self.all_kept()[self.place(part.number)?].clone()
    }

    fn place(&self, part: u32) -> Option<usize> {
        self.plan.parts.binary_search_by_key(&part, |part| part.number).ok()
    }

    fn all_kept(&self) -> MutexGuard<'_, Vec<Option<Standing>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes the batch if every part of every shard is committed.
    async fn finish(&self, parts: u32, counts: &Counts) -> Result<Done, BatchError> {
        let survey = self.survey().await?;
        let all = &self.plan.parts;
        let missing = all.iter().filter(|part| !survey.has_commit(part.number)).count();
        if missing > 0 {
            return Ok(Done::Shard { parts, counts: counts.clone(), missing: number(missing) });
        }
        let manifest = match self.protocol().manifest().await? {
            Some(manifest) => manifest,
            None => {
                let (parts, counts) = self.all_verified(&survey).await?;
                let Plan { batch, fingerprint, provenance, .. } = self.plan;
                let manifest = commit::manifest(batch, fingerprint, provenance, parts, counts);
                reach(Point::Manifest, 0).await;
                self.protocol().complete(manifest).await?
            }
        };
        self.protocol().sweep().await?;
        self.leases.sweep().await?;
        Ok(Done::Complete { parts: number(all.len()), counts: manifest.counts })
    }

    /// All parts as the manifest has them, and the sum of their counts.
    async fn all_verified(&self, survey: &Survey) -> Result<(Vec<ManifestPart>, Counts), BatchError> {
        let all = stream::iter(self.plan.parts.iter());
        let verified =
            all.map(|part| async move { Ok::<_, BatchError>((part, self.verified(part, survey).await?)) });
        let mut verified = verified.buffered(LOOKS).boxed();
        let mut parts = Vec::with_capacity(self.plan.parts.len());
        let mut counts = Counts::default();
        while let Some((part, standing)) = verified.try_next().await? {
            counts.add(&standing.counts);
            parts.push(standing.in_manifest(&self.keys, part.number, part.file()));
        }
        Ok((parts, counts))
    }

    /// A part whose files are what its record says, by now.
    async fn verified(&self, part: &PartPlan, survey: &Survey) -> Result<Standing, BatchError> {
        if let Some(standing) = self.protocol().verified(part.number, self.kept(part), survey).await? {
            return Ok(standing);
        }
        self.redo(None, part).await?;
        self.kept(part).ok_or_else(|| {
            BatchError::Internal(format!("part {} was committed and is not kept", part.number))
        })
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
