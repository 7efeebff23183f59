//! What the simulator saw: `GET /sim/stats`, the same structs for who asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{plan::Fault, slots::Nanos};

/// Answers of which each is kept: enough for every measurement, and a bound.
const SAMPLES: usize = 200_000;

/// How things stood at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Since the simulator began, as all times here.
    pub at_ns: Nanos,
    /// Slot time used, and slot time that there was.
    pub busy_ns: u64,
    pub offered_ns: u64,
    pub requests: u64,
    pub answers: u64,
    /// Of the answers.
    pub tokens: u64,
}

impl Moment {
    /// Share of the slot time used from an earlier moment to this one.
    pub fn busy_since(&self, before: &Self) -> f64 {
        (self.busy_ns - before.busy_ns) as f64 / (self.offered_ns - before.offered_ns).max(1) as f64
    }

    /// Slot time unused from an earlier moment to this one, in seconds, summed over the slots.
    pub fn idle_since(&self, before: &Self) -> f64 {
        ((self.offered_ns - before.offered_ns) - (self.busy_ns - before.busy_ns)) as f64 / 1e9
    }
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub at_ns: Nanos,
    /// Requests there, this one included.
    pub in_flight: u32,
    pub slots: u32,
}

/// What was asked about one piece of page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// With `?pages`, and only where faults are planned.
    pub text: String,
    /// Of each request, in order; none: it was answered well.
    pub faults: Vec<Option<Fault>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stats {
    pub now: Moment,
    pub first_request: Option<Moment>,
    pub last_answer: Option<Moment>,
    /// `POST /sim/mark/NAME`.
    pub marks: BTreeMap<String, Moment>,
    pub in_flight: u32,
    pub max_in_flight: u32,
    /// Requests whose caller went before the answer ended, and when the last one did.
    pub disconnects: u64,
    pub last_disconnect_ns: Option<Nanos>,
    pub faults: BTreeMap<Fault, u64>,
    /// With `?samples`.
    pub samples: Vec<Sample>,
    /// With `?pages`.
    pub pages: Vec<Asked>,
}

impl Stats {
    pub(super) fn request(&mut self) {
        self.now.requests += 1;
        self.in_flight += 1;
        self.max_in_flight = self.max_in_flight.max(self.in_flight);
    }

    pub(super) fn answer(&mut self, at_ns: Nanos, slots: u32, tokens: u64) {
        if self.samples.len() < SAMPLES {
            self.samples.push(Sample { at_ns, in_flight: self.in_flight, slots });
        }
        self.in_flight -= 1;
        self.now.answers += 1;
        self.now.tokens += tokens;
    }

    pub(super) fn disconnect(&mut self, at: Nanos) {
        self.in_flight -= 1;
        self.disconnects += 1;
        self.last_disconnect_ns = Some(at);
    }

    /// Most in flight at any answer after the first `answers`.
    pub fn max_in_flight_after(&self, answers: usize) -> u32 {
        self.samples.iter().skip(answers).map(|sample| sample.in_flight).max().unwrap_or(0)
    }
}
