//! `AnnotatePages`: pages in, outcomes out, as fast as the slower of the caller and the pipeline.
//!
//! - A page is read when there is room for it among those under way, and for its text in memory; so a caller that writes
//!   fast is held up by HTTP/2.
//! - A page is a task: it ends, and gives its slot back, whether its outcome is read or not. Outcomes that wait to be
//!   read count as under way; so a caller that reads slowly, or never, costs bounded memory and no slot.
//! - When the caller goes, or its deadline passes, the tasks are dropped, and their requests with them.

use std::{sync::Arc, time::Duration};

use futures::{Stream, stream};
use proto::{grpc, rows::BatchPage};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle, task::task_tracker::TaskTrackerToken};
use tonic::{Status, Streaming, metadata::MetadataMap};

use super::{
    convert,
    service::asked_weight,
    status::{IntoStatus, Refusal, draining, too_large},
};
use crate::{
    batch::{BatchError, LoosePage},
    jobs::work::Work,
};

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
    let (mut open, mut ends) = (true, false);
    loop {
        tokio::select! {
            () = drain.cancelled(), if open => (open, ends) = (false, true),
            request = requests.message(), if open && pages.len() < at_once => {
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
            Some(done) = pages.join_next() => {
                let panicked = || BatchError::Internal("the work on a page panicked".to_owned()).into_status();
                let done = done.map_err(|_| panicked())?;
                let outcome = convert::outcome(done.map_err(BatchError::into_status)?);
                say(tell, grpc::annotate_pages_response::Message::Outcome(outcome)).await?;
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
