//! Whether the server is there. While it is away nobody but one prober asks it, and no page pays for that.
//!
//! One failure says little: any request may meet one. A refused connection says all, and so do several failures in a
//! row with no answer between them. A server that says when it wants to be asked again is asked no sooner by anybody.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{self, Instant};

use super::error::{Class, InferError};

/// Failures in a row, of all requests together.
const STRIKES: u32 = 6;

/// Shared by all requests to a server.
#[derive(Debug)]
pub struct Breaker {
    state: Mutex<State>,
    /// No wish of the server's to be left alone is honoured for longer.
    longest: Duration,
    /// Who holds it probes, the others wait for it. Inside: probes that failed since it opened.
    probing: tokio::sync::Mutex<u32>,
}

#[derive(Debug, Default)]
struct State {
    strikes: u32,
    open: bool,
    /// As the server asked for.
    not_before: Option<Instant>,
}

/// What a failure means for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Struck {
    /// In a row, this one included.
    pub strikes: u32,
    /// The server is away from now on.
    pub opened: bool,
    pub is_open: bool,
    /// The server wants to be left alone for a while.
    pub is_held: bool,
}

impl Breaker {
    pub fn new(longest: Duration) -> Self {
        Self { state: Mutex::default(), longest, probing: tokio::sync::Mutex::default() }
    }

    /// The server answered a request: well or not, it is there. When it wants to be asked again it may have said to
    /// another one since.
    pub fn answered(&self) {
        let mut state = self.state();
        *state = State { not_before: state.not_before, ..State::default() };
    }

    pub fn failed(&self, error: &InferError) -> Struck {
        let mut state = self.state();
        match error.class_in_batch() {
            Class::Away { retry_after } => {
                state.strikes += 1;
                let asked = retry_after.map(|asked| Instant::now() + asked.min(self.longest));
                state.not_before = state.not_before.max(asked);
            }
            Class::Transient => state.strikes += 1,
            _ => *state = State { not_before: state.not_before, ..State::default() },
        }
        let was_open = state.open;
        state.open |= state.strikes >= STRIKES || matches!(error, InferError::Unreachable { .. });
        Struck {
            strikes: state.strikes,
            opened: state.open && !was_open,
            is_open: state.open,
            is_held: state.not_before.is_some_and(|until| Instant::now() < until),
        }
    }

    /// Waits until the server wants to be asked again.
    pub async fn until_wanted(&self) {
        while let Some(until) = self.held() {
            time::sleep_until(until).await;
        }
    }

    /// Until when the server wants to be left alone.
    pub fn held(&self) -> Option<Instant> {
        let mut state = self.state();
        state.not_before = state.not_before.filter(|until| Instant::now() < *until);
        state.not_before
    }

    pub fn is_open(&self) -> bool {
        self.state().open
    }

    /// Waits until the server is there, by `probe` with pauses of `pause(failed probes)` before each. One caller probes.
    ///
    /// # Errors
    /// The probe's, when no request can succeed any more.
    pub async fn wait<F: Future<Output = Result<(), InferError>>>(
        &self,
        pause: impl Fn(u32) -> Duration,
        probe: impl Fn() -> F,
    ) -> Result<(), InferError> {
        let mut failed = self.probing.lock().await;
        while self.is_open() {
            time::sleep(pause(*failed)).await;
            self.until_wanted().await;
            match probe().await {
                Err(error) => match error.class_in_batch() {
                    Class::Away { .. } | Class::Transient => {
                        self.failed(&error);
                        *failed = failed.saturating_add(1);
                    }
                    Class::Fatal => return Err(error),
                    // It answered, though not well.
                    Class::Rejected | Class::TooLarge | Class::BadAnswer => self.answered(),
                },
                Ok(()) => self.answered(),
            }
        }
        *failed = 0;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A number and a flag: a panic leaves them sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn busy() -> InferError {
        busy_for(None)
    }

    fn busy_for(retry_after: Option<Duration>) -> InferError {
        InferError::Busy { url: String::new(), status: 503, message: String::new(), retry_after }
    }

    fn breaker() -> Breaker {
        Breaker::new(Duration::from_secs(120))
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_among_answers_does_not() {
        let breaker = breaker();
        for _ in 0..20 {
            breaker.failed(&busy());
            breaker.answered();
        }
        assert!(!breaker.is_open());
        let opened: Vec<_> = (0..STRIKES + 1).map(|_| breaker.failed(&busy()).opened).collect();
        assert_eq!(opened.iter().position(|opened| *opened), Some(STRIKES as usize - 1));
        assert!(breaker.is_open());
        breaker.failed(&InferError::NoDone);
        assert!(!breaker.is_open(), "a bad answer is one");
        let refused = InferError::Unreachable { url: String::new(), reason: String::new() };
        assert!(breaker.failed(&refused).opened);
    }

    #[tokio::test]
    async fn one_probes_for_all() {
        let breaker = breaker();
        for _ in 0..STRIKES {
            breaker.failed(&busy());
        }
        let probes = AtomicU32::new(0);
        let probe = || async {
            tokio::task::yield_now().await;
            if probes.fetch_add(1, Ordering::Relaxed) < 2 { Err(busy()) } else { Ok(()) }
        };
        let wait = || breaker.wait(|_| Duration::ZERO, probe);
        let (a, b, c) = tokio::join!(wait(), wait(), wait());
        assert_eq!((a, b, c), (Ok(()), Ok(()), Ok(())));
        assert_eq!(probes.load(Ordering::Relaxed), 3);
        for _ in 0..STRIKES {
            breaker.failed(&busy());
        }
        let gone = || async { Err(InferError::ModelMissing { model: "m".into() }) };
        assert!(breaker.wait(|_| Duration::ZERO, gone).await.is_err());
    }

    #[tokio::test]
    async fn who_wants_to_be_left_alone_is_asked_no_sooner_by_anybody() {
        let breaker = breaker();
        let begun = Instant::now();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let held = || breaker.held().map(|until| (until - begun).as_secs());
        assert!(!breaker.failed(&busy()).is_held && held().is_none());
        assert!(breaker.failed(&busy_for(seconds(30))).is_held);
        // Neither does a shorter wish shorten it, nor an answer to another request.
        breaker.failed(&busy_for(seconds(1)));
        breaker.answered();
        assert!((30..120).contains(&held().expect("held")));
        breaker.failed(&busy_for(seconds(86_400)));
        assert!((120..86_400).contains(&held().expect("held")), "within reason");
    }

    #[tokio::test]
    async fn probes_keep_to_it_too() {
        let breaker = breaker();
        let wish = || busy_for(Some(Duration::from_millis(20)));
        breaker.failed(&wish());
        breaker.failed(&InferError::Unreachable { url: String::new(), reason: String::new() });
        let probes = AtomicU32::new(0);
        let probe = || async {
            assert_eq!(breaker.held(), None);
            if probes.fetch_add(1, Ordering::Relaxed) < 2 { Err(wish()) } else { Ok(()) }
        };
        assert_eq!(breaker.wait(|_| Duration::ZERO, probe).await, Ok(()));
        assert_eq!(probes.load(Ordering::Relaxed), 3);
    }
}
