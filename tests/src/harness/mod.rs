//! Runs the real binaries on free loopback ports. Every process ends with the value that stands for it.

mod agent_run;
mod control;
pub mod foreign;
mod process;
mod services;
mod shell;
mod small_disk;

pub use agent_run::{agent_command, agent_run, agent_run_json, agent_with_input};
pub use control::{Control, Finished};
pub use process::{Process, binary};
pub use services::{Agent, ArgillaStandIn, OllamaDouble, OllamaSim};
pub use shell::{OpenShell, Shell};
pub use small_disk::SmallDisk;
