//! The agent, as `control` sees it: a connection with its credentials, and jobs in words that people read.

mod activity;
mod client;
mod job;

pub use client::{Agent, ConnectError, Sight, has_ended};
pub use job::{Job, JobOutcome, Jobs, engine};
