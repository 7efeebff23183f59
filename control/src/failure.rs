//! How a command fails, named for what the caller does next; the one map from error to exit code.
//!
//! There is no exit code for anything else: a local file that cannot be read or written is configuration (a path,
//! a right, a full disk), and an object that is not what it should be is data.

use std::{fmt, path::Path};

use proto::{
    ids::IdError,
    labelset::LabelsetError,
    parquet_io::{EncodeError, ParquetIoError},
    reasons,
    rows::RowError,
    schema::SchemaError,
    store::StoreError,
};
use serde::Serialize;
use tonic::Code;
use tonic_types::StatusExt;

use crate::argilla::{
    client::ArgillaError, dataset::DatasetError, export::ExportError, push::PushError, scan::ScanError,
};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// What was looked at is not as it must be: a check, a review that is not done, a job that failed.
    #[error("{0}")]
    Gate(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Config(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Data(String),
    #[error("{0}")]
    Interrupted(String),
}

/// As `--json` prints it on stderr.
#[derive(Debug, Serialize)]
pub struct FailureDoc<'a> {
    pub error: &'static str,
    pub message: &'a str,
    pub exit_code: u8,
}

impl Failure {
    pub fn gate(message: impl fmt::Display) -> Self {
        Self::Gate(message.to_string())
    }

    pub fn usage(message: impl fmt::Display) -> Self {
        Self::Usage(message.to_string())
    }

    pub fn config(message: impl fmt::Display) -> Self {
        Self::Config(message.to_string())
    }

    pub fn unreachable(message: impl fmt::Display) -> Self {
        Self::Unreachable(message.to_string())
    }

    pub fn data(message: impl fmt::Display) -> Self {
        Self::Data(message.to_string())
    }

    /// The person stopped the command; `what` says what that left behind.
    pub fn interrupted(what: impl fmt::Display) -> Self {
        Self::Interrupted(what.to_string())
    }

    /// A file of this machine, as opposed to an object of the store.
    pub fn file(action: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::Config(format!("cannot {action} {}: {error}", path.display()))
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Gate(_) => 1,
            Self::Usage(_) => 2,
            Self::Config(_) => 3,
            Self::Unreachable(_) => 4,
            Self::Data(_) => 5,
            Self::Interrupted(_) => 130,
        }
    }

    pub fn doc(&self) -> FailureDoc<'_> {
        let (error, message) = match self {
            Self::Gate(message) => ("gate", message),
            Self::Usage(message) => ("usage", message),
            Self::Config(message) => ("configuration", message),
            Self::Unreachable(message) => ("unreachable", message),
            Self::Data(message) => ("data", message),
            Self::Interrupted(message) => ("interrupted", message),
        };
        FailureDoc { error, message, exit_code: self.exit_code() }
    }

    /// The same failure with `context` before its message.
    #[must_use]
    pub fn context(self, context: impl fmt::Display) -> Self {
        match self {
            Self::Gate(message) => Self::Gate(format!("{context}: {message}")),
            Self::Usage(message) => Self::Usage(format!("{context}: {message}")),
            Self::Config(message) => Self::Config(format!("{context}: {message}")),
            Self::Unreachable(message) => Self::Unreachable(format!("{context}: {message}")),
            Self::Data(message) => Self::Data(format!("{context}: {message}")),
            Self::Interrupted(message) => Self::Interrupted(format!("{context}: {message}")),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Uri { .. }
            | StoreError::NoCredentials { .. }
            | StoreError::Denied { .. }
            | StoreError::Forbidden { .. } => Self::config(error),
            StoreError::Unreachable { .. } => Self::unreachable(error),
            StoreError::NotFound { .. } | StoreError::NameTooLong { .. } | StoreError::Changed { .. } => {
                Self::data(error)
            }
        }
    }
}

impl From<ParquetIoError> for Failure {
    fn from(error: ParquetIoError) -> Self {
        match error {
            ParquetIoError::Store(error) => error.into(),
            other => Self::data(other),
        }
    }
}

impl From<RowError> for Failure {
    fn from(error: RowError) -> Self {
        Self::data(error)
    }
}

impl From<SchemaError> for Failure {
    fn from(error: SchemaError) -> Self {
        Self::data(error)
    }
}

impl From<EncodeError> for Failure {
    fn from(error: EncodeError) -> Self {
        Self::data(error)
    }
}

impl From<LabelsetError> for Failure {
    fn from(error: LabelsetError) -> Self {
        Self::data(error)
    }
}

impl From<IdError> for Failure {
    fn from(error: IdError) -> Self {
        match error {
            IdError::BatchId(_) => Self::usage(error),
            IdError::EmptyDocId => Self::data(error),
        }
    }
}

/// The agent's answer. Its messages name the batch and the way out; only their class is added here.
impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let message = format!("the agent: {}", status.message());
        let reason = status.get_details_error_info().filter(|info| info.domain == reasons::DOMAIN);
        match reason.as_ref().map(|info| info.reason.as_str()) {
            // The job is not as it must be: nothing is wrong with any setting.
            Some(reasons::JOB_STATE) => return Self::Gate(message),
            // Trying again is no use.
            Some(reasons::MESSAGE_TOO_LARGE) => return Self::Config(message),
            _ => {}
        }
        match status.code() {
            Code::InvalidArgument => Self::Usage(message),
            Code::Unauthenticated
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Unimplemented => Self::Config(message),
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Unknown => Self::Unreachable(message),
            _ => Self::Data(message),
        }
    }
}

impl From<ArgillaError> for Failure {
    fn from(error: ArgillaError) -> Self {
        match error {
            ArgillaError::Config(_) | ArgillaError::Denied { .. } => Self::config(error),
            ArgillaError::Unreachable { .. } | ArgillaError::Unreadable { .. } => Self::unreachable(error),
            ArgillaError::Refused { .. } => Self::data(error),
        }
    }
}

impl From<DatasetError> for Failure {
    fn from(error: DatasetError) -> Self {
        match error {
            DatasetError::Argilla(error) => error.into(),
            DatasetError::NoWorkspace { .. } => Self::config(error),
            DatasetError::Differs { .. } => Self::data(error),
        }
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Argilla(error) => error.into(),
            PushError::Read(error) => error.into(),
        }
    }
}

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Argilla(error) => error.into(),
            ScanError::Unstable { .. } => Self::unreachable(error),
        }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Scan(error) => error.into(),
            ExportError::Read(error) => error.into(),
            ExportError::Store(error) => error.into(),
            ExportError::Encode(error) => error.into(),
            ExportError::Spool(_) => Self::config(error),
            ExportError::Description { .. } => Self::data(error),
            ExportError::TooFew { .. } => Self::gate(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_as_the_design_has_them() {
        let codes = [
            (Failure::gate("x"), 1),
            (Failure::usage("x"), 2),
            (Failure::config("x"), 3),
            (Failure::unreachable("x"), 4),
            (Failure::data("x"), 5),
            (Failure::interrupted("x"), 130),
        ];
        for (failure, code) in codes {
            assert_eq!((failure.exit_code(), failure.doc().exit_code), (code, code), "{failure:?}");
        }
    }

    #[test]
    fn errors_of_the_store_and_the_agent_are_told_apart() {
        let uri = || "s3://b/k".to_owned();
        assert_eq!(Failure::from(StoreError::NotFound { uri: uri() }).exit_code(), 5);
        assert_eq!(Failure::from(StoreError::NoCredentials { uri: uri(), hint: "x" }).exit_code(), 3);
        let refused = "x".parse::<proto::ids::BatchId>().map(drop).and_then(|()| "X".parse());
        assert_eq!(
            refused.map(|_: proto::ids::BatchId| ()).map_err(|e| Failure::from(e).exit_code()),
            Err(2)
        );
        for (code, exit) in [
            (Code::Unavailable, 4),
            (Code::Unauthenticated, 3),
            (Code::FailedPrecondition, 3),
            (Code::AlreadyExists, 5),
            (Code::NotFound, 5),
            (Code::InvalidArgument, 2),
        ] {
            assert_eq!(Failure::from(tonic::Status::new(code, "m")).exit_code(), exit, "{code:?}");
        }
    }

    #[test]
    fn the_reason_of_the_agent_wins_over_the_code() {
        let told = |code, reason| {
            let details = tonic_types::ErrorDetails::with_error_info(reason, reasons::DOMAIN, []);
            Failure::from(tonic::Status::with_error_details(code, "m", details)).exit_code()
        };
        assert_eq!(told(Code::FailedPrecondition, reasons::JOB_STATE), 1);
        assert_eq!(told(Code::ResourceExhausted, reasons::MESSAGE_TOO_LARGE), 3);
        assert_eq!(told(Code::ResourceExhausted, reasons::TOO_MANY_CALLERS), 4);
        assert_eq!(told(Code::FailedPrecondition, reasons::SETTINGS), 3);
    }

    #[test]
    fn context_keeps_the_class() {
        let failure = Failure::config("no key").context("batch pilot-1");
        assert_eq!(failure, Failure::Config("batch pilot-1: no key".into()));
    }
}
