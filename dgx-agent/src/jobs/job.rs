//! A job and the states it goes through. Pure: the clock and the store are elsewhere.
//!
//! ```text
//! QUEUED ── start ──► RUNNING ── complete ──► COMPLETE
//!  ▲  │                 │  │
//!  │  │                 │  └── fail ──► FAILED ──────┐
//!  │  ├──── cancel ─────┼────────────► CANCELLED ────┤
//!  │  └──── pause ──────┴─► PAUSED ──────▲ │         │
//!  ├──────── resume ───────────┴── cancel ─┘         │
//!  └────────────────────── retry ────────────────────┘
//! ```
//! A daemon that drains or dies changes no state: RUNNING on disk means that the job goes on at the next start.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Utc};
use proto::{
    docs::{Counts, Provenance},
    ids::BatchId,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    Queued,
    Running,
    /// Until somebody resumes it.
    Paused,
    Complete,
    Failed,
    Cancelled,
}

impl JobState {
    /// Nothing more happens to it by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Complete | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}

/// What the client asked for; silent where the batch's or the agent's own choice holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub root: String,
    pub engine: Option<String>,
    pub model: Option<String>,
}

/// What the batch is: known once it could be planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Of pages, labelset, prompt, model digest and options.
    pub fingerprint: String,
    pub provenance: Provenance,
}

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    pub parts: u32,
    pub parts_committed: u32,
    pub pages: u64,
    /// Of pages with an outcome, committed or not yet.
    pub counts: Counts,
    /// Requests at the model server now.
    pub in_flight: u32,
    pub waiting: Option<Waiting>,
    #[serde(default)]
    pub model: ModelUse,
}

/// How the model server is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelUse {
    /// Requests that may be there at once; 0 without a model server.
    pub limit: u32,
    pub limit_reason: String,
    pub requests: u64,
    pub retries: u64,
    /// Mentions saved from answers that were cut or broken.
    pub salvaged: u64,
    /// Of the model in the server's memory, in bytes, and of that on a GPU; 0: not known.
    pub size_bytes: u64,
    pub size_vram_bytes: u64,
    /// How often answers had to be mended, by what was wrong with them.
    pub repairs: BTreeMap<String, u64>,
    /// Answers that were in the journal.
    #[serde(default)]
    pub replayed: u64,
    /// Why answers are not kept in the journal; empty while they are.
    #[serde(default)]
    pub journal_off: String,
}

/// Why nothing moves for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub since: DateTime<Utc>,
    pub reason: String,
}

/// A batch that was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub batch: BatchId,
    /// Counts up with each submission.
    pub number: u64,
    /// The place in the queue: that of the submission, or of the last retry.
    pub turn: u64,
    /// Its claim on the model server, among all that run; of those that wait the heaviest goes first.
    #[serde(default = "default_weight")]
    pub weight: u32,
    pub ask: Ask,
    pub identity: Option<Identity>,
    pub state: JobState,
    /// Why it failed or was cancelled.
    pub reason: Option<String>,
    pub progress: JobProgress,
    pub submitted_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// What a client may ask for.
pub const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=100;

fn default_weight() -> u32 {
    crate::engine::DEFAULT_WEIGHT
}

/// What happens to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Start,
    /// The batch could be planned.
    Identified(Identity),
    Complete,
    Fail(String),
    Cancel(String),
    Pause,
    Resume,
    Weigh(u32),
    /// With its new place in the queue.
    Retry(u64),
}

/// An event that the job's state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("batch {batch} is {state}: {hint}")]
pub struct Refused {
    pub batch: BatchId,
    pub state: JobState,
    pub hint: &'static str,
}

impl Job {
    pub fn new(
        batch: BatchId,
        number: u64,
        ask: Ask,
        identity: Option<Identity>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            batch,
            number,
            turn: number,
            weight: default_weight(),
            ask,
            identity,
            state: JobState::Queued,
            reason: None,
            progress: JobProgress::default(),
            submitted_at: now,
            started_at: None,
            finished_at: None,
        }
    }

    /// Applies an event; false when it changes nothing.
    pub fn apply(&mut self, event: Event, now: DateTime<Utc>) -> Result<bool, Refused> {
        use JobState::{Cancelled, Complete, Failed, Paused, Queued, Running};
        match (self.state, event) {
            (Queued, Event::Start) => {
                self.state = Running;
                self.started_at.get_or_insert(now);
            }
            (Queued | Running, Event::Identified(identity)) => {
                if self.identity.as_ref() == Some(&identity) {
                    return Ok(false);
                }
                self.identity = Some(identity);
            }
            (Running, Event::Complete) => self.finish(Complete, None, now),
            (Running, Event::Fail(reason)) => self.finish(Failed, Some(reason), now),
            (Queued | Running, Event::Pause) => {
                self.state = Paused;
                self.progress.in_flight = 0;
                self.progress.waiting = None;
            }
            (Paused, Event::Resume) => self.state = Queued,
            (Queued | Running | Paused, Event::Weigh(weight)) => {
                if self.weight == weight {
                    return Ok(false);
                }
                self.weight = weight;
            }
            (Queued | Running | Paused, Event::Cancel(reason)) => self.finish(Cancelled, Some(reason), now),
            (Failed | Cancelled, Event::Retry(turn)) => {
                self.state = Queued;
                self.turn = turn;
                self.reason = None;
                self.finished_at = None;
                // Without a commit nothing holds it to what it was when it was submitted.
                if self.progress.parts_committed == 0 {
                    self.identity = None;
                }
            }
            (Running, Event::Start)
            | (Cancelled, Event::Cancel(_))
            | (Paused, Event::Pause)
            | (Queued | Running, Event::Retry(_) | Event::Resume) => return Ok(false),
            (Paused, Event::Retry(_)) => return Err(self.refuse("resume it")),
            (Complete, Event::Pause | Event::Resume | Event::Weigh(_)) => {
                return Err(self.refuse("there is nothing left to do"));
            }
            (Failed | Cancelled, Event::Pause | Event::Resume | Event::Weigh(_)) => {
                return Err(self.refuse("retry it"));
            }
            (Complete, Event::Retry(_)) => {
                return Err(self.refuse(
                    "it is not run again; for pages that failed make a child batch with `control batch create \
                     --parent`",
                ));
            }
            (Complete | Failed, Event::Cancel(_)) => return Err(self.refuse("there is nothing to cancel")),
            (Queued, Event::Complete | Event::Fail(_))
            | (Paused | Complete | Failed | Cancelled, Event::Start | Event::Identified(_))
            | (Paused | Complete | Failed | Cancelled, Event::Complete | Event::Fail(_)) => {
                return Err(self.refuse("it is not being run"));
            }
        }
        Ok(true)
    }

    fn finish(&mut self, state: JobState, reason: Option<String>, now: DateTime<Utc>) {
        self.state = state;
        self.reason = reason;
        self.finished_at = Some(now);
        self.progress.in_flight = 0;
        self.progress.waiting = None;
    }

    fn refuse(&self, hint: &'static str) -> Refused {
        Refused { batch: self.batch.clone(), state: self.state, hint }
    }

    /// Takes over how far the run is; false when the job is not being run (it was cancelled a moment ago).
    pub fn advance(&mut self, progress: JobProgress) -> bool {
        let running = self.state == JobState::Running;
        if running {
            self.progress = progress;
        }
        running
    }

    /// What differs between this job and a new submission of the same batch; empty: they are the same. What one
    /// of them does not know is not compared.
    pub fn differs(&self, ask: &Ask, identity: Option<&Identity>) -> Vec<&'static str> {
        let mut differs = Vec::new();
        if self.ask.root != ask.root {
            differs.push("the root");
        }
        let (Some(mine), Some(theirs)) = (&self.identity, identity) else {
            let other = |mine: &Option<String>, theirs: &Option<String>| {
                mine.is_some() && theirs.is_some() && mine != theirs
            };
            if other(&self.ask.engine, &ask.engine) {
                differs.push("the engine");
            }
            if other(&self.ask.model, &ask.model) {
                differs.push("the model");
            }
            return differs;
        };
        if mine.fingerprint == theirs.fingerprint {
            return differs;
        }
        let (mine, theirs) = (&mine.provenance, &theirs.provenance);
        let parts = [
            ("the engine", mine.engine != theirs.engine),
            ("the model", mine.model != theirs.model),
            ("the model's digest", mine.model_digest != theirs.model_digest),
            ("the labelset", mine.labelset_sha256 != theirs.labelset_sha256),
            ("the prompt", mine.prompt_sha256 != theirs.prompt_sha256),
            ("the options", mine.options != theirs.options),
        ];
        let before = differs.len();
        differs.extend(parts.into_iter().filter(|(_, other)| *other).map(|(name, _)| name));
        if differs.len() == before {
            differs.push("the pages");
        }
        differs
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).expect("a time")
    }

    fn ask() -> Ask {
        Ask { root: "/data".into(), engine: None, model: None }
    }

    fn identity(fingerprint: &str) -> Identity {
        let provenance = Provenance {
            engine: "rules".into(),
            model: "rules".into(),
            model_digest: "d".into(),
            prompt_sha256: "p".into(),
            labelset_sha256: "l".into(),
            options: std::collections::BTreeMap::new(),
            agent_version: "0".into(),
        };
        Identity { fingerprint: fingerprint.into(), provenance }
    }

    fn job() -> Job {
        Job::new("b-1".parse().expect("an id"), 1, ask(), None, at(0))
    }

    #[test]
    fn a_job_runs_to_its_end() {
        let mut job = job();
        assert_eq!(job.apply(Event::Start, at(1)), Ok(true));
        assert_eq!(job.apply(Event::Start, at(2)), Ok(false), "a restart finds it running");
        assert_eq!(job.apply(Event::Identified(identity("f")), at(2)), Ok(true));
        assert_eq!(job.apply(Event::Complete, at(3)), Ok(true));
        assert_eq!((job.started_at, job.finished_at), (Some(at(1)), Some(at(3))));
        let error = job.apply(Event::Cancel("x".into()), at(4)).expect_err("complete").to_string();
        assert_eq!(error, "batch b-1 is complete: there is nothing to cancel");
        assert!(job.apply(Event::Retry(9), at(4)).expect_err("complete").to_string().contains("--parent"));
    }

    #[test]
    fn cancel_wins_over_the_run_and_retry_queues_it_at_the_end() {
        let mut job = job();
        assert_eq!(job.apply(Event::Start, at(1)), Ok(true));
        assert!(job.advance(JobProgress { parts_committed: 1, in_flight: 3, ..JobProgress::default() }));
        assert_eq!(job.apply(Event::Identified(identity("f")), at(1)), Ok(true));
        assert_eq!(job.apply(Event::Cancel("asked to".into()), at(2)), Ok(true));
        assert_eq!(job.apply(Event::Cancel("again".into()), at(3)), Ok(false));
        assert_eq!((job.reason.as_deref(), job.progress.in_flight), (Some("asked to"), 0));
        assert!(job.apply(Event::Complete, at(3)).is_err(), "the run that ends late says nothing");
        assert!(!job.advance(JobProgress::default()));
        assert_eq!(job.apply(Event::Retry(7), at(4)), Ok(true));
        assert_eq!((job.state, job.turn, job.reason.clone()), (JobState::Queued, 7, None));
        assert!(job.identity.is_some(), "its commits hold it to what it was");
        assert_eq!(job.started_at, Some(at(1)));
    }

    #[test]
    fn a_pause_ends_with_a_resume_or_a_cancel() {
        let mut job = job();
        assert_eq!(job.apply(Event::Start, at(1)), Ok(true));
        assert_eq!(job.apply(Event::Pause, at(2)), Ok(true));
        assert_eq!(job.apply(Event::Pause, at(2)), Ok(false));
        assert!(job.apply(Event::Complete, at(3)).is_err(), "its run ends, and is not heard");
        assert!(job.apply(Event::Retry(7), at(3)).expect_err("paused").to_string().contains("resume"));
        assert_eq!(job.apply(Event::Weigh(50), at(3)), Ok(true));
        assert_eq!(job.apply(Event::Resume, at(4)), Ok(true));
        assert_eq!((job.state, job.weight, job.turn), (JobState::Queued, 50, 1));
        assert_eq!(job.apply(Event::Pause, at(5)), Ok(true));
        assert_eq!(job.apply(Event::Cancel("asked to".into()), at(6)), Ok(true));
        assert!(job.apply(Event::Resume, at(7)).expect_err("cancelled").to_string().contains("retry"));
    }

    #[test]
    fn what_differs_is_named() {
        let mut job = job();
        job.identity = Some(identity("f"));
        assert!(job.differs(&ask(), None).is_empty());
        assert!(job.differs(&ask(), Some(&identity("f"))).is_empty());
        assert_eq!(job.differs(&ask(), Some(&identity("g"))), ["the pages"]);
        let mut other = identity("g");
        other.provenance.model_digest = "e".into();
        other.provenance.engine = "ollama".into();
        assert_eq!(job.differs(&ask(), Some(&other)), ["the engine", "the model's digest"]);
        let elsewhere = Ask { root: "/other".into(), ..ask() };
        assert_eq!(job.differs(&elsewhere, Some(&identity("f"))), ["the root"]);
        job.ask.model = Some("a".into());
        let model = Ask { model: Some("b".into()), ..ask() };
        assert_eq!(job.differs(&model, None), ["the model"]);
    }

    fn events() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Start),
            Just(Event::Identified(identity("f"))),
            Just(Event::Complete),
            Just(Event::Fail("broken".into())),
            Just(Event::Cancel("asked to".into())),
            Just(Event::Pause),
            Just(Event::Resume),
            (1u32..100).prop_map(Event::Weigh),
            (2u64..9).prop_map(Event::Retry),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_the_job_is_sound(happened in proptest::collection::vec(events(), 0..30)) {
            let mut job = job();
            for (second, event) in happened.into_iter().enumerate() {
                let before = job.clone();
                let done = job.apply(event.clone(), at(second as i64));
                if done != Ok(true) {
                    prop_assert_eq!(&before, &job, "refused or idle: nothing changed");
                }
                if before.state == JobState::Complete {
                    prop_assert_eq!(job.state, JobState::Complete);
                }
                if before.state.is_final() && !job.state.is_final() {
                    prop_assert!(matches!(event, Event::Retry(_)));
                }
                prop_assert_eq!(job.state.is_final(), job.finished_at.is_some());
                let tells = matches!(job.state, JobState::Failed | JobState::Cancelled);
                prop_assert_eq!(tells, job.reason.is_some());
                if matches!(job.state, JobState::Running | JobState::Complete | JobState::Failed) {
                    prop_assert!(job.started_at.is_some());
                }
            }
        }
    }
}
