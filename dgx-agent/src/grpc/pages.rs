//! `AnnotatePages`: pages in, outcomes out, as fast as the slower of the caller and the pipeline.
//!
//! - A page is read when there is room for it among those under way, and for its text in memory; so a caller that writes
//!   fast is held up by HTTP/2.
//! - A page is a task: it ends, and gives its slot back, whether its outcome is read or not. Outcomes that wait to be
//!   read count as under way; so a caller that reads slowly, or never, costs bounded memory and no slot.
//! - An outcome is told once the model server was seen to have the same model still, after the page was done: so each is of
//!   the model that the first answer names. One look serves all that wait for it.
//! - When the caller goes, or its deadline passes, the tasks are dropped, and their requests with them.

use std::{sync::Arc, time::Duration};

use futures::{
    Stream, StreamExt,
    stream::{self, FuturesUnordered},
};
use prost::Message as _;
use proto::{grpc, reasons, rows::BatchPage};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle, task::task_tracker::TaskTrackerToken};
use tonic::{Code, Status, Streaming, metadata::MetadataMap};

use super::{
    convert,
    service::asked_weight,
    status::{IntoStatus, Refusal, draining, too_large},
};
use crate::{
    batch::{BatchError, LoosePage},
    jobs::work::Work,
};

/// Longest answer: clients take no more of themselves.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Of it around an outcome.
const ANSWER_ENVELOPE: usize = 64;

type Told = Result<grpc::AnnotatePagesResponse, Status>;

/// What a stream needs.
pub(super) struct Session<W> {
    pub work: Arc<W>,
    pub requests: Streaming<grpc::AnnotatePagesRequest>,
    pub deadline: Option<Instant>,
    /// No page is taken any more.
    pub drain: CancellationToken,
    /// Held while it goes on.
    pub held: (tokio::sync::OwnedSemaphorePermit, TaskTrackerToken),
}

impl<W: Work> Session<W> {
    /// Dropping the stream ends all that goes on for it.
    pub fn start(self) -> impl Stream<Item = Told> + Send {
        let (tell, told) = mpsc::channel(1);
        let task = AbortOnDropHandle::new(tokio::spawn(self.run(tell)));
        stream::unfold((told, task), |(mut told, task)| async move {
            let next = told.recv().await?;
            Some((next, (told, task)))
        })
    }

    async fn run(self, tell: mpsc::Sender<Told>) {
        let Self { work, requests, deadline, drain, held } = self;
        let overdue = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = annotate(&*work, requests, &drain, &tell) => ended,
            () = overdue => Err(Status::deadline_exceeded(
                "the deadline has passed: pages without an outcome are to be sent again",
            )),
        };
        drop(held);
        if let Err(status) = ended {
            // Who has gone is not told.
            let _ = tell.send(Err(status)).await;
        }
    }
}

async fn annotate<W: Work>(
    work: &W,
    mut requests: Streaming<grpc::AnnotatePagesRequest>,
    drain: &CancellationToken,
    tell: &mpsc::Sender<Told>,
) -> Result<(), Status> {
    use grpc::annotate_pages_request::Message;
    let options = match requests.message().await.map_err(too_large)?.and_then(|request| request.message) {
        Some(Message::Options(options)) => options,
        _ => {
            let message = "the first message says how to annotate: send options";
            return Err(Refusal::field("message", message).status());
        }
    };
    let engine = convert::asked_engine(options.engine)?;
    let weight = asked_weight(options.weight)?;
    let opened =
        work.open(engine, convert::said(options.model), convert::said(options.labelset_toml), weight);
    let session = opened.await.map_err(BatchError::into_status)?;
    let provenance = convert::provenance(W::session_provenance(&session));
    say(tell, grpc::annotate_pages_response::Message::Provenance(provenance)).await?;

    let at_once = W::pages_at_once(&session);
    let mut pages: JoinSet<Result<LoosePage, BatchError>> = JoinSet::new();
    // Of pages that are done, and are told once the model is known to be the same still; and that look at it.
    let mut done = Vec::new();
    let mut looks = FuturesUnordered::new();
    let (mut open, mut ends) = (true, false);
    loop {
        if looks.is_empty() && !done.is_empty() {
            let done = std::mem::take(&mut done);
            looks.push(async { W::check_unchanged(&session).await.map(|()| done) });
        }
        tokio::select! {
            () = drain.cancelled(), if open => (open, ends) = (false, true),
            request = requests.message(), if open && pages.len() < at_once && done.len() < at_once => {
                match request.map_err(too_large)?.map(|request| request.message) {
                    Some(Some(Message::Page(page))) => {
                        pages.spawn(W::page(&session, row(page)).await.map_err(BatchError::into_status)?);
                    }
                    Some(_) => {
                        let message = "after the options come pages alone";
                        return Err(Refusal::field("message", message).status());
                    }
                    None => open = false,
                }
            }
            Some(page) = pages.join_next() => {
                let panicked = || BatchError::Internal("the work on a page panicked".to_owned());
                let page = page.map_err(|_| panicked()).flatten().map_err(BatchError::into_status)?;
                done.push(small(convert::outcome(page)));
            }
            Some(look) = looks.next() => {
                for outcome in look.map_err(changed)? {
                    say(tell, grpc::annotate_pages_response::Message::Outcome(outcome)).await?;
                }
            }
            else => break,
        }
    }
    match ends {
        true => Err(draining(
            "the agent is shutting down: pages without an outcome are to be sent again when it is back",
        )),
        false => Ok(()),
    }
}

async fn say(
    tell: &mpsc::Sender<Told>,
    message: grpc::annotate_pages_response::Message,
) -> Result<(), Status> {
    let answer = grpc::AnnotatePagesResponse { message: Some(message) };
    tell.send(Ok(answer)).await.map_err(|_| Status::cancelled("the caller has gone"))
}

/// The stream ends; what was told before is of the model that it was told to be of.
fn changed(error: BatchError) -> Status {
    match error {
        BatchError::Differs(_) => {
            let message = "the model server has another model under the name by now: pages without an outcome are to be \
                           sent again, on a stream that begins with the new one";
            Refusal::new(Code::FailedPrecondition, reasons::BATCH_CHANGED, message).status()
        }
        other => other.into_status(),
    }
}

/// An outcome that no client takes would end the stream, whenever the page is sent again.
fn small(mut outcome: grpc::PageOutcome) -> grpc::PageOutcome {
    if outcome.encoded_len() > MAX_ANSWER_BYTES - ANSWER_ENVELOPE {
        outcome.spans.clear();
        "failed".clone_into(&mut outcome.outcome);
        "too_many_spans".clone_into(&mut outcome.reason);
    }
    outcome
}

fn row(page: grpc::AnnotatePage) -> BatchPage {
    BatchPage {
        doc_id: Some(page.doc_id),
        page_num: Some(page.page_num),
        text: Some(page.text),
        text_sha256: convert::said(page.text_sha256),
        run_id: page.run_id,
        ocr_confidence: None,
        source_uri: None,
    }
}

/// How long the caller waits, as gRPC writes it: up to eight digits and a unit.
pub(super) fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_that_no_client_takes_is_a_failed_one() {
        let outcome = |spans| grpc::PageOutcome {
            outcome: "suggested".into(),
            spans: vec![grpc::Span { text: "x".repeat(1 << 10), ..grpc::Span::default() }; spans],
            ungrounded: 1,
            ..grpc::PageOutcome::default()
        };
        assert_eq!(small(outcome(10)), outcome(10));
        let failed = small(outcome(5000));
        assert_eq!(
            (failed.outcome.as_str(), failed.reason.as_str(), failed.spans.len()),
            ("failed", "too_many_spans", 0)
        );
        let answer = |outcome| grpc::AnnotatePagesResponse {
            message: Some(grpc::annotate_pages_response::Message::Outcome(outcome)),
        };
        let most = (1..5000).rev().map(outcome).find(|outcome| small(outcome.clone()) == *outcome);
        assert!(answer(most.expect("some fit")).encoded_len() <= MAX_ANSWER_BYTES);
    }

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        let of = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().expect("ASCII"));
            timeout(&metadata)
        };
        assert_eq!(of("100m"), Some(Duration::from_millis(100)));
        assert_eq!(of("2H"), Some(Duration::from_secs(7200)));
        for bad in ["", "5", "S", "123456789S", "1x", "-1S"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
