//! How a command fails, named for what the caller does next; the one map from error to exit code.

use std::{fmt, path::Path};

use proto::{labelset::LabelsetError, store::StoreError};
use serde::Serialize;

use crate::batch::BatchError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The job could not be ended, and not for want of anything below; or a daemon does not serve.
    #[error("{0}")]
    Job(String),
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
    pub fn config(message: impl fmt::Display) -> Self {
        Self::Config(message.to_string())
    }

    /// A file of this machine, as opposed to an object of the store.
    pub fn file(action: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::Config(format!("cannot {action} {}: {error}", path.display()))
    }

    pub fn exit_code(&self) -> u8 {
        self.doc().exit_code
    }

    pub fn doc(&self) -> FailureDoc<'_> {
        let (error, message, exit_code) = match self {
            Self::Job(message) => ("job", message, 1),
            Self::Usage(message) => ("usage", message, 2),
            Self::Config(message) => ("configuration", message, 3),
            Self::Unreachable(message) => ("unreachable", message, 4),
            Self::Data(message) => ("data", message, 5),
            Self::Interrupted(message) => ("interrupted", message, 130),
        };
        FailureDoc { error, message, exit_code }
    }
}

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Self {
        let message = error.to_string();
        match error {
            BatchError::NotFound(_) | BatchError::BadData(_) | BatchError::Differs(_) => Self::Data(message),
            BatchError::Config(_) | BatchError::ModelServerRefuses(_) => Self::Config(message),
            BatchError::StoreUnreachable(_) | BatchError::ModelServerAway(_) => Self::Unreachable(message),
            BatchError::Cancelled => Self::Interrupted(message),
            BatchError::Internal(_) => Self::Job(message),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        BatchError::from(error).into()
    }
}

impl From<LabelsetError> for Failure {
    fn from(error: LabelsetError) -> Self {
        Self::config(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_as_the_design_has_them() {
        let text = || "x".to_owned();
        for (error, code) in [
            (BatchError::Internal(text()), 1),
            (BatchError::Config(text()), 3),
            (BatchError::ModelServerRefuses(text()), 3),
            (BatchError::ModelServerAway(text()), 4),
            (BatchError::StoreUnreachable(text()), 4),
            (BatchError::NotFound(text()), 5),
            (BatchError::BadData(text()), 5),
            (BatchError::Differs(text()), 5),
            (BatchError::Cancelled, 130),
        ] {
            assert_eq!(Failure::from(error).exit_code(), code);
        }
    }
}
