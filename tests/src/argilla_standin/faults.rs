//! Faults that a test plans for the next bulk upserts, one a call, in order.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers 500 after the records were stored: the search engine failed (trap 5 of the contract).
    ErrorAfterCommit,
    /// Answers 503 and stores nothing.
    Unavailable,
    /// Answers 429 with `Retry-After` in whole seconds and stores nothing.
    TooManyRequests { retry_after: u64 },
}

#[derive(Debug, Default)]
pub struct Faults(Mutex<VecDeque<Fault>>);

impl Faults {
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    pub fn next(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
