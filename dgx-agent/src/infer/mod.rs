//! Completions from an Ollama server.
//!
//! ```text
//! request ─► breaker ─► limiter ─► transport ─► ndjson, runaway ─► Completion ─► tokens (learned)
//!                          ▲           │                               │
//!                          │           └─► error (class) ─► retry ─► again, in halves, or give up
//!                          └── controller ◄────────────────────────────┘
//! ```
//!
//! Constraints, from `contracts/ollama.md`:
//! - the server never pushes back, so requests in flight are bounded here;
//! - silence is never an answer: a stream without `done: true` is a failure, whatever its HTTP status;
//! - nothing is cut unseen: `truncate: false`, an explicit `num_ctx`, and a check of the prompt's token count;
//! - all requests of a batch carry the same load-time options, else the server reloads the model;
//! - dropping the future of a request closes its connection, which stops the generation.

mod breaker;
mod client;
mod controller;
mod error;
mod lanes;
mod limiter;
mod logprobs;
mod ndjson;
mod preflight;
mod request;
mod retry;
mod runaway;
mod tokens;
mod transport;

pub use breaker::{Breaker, Struck};
pub use client::{Client, Endpoint, Timeouts};
pub use controller::{Concurrency, Controller, Move, Reason, Sample, Timing};
pub use error::{Class, InferError, Partial};
pub use limiter::{Lane, Limiter, Permit, UnderWay};
pub use logprobs::Logprobs;
pub use preflight::{Loaded, Preflight, digest, loaded_context, preflight, version};
pub use request::{ModelParams, RequestTemplate};
pub use retry::{Decision, RetryBudget, RetryPolicy, Tries};
pub use tokens::Learned;
pub use transport::Completion;
