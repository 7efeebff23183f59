//! A job of the agent, as people and programs read it.

use std::{collections::BTreeMap, fmt::Write as _};

use chrono::{DateTime, Utc};
use proto::grpc::{self, Batch, BatchState};
use serde::Serialize;

use crate::{
    printer::Answer,
    report::{Report, table},
};

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Job {
    pub batch_id: String,
    pub root_uri: String,
    /// `queued`, `running`, `paused`, `complete`, `failed` or `cancelled`.
    pub state: &'static str,
    /// What of the batch it does, as `0/4`; empty: all.
    pub shard: String,
    /// Its claim on the model server, among all that run: 1 to 100.
    pub weight: u32,
    pub reason: String,
    pub fingerprint: String,
    pub engine: &'static str,
    pub model: String,
    pub model_digest: String,
    pub prompt_sha256: String,
    pub labelset_sha256: String,
    pub parts: u32,
    pub parts_committed: u32,
    pub pages: u64,
    pub pages_done: u64,
    pub outcomes: BTreeMap<String, u64>,
    pub spans: u64,
    pub ungrounded: u64,
    /// How often answers of the model had to be mended, by what was wrong with them.
    pub repairs: BTreeMap<String, u64>,
    /// Requests at the model server now, how many there may be, and why; 0 without a model server.
    pub in_flight: u32,
    pub limit: u32,
    pub limit_reason: String,
    /// Requests so far, and those of them that were tried again.
    pub requests: u64,
    pub retries: u64,
    /// Mentions saved from answers that were cut or broken.
    pub salvaged: u64,
    /// Of the model in the server's memory, and of that on a GPU; 0: not known.
    pub model_size_bytes: u64,
    pub model_size_vram_bytes: u64,
    /// Answers that were in the agent's journal.
    pub replayed: u64,
    /// Why answers are not kept there.
    pub journal_off: String,
    /// Set while the model server or the store is away; `reason` says why.
    pub waiting_since: Option<DateTime<Utc>>,
    pub submitted_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
}

impl From<Batch> for Job {
    fn from(batch: Batch) -> Self {
        let state = state(batch.state());
        let progress = batch.progress.unwrap_or_default();
        let provenance = batch.provenance.unwrap_or_default();
        Self {
            batch_id: batch.batch_id,
            root_uri: batch.root_uri,
            state,
            shard: batch.shard,
            weight: batch.weight,
            reason: batch.reason,
            fingerprint: batch.fingerprint,
            engine: engine(provenance.engine()),
            model: provenance.model,
            model_digest: provenance.model_digest,
            prompt_sha256: provenance.prompt_sha256,
            labelset_sha256: provenance.labelset_sha256,
            parts: progress.parts,
            parts_committed: progress.parts_committed,
            pages: progress.pages,
            pages_done: progress.pages_done,
            outcomes: progress.outcomes.into_iter().collect(),
            spans: progress.spans,
            ungrounded: progress.ungrounded,
            repairs: progress.repairs.into_iter().collect(),
            in_flight: progress.in_flight,
            limit: progress.limit,
            limit_reason: progress.limit_reason,
            requests: progress.requests,
            retries: progress.retries,
            salvaged: progress.salvaged,
            model_size_bytes: progress.model_size_bytes,
            model_size_vram_bytes: progress.model_size_vram_bytes,
            replayed: progress.replayed,
            journal_off: progress.journal_off,
            waiting_since: progress.waiting_since.and_then(time),
            submitted_at: batch.submitted_at.and_then(time),
            started_at: batch.started_at.and_then(time),
            finished_at: batch.finished_at.and_then(time),
        }
    }
}

impl Job {
    /// As a stage of a pilot.
    pub fn report(&self, already_done: bool) -> Report {
        let mut report =
            Report::new("preannotate").pages(self.pages, self.pages_done).already_done(already_done);
        for (outcome, pages) in &self.outcomes {
            report = report.outcome_if_any(outcome, *pages);
        }
        let report = report.outcome("spans", self.spans).outcome_if_any("ungrounded", self.ungrounded);
        match self.outcomes.get("failed") {
            Some(failed) if *failed > 0 => report.note(format!(
                "{failed} pages failed; their reasons are in the ledger; `control batch create NEW --parent {} --failed` \
                 makes a batch of them",
                self.batch_id
            )),
            _ => report,
        }
    }
}

/// As `suggested 3, empty 1`.
fn counted(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    counts.join(", ")
}

impl Answer for Job {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                let _ = writeln!(text, "{name:<12}{value}");
            }
        };
        let when = |time: Option<DateTime<Utc>>| time.map_or_else(String::new, |time| time.to_rfc3339());
        let some = |count: u64, told: String| if count > 0 { told } else { String::new() };
        line("batch", &self.batch_id);
        line("state", self.state);
        line("shard", &self.shard);
        line("priority", &some(u64::from(self.weight), self.weight.to_string()));
        line("reason", &self.reason);
        line("pages", &format!("{} of {} done", self.pages_done, self.pages));
        line("outcomes", &counted(&self.outcomes));
        line("spans", &format!("{} ({} mentions not found and dropped)", self.spans, self.ungrounded));
        line("mended", &counted(&self.repairs));
        line("parts", &format!("{} of {} committed", self.parts_committed, self.parts));
        if self.replayed > 0 {
            line("journal", &format!("{} answers were there already", self.replayed));
        }
        line("journal", &self.journal_off);
        line("engine", self.engine);
        line("model", &self.model);
        line("digest", &self.model_digest);
        line("prompt", &self.prompt_sha256);
        line("labelset", &self.labelset_sha256);
        line("runs on", &self.slow_place().map_or_else(String::new, |place| format!("{place}: slow")));
        let Self { requests, retries, in_flight, limit, limit_reason, salvaged, .. } = self;
        let asked = format!("{requests}, {retries} of them retries, {in_flight} in flight");
        line("requests", &some(*requests, asked));
        line("limit", &some(u64::from(*limit), format!("{limit}: {limit_reason}")));
        line("salvaged", &some(*salvaged, format!("{salvaged} mentions of cut or broken answers")));
        line(
            "waiting",
            &self.waiting_since.map_or_else(String::new, |since| format!("since {}", when(Some(since)))),
        );
        line("submitted", &when(self.submitted_at));
        line("started", &when(self.started_at));
        line("finished", &when(self.finished_at));
        text
    }
}

/// A job that somebody wants done: one that ended without completing is a failed gate.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct JobOutcome(pub Job);

impl Answer for JobOutcome {
    fn text(&self) -> String {
        self.0.text()
    }

    fn gate(&self) -> Option<String> {
        let Job { batch_id, state, reason, .. } = &self.0;
        matches!(*state, "failed" | "cancelled").then(|| {
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            format!("batch {batch_id} is {state}{why}; `control preannotate retry {batch_id}` goes on where it was")
        })
    }
}

/// The agent's jobs, newest first.
#[derive(Debug, Serialize)]
pub struct Jobs {
    pub jobs: Vec<Job>,
}

impl Answer for Jobs {
    fn text(&self) -> String {
        if self.jobs.is_empty() {
            return "the agent has no jobs\n".to_owned();
        }
        let rows = self.jobs.iter().map(|job| {
            let pages = format!("{}/{}", job.pages_done, job.pages);
            vec![
                job.batch_id.clone(),
                job.state.to_owned(),
                pages,
                counted(&job.outcomes),
                job.reason.clone(),
            ]
        });
        table(&["batch", "state", "pages", "outcome", "reason"], &[2], rows)
    }
}

fn time(time: prost_types::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
}

fn state(state: BatchState) -> &'static str {
    match state {
        BatchState::Unspecified => "unknown",
        BatchState::Queued => "queued",
        BatchState::Running => "running",
        BatchState::Paused => "paused",
        BatchState::Complete => "complete",
        BatchState::Failed => "failed",
        BatchState::Cancelled => "cancelled",
    }
}

/// As `_batch.json` and `_signoff.json` have it.
pub fn engine(engine: grpc::Engine) -> &'static str {
    match engine {
        grpc::Engine::Unspecified => "",
        grpc::Engine::Rules => "rules",
        grpc::Engine::Ollama => "ollama",
        grpc::Engine::Hybrid => "hybrid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: BatchState) -> Job {
        Job::from(Batch {
            batch_id: "pilot-1".into(),
            state: state.into(),
            reason: "the model is not there".into(),
            progress: Some(grpc::Progress {
                pages: 10,
                pages_done: 4,
                outcomes: [("suggested".to_owned(), 3), ("failed".to_owned(), 1)].into(),
                ..Default::default()
            }),
            submitted_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            ..Default::default()
        })
    }

    #[test]
    fn a_job_that_ended_otherwise_is_a_failed_gate() {
        assert_eq!(JobOutcome(job(BatchState::Complete)).gate(), None);
        let gate = JobOutcome(job(BatchState::Failed)).gate().expect("a gate");
        assert!(gate.contains("pilot-1 is failed: the model is not there"), "{gate}");
        assert!(JobOutcome(job(BatchState::Cancelled)).gate().is_some());
    }

    #[test]
    fn a_stage_counts_pages_and_tells_of_failed_ones() {
        let report = job(BatchState::Complete).report(false);
        assert_eq!((report.pages_in, report.pages_out), (Some(10), Some(4)));
        assert_eq!(report.outcomes["failed"], 1);
        assert!(report.notes[0].contains("--parent pilot-1"));
    }

    #[test]
    fn times_are_utc() {
        let shown = job(BatchState::Queued).text();
        assert!(shown.contains("submitted   2023-11-14T22:13:20+00:00"), "{shown}");
    }
}
