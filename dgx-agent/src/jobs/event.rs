//! The states that a job goes through, and what moves it from one to the next. Pure.
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

use std::{borrow::Cow, fmt};

use chrono::{DateTime, Utc};
use proto::ids::BatchId;
use serde::{Deserialize, Serialize};

use super::job::{Identity, Job, JobProgress};

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
    /// The same, for what got lost of what a complete one made.
    Restore(u64),
}

/// An event that the job's state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("batch {batch} is {state}: {hint}")]
pub struct Refused {
    pub batch: BatchId,
    pub state: JobState,
    /// What to do instead.
    pub hint: Cow<'static, str>,
}

impl Job {
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
            (Failed | Cancelled, Event::Retry(turn))
            | (Complete | Failed | Cancelled, Event::Restore(turn)) => {
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
            | (Queued | Running, Event::Retry(_) | Event::Restore(_) | Event::Resume) => return Ok(false),
            (Paused, Event::Retry(_) | Event::Restore(_)) => return Err(self.refuse("resume it")),
            (Complete, Event::Pause | Event::Resume | Event::Weigh(_)) => {
                return Err(self.refuse("there is nothing left to do"));
            }
            (Failed | Cancelled, Event::Pause | Event::Resume | Event::Weigh(_)) => {
                return Err(self.refuse("retry it"));
            }
            (Complete, Event::Retry(_)) => {
                let hint = match self.progress.counts.failed {
                    0 => "none of its pages failed, so there is nothing to retry".to_owned(),
                    failed => format!(
                        "it is not run again; {failed} of its pages failed: `control batch create NEW --parent {} \
                         --failed` makes a batch of them",
                        self.batch
                    ),
                };
                return Err(self.refuse(hint));
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

    fn refuse(&self, hint: impl Into<Cow<'static, str>>) -> Refused {
        Refused { batch: self.batch.clone(), state: self.state, hint: hint.into() }
    }

    /// Takes over how far the run is; false when the job is not being run (it was cancelled a moment ago).
    pub fn advance(&mut self, progress: JobProgress) -> bool {
        let running = self.state == JobState::Running;
        if running {
            self.progress = progress;
        }
        running
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jobs::{fake::identity, job::Ask};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).expect("a time")
    }

    fn ask() -> Ask {
        Ask { root: "/data".into(), engine: None, model: None, shard: None }
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
        let refused = |job: &mut Job| job.apply(Event::Retry(9), at(4)).expect_err("complete").to_string();
        assert!(refused(&mut job).contains("none of its pages failed"));
        job.progress.counts.failed = 3;
        assert!(
            refused(&mut job)
                .contains("3 of its pages failed: `control batch create NEW --parent b-1 --failed`")
        );
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
            (2u64..9).prop_map(Event::Restore),
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
                if before.state == JobState::Complete && !matches!(event, Event::Restore(_)) {
                    prop_assert_eq!(job.state, JobState::Complete);
                }
                if before.state.is_final() && !job.state.is_final() {
                    prop_assert!(matches!(event, Event::Retry(_) | Event::Restore(_)));
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
