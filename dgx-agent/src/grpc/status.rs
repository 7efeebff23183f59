//! The one map from errors to gRPC statuses. The messages are the errors' own: they name the batch and the way out.

use proto::{ids::IdError, store::StoreError};
use tonic::{Code, Status};

use crate::{batch::BatchError, jobs::JobError};

/// Longest message, in characters: it travels in a header, and may quote what a client sent.
const MAX_MESSAGE: usize = 1000;

/// A status whose message a client can take.
pub fn status(code: Code, message: impl std::fmt::Display) -> Status {
    let mut message = message.to_string();
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
        message.push('…');
    }
    Status::new(code, message)
}

/// An error as the client gets it.
pub trait IntoStatus {
    fn into_status(self) -> Status;
}

impl IntoStatus for JobError {
    fn into_status(self) -> Status {
        let code = match &self {
            Self::Unknown(_) => Code::NotFound,
            Self::Differs { .. } => Code::AlreadyExists,
            Self::Refused(_) => Code::FailedPrecondition,
            Self::Draining => Code::Unavailable,
            Self::Store(_) => Code::Internal,
        };
        status(code, self)
    }
}

impl IntoStatus for BatchError {
    fn into_status(self) -> Status {
        let code = match &self {
            Self::NotFound(_) => Code::NotFound,
            Self::BadData(_) => Code::DataLoss,
            Self::Differs(_) | Self::Config(_) | Self::ModelServerRefuses(_) => Code::FailedPrecondition,
            Self::StoreUnreachable(_) | Self::ModelServerAway(_) | Self::Cancelled => Code::Unavailable,
            Self::Internal(_) => Code::Internal,
        };
        status(code, self)
    }
}

impl IntoStatus for IdError {
    fn into_status(self) -> Status {
        status(Code::InvalidArgument, self)
    }
}

/// Of a root that a client names.
impl IntoStatus for StoreError {
    fn into_status(self) -> Status {
        let code = match &self {
            Self::Uri { .. } | Self::NameTooLong { .. } => Code::InvalidArgument,
            Self::NoCredentials { .. } | Self::Denied { .. } | Self::Changed { .. } => {
                Code::FailedPrecondition
            }
            Self::NotFound { .. } => Code::NotFound,
            Self::Unreachable { .. } => Code::Unavailable,
        };
        status(code, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::job::{JobState, Refused};

    #[test]
    fn each_error_has_its_code_and_keeps_its_words() {
        let batch: proto::ids::BatchId = "b".parse().expect("an id");
        let differs =
            JobError::Differs { batch: batch.clone(), state: JobState::Queued, differs: "the root".into() };
        let refused = Refused { batch: batch.clone(), state: JobState::Complete, hint: "x" };
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
        }
    }
}
