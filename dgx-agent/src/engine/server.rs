//! What all batches of an agent share of its model server.

use std::{num::NonZeroU32, sync::Arc};

use super::alike::Alike;
use crate::{
    config::EngineConfig,
    infer::{Breaker, Controller, Limiter},
    journal::Journal,
};

/// One server: how much it takes, whether it is there, and what it answered already. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Server {
    pub(super) limiter: Limiter,
    pub(super) breaker: Arc<Breaker>,
    pub(super) journal: Option<Journal>,
    /// What is asked about now.
    pub(super) alike: Alike,
}

impl Server {
    pub fn new(config: &EngineConfig) -> Self {
        let limiter = Limiter::new(
            Controller::new(config.concurrency),
            config.requests_per_minute,
            config.tokens_per_minute,
            NonZeroU32::new(config.num_ctx).unwrap_or(NonZeroU32::MIN),
        );
        Self {
            limiter,
            breaker: Arc::new(Breaker::new(config.retry.max_retry_after)),
            journal: None,
            alike: Alike::default(),
        }
    }

    #[must_use]
    pub fn with_journal(self, journal: Journal) -> Self {
        Self { journal: Some(journal), ..self }
    }
}
