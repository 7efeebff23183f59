//! How far a batch is: the latest state wins, so that a slow reader misses steps but never the end.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use proto::{docs::Counts, rows::Outcome};
use tokio::sync::watch;

use crate::{
    clock,
    infer::{InferError, Loaded, Move, Reason},
    metrics::METRICS,
    parse::{Repair, Repairs},
};

/// How the work at the model server goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelProgress {
    /// Requests there now.
    pub in_flight: u32,
    /// How many there may be, and why; 0 without a model server.
    pub limit: u32,
    pub limit_reason: Reason,
    /// Requests sent, those that were tried again included.
    pub requests: u64,
    pub retries: u64,
    /// Mentions saved from answers that were cut or broken.
    pub salvaged: u64,
    /// Where the model runs, once the server said.
    pub loaded: Option<Loaded>,
    /// What answers had to be mended of, and how often.
    pub repairs: BTreeMap<Repair, u64>,
    /// Answers that were in the journal, and not asked for again.
    pub replayed: u64,
    /// Why answers are not kept in the journal; empty while they are, or where there is none.
    pub journal_off: String,
}

/// As the gRPC `Progress` has it. Of a shard: its own parts alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    pub parts: u32,
    pub parts_committed: u32,
    pub pages: u64,
    /// Pages with an outcome, committed or not yet.
    pub pages_done: u64,
    pub outcomes: BTreeMap<Outcome, u64>,
    pub spans: u64,
    /// Mentions that were not found on their page, and dropped.
    pub ungrounded: u64,
    pub model: ModelProgress,
    /// Set while the model server or the store is away.
    pub waiting_since: Option<DateTime<Utc>>,
    /// Why, while it is; empty otherwise.
    pub waiting_for: String,
}

impl Progress {
    fn add(&mut self, counts: &Counts) {
        self.pages_done += counts.pages;
        self.spans += counts.spans;
        self.ungrounded += counts.ungrounded;
        for outcome in Outcome::ALL {
            *self.outcomes.entry(outcome).or_default() += counts.of(outcome);
        }
    }

    fn take_back(&mut self, counts: &Counts) {
        self.pages_done -= counts.pages;
        self.spans -= counts.spans;
        self.ungrounded -= counts.ungrounded;
        for outcome in Outcome::ALL {
            *self.outcomes.entry(outcome).or_default() -= counts.of(outcome);
        }
    }
}

/// What the pipeline tells its progress through. Clones tell the same.
#[derive(Debug, Clone)]
pub struct Meter {
    progress: watch::Sender<Progress>,
}

/// A request under way; counted until dropped.
pub struct InFlight(Meter);

impl Drop for InFlight {
    fn drop(&mut self) {
        METRICS.request_ended();
        self.0.progress.send_modify(|progress| {
            progress.model.in_flight = progress.model.in_flight.saturating_sub(1);
        });
    }
}

impl Meter {
    pub fn new(progress: &watch::Sender<Progress>) -> Self {
        Self { progress: progress.clone() }
    }

    pub(super) fn begin(&self, parts: u32, pages: u64) {
        self.progress.send_replace(Progress { parts, pages, ..Progress::default() });
    }

    /// The whole batch was done before.
    pub(super) fn complete(&self, parts: u32, counts: &Counts) {
        let mut progress =
            Progress { parts, parts_committed: parts, pages: counts.pages, ..Progress::default() };
        progress.add(counts);
        self.progress.send_replace(progress);
    }

    /// A page has its outcome.
    pub(super) fn page(&self, counts: &Counts) {
        METRICS.pages(counts);
        self.progress.send_modify(|progress| progress.add(counts));
    }

    /// What was told of a part's pages is no longer true: they are begun again.
    pub(super) fn take_back(&self, told: &Counts) {
        self.progress.send_modify(|progress| progress.take_back(told));
    }

    /// The part is committed. `told`: what was told of its pages so far; the commit has the last word.
    pub(super) fn committed(&self, told: &Counts, counts: &Counts) {
        self.progress.send_modify(|progress| {
            progress.take_back(told);
            progress.parts_committed += 1;
            progress.add(counts);
        });
    }

    pub fn request(&self, again: bool) -> InFlight {
        METRICS.request(again);
        self.progress.send_modify(|progress| {
            progress.model.in_flight += 1;
            progress.model.requests += 1;
            progress.model.retries += u64::from(again);
        });
        InFlight(self.clone())
    }

    /// How many requests may be in flight.
    pub fn moved(&self, moved: Move) {
        METRICS.limit(moved.limit);
        self.progress.send_if_modified(|progress| {
            let model = &mut progress.model;
            let news = (model.limit, model.limit_reason) != (moved.limit, moved.reason);
            (model.limit, model.limit_reason) = (moved.limit, moved.reason);
            news
        });
    }

    /// Where the model runs.
    pub fn loaded(&self, loaded: Loaded) {
        self.progress.send_modify(|progress| progress.model.loaded = Some(loaded));
    }

    /// Mentions were saved from an answer that was cut or broken.
    pub fn salvaged(&self, mentions: usize) {
        METRICS.salvaged(mentions as u64);
        self.progress.send_modify(|progress| progress.model.salvaged += mentions as u64);
    }

    /// What an answer had to be mended of.
    pub fn repaired(&self, repairs: &Repairs) {
        if repairs.is_empty() {
            return;
        }
        repairs.iter().for_each(|(repair, times)| METRICS.repaired(repair.as_str(), *times as u64));
        self.progress.send_modify(|progress| {
            for (repair, times) in repairs {
                *progress.model.repairs.entry(*repair).or_default() += *times as u64;
            }
        });
    }

    /// An answer was in the journal.
    pub fn replayed(&self) {
        self.progress.send_modify(|progress| progress.model.replayed += 1);
    }

    /// Why answers are not kept; empty while they are.
    pub fn journal_off(&self, why: String) {
        // Asked with each answer: a look costs less than a change.
        if self.progress.borrow().model.journal_off != why {
            self.progress.send_modify(|progress| progress.model.journal_off = why);
        }
    }

    /// The model server is away: since the first word of it, and for the latest reason.
    pub fn waiting(&self, error: &InferError) {
        let reason = error.to_string();
        self.progress.send_if_modified(|progress| {
            let news = progress.waiting_since.is_none() || progress.waiting_for != reason;
            if news {
                tracing::warn!(%error, "waiting for the model server");
                progress.waiting_since.get_or_insert_with(clock::now);
                progress.waiting_for = reason;
            }
            news
        });
    }

    /// The model server was away and is asked again.
    pub fn trying(&self, reason: &str) {
        if self.wait_for(reason) {
            tracing::warn!(reason, "waiting for the model server");
        }
    }

    /// All that is left is with another agent.
    pub(super) fn held(&self, reason: &str) {
        if self.wait_for(reason) {
            tracing::warn!(reason, "waiting for another agent");
        }
    }

    /// What was told with that reason is over.
    pub(super) fn no_longer(&self, reason: &str) {
        self.progress.send_if_modified(|progress| {
            let over = !reason.is_empty() && progress.waiting_for == reason;
            if over {
                progress.waiting_since = None;
                progress.waiting_for.clear();
            }
            over
        });
    }

    /// The store is away.
    pub(super) fn store_away(&self, reason: &str) {
        if self.wait_for(reason) {
            tracing::warn!(reason, "waiting for the store");
        }
    }

    /// Whether that is news.
    fn wait_for(&self, reason: &str) -> bool {
        self.progress.send_if_modified(|progress| {
            let news = progress.waiting_for != reason;
            if news {
                progress.waiting_since.get_or_insert_with(clock::now);
                progress.waiting_for = reason.to_owned();
            }
            news
        })
    }

    /// What was waited for is there.
    pub fn answered(&self) {
        self.progress.send_if_modified(|progress| {
            let was_away = progress.waiting_since.take().is_some();
            progress.waiting_for.clear();
            was_away
        });
    }
}
