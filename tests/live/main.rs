//! The suites against the real services (`make services`, then `make live`).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy knows test functions, not their helpers"
)]

mod by_hand;
mod conformance;
mod doctor;
mod ollama;
mod pilot;
mod place;
mod services;
mod store;
