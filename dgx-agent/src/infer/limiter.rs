//! How many requests are under way, and how many requests and tokens start a minute.
//!
//! Ollama queues without a bound and never pushes back, so the bound is here, and the controller moves it. A permit is
//! held while a request is at the server and no longer: neither pauses nor the work on an answer take one.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;

use super::{
    controller::{Controller, Move, Sample},
    transport::Completion,
};

/// Bounds concurrency always, and the rates when they are set. Cloning shares the bounds.
#[derive(Debug, Clone)]
pub struct Limiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    begun: Instant,
    slots: Semaphore,
    state: Mutex<State>,
    requests: Option<DefaultDirectRateLimiter>,
    /// With the most that one request may take of it.
    tokens: Option<(DefaultDirectRateLimiter, NonZeroU32)>,
}

#[derive(Debug)]
struct State {
    controller: Controller,
    in_flight: u32,
    /// Slots to be taken away as they come back.
    debt: usize,
}

/// The right to have one request under way, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Inner>,
    sent: std::time::Duration,
    in_flight: u32,
}

impl Limiter {
    pub fn new(
        controller: Controller,
        requests_per_minute: Option<NonZeroU32>,
        tokens_per_minute: Option<NonZeroU32>,
    ) -> Self {
        let slots = Semaphore::new(controller.limit() as usize);
        // A burst of one: the rate is spread over the minute, not spent at its start.
        let requests = requests_per_minute
            .map(|rate| RateLimiter::direct(Quota::per_minute(rate).allow_burst(NonZeroU32::MIN)));
        let tokens = tokens_per_minute.map(|rate| (RateLimiter::direct(Quota::per_minute(rate)), rate));
        let state = Mutex::new(State { controller, in_flight: 0, debt: 0 });
        Self { inner: Arc::new(Inner { begun: Instant::now(), slots, state, requests, tokens }) }
    }

    /// Waits until the rates allow one more request of so many tokens, as far as can be told; to be called before each
    /// one sent, repeats included.
    pub async fn pace(&self, tokens: usize) {
        if let Some(requests) = &self.inner.requests {
            requests.until_ready().await;
        }
        if let Some((limiter, most)) = &self.inner.tokens {
            let tokens = u32::try_from(tokens).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
            // It never fails: no more than the burst is asked for.
            let _ = limiter.until_n_ready(tokens.min(*most)).await;
        }
    }

    /// Waits for a slot.
    pub async fn permit(&self) -> Permit {
        // It is given back by the permit, or kept to pay the debt.
        self.inner.slots.acquire().await.expect("the semaphore is never closed").forget();
        let mut state = self.inner.state();
        state.in_flight += 1;
        let in_flight = state.in_flight;
        drop(state);
        Permit { sent: self.inner.begun.elapsed(), in_flight, inner: self.inner.clone() }
    }

    /// The limit now, and why.
    pub fn now(&self) -> Move {
        let state = self.inner.state();
        Move { limit: state.controller.limit(), reason: state.controller.reason() }
    }

    /// The highest limit that it may come to.
    pub fn cap(&self) -> u32 {
        self.inner.state().controller.cap()
    }
}

impl Permit {
    /// The request was answered; a move of the limit, if that makes one.
    pub fn answered(self, completion: &Completion) -> Option<Move> {
        let sample = Sample {
            sent: self.sent,
            answered: self.inner.begun.elapsed(),
            in_flight: self.in_flight,
            timing: completion.timing,
            tokens: completion.output_tokens.unwrap_or(0),
        };
        self.inner.moved(|controller| controller.answered(&sample))
    }

    /// The server turned the request off.
    pub fn turned_off(self) -> Option<Move> {
        let now = self.inner.begun.elapsed();
        self.inner.moved(|controller| controller.turned_off(now))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        match state.debt {
            0 => self.inner.slots.add_permits(1),
            _ => state.debt -= 1,
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Numbers alone: a panic leaves them sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self, change: impl FnOnce(&mut Controller) -> Option<Move>) -> Option<Move> {
        let mut state = self.state();
        let before = state.controller.limit() as usize;
        let moved = change(&mut state.controller)?;
        let now = moved.limit as usize;
        if now > before {
            let paid = state.debt.min(now - before);
            state.debt -= paid;
            self.slots.add_permits(now - before - paid);
        } else {
            state.debt += before - now - self.slots.forget_permits(before - now);
        }
        drop(state);
        tracing::debug!(limit = moved.limit, reason = %moved.reason, "requests in flight");
        Some(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limiter(controller: Controller) -> Limiter {
        Limiter::new(controller, None, None)
    }

    #[tokio::test]
    async fn a_dropped_permit_frees_its_slot() {
        let limiter = limiter(Controller::fixed(1));
        let first = limiter.permit().await;
        assert_eq!(limiter.inner.slots.available_permits(), 0);
        drop(first);
        limiter.permit().await;
    }

    #[tokio::test]
    async fn slots_follow_the_controller_up_and_down() {
        let limiter = limiter(Controller::auto(64));
        let moved =
            limiter.permit().await.answered(&Completion::default()).expect("the first answer moves it");
        assert_eq!(moved.limit, 4);
        let mut permits = Vec::new();
        for _ in 0..4 {
            permits.push(limiter.permit().await);
        }
        assert_eq!(limiter.inner.slots.available_permits(), 0);
        let moved = permits.pop().expect("four").turned_off().expect("fewer");
        assert_eq!((moved.limit, limiter.now()), (2, moved));
        drop(permits.pop());
        assert_eq!(limiter.inner.slots.available_permits(), 0, "two are under way, and two may be");
        drop(permits.pop());
        assert_eq!(limiter.inner.slots.available_permits(), 1);
    }

    #[tokio::test]
    async fn the_rates_spread_requests_and_tokens() {
        let limiter = Limiter::new(Controller::fixed(1), Some(NonZeroU32::MIN), NonZeroU32::new(100));
        // More tokens than a minute has: it takes the whole minute, and not for ever.
        tokio::time::timeout(Duration::from_secs(30), limiter.pace(1000)).await.expect("at once");
        assert!(
            limiter.inner.requests.as_ref().expect("set").check().is_err(),
            "the next one is a minute away"
        );
        assert!(limiter.inner.tokens.as_ref().expect("set").0.check().is_err());
    }
}
