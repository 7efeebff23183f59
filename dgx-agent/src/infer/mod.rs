//! Completions from an Ollama server.
//!
//! ```text
//! request ─► limiter ─► transport ─► ndjson ─► Completion
//!                          │
//!                          └─► error (class) ─► retry (policy) ─► again, or give up
//! ```
//!
//! Constraints, from `contracts/ollama.md`:
//! - the server never pushes back, so requests in flight are bounded here;
//! - silence is never an answer: a stream without `done: true` is a failure, whatever its HTTP status;
//! - nothing is cut unseen: `truncate: false`, an explicit `num_ctx`, and a check of the prompt's token count;
//! - all requests of a batch carry the same load-time options, else the server reloads the model;
//! - dropping the future of a request closes its connection, which stops the generation.

mod client;
mod error;
mod limiter;
mod ndjson;
mod preflight;
mod request;
mod retry;
mod transport;

pub use client::{Client, Endpoint, Timeouts};
pub use error::{Class, InferError, Partial};
pub use limiter::{Limiter, Permit};
pub use preflight::{Loaded, Preflight, preflight};
pub use request::{ModelParams, RequestTemplate};
pub use retry::{Decision, RetryPolicy, Tries};
pub use transport::Completion;
