//! `batch list` and `batch show`: how far batches are, as their folders tell.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use proto::{
    docs::{BatchSpec, Counts},
    ids::BatchId,
    keys::{self, BatchFile, BatchKeys, PartKind, batch_of},
    rows::Outcome,
};
use serde::Serialize;

use crate::{
    batch,
    cli::{ListArgs, ShowArgs},
    ctx::Ctx,
    failure::Failure,
    printer::Answer,
    report::table,
};

/// The batches under the root.
#[derive(Debug, Serialize)]
pub struct Batches {
    pub batches: Vec<Shown>,
}

/// A batch: what it is made of, and how far it is.
#[derive(Debug, Serialize)]
pub struct Shown {
    pub batch_id: BatchId,
    /// `created`, `preannotated`, `merged` or `signed`.
    pub state: &'static str,
    pub pages: Option<u64>,
    pub documents: Option<u64>,
    pub parts: u64,
    pub committed_parts: u64,
    pub labelset: Option<String>,
    pub engine: Option<String>,
    pub model: Option<String>,
    pub parent: Option<BatchId>,
    /// Whether it has the pages that failed there, and which batch has those that failed here.
    pub retry: bool,
    pub retried_by: Option<BatchId>,
    /// The signed pilot that it goes by.
    pub pilot: Option<BatchId>,
    /// Of the parts that are committed.
    pub counts: Counts,
}

pub async fn list(ctx: &Ctx, _args: &ListArgs) -> Result<Batches, Failure> {
    let mut found: BTreeMap<BatchId, ()> = BTreeMap::new();
    let mut objects = ctx.store()?.list(keys::ARGILLA_IN);
    while let Some(object) = objects.try_next().await? {
        for file in [BatchFile::Spec, BatchFile::Manifest, BatchFile::Records] {
            found.extend(batch_of(&object.key, file).map(|batch| (batch, ())));
        }
    }
    let mut batches = Vec::new();
    for batch in found.into_keys() {
        batches.push(shown(ctx, &batch).await?);
    }
    Ok(Batches { batches })
}

pub async fn show(ctx: &Ctx, args: &ShowArgs) -> Result<Shown, Failure> {
    let shown = shown(ctx, &args.batch).await?;
    if shown.parts == 0 { Err(batch::unknown(ctx, &args.batch)) } else { Ok(shown) }
}

async fn shown(ctx: &Ctx, batch: &BatchId) -> Result<Shown, Failure> {
    let (store, keys) = (ctx.store()?, BatchKeys::new(batch));
    let spec: Option<BatchSpec> = batch::spec(ctx, batch).await?;
    let manifest = batch::manifest(ctx, batch).await?;
    let (committed_parts, counts) = match &manifest {
        Some(manifest) => (manifest.parts.len() as u64, manifest.counts.clone()),
        None => {
            let commits = batch::commits(ctx, batch).await?;
            let mut counts = Counts::default();
            commits.iter().for_each(|commit| counts.add(&commit.counts));
            (commits.len() as u64, counts)
        }
    };
    let parts = match &spec {
        Some(spec) => spec.parts.len() as u64,
        None => batch::part_files(ctx, &keys, PartKind::Pages).await?.len() as u64,
    };
    let state = if store.head_opt(&keys.signoff()).await?.is_some() {
        "signed"
    } else if store.head_opt(&keys.records()).await?.is_some() {
        "merged"
    } else if manifest.is_some() {
        "preannotated"
    } else {
        "created"
    };
    let of = |text: fn(&BatchSpec) -> Option<String>| spec.as_ref().and_then(text);
    Ok(Shown {
        batch_id: batch.clone(),
        state,
        pages: spec.as_ref().map(|spec| spec.pages).or(manifest.map(|manifest| manifest.counts.pages)),
        documents: spec.as_ref().map(|spec| spec.documents),
        parts,
        committed_parts,
        labelset: of(|spec| Some(format!("{} {}", spec.labelset.name, spec.labelset.version))),
        engine: of(|spec| spec.engine.clone()),
        model: of(|spec| spec.model.clone()),
        parent: spec.as_ref().and_then(|spec| spec.parent.clone()),
        retry: spec.as_ref().is_some_and(|spec| spec.retry),
        retried_by: batch::retried_by(ctx, batch).await?,
        pilot: spec.as_ref().and_then(|spec| spec.pilot.as_ref()).map(|pilot| pilot.batch_id.clone()),
        counts,
    })
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

impl Answer for Batches {
    fn text(&self) -> String {
        let rows = self.batches.iter().map(|batch| {
            vec![
                batch.batch_id.to_string(),
                batch.state.to_owned(),
                number(batch.pages),
                format!("{} of {}", batch.committed_parts, batch.parts),
            ]
        });
        table(&["batch", "state", "pages", "parts done"], &[2, 3], rows)
    }
}

impl Answer for Shown {
    fn text(&self) -> String {
        let mut lines = vec![
            ("batch", self.batch_id.to_string()),
            ("state", self.state.to_owned()),
            ("pages", number(self.pages)),
            ("documents", number(self.documents)),
            ("parts done", format!("{} of {}", self.committed_parts, self.parts)),
        ];
        let optional = [
            ("labelset", self.labelset.clone()),
            ("engine", self.engine.clone()),
            ("model", self.model.clone()),
            ("parent", self.parent.as_ref().map(ToString::to_string)),
            (
                "retries",
                self.parent.as_ref().filter(|_| self.retry).map(|parent| format!("what failed in {parent}")),
            ),
            ("retried by", self.retried_by.as_ref().map(ToString::to_string)),
            ("pilot", self.pilot.as_ref().map(ToString::to_string)),
        ];
        lines.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
        for outcome in Outcome::ALL {
            lines.push((outcome.as_str(), self.counts.of(outcome).to_string()));
        }
        lines.push(("spans", self.counts.spans.to_string()));
        table(&["", ""], &[], lines.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
    }
}
