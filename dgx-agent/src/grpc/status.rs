//! The one map from errors to gRPC statuses. The messages are the errors' own: they name the batch and the way out. What
//! a caller branches on stands beside them, as `google.rpc` details: see [`proto::reasons`].

use std::{collections::HashMap, fmt::Display, time::Duration};

use proto::{ids::IdError, reasons, store::StoreError};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    batch::BatchError,
    jobs::{JobError, event::Refused},
};

/// Longest message, in bytes: it travels in a header, percent-encoded, and once more in the details; and it may quote what
/// a client sent.
const MAX_MESSAGE: usize = 1000;
/// Before a call that was turned away is worth another try.
const SOON: Duration = Duration::from_secs(1);
/// The same where something has to come back first.
const LATER: Duration = Duration::from_secs(5);

/// A status with the reason that a caller branches on, and whatever else there is to say.
pub struct Refusal {
    code: Code,
    message: String,
    reason: &'static str,
    metadata: HashMap<String, String>,
    details: ErrorDetails,
}

impl Refusal {
    pub fn new(code: Code, reason: &'static str, message: impl Display) -> Self {
        let mut message = message.to_string();
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
            message.push('…');
        }
        Self { code, message, reason, metadata: HashMap::new(), details: ErrorDetails::new() }
    }

    /// A field of the request that is wrong.
    pub fn field(field: &str, message: impl Display) -> Self {
        let mut refusal = Self::new(Code::InvalidArgument, reasons::BAD_FIELD, message);
        refusal.details.add_bad_request_violation(field, &refusal.message);
        refusal
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        self.metadata.insert(name.to_owned(), value.to_string());
        self
    }

    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.details.set_retry_info(Some(pause));
        self
    }

    pub fn status(self) -> Status {
        let Self { code, message, reason, metadata, mut details } = self;
        details.set_error_info(reason, reasons::DOMAIN, metadata);
        Status::with_error_details(code, message, details)
    }
}

/// As many are served already.
pub fn too_many(limit: usize, message: impl Display) -> Status {
    let refusal = Refusal::new(Code::ResourceExhausted, reasons::TOO_MANY_CALLERS, message);
    refusal.with("limit", limit).retry_after(SOON).status()
}

/// The agent ends; `message` says what the caller does about it.
pub fn draining(message: impl Display) -> Status {
    Refusal::new(Code::Unavailable, reasons::DRAINING, message).retry_after(LATER).status()
}

/// tonic's word for a message above the limit, in gRPC's; what is none is as it was.
pub fn too_large(problem: Status) -> Status {
    let numbers = |text: &str| -> Option<[u64; 2]> {
        let (found, limit) = text.strip_prefix(TOO_LARGE)?.split_once(" bytes, the limit is: ")?;
        Some([found.parse().ok()?, limit.strip_suffix(" bytes")?.parse().ok()?])
    };
    let Some([bytes, limit]) = numbers(problem.message()).filter(|_| problem.code() == Code::OutOfRange)
    else {
        return problem;
    };
    let message = format!(
        "a message of {bytes} bytes is above this agent's limit of {limit} bytes: send less, or start the agent with a \
         larger {PAGE_FLAG} (the limit is that and 1 MiB)"
    );
    let refusal = Refusal::new(Code::ResourceExhausted, reasons::MESSAGE_TOO_LARGE, message);
    refusal.with("bytes", bytes).with("limit_bytes", limit).with("flag", PAGE_FLAG).status()
}

const TOO_LARGE: &str = "Error, decoded message length too large: found ";
const PAGE_FLAG: &str = "--max-page-mib";

/// An error as the client gets it.
pub trait IntoStatus {
    fn into_status(self) -> Status;
}

impl IntoStatus for JobError {
    fn into_status(self) -> Status {
        let refusal = |code, reason| Refusal::new(code, reason, &self);
        match &self {
            Self::Unknown(batch) => {
                let mut refusal = refusal(Code::NotFound, reasons::JOB_UNKNOWN).with("batch_id", batch);
                refusal.details.set_resource_info(
                    "dgx.agent.v1.Batch",
                    batch.as_str(),
                    "",
                    "the agent's job",
                );
                refusal
            }
            Self::Differs { batch, state, differs } => {
                let differs: Vec<_> = differs.iter().map(|what| what.trim_start_matches("the ")).collect();
                let refusal = refusal(Code::AlreadyExists, reasons::JOB_DIFFERS).with("batch_id", batch);
                refusal.with("state", state).with("differs", differs.join(","))
            }
            Self::Refused(Refused { batch, state, hint }) => {
                let mut refusal = refusal(Code::FailedPrecondition, reasons::JOB_STATE);
                let (kind, hint) = (reasons::JOB_STATE, hint.as_ref());
                refusal.details.add_precondition_failure_violation(kind, batch.as_str(), hint);
                refusal.with("batch_id", batch).with("state", state)
            }
            Self::Draining => return draining(&self),
            Self::Store(error) if error.may_pass() => {
                refusal(Code::Unavailable, reasons::STATE_UNWRITABLE).retry_after(LATER)
            }
            Self::Store(_) => refusal(Code::Internal, reasons::INTERNAL),
        }
        .status()
    }
}

impl IntoStatus for BatchError {
    fn into_status(self) -> Status {
        let (code, reason) = match &self {
            Self::NotFound(_) => (Code::NotFound, reasons::BATCH_NOT_FOUND),
            Self::BadData(_) => (Code::DataLoss, reasons::BAD_DATA),
            Self::Differs(_) => (Code::FailedPrecondition, reasons::BATCH_CHANGED),
            Self::Config(_) => (Code::FailedPrecondition, reasons::SETTINGS),
            Self::ModelServerRefuses(_) => (Code::FailedPrecondition, reasons::MODEL_SERVER_REFUSES),
            Self::StoreUnreachable(_) => (Code::Unavailable, reasons::STORE_UNREACHABLE),
            Self::ModelServerAway(_) => (Code::Unavailable, reasons::MODEL_SERVER_AWAY),
            Self::Cancelled => (Code::Unavailable, reasons::DRAINING),
            Self::Internal(_) => (Code::Internal, reasons::INTERNAL),
        };
        let refusal = Refusal::new(code, reason, self);
        match code {
            Code::Unavailable => refusal.retry_after(LATER),
            _ => refusal,
        }
        .status()
    }
}

/// Of a batch id that a client names.
impl IntoStatus for IdError {
    fn into_status(self) -> Status {
        Refusal::field("batch_id", self).status()
    }
}

/// Of a root that a client names.
impl IntoStatus for StoreError {
    fn into_status(self) -> Status {
        match &self {
            Self::Uri { .. } | Self::NameTooLong { .. } => Refusal::field("root_uri", self).status(),
            _ => BatchError::from(self).into_status(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorInfo;

    use super::*;
    use crate::jobs::event::JobState;

    fn info(status: &Status) -> ErrorInfo {
        let info = status.get_details_error_info().expect("every refusal says why");
        assert_eq!(info.domain, reasons::DOMAIN);
        info
    }

    #[test]
    fn each_error_has_its_code_and_keeps_its_words() {
        let batch: proto::ids::BatchId = "b".parse().expect("an id");
        let differs = JobError::Differs {
            batch: batch.clone(),
            state: JobState::Queued,
            differs: vec!["the root", "the pages"],
        };
        let refused = Refused { batch: batch.clone(), state: JobState::Complete, hint: "x".into() };
        let cases = [
            (JobError::Unknown(batch).into_status(), Code::NotFound, "batch b"),
            (differs.into_status(), Code::AlreadyExists, "the root"),
            (JobError::from(refused).into_status(), Code::FailedPrecondition, "is complete"),
            (JobError::Draining.into_status(), Code::Unavailable, "shutting down"),
            (BatchError::ModelServerAway("gone".into()).into_status(), Code::Unavailable, "gone"),
            (BatchError::BadData("bad".into()).into_status(), Code::DataLoss, "bad"),
            (BatchError::NotFound("none".into()).into_status(), Code::NotFound, "none"),
            (BatchError::Config("pin".into()).into_status(), Code::FailedPrecondition, "pin"),
        ];
        let giant = "x".repeat(1 << 20).parse::<proto::ids::BatchId>().expect_err("no id").into_status();
        assert!(giant.message().len() < 2000 && giant.code() == Code::InvalidArgument);
        for (status, code, words) in cases {
            assert_eq!(status.code(), code, "{status}");
            assert!(status.message().contains(words), "{status}");
            assert!(!info(&status).reason.is_empty());
            let soon = status.get_details_retry_info().is_some();
            assert_eq!(soon, code == Code::Unavailable, "what may pass by itself says when to try again");
        }
    }

    #[test]
    fn what_a_caller_branches_on_stands_beside_the_message() {
        let batch: proto::ids::BatchId = "b".parse().expect("an id");
        let differs = vec!["the root", "the model's digest"];
        let differs = JobError::Differs { batch: batch.clone(), state: JobState::Running, differs };
        let told = info(&differs.into_status());
        assert_eq!(told.reason, reasons::JOB_DIFFERS);
        assert_eq!(
            (told.metadata["differs"].as_str(), told.metadata["state"].as_str()),
            ("root,model's digest", "running")
        );

        let unknown = JobError::Unknown(batch.clone()).into_status();
        let resource = unknown.get_details_resource_info().expect("the job");
        assert_eq!(
            (resource.resource_type.as_str(), resource.resource_name.as_str()),
            ("dgx.agent.v1.Batch", "b")
        );

        let refused = Refused { batch, state: JobState::Complete, hint: "there is nothing to cancel".into() };
        let refused = JobError::from(refused).into_status();
        let violations = refused.get_details_precondition_failure().expect("the state").violations;
        assert_eq!(violations[0].description, "there is nothing to cancel");
        assert_eq!(
            (info(&refused).reason.as_str(), info(&refused).metadata["state"].as_str()),
            (reasons::JOB_STATE, "complete")
        );

        let field = Refusal::field("weight", "weight 101 is none").status();
        assert_eq!(field.get_details_bad_request().expect("a field").field_violations[0].field, "weight");

        let busy = too_many(32, "busy");
        assert!(busy.get_details_retry_info().expect("when").retry_delay.is_some());
        assert_eq!(info(&busy).metadata["limit"], "32");
    }

    #[test]
    fn a_message_above_the_limit_says_how_large_it_may_be_and_who_says_so() {
        let tonic =
            "Error, decoded message length too large: found 9437186 bytes, the limit is: 9437184 bytes";
        let told = too_large(Status::out_of_range(tonic));
        assert_eq!(told.code(), Code::ResourceExhausted);
        assert!(
            told.message().contains("9437186 bytes is above this agent's limit of 9437184 bytes"),
            "{told}"
        );
        let told = info(&told).metadata;
        assert_eq!((told["limit_bytes"].as_str(), told["flag"].as_str()), ("9437184", "--max-page-mib"));
        for other in [Status::out_of_range("page 7 of 6"), Status::internal(tonic)] {
            assert_eq!(too_large(other.clone()).code(), other.code(), "it is none");
        }
    }

    #[test]
    fn the_longest_refusal_fits_into_headers() {
        let refusal = Refusal::field("page_token", "é".repeat(1 << 20)).status();
        let answer = refusal.into_http::<()>();
        let bytes: usize = answer.headers().values().map(|value| value.len()).sum();
        assert!(bytes < 8 << 10, "{bytes}");
    }
}
