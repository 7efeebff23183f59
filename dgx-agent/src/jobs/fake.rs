//! Work for tests: does as it is told, and remembers what it ran.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures::future::BoxFuture;
use proto::{
    docs::Provenance,
    ids::BatchId,
    rows::{BatchPage, LedgerRow, Outcome},
};
use tokio::sync::watch;

use super::{
    job::{Ask, Identity},
    work::Work,
};
use crate::{
    batch::{BatchError, Description, LoosePage, Progress, Stop},
    engine::Engine,
};

pub fn identity(fingerprint: &str) -> Identity {
    let provenance = Provenance {
        engine: "rules".into(),
        model: "rules".into(),
        model_digest: "d".into(),
        prompt_sha256: "p".into(),
        labelset_sha256: "l".into(),
        options: BTreeMap::new(),
        agent_version: "0".into(),
    };
    Identity { fingerprint: fingerprint.into(), provenance }
}

/// What a run does, by batch and by how many runs the batch had before.
#[derive(Clone, Copy)]
pub enum Does {
    Completes,
    /// Commits a part, then goes on until it is told to stop.
    Hangs,
    /// Does not hear that it should stop.
    IsDeaf,
    IsAway,
    Panics,
    Fails,
}

pub struct Fake {
    does: fn(&str, usize) -> Does,
    runs: Mutex<Vec<String>>,
}

impl Fake {
    pub fn new(does: fn(&str, usize) -> Does) -> Arc<Self> {
        Arc::new(Self { does, runs: Mutex::default() })
    }

    pub fn runs(&self) -> Vec<String> {
        self.runs.lock().expect("whole").clone()
    }
}

impl Work for Fake {
    type Plan = BatchId;
    type Session = Provenance;

    async fn open(
        &self,
        _: Option<Engine>,
        _: Option<String>,
        _: Option<String>,
        _: Option<u32>,
    ) -> Result<Provenance, BatchError> {
        Ok(identity("f").provenance)
    }

    fn session_provenance(session: &Provenance) -> &Provenance {
        session
    }

    async fn check_unchanged(_: &Provenance) -> Result<(), BatchError> {
        Ok(())
    }

    fn pages_at_once(_: &Provenance) -> usize {
        4
    }

    async fn page(
        _: &Provenance,
        page: BatchPage,
    ) -> Result<BoxFuture<'static, Result<LoosePage, BatchError>>, BatchError> {
        let ledger = LedgerRow {
            doc_id: page.doc_id.unwrap_or_default(),
            page_num: page.page_num.unwrap_or_default(),
            page_sha256: page.text_sha256,
            outcome: Outcome::Empty,
            reason: Some("no_mentions".into()),
            spans: 0,
            ungrounded: 0,
            chunks: 1,
            attempts: 1,
            prompt_tokens: 0,
            output_tokens: 0,
            latency_ms: 0,
            run_id: page.run_id,
        };
        Ok(Box::pin(std::future::ready(Ok(LoosePage { ledger, suggestions: Vec::new() }))))
    }

    async fn plan(&self, batch: &BatchId, _: &Ask, _: Option<String>) -> Result<BatchId, BatchError> {
        if batch.as_str() == "none" {
            return Err(BatchError::NotFound("batch none has no pages".into()));
        }
        Ok(batch.clone())
    }

    fn weigh(_: &BatchId, _: u32) {}

    fn lent(_: &BatchId) -> Option<&str> {
        None
    }

    fn identity(plan: &BatchId) -> Identity {
        identity(plan.as_str())
    }

    async fn describe(
        &self,
        _: Option<Engine>,
        _: Option<String>,
        _: Option<String>,
    ) -> Result<Description, BatchError> {
        Ok(Description { provenance: identity("f").provenance, model_server: None })
    }

    async fn run(
        &self,
        plan: &BatchId,
        progress: &watch::Sender<Progress>,
        stop: Stop,
    ) -> Result<(), BatchError> {
        let before = {
            let mut runs = self.runs.lock().expect("whole");
            runs.push(plan.to_string());
            runs.iter().filter(|run| **run == plan.as_str()).count() - 1
        };
        let outcomes = BTreeMap::from([(Outcome::Suggested, 3)]);
        let done = Progress {
            parts: 2,
            parts_committed: 1,
            pages: 6,
            pages_done: 3,
            outcomes,
            ..Progress::default()
        };
        match (self.does)(plan.as_str(), before) {
            Does::Completes => {
                progress.send_replace(Progress { parts_committed: 2, ..done });
                Ok(())
            }
            Does::Hangs => {
                progress.send_replace(done);
                stop.told().await;
                Err(BatchError::Cancelled)
            }
            Does::IsDeaf => {
                progress.send_replace(done);
                std::future::pending().await
            }
            Does::IsAway => Err(BatchError::ModelServerAway("the server is away".into())),
            Does::Panics => panic!("as the test wants"),
            Does::Fails => Err(BatchError::BadData(format!("part 2 is broken{}", "; ё".repeat(5000)))),
        }
    }
}
