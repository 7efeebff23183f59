//! Between the jobs' types and the messages of the service. Pure.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use proto::{
    docs, grpc, reasons,
    rows::{Outcome, Suggestion},
    store::{RootUri, StoreError},
};
use tonic::{Code, Status};

use crate::{
    batch::{LoosePage, Shard},
    engine::{Engine, ModelServer},
    grpc::status::{IntoStatus, Refusal},
    jobs::{
        event::JobState,
        job::{Job, JobProgress},
    },
};

pub fn batch(job: &Job) -> grpc::Batch {
    let waiting = job.progress.waiting.as_ref();
    grpc::Batch {
        batch_id: job.batch.to_string(),
        root_uri: job.ask.root.clone(),
        state: state(job.state).into(),
        reason: job.reason.clone().or(waiting.map(|waiting| waiting.reason.clone())).unwrap_or_default(),
        fingerprint: job.identity.as_ref().map(|identity| identity.fingerprint.clone()).unwrap_or_default(),
        provenance: job.identity.as_ref().map(|identity| provenance(&identity.provenance)),
        progress: Some(progress(&job.progress)),
        submitted_at: Some(timestamp(job.submitted_at)),
        started_at: job.started_at.map(timestamp),
        finished_at: job.finished_at.map(timestamp),
        weight: job.weight,
        shard: job.ask.shard.clone().unwrap_or_default(),
    }
}

fn state(state: JobState) -> grpc::BatchState {
    match state {
        JobState::Queued => grpc::BatchState::Queued,
        JobState::Running => grpc::BatchState::Running,
        JobState::Paused => grpc::BatchState::Paused,
        JobState::Complete => grpc::BatchState::Complete,
        JobState::Failed => grpc::BatchState::Failed,
        JobState::Cancelled => grpc::BatchState::Cancelled,
    }
}

fn progress(progress: &JobProgress) -> grpc::Progress {
    let counts = &progress.counts;
    grpc::Progress {
        parts: progress.parts,
        parts_committed: progress.parts_committed,
        pages: progress.pages,
        pages_done: counts.pages,
        outcomes: Outcome::ALL.into_iter().map(|outcome| (outcome.to_string(), counts.of(outcome))).collect(),
        spans: counts.spans,
        ungrounded: counts.ungrounded,
        in_flight: progress.in_flight,
        waiting_since: progress.waiting.as_ref().map(|waiting| timestamp(waiting.since)),
        limit: progress.model.limit,
        limit_reason: progress.model.limit_reason.clone(),
        requests: progress.model.requests,
        retries: progress.model.retries,
        salvaged: progress.model.salvaged,
        model_size_bytes: progress.model.size_bytes,
        model_size_vram_bytes: progress.model.size_vram_bytes,
        repairs: progress.model.repairs.clone().into_iter().collect(),
        replayed: progress.model.replayed,
        journal_off: progress.model.journal_off.clone(),
    }
}

pub fn provenance(provenance: &docs::Provenance) -> grpc::Provenance {
    grpc::Provenance {
        engine: engine(&provenance.engine).into(),
        model: provenance.model.clone(),
        model_digest: provenance.model_digest.clone(),
        prompt_sha256: provenance.prompt_sha256.clone(),
        labelset_sha256: provenance.labelset_sha256.clone(),
    }
}

fn engine(name: &str) -> grpc::Engine {
    match name.parse() {
        Ok(Engine::Rules) => grpc::Engine::Rules,
        Ok(Engine::Ollama) => grpc::Engine::Ollama,
        Ok(Engine::Hybrid) => grpc::Engine::Hybrid,
        Err(_) => grpc::Engine::Unspecified,
    }
}

pub fn model_server(server: ModelServer) -> grpc::ModelServer {
    grpc::ModelServer {
        url: server.url,
        reachable: server.reachable,
        version: server.version,
        model_present: server.model_present,
        context_length: server.context_length,
        size_bytes: server.size_bytes,
        size_vram_bytes: server.size_vram_bytes,
        error: server.error,
    }
}

/// The engine that a client asks for; None: the batch's or the agent's own.
pub fn asked_engine(engine: i32) -> Result<Option<Engine>, Status> {
    match grpc::Engine::try_from(engine) {
        Ok(grpc::Engine::Unspecified) => Ok(None),
        Ok(grpc::Engine::Rules) => Ok(Some(Engine::Rules)),
        Ok(grpc::Engine::Ollama) => Ok(Some(Engine::Ollama)),
        Ok(grpc::Engine::Hybrid) => Ok(Some(Engine::Hybrid)),
        Err(_) => Err(Refusal::field(
            "engine",
            format!(
                "engine {engine} is not known to this agent: use rules, ollama or hybrid, or update the agent"
            ),
        )
        .status()),
    }
}

/// What of a batch a client asks for, in normal form; None: all.
pub fn asked_shard(text: String) -> Result<Option<String>, Status> {
    let shard = said(text).map(|text| text.parse::<Shard>()).transpose();
    let shard = shard.map_err(|problem| Refusal::field("shard", problem).status())?;
    Ok(shard.map(|shard| shard.to_string()))
}

pub fn outcome(page: LoosePage) -> grpc::PageOutcome {
    let LoosePage { ledger, suggestions } = page;
    let number = |number: i32| u32::try_from(number).unwrap_or(0);
    let long = |number: i64| u64::try_from(number).unwrap_or(0);
    grpc::PageOutcome {
        doc_id: ledger.doc_id,
        page_num: ledger.page_num,
        page_sha256: ledger.page_sha256.unwrap_or_default(),
        outcome: ledger.outcome.to_string(),
        reason: ledger.reason.unwrap_or_default(),
        spans: suggestions.into_iter().map(span).collect(),
        ungrounded: number(ledger.ungrounded),
        chunks: number(ledger.chunks),
        attempts: number(ledger.attempts),
        prompt_tokens: long(ledger.prompt_tokens),
        output_tokens: long(ledger.output_tokens),
        latency_ms: long(ledger.latency_ms),
        run_id: ledger.run_id,
    }
}

fn span(span: Suggestion) -> grpc::Span {
    grpc::Span {
        span_id: span.span_id.into_owned(),
        label: span.label.into_owned(),
        start: span.start.unsigned_abs(),
        end: span.end.unsigned_abs(),
        text: span.text.into_owned(),
        confidence: span.confidence,
        r#match: span.match_kind.into_owned(),
        similarity: span.similarity,
        source: span.source.into_owned(),
        norm_value: span.norm_value.unwrap_or_default().into_owned(),
    }
}

/// An empty field says nothing.
pub fn said(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// The root that a client asks for, in normal form: the agent's, or one below it.
pub fn asked_root(uri: &str, agent: &RootUri) -> Result<RootUri, Status> {
    if uri.is_empty() {
        return Ok(agent.clone());
    }
    let asked: RootUri = uri.parse().map_err(StoreError::into_status)?;
    if agent.contains(&asked) {
        return Ok(asked);
    }
    Err(Refusal::new(
        Code::PermissionDenied,
        reasons::ROOT_OUTSIDE,
        format!(
            "root {asked} does not lie below this agent's root {agent}: name one that does, or none for that"
        ),
    )
    .status())
}

pub fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: time.timestamp(),
        // Below 2 * 10^9 even in a leap second.
        nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use proto::docs::Counts;

    use super::*;
    use crate::jobs::job::{Ask, Waiting};

    #[test]
    fn a_job_is_told_whole() {
        let time = DateTime::from_timestamp(7, 5).expect("a time");
        let ask = Ask { root: "/data".into(), engine: None, model: None, shard: None };
        let mut job = Job::new("b-1".parse().expect("an id"), 1, ask, None, time);
        let mut counts = Counts::default();
        counts.add_page(Outcome::Suggested, None, 3, 1);
        counts.add_page(Outcome::Empty, Some("blank_text"), 0, 0);
        let waiting = Some(Waiting { since: time, reason: "the server is away".into() });
        job.progress = JobProgress {
            parts: 2,
            parts_committed: 1,
            pages: 9,
            counts,
            in_flight: 4,
            waiting,
            ..JobProgress::default()
        };
        let told = batch(&job);
        assert_eq!((told.batch_id.as_str(), told.state()), ("b-1", grpc::BatchState::Queued));
        assert_eq!(told.reason, "the server is away");
        let progress = told.progress.expect("there");
        assert_eq!(progress.pages_done, progress.outcomes.values().sum::<u64>());
        assert_eq!((progress.pages_done, progress.spans, progress.ungrounded), (2, 3, 1));
        assert_eq!(progress.waiting_since, Some(Timestamp { seconds: 7, nanos: 5 }));
        job.reason = Some("part 3 is broken".into());
        assert_eq!(batch(&job).reason, "part 3 is broken");
    }

    #[test]
    fn roots_lie_below_the_agents() {
        let agent: RootUri = "/data/root".parse().expect("a root");
        let code = |uri: &str| asked_root(uri, &agent).map_err(|status| status.code());
        assert_eq!(code(""), Ok(agent.clone()));
        assert_eq!(code("file:///data/root/"), Ok(agent.clone()));
        assert_eq!(code("/data/root/team"), "/data/root/team".parse().map_err(|_| Code::Unknown));
        for outside in ["/data", "/data/root2", "/data/root/../other", "s3://data/root"] {
            assert_eq!(code(outside), Err(Code::PermissionDenied), "{outside}");
        }
        assert_eq!(code("ftp://x/y"), Err(Code::InvalidArgument));
    }

    #[test]
    fn shards_are_known_by_one_name() {
        assert_eq!(asked_shard(String::new()).expect("all"), None);
        assert_eq!(asked_shard("01/04".into()).expect("one").as_deref(), Some("1/4"));
        assert_eq!(asked_shard("4/4".into()).expect_err("none").code(), Code::InvalidArgument);
    }

    #[test]
    fn engines_are_known_or_refused() {
        for engine in [grpc::Engine::Rules, grpc::Engine::Ollama, grpc::Engine::Hybrid] {
            let name = asked_engine(engine.into()).expect("known").expect("said");
            assert_eq!(super::engine(name.as_str()), engine);
        }
        assert_eq!(asked_engine(0).expect("known"), None);
        assert_eq!(asked_engine(99).expect_err("unknown").code(), Code::InvalidArgument);
    }
}
