//! The agent's gRPC service: what clients may ask of the jobs. The contract is `proto/dgx/agent/v1/agent.proto`.
//!
//! ```text
//! request ─► service (admits, checks) ─► jobs ─► convert ─► answer
//!                                          └─► status: the one map from an error to a gRPC status
//! ```

pub mod convert;
pub mod limits;
mod pages;
pub mod service;
pub mod status;

pub use pages::MAX_ANSWER_BYTES;
