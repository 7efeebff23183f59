//! A job: what was asked for, what it is, how far it is. Pure: the clock and the store are elsewhere.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use proto::{
    docs::{Counts, Provenance},
    ids::BatchId,
};
use serde::{Deserialize, Serialize};

use super::event::JobState;

/// What the client asked for; silent where the batch's or the agent's own choice holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub root: String,
    pub engine: Option<String>,
    pub model: Option<String>,
    /// Of the batch, as `0/4`; None: all of it.
    #[serde(default)]
    pub shard: Option<String>,
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

/// What differs between two shards of one batch.
pub(super) const SHARD: &str = "the shard";

/// What a client may ask for.
pub const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=100;

fn default_weight() -> u32 {
    crate::engine::DEFAULT_WEIGHT
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

    /// What differs between this job and a new submission of the same batch; empty: they are the same. What one
    /// of them does not know is not compared.
    pub fn differs(&self, ask: &Ask, identity: Option<&Identity>) -> Vec<&'static str> {
        let mut differs = Vec::new();
        if self.ask.root != ask.root {
            differs.push("the root");
        }
        if self.ask.shard != ask.shard {
            differs.push(SHARD);
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
    use super::*;
    use crate::jobs::fake::identity;

    fn ask() -> Ask {
        Ask { root: "/data".into(), engine: None, model: None, shard: None }
    }

    fn job() -> Job {
        Job::new("b-1".parse().expect("an id"), 1, ask(), None, DateTime::UNIX_EPOCH)
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
        let half = Ask { shard: Some("0/2".into()), ..ask() };
        assert_eq!(job.differs(&half, Some(&identity("f"))), ["the shard"]);
        job.ask.model = Some("a".into());
        let model = Ask { model: Some("b".into()), ..ask() };
        assert_eq!(job.differs(&model, None), ["the model"]);
    }
}
