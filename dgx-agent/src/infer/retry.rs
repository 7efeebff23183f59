//! How often and when a failed request is repeated. What failed is `error`'s business.
//!
//! Full jitter (a uniform pause between zero and an exponential bound), so that requests that failed together
//! do not come back together. A server that is away for all is the breaker's business and costs a page no try; one that
//! turns off this request alone, again and again, fails it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::error::{Class, InferError};

/// Bounds of the pauses and tries of one request.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Bound of the first pause; each further one doubles it.
    pub base: Duration,
    /// Bound of every pause. A longer `Retry-After` is honoured up to `max_retry_after`.
    pub cap: Duration,
    pub max_retry_after: Duration,
    /// Tries of a request that meets transient failures, the first included.
    pub max_tries: u32,
    /// Tries of a request that gets bad answers, the first included.
    pub max_answers: u32,
    /// Times that a request is turned off while the server is there.
    pub max_away: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(250),
            cap: Duration::from_secs(5),
            max_retry_after: Duration::from_secs(120),
            max_tries: 5,
            max_answers: 2,
            max_away: 10,
        }
    }
}

/// What a batch may spend on trying again: half of what it asks, and some for small batches. A server that fails on
/// everything is not asked many times what it should be.
#[derive(Debug, Default)]
pub struct RetryBudget {
    asked: AtomicU64,
    spent: AtomicU64,
}

/// Of every batch.
const RETRIES_OF_ALL: u64 = 100;

impl RetryBudget {
    /// A piece is asked about for the first time.
    pub fn asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one retry; false when there is none left.
    pub fn take(&self) -> bool {
        let most = RETRIES_OF_ALL + self.asked.load(Ordering::Relaxed) / 2;
        let one_more = |spent| (spent < most).then_some(spent + 1);
        self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }
}

/// What a request has been through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// Requests sent, whatever came of them.
    pub sent: u32,
    transient: u32,
    bad_answers: u32,
    away: u32,
    forgiven: u32,
    late: u32,
}

/// Outages that a request may outlast without a loss.
const MAX_FORGIVEN: u32 = 3;

impl Tries {
    /// The server was away: what it failed on before is not counted. Not for ever: this request may be what it dies of.
    pub fn forgive(&mut self) {
        if self.forgiven < MAX_FORGIVEN {
            self.forgiven += 1;
            (self.transient, self.away) = (0, 0);
        }
    }

    /// It was given up before it was answered: each time it may take twice as long, for the server may be slower than
    /// it was.
    pub fn late(&mut self) {
        self.late += 1;
    }

    /// How long it may take where another may take `first`.
    pub fn patience(&self, first: Duration, most: Duration) -> Duration {
        first.saturating_mul(1 << self.late.min(16)).min(most)
    }

    /// Bad answers so far: the caller's seed for the next request.
    pub fn bad_answers(&self) -> u32 {
        self.bad_answers
    }
}

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    GiveUp,
    RetryAfter(Duration),
}

impl RetryPolicy {
    /// Counts `error` in `tries` and decides. `random` gives a number in `0.0..1.0`.
    pub fn decide(&self, error: &InferError, tries: &mut Tries, random: impl FnOnce() -> f64) -> Decision {
        match error.class_in_batch() {
            Class::Fatal | Class::Rejected | Class::TooLarge => Decision::GiveUp,
            Class::BadAnswer => {
                tries.bad_answers += 1;
                if tries.bad_answers >= self.max_answers {
                    return Decision::GiveUp;
                }
                Decision::RetryAfter(Duration::ZERO)
            }
            Class::Transient => {
                tries.transient += 1;
                if tries.transient >= self.max_tries {
                    return Decision::GiveUp;
                }
                Decision::RetryAfter(self.pause(tries.transient, random()))
            }
            Class::Away { retry_after } => {
                // Nobody was there to turn it off.
                tries.away += u32::from(!matches!(error, InferError::Unreachable { .. }));
                if tries.away >= self.max_away {
                    return Decision::GiveUp;
                }
                let pause = self.pause(tries.away.max(1), random());
                Decision::RetryAfter(
                    retry_after.map_or(pause, |asked| pause + asked.min(self.max_retry_after)),
                )
            }
        }
    }

    /// Before a probe of a server that is away, after so many that failed.
    pub fn probe_pause(&self, failed: u32, random: f64) -> Duration {
        self.pause(failed + 1, random)
    }

    fn pause(&self, failures: u32, random: f64) -> Duration {
        let doubled = self.base.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.cap).mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(error: &InferError, tries: &mut Tries) -> Decision {
        RetryPolicy::default().decide(error, tries, || 1.0)
    }

    #[test]
    fn transient_failures_back_off_and_end() {
        let error = InferError::MidStream { message: String::new() };
        let mut tries = Tries::default();
        let pauses: Vec<_> = (0..5).map(|_| decide(&error, &mut tries)).collect();
        let ms = |ms| Decision::RetryAfter(Duration::from_millis(ms));
        assert_eq!(pauses, [ms(250), ms(500), ms(1000), ms(2000), Decision::GiveUp]);
    }

    #[test]
    fn pauses_lie_anywhere_below_their_bound() {
        let error = InferError::Server { status: 500, message: String::new() };
        for random in [0.0, 0.25, 0.999] {
            let mut tries = Tries { transient: 2, ..Tries::default() };
            let pause = RetryPolicy::default().decide(&error, &mut tries, || random);
            assert_eq!(pause, Decision::RetryAfter(Duration::from_secs(1).mul_f64(random)), "full jitter");
        }
        let policy = RetryPolicy::default();
        assert_eq!(policy.probe_pause(60, 1.0), policy.cap);
    }

    #[test]
    fn a_server_that_is_away_never_costs_the_page() {
        let error = InferError::Unreachable { url: String::new(), reason: String::new() };
        let mut tries = Tries::default();
        for _ in 0..100 {
            assert_ne!(decide(&error, &mut tries), Decision::GiveUp);
        }
    }

    #[test]
    fn a_request_that_is_turned_off_again_and_again_fails_alone() {
        let busy =
            InferError::Busy { url: String::new(), status: 503, message: String::new(), retry_after: None };
        let mut tries = Tries::default();
        let tried = (0..).take_while(|_| decide(&busy, &mut tries) != Decision::GiveUp).count();
        assert_eq!(tried, 9);
    }

    #[test]
    fn the_budget_grows_with_the_batch_and_has_an_end() {
        let budget = RetryBudget::default();
        (0..50).for_each(|_| budget.asked());
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 125);
        (0..50).for_each(|_| budget.asked());
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 25, "what was refused was not spent");
    }

    #[test]
    fn retry_after_is_honoured_within_reason() {
        let busy = |seconds| InferError::Busy {
            url: String::new(),
            status: 429,
            message: String::new(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let policy = RetryPolicy::default();
        let pause = |seconds| policy.decide(&busy(seconds), &mut Tries::default(), || 0.0);
        assert_eq!(pause(7), Decision::RetryAfter(Duration::from_secs(7)));
        assert_eq!(pause(86_400), Decision::RetryAfter(Duration::from_secs(120)));
    }

    #[test]
    fn who_was_given_up_may_take_twice_as_long() {
        let (first, most) = (Duration::from_secs(10), Duration::from_secs(600));
        let mut tries = Tries::default();
        let patience = (0..8).map(|_| {
            let patience = tries.patience(first, most);
            tries.late();
            tries.forgive();
            patience.as_secs()
        });
        assert_eq!(patience.collect::<Vec<_>>(), [10, 20, 40, 80, 160, 320, 600, 600]);
    }

    #[test]
    fn what_cannot_succeed_is_not_repeated() {
        for error in [
            InferError::ModelMissing { model: String::new() },
            InferError::Rejected { status: 400, message: String::new() },
            InferError::AnswerCut { partial: Default::default() },
        ] {
            assert_eq!(decide(&error, &mut Tries::default()), Decision::GiveUp);
        }
    }
}
