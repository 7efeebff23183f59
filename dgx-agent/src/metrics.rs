//! What a Prometheus server scrapes of the daemon: `GET /metrics` on an address of its own, when one is given.
//!
//! Constraints: no label holds a page, a batch or anything else without a bound; counters count for the life of the
//! process, over all jobs; how things stand now is read from the jobs when it is asked for. Counting is a relaxed
//! addition: it is done for every request.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use proto::{docs::Counts, rows::Outcome};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    infer::{Move, Reason},
    jobs::{
        Jobs,
        event::JobState,
        job::{Job, JobProgress},
    },
};

/// Of this process.
pub static METRICS: Metrics = Metrics::new();

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const STATES: [JobState; 6] = [
    JobState::Queued,
    JobState::Running,
    JobState::Paused,
    JobState::Complete,
    JobState::Failed,
    JobState::Cancelled,
];

/// What only grows, and how the model server stands.
#[derive(Debug)]
pub struct Metrics {
    requests: AtomicU64,
    retries: AtomicU64,
    prompt_tokens: AtomicU64,
    output_tokens: AtomicU64,
    salvaged: AtomicU64,
    spans: AtomicU64,
    ungrounded: AtomicU64,
    pages: Mutex<BTreeMap<Outcome, u64>>,
    /// By the ledger's reason.
    failures: Mutex<BTreeMap<&'static str, u64>>,
    moves: Mutex<BTreeMap<&'static str, u64>>,
    /// By what was wrong with an answer.
    repairs: Mutex<BTreeMap<&'static str, u64>>,
    /// Of all batches and streams together: the model server is one.
    in_flight: AtomicU64,
    limit: AtomicU64,
}

impl Metrics {
    const fn new() -> Self {
        Self {
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            output_tokens: AtomicU64::new(0),
            salvaged: AtomicU64::new(0),
            spans: AtomicU64::new(0),
            ungrounded: AtomicU64::new(0),
            pages: Mutex::new(BTreeMap::new()),
            failures: Mutex::new(BTreeMap::new()),
            moves: Mutex::new(BTreeMap::new()),
            repairs: Mutex::new(BTreeMap::new()),
            in_flight: AtomicU64::new(0),
            limit: AtomicU64::new(0),
        }
    }

    /// A request goes to the model server.
    pub fn request(&self, again: bool) {
        self.requests.fetch_add(1, Relaxed);
        self.retries.fetch_add(u64::from(again), Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// And it is over.
    pub fn request_ended(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// How many requests may be in flight now.
    pub fn limit(&self, limit: u32) {
        self.limit.store(u64::from(limit), Relaxed);
    }

    /// It was not answered well, for a reason of the ledger's.
    pub fn failure(&self, reason: &'static str) {
        add(&self.failures, reason, 1);
    }

    /// As the server counted them.
    pub fn tokens(&self, prompt: u64, output: u64) {
        self.prompt_tokens.fetch_add(prompt, Relaxed);
        self.output_tokens.fetch_add(output, Relaxed);
    }

    pub fn salvaged(&self, mentions: u64) {
        self.salvaged.fetch_add(mentions, Relaxed);
    }

    /// An answer had to be mended, so often.
    pub fn repaired(&self, what: &'static str, times: u64) {
        add(&self.repairs, what, times);
    }

    pub fn moved(&self, moved: Move) {
        add(&self.moves, word(moved.reason), 1);
    }

    /// Pages have their outcome.
    pub fn pages(&self, counts: &Counts) {
        self.spans.fetch_add(counts.spans, Relaxed);
        self.ungrounded.fetch_add(counts.ungrounded, Relaxed);
        for outcome in Outcome::ALL {
            if counts.of(outcome) > 0 {
                add(&self.pages, outcome, counts.of(outcome));
            }
        }
    }

    /// In Prometheus' text format.
    fn text(&self, jobs: &[Arc<Job>]) -> String {
        let mut text = Text::default();
        text.family("info", "gauge", "The agent.").sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        let mut family = text.family("jobs", "gauge", "Jobs by state.");
        for state in STATES {
            let count = jobs.iter().filter(|job| job.state == state).count();
            family.sample(&[("state", &state.to_string())], count as u64);
        }
        let running = jobs.iter().filter(|job| job.state == JobState::Running).map(|job| &job.progress);
        // Pages add up; the model server is one.
        let now = running.fold(JobProgress::default(), |mut now, job| {
            now.pages += job.pages;
            now.counts.pages += job.counts.pages;
            now.waiting = now.waiting.or_else(|| job.waiting.clone());
            now.model.size_bytes = now.model.size_bytes.max(job.model.size_bytes);
            now.model.size_vram_bytes = now.model.size_vram_bytes.max(job.model.size_vram_bytes);
            now.model.journal_off.push_str(&job.model.journal_off);
            now
        });
        text.gauge("batch_pages", "Pages of the running batches.", now.pages);
        text.gauge("batch_pages_done", "Pages of the running batches with an outcome.", now.counts.pages);
        let off = u64::from(!now.model.journal_off.is_empty());
        text.gauge("journal_off", "1: answers are not kept, a running job says why.", off);
        let of = |number: &AtomicU64| number.load(Relaxed);
        text.gauge("in_flight", "Requests at the model server now.", of(&self.in_flight));
        let help = "Requests that may be at the model server at once; 0 before the first.";
        text.gauge("limit", help, of(&self.limit));
        let waiting = now.waiting.map_or(0, |waiting| waiting.since.timestamp());
        let help = "Since when the running job waits for a service, in Unix seconds; 0: it does not.";
        text.gauge("waiting_since_seconds", help, u64::try_from(waiting).unwrap_or(0));
        text.gauge("model_size_bytes", "Of the model in the server's memory.", now.model.size_bytes);
        text.gauge("model_size_vram_bytes", "Of it on a GPU.", now.model.size_vram_bytes);

        let mut family = text.family("limit_moves_total", "counter", "Moves of the limit, by their reason.");
        each(&self.moves, |reason, count| family.sample(&[("reason", reason)], count));
        text.counter("requests_total", "Requests sent to the model server.", of(&self.requests));
        text.counter("retries_total", "Requests that were sent again.", of(&self.retries));
        let help = "Requests that were not answered well, by reason as in the ledger.";
        let mut family = text.family("request_failures_total", "counter", help);
        each(&self.failures, |reason, count| family.sample(&[("reason", reason)], count));
        let mut family = text.family("tokens_total", "counter", "Tokens as the model server counted them.");
        for (kind, count) in [("prompt", of(&self.prompt_tokens)), ("output", of(&self.output_tokens))] {
            family.sample(&[("kind", kind)], count);
        }
        let help = "Mentions saved from answers that were cut or broken.";
        text.counter("salvaged_mentions_total", help, of(&self.salvaged));
        let help = "Answers that had to be mended, by what was wrong with them.";
        let mut family = text.family("repairs_total", "counter", help);
        each(&self.repairs, |what, count| family.sample(&[("kind", what)], count));
        let mut family = text.family("pages_total", "counter", "Pages by outcome.");
        each(&self.pages, |outcome, count| family.sample(&[("outcome", outcome.as_str())], count));
        text.counter("spans_total", "Spans found.", of(&self.spans));
        let help = "Mentions that were not found on their page.";
        text.counter("ungrounded_mentions_total", help, of(&self.ungrounded));
        text.0
    }
}

/// Of a fixed set, unlike the reason's own words.
fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Fixed => "fixed",
        Reason::Start => "start",
        Reason::NoQueue => "no_queue",
        Reason::Slots(_) => "slots",
        Reason::NoGain => "no_gain",
        Reason::Looking => "looking",
        Reason::TurnedOff => "turned_off",
    }
}

fn add<K: Ord>(counts: &Mutex<BTreeMap<K, u64>>, key: K, more: u64) {
    // Numbers alone: a panic leaves them sound.
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += more;
}

fn each<K: Copy>(counts: &Mutex<BTreeMap<K, u64>>, mut tell: impl FnMut(K, u64)) {
    for (key, count) in &*counts.lock().unwrap_or_else(PoisonError::into_inner) {
        tell(*key, *count);
    }
}

#[derive(Default)]
struct Text(String);

/// The samples of one name.
struct Family<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Text {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP dgx_agent_{name} {help}\n# TYPE dgx_agent_{name} {kind}");
        Family { name, text: &mut self.0 }
    }

    fn gauge(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, "gauge", help).sample(&[], value);
    }

    fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, "counter", help).sample(&[], value);
    }
}

impl Family<'_> {
    /// Labels need no quoting: all are words of ours.
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(name, label)| format!("{name}=\"{label}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "dgx_agent_{}{labels} {value}", self.name);
    }
}

/// Answers scrapes until `stop`.
pub async fn serve(listener: TcpListener, jobs: Arc<Jobs>, stop: CancellationToken) -> std::io::Result<()> {
    let scrape = |State(jobs): State<Arc<Jobs>>| async move {
        let text = METRICS.text(&jobs.list(None, usize::MAX));
        ([(header::CONTENT_TYPE, TEXT)], text).into_response()
    };
    let router = Router::new().route("/metrics", get(scrape)).with_state(jobs);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::jobs::{
        event::Event,
        job::{Ask, Waiting},
    };

    #[test]
    fn jobs_and_counts_become_samples_without_a_name_of_a_batch() {
        let metrics = Metrics::new();
        metrics.request(false);
        metrics.request(true);
        metrics.failure("service_error");
        metrics.tokens(100, 7);
        metrics.moved(Move { limit: 8, reason: Reason::Slots(7) });
        metrics.moved(Move { limit: 9, reason: Reason::Slots(8) });
        metrics.limit(9);
        metrics.request_ended();
        let mut counts = Counts::default();
        counts.add_page(Outcome::Suggested, None, 3, 1);
        metrics.pages(&counts);
        let time = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        let ask = Ask { root: "/data".into(), engine: None, model: None, shard: None };
        let mut job = Job::new("my-batch".parse().expect("an id"), 1, ask, None, time);
        job.apply(Event::Start, time).expect("queued");
        job.progress.waiting = Some(Waiting { since: time, reason: "page text".into() });
        let text = metrics.text(&[Arc::new(job)]);
        for line in [
            "dgx_agent_jobs{state=\"running\"} 1",
            "dgx_agent_jobs{state=\"failed\"} 0",
            "# TYPE dgx_agent_limit gauge",
            "dgx_agent_limit 9",
            "dgx_agent_in_flight 1",
            "dgx_agent_waiting_since_seconds 1700000000",
            "dgx_agent_limit_moves_total{reason=\"slots\"} 2",
            "dgx_agent_requests_total 2",
            "dgx_agent_retries_total 1",
            "dgx_agent_request_failures_total{reason=\"service_error\"} 1",
            "dgx_agent_tokens_total{kind=\"output\"} 7",
            "dgx_agent_pages_total{outcome=\"suggested\"} 1",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} in:\n{text}");
        }
        assert!(!text.contains("my-batch") && !text.contains("page text"), "{text}");
        assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("dgx_agent_")), "{text}");
    }
}
