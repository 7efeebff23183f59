//! How many requests are under way, and how many start a minute.
//!
//! Ollama queues without a bound and never pushes back, so the bound is here. A permit is taken before a
//! prompt is formed and given back when it is dropped.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The right to have one request under way.
#[derive(Debug)]
pub struct Permit {
    _slot: OwnedSemaphorePermit,
}

/// Bounds concurrency always, and the rate when one is set.
#[derive(Debug, Clone)]
pub struct Limiter {
    slots: Arc<Semaphore>,
    rate: Option<Arc<DefaultDirectRateLimiter>>,
}

impl Limiter {
    pub fn new(concurrency: NonZeroU32, requests_per_minute: Option<NonZeroU32>) -> Self {
        // A burst of one: the rate is spread over the minute, not spent at its start.
        let quota = |rate| Quota::per_minute(rate).allow_burst(NonZeroU32::MIN);
        Self {
            slots: Arc::new(Semaphore::new(concurrency.get() as usize)),
            rate: requests_per_minute.map(|rate| Arc::new(RateLimiter::direct(quota(rate)))),
        }
    }

    /// Waits for a slot.
    pub async fn permit(&self) -> Permit {
        let slot = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        Permit { _slot: slot }
    }

    /// Waits until the rate allows one more request; to be called before each one sent, repeats included.
    pub async fn pace(&self) {
        if let Some(rate) = &self.rate {
            rate.until_ready().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_dropped_permit_frees_its_slot() {
        let limiter = Limiter::new(NonZeroU32::MIN, None);
        let first = limiter.permit().await;
        let blocked = tokio::time::timeout(Duration::from_millis(10), limiter.permit()).await;
        assert!(blocked.is_err());
        drop(first);
        limiter.permit().await;
    }

    #[tokio::test]
    async fn the_rate_spreads_requests() {
        let limiter = Limiter::new(NonZeroU32::MIN, Some(NonZeroU32::MIN));
        limiter.pace().await;
        let rate = limiter.rate.as_ref().expect("a rate is set");
        assert!(rate.check().is_err(), "the next one is a minute away");
    }
}
