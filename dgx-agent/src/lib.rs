//! The pre-annotation daemon that lives beside Ollama on the GPU machine.
//!
//! ```text
//! cli ─► config ─► serve (grpc ─► jobs) ─┐
//!                  run ──────────────────┴─► batch ─► plan
//!                                             │ a part at a time
//!                                             ▼
//!  pages ─► admit ─► engine: chunk ─► prompt ─► infer ─► parse ─► ground ─► validate ─► commit ─► manifest
//!                            └ rules: patterns ─────────────────┘
//! ```
//!
//! `chunk`, `prompt`, `parse`, `ground`, `rules`, `validate` and `overlap` are pure; the rest is I/O around them.

pub mod cli;
pub mod commands;
pub mod config;
pub mod env;
pub mod error;
pub mod memory;
pub mod telemetry;

pub mod batch;
pub mod engine;

pub mod chunk;
pub mod clock;
mod confidence;
pub mod ground;
pub mod ground_cmd;
pub mod grpc;
pub mod health_cmd;
pub mod infer;
pub mod jobs;
pub mod journal;
pub mod metrics;
mod offsets;
pub mod overlap;
pub mod parse;
pub mod prompt;
pub mod rules;
pub mod serve;
pub mod validate;
