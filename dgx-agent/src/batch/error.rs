//! What ends a batch before its end, named for what the caller does next. `crate::error` maps it to exit codes,
//! the daemon to gRPC codes. Every message names the batch, the part or the URI, and says what to do.

use proto::{
    parquet_io::{EncodeError, ParquetIoError},
    store::StoreError,
};

use crate::infer::{Class, InferError};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There is no such batch, or it has no pages.
    #[error("{0}")]
    NotFound(String),
    /// Files that are not what they must be, each named. All other parts are committed.
    #[error("{0}")]
    BadData(String),
    /// What is committed, pinned or running is another thing than what is asked for.
    #[error("{0}")]
    Differs(String),
    /// The agent's settings, or what the batch asks of them.
    #[error("{0}")]
    Config(String),
    #[error("{0}")]
    StoreUnreachable(String),
    /// It cannot be reached, or fails on everything: later it may not.
    #[error("{0}")]
    ModelServerAway(String),
    /// It answers, and no request can succeed: no such model, a login page.
    #[error("{0}")]
    ModelServerRefuses(String),
    #[error("interrupted: what is committed stays; run it again to go on")]
    Cancelled,
    #[error("{0}; this is a mistake in dgx-agent")]
    Internal(String),
}

impl BatchError {
    pub(crate) fn from_model_server(error: &InferError) -> Self {
        match error.class() {
            Class::Fatal | Class::Rejected => Self::ModelServerRefuses(error.to_string()),
            _ => Self::ModelServerAway(error.to_string()),
        }
    }

    /// Whether only the part at hand suffers from it.
    pub(super) fn is_of_a_part(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::BadData(_))
    }
}

impl From<StoreError> for BatchError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NotFound { .. } => Self::NotFound(message),
            StoreError::Uri { .. }
            | StoreError::NoCredentials { .. }
            | StoreError::Denied { .. }
            | StoreError::Forbidden { .. } => Self::Config(message),
            StoreError::Unreachable { .. } => Self::StoreUnreachable(message),
            StoreError::NameTooLong { .. } | StoreError::Changed { .. } => Self::BadData(message),
        }
    }
}

impl From<ParquetIoError> for BatchError {
    fn from(error: ParquetIoError) -> Self {
        match error {
            ParquetIoError::Store(error) => error.into(),
            other => Self::BadData(other.to_string()),
        }
    }
}

impl From<EncodeError> for BatchError {
    fn from(error: EncodeError) -> Self {
        Self::Internal(error.to_string())
    }
}
