//! End-to-end tests, one file a hop. They run the binaries of this workspace: build them first
//! (`make test` does; by hand: `cargo build --workspace --bins`).

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

mod agent_bad_input;
mod agent_bad_states;
mod agent_crash;
mod agent_labelset;
mod agent_long;
mod agent_ollama;
mod agent_operate;
mod agent_pages;
mod agent_refusals;
mod agent_run;
mod agent_serve;
mod agent_serve_crash;
mod agent_serve_ollama;
mod agent_share;
mod agent_store;
mod annotators;
mod argilla;
mod argilla_standin;
mod by_hand;
mod conformance;
mod control_jobs;
mod corpus;
mod doctor;
mod eval;
mod full_disk;
mod infer_bounds;
mod infer_server;
mod journal;
mod lake;
mod pilot;
mod preview;
mod retry;
mod services;
mod sim_faults;
mod simulated_sme;
