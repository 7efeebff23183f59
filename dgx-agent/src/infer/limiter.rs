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
use tokio::sync::oneshot;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{
    controller::{Controller, Move, Sample},
    lanes::{Charge, LaneId, Lanes},
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
    state: Mutex<State>,
    requests: Option<DefaultDirectRateLimiter>,
    /// With the most that one request may take of it.
    tokens: Option<(DefaultDirectRateLimiter, NonZeroU32)>,
}

#[derive(Debug)]
struct State {
    controller: Controller,
    in_flight: u32,
    lanes: Lanes<oneshot::Sender<Permit>>,
}

/// Somebody's claim on slots, in proportion to its weight among all who wait for one.
#[derive(Debug)]
pub struct Lane {
    inner: Arc<Inner>,
    id: LaneId,
    under_way: TaskTracker,
}

/// A request that a drain waits for, until it is dropped.
pub type UnderWay = TaskTrackerToken;

/// The right to have one request under way, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Inner>,
    charge: Charge,
    sent: std::time::Duration,
    in_flight: u32,
}

impl Limiter {
    /// `tokens_of_a_request`: the most that one may take.
    pub fn new(
        controller: Controller,
        requests_per_minute: Option<NonZeroU32>,
        tokens_per_minute: Option<NonZeroU32>,
        tokens_of_a_request: NonZeroU32,
    ) -> Self {
        // A burst of one request: the rate is spread over the minute, not spent at its start.
        let requests = requests_per_minute
            .map(|rate| RateLimiter::direct(Quota::per_minute(rate).allow_burst(NonZeroU32::MIN)));
        let tokens = tokens_per_minute.map(|rate| {
            let most = rate.min(tokens_of_a_request);
            (RateLimiter::direct(Quota::per_minute(rate).allow_burst(most)), most)
        });
        let state = Mutex::new(State { controller, in_flight: 0, lanes: Lanes::default() });
        Self { inner: Arc::new(Inner { begun: Instant::now(), state, requests, tokens }) }
    }

    pub fn lane(&self, weight: u32) -> Lane {
        let id = self.inner.state().lanes.add(weight);
        Lane { inner: self.inner.clone(), id, under_way: TaskTracker::new() }
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

impl Lane {
    /// Waits for a slot and its turn.
    pub async fn permit(&self) -> (Permit, UnderWay) {
        let (give, given) = oneshot::channel();
        self.inner.change(|state| state.lanes.wait(self.id, give));
        match given.await {
            Ok(permit) => (permit, self.under_way.token()),
            // Only when the lane is gone, and it is here.
            Err(_) => std::future::pending().await,
        }
    }

    pub fn weigh(&self, weight: u32) {
        self.inner.state().lanes.weigh(self.id, weight);
    }

    /// Takes no slot any more, and waits until what is under way is done.
    pub async fn drain(&self) {
        self.inner.state().lanes.hold(self.id);
        self.under_way.close();
        self.under_way.wait().await;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.inner.state().lanes.remove(self.id);
    }
}

impl Permit {
    /// Waits until the rates allow one more request of so many tokens, as far as can be told; for each one sent, repeats
    /// included. Whose turn it is was decided before: so weights hold under a rate, too.
    pub async fn pace(&mut self, tokens: usize) {
        let Inner { requests, tokens: rate, .. } = &*self.inner;
        if let Some(requests) = requests {
            requests.until_ready().await;
        }
        if let Some((limiter, most)) = rate {
            let tokens = u32::try_from(tokens).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
            // It never fails: no more than the burst is asked for.
            let _ = limiter.until_n_ready(tokens.min(*most)).await;
        }
        if requests.is_some() || rate.is_some() {
            self.sent = self.inner.begun.elapsed();
        }
    }

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
        let held = self.inner.begun.elapsed().saturating_sub(self.sent);
        self.inner.change(|state| {
            state.in_flight = state.in_flight.saturating_sub(1);
            state.lanes.back(self.charge, held.as_secs_f64());
        });
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Numbers and queues: a panic leaves them sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how things stand, and gives the slots that are free then.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut given = Vec::new();
        let mut state = self.state();
        let changed = change(&mut state);
        while state.in_flight < state.controller.limit() {
            let Some((charge, who)) = state.lanes.next(|who| !who.is_closed()) else { break };
            state.in_flight += 1;
            let permit = Permit {
                inner: self.clone(),
                charge,
                sent: self.begun.elapsed(),
                in_flight: state.in_flight,
            };
            given.push((who, permit));
        }
        drop(state);
        for (who, permit) in given {
            // Who went in the meantime leaves it to others, by dropping it.
            let _ = who.send(permit);
        }
        changed
    }

    fn moved(self: &Arc<Self>, change: impl FnOnce(&mut Controller) -> Option<Move>) -> Option<Move> {
        let moved = self.change(|state| change(&mut state.controller))?;
        tracing::debug!(limit = moved.limit, reason = %moved.reason, "requests in flight");
        Some(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limiter(controller: Controller) -> Limiter {
        Limiter::new(controller, None, None, NonZeroU32::MIN)
    }

    fn in_flight(limiter: &Limiter) -> u32 {
        limiter.inner.state().in_flight
    }

    #[tokio::test]
    async fn a_dropped_permit_frees_its_slot() {
        let limiter = limiter(Controller::fixed(1));
        let lane = limiter.lane(1);
        let first = lane.permit().await;
        let second = lane.permit();
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await);
        assert_eq!(in_flight(&limiter), 0);
    }

    #[tokio::test]
    async fn a_slot_goes_past_those_who_do_not_wait_any_more() {
        let limiter = limiter(Controller::fixed(1));
        let lane = limiter.lane(1);
        let first = lane.permit().await;
        {
            let gone = lane.permit();
            tokio::pin!(gone);
            assert!(futures::poll!(&mut gone).is_pending());
        }
        let third = lane.permit();
        tokio::pin!(third);
        assert!(futures::poll!(&mut third).is_pending());
        drop(first);
        drop(third.await);
    }

    #[tokio::test]
    async fn slots_follow_the_controller_up_and_down() {
        let limiter = limiter(Controller::auto(64));
        let lane = limiter.lane(1);
        let (first, _) = lane.permit().await;
        let moved = first.answered(&Completion::default()).expect("the first answer moves it");
        assert_eq!(moved.limit, 4);
        let mut permits = Vec::new();
        for _ in 0..4 {
            permits.push(lane.permit().await.0);
        }
        let fifth = lane.permit();
        tokio::pin!(fifth);
        assert!(futures::poll!(&mut fifth).is_pending());
        let moved = permits.pop().expect("four").turned_off().expect("fewer");
        assert_eq!((moved.limit, limiter.now()), (2, moved));
        drop(permits.pop());
        assert!(futures::poll!(&mut fifth).is_pending(), "two are under way, and two may be");
        drop(permits.pop());
        drop(fifth.await);
    }

    #[tokio::test]
    async fn a_drain_waits_for_what_is_under_way_and_begins_nothing() {
        let limiter = limiter(Controller::fixed(4));
        let (lane, other) = (limiter.lane(1), limiter.lane(1));
        let (permit, under_way) = lane.permit().await;
        let drained = lane.drain();
        tokio::pin!(drained);
        assert!(futures::poll!(&mut drained).is_pending());
        let late = lane.permit();
        tokio::pin!(late);
        assert!(futures::poll!(&mut late).is_pending(), "there is a slot, and it is not for this lane");
        drop(other.permit().await);
        drop(permit);
        assert!(futures::poll!(&mut drained).is_pending(), "its answer is not yet kept");
        drop(under_way);
        drained.await;
    }

    #[tokio::test]
    async fn the_rates_spread_requests_and_tokens() {
        let number = |number| NonZeroU32::new(number).expect("not zero");
        let limiter =
            Limiter::new(Controller::fixed(1), Some(NonZeroU32::MIN), Some(number(100)), number(8192));
        let lane = limiter.lane(1);
        let (mut permit, _) = lane.permit().await;
        // More tokens than a minute has: it takes the whole minute, and not for ever.
        tokio::time::timeout(Duration::from_secs(30), permit.pace(1000)).await.expect("at once");
        assert!(
            limiter.inner.requests.as_ref().expect("set").check().is_err(),
            "the next one is a minute away"
        );
        assert!(limiter.inner.tokens.as_ref().expect("set").0.check().is_err());
        let spread = Limiter::new(Controller::fixed(1), None, Some(number(60_000)), number(1000));
        let (tokens, most) = spread.inner.tokens.as_ref().expect("set");
        assert!(tokens.check_n(*most).expect("no more than a burst").is_ok());
        assert!(tokens.check_n(*most).expect("no more than a burst").is_err(), "not the minute at its start");
    }
}
