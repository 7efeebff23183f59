//! The time of day, for people and provenance: the only place that reads it.
//!
//! Constraint: nothing waits by it, is ordered by it or compares it. Pauses, time-outs and durations are of
//! `tokio::time` and `std::time::Instant`, which no jump of the clock moves; parts go by their numbers, jobs by their
//! turns. `clippy.toml` forbids the other ways to it.

use chrono::{DateTime, Utc};

pub fn now() -> DateTime<Utc> {
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    Utc::now()
}
