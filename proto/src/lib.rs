//! The contracts that `dgx-agent`, `control` and their tests share. Nothing here does work on pages.
//!
//! ```text
//!  ids ──► keys ──► store          what things are called, where they lie, how to reach them
//!  schema ──► rows                 Parquet tables: columns, validation, one struct a row
//!  docs                            the JSON documents of a batch: spec, commit, manifest, sign-off; calibration
//!  lease                           who works on a part
//!  labelset                        labels with patterns and validators
//!  grpc, reasons                   the agent's service, and why it refuses a call
//! ```

pub mod docs;
pub mod grpc;
pub mod hash;
pub mod ids;
pub mod keys;
pub mod labelset;
pub mod lease;
pub mod parquet_io;
pub mod reasons;
pub mod rows;
pub mod schema;
pub mod store;
