//! Batches that tried again what failed in one (`batch create --failed`), each what failed in the one before it.

use proto::{
    docs::{Manifest, Provenance},
    ids::BatchId,
};

use crate::{ctx::Ctx, failure::Failure};

#[derive(Debug, Default)]
pub struct Retries {
    /// Those that are complete, in their order.
    pub done: Vec<Manifest>,
    /// The one behind them, if there is one, and why it does not count.
    pub left_out: Option<LeftOut>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// It is not complete.
    Open(BatchId),
    /// It was made with something else, so that its pages are another batch's.
    Foreign(BatchId),
}

impl Retries {
    pub async fn of(ctx: &Ctx, first: &Manifest) -> Result<Self, Failure> {
        let mut retries = Self::default();
        loop {
            let last = retries.done.last().unwrap_or(first);
            let Some(next) = super::retried_by(ctx, &last.batch_id).await? else { return Ok(retries) };
            let Some(manifest) = super::manifest(ctx, &next).await? else {
                return Ok(Self { left_out: Some(LeftOut::Open(next)), ..retries });
            };
            if made_with(&manifest.provenance) != made_with(&first.provenance) {
                return Ok(Self { left_out: Some(LeftOut::Foreign(next)), ..retries });
            }
            retries.done.push(manifest);
        }
    }

    /// Pages that failed in the first batch and are no longer failed.
    pub fn mended(&self, first: &Manifest) -> u64 {
        let failed = self.done.last().map_or(first.counts.failed, |last| last.counts.failed);
        first.counts.failed.saturating_sub(failed)
    }

    /// Refuses to make anything of a batch while another's pages are to take the place of some of its own.
    pub fn refuse_foreign(&self, first: &BatchId) -> Result<(), Failure> {
        match &self.left_out {
            Some(LeftOut::Foreign(other)) => Err(Failure::gate(format!(
                "batch {first} is not merged: batch {other}, which has the pages that failed in it, was made with another \
                 engine, model, model digest, prompt or labelset; delete it with `control batch delete {other}` and retry \
                 them as they were"
            ))),
            _ => Ok(()),
        }
    }

    /// For people who look at the batch.
    pub fn note(&self) -> Option<String> {
        Some(match self.left_out.as_ref()? {
            LeftOut::Open(other) => {
                format!("the pages that failed are with batch {other}, which is not complete")
            }
            LeftOut::Foreign(other) => format!(
                "the pages that failed are with batch {other}, which was made with another engine, model, model digest, \
                 prompt or labelset: they count as failed here"
            ),
        })
    }
}

fn made_with(provenance: &Provenance) -> [&String; 5] {
    let Provenance { engine, model, model_digest, prompt_sha256, labelset_sha256, .. } = provenance;
    [engine, model, model_digest, prompt_sha256, labelset_sha256]
}
