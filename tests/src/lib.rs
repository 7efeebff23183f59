//! End to end: the doubles of the services we do not own, a harness that runs the real binaries, and the demo.
//!
//! ```text
//!  corpus, batch_dir, batch_files, agent_jobs, argilla_standin, ollama_double, ollama_sim, played, sme ──► harness,
//!  bench, by_hand, conformance ──► tests/it, live, bin/demo, bin/bench
//! ```

pub mod agent_jobs;
pub mod argilla_standin;
pub mod batch_dir;
pub mod batch_files;
pub mod bench;
pub mod by_hand;
pub mod campaign;
pub mod conformance;
pub mod corpus;
pub mod demo;
pub mod faulty_store;
pub mod fuzzing;
pub mod grounding;
pub mod harness;
pub mod long_run;
pub mod ollama_double;
pub mod ollama_sim;
pub mod played;
pub mod sme;

/// How long a soak is: `SOAK_` and the name in the environment, to see in short that it works; else as it is meant.
///
/// # Panics
/// When what is there is no number.
pub fn soak(name: &str, meant: usize) -> usize {
    let asked = std::env::var(format!("SOAK_{name}"));
    asked.ok().map_or(meant, |number| number.parse().expect("a number"))
}
