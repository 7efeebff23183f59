//! Pages that belong to no batch: each to its outcome, for whoever waits for it. Nothing is written but the journal.

use std::sync::Arc;

use futures::future::BoxFuture;
use proto::{
    docs::Provenance,
    hash::sha256_hex,
    labelset::Labelset,
    rows::{BatchPage, LedgerRow, Suggestion, SuggestionRow},
};
use tokio::sync::watch;

use super::{
    BatchError, Meter, Pipeline, Progress,
    admit::admit,
    part::{self, Annotated, Budget},
};
use crate::{
    clock,
    engine::{Annotator, Engine, on_rayon},
};

/// One caller's pages. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Loose {
    annotator: Annotator,
    meter: Meter,
    budget: Budget,
    page_bytes: usize,
}

/// What became of a page.
#[derive(Debug, Clone)]
pub struct LoosePage {
    pub ledger: LedgerRow,
    pub suggestions: Vec<Suggestion>,
}

impl Pipeline {
    /// The agent's own choice holds where the arguments are silent. `weight`: the claim on the model server.
    pub async fn loose(
        &self,
        engine: Option<Engine>,
        model: Option<&str>,
        labelset_toml: Option<&str>,
        weight: Option<u32>,
    ) -> Result<Loose, BatchError> {
        let labelset = match labelset_toml {
            Some(toml) => {
                Arc::new(Labelset::parse(toml).map_err(|error| BatchError::BadData(error.to_string()))?)
            }
            None => self.labelset.clone(),
        };
        let engine = engine.unwrap_or(self.config.engine);
        let annotator = Annotator::prepare(engine, model, labelset, &self.config, &self.server).await?;
        weight.into_iter().for_each(|weight| annotator.weigh(weight));
        Ok(Loose {
            annotator,
            meter: Meter::new(&watch::Sender::new(Progress::default())),
            budget: self.budget.clone(),
            page_bytes: self.config.limits.page_bytes,
        })
    }
}

impl Loose {
    pub fn provenance(&self) -> &Provenance {
        self.annotator.provenance()
    }

    /// Fails when the model server has another model under the name than the caller was told.
    pub async fn check_unchanged(&self) -> Result<(), BatchError> {
        self.annotator.check_unchanged(&self.meter).await
    }

    /// How many pages to have under way.
    pub fn pages_at_once(&self) -> usize {
        self.annotator.pages_at_once()
    }

    /// Takes a page in once there is memory for it; what is to be waited for then. Dropping that drops its requests.
    ///
    /// # Errors
    /// When no page can be done: the model is gone, a proxy refuses every request.
    pub async fn page(
        &self,
        mut page: BatchPage,
    ) -> Result<BoxFuture<'static, Result<LoosePage, BatchError>>, BatchError> {
        let page_bytes = self.page_bytes;
        let admitted = on_rayon(move || {
            if page.text_sha256.is_none() {
                page.text_sha256 = page.text.as_ref().map(sha256_hex);
            }
            admit(page, page_bytes)
        });
        let admitted = admitted.await.map_err(|panicked| BatchError::Internal(panicked.to_string()))?;
        let (row, permit) = self.budget.reserve(admitted).await?;
        let Self { annotator, meter, .. } = self.clone();
        Ok(Box::pin(async move {
            let _permit = permit;
            let done = Annotated::of(part::page(&annotator, &meter, row).await?);
            let stamps = annotator.stamps();
            let suggestions = done.suggestions(&stamps, clock::now());
            let suggestions = suggestions.into_iter().map(SuggestionRow::into_owned).collect();
            let ledger = done.ledger().pop();
            let ledger = ledger.ok_or_else(|| BatchError::Internal("a page has no outcome".to_owned()))?;
            Ok(LoosePage { ledger, suggestions })
        }))
    }
}
