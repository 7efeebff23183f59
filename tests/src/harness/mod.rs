//! Runs the real binaries on free loopback ports. Every process ends with the value that stands for it.

mod control;
mod process;
mod services;
mod shell;

pub use control::{Control, Finished};
pub use process::{Process, binary};
pub use services::{Agent, ArgillaStandIn, OllamaDouble};
pub use shell::{OpenShell, Shell};
