//! A server of a case's own, on a port of its own, that may be killed and started again.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use super::Target;
use crate::{
    conformance::until,
    harness::{Process, binary},
};

/// Ollama's own OLLAMA_MAX_QUEUE.
const DEFAULT_QUEUE: usize = 512;

const DOUBLE: &str = "ollama-double";

/// How to start a server like the target.
pub enum Launch {
    /// A binary of ours, which takes the double's flags, and flags of its own.
    Double(&'static str, &'static [&'static str]),
    Real {
        binary: PathBuf,
        /// `OLLAMA_MODELS`
        models: PathBuf,
    },
}

impl Launch {
    /// The simulator's slots have a time of their own; its unit tests watch them.
    pub(super) fn has_long_answers(&self) -> bool {
        !matches!(self, Self::Double(name, _) if *name != DOUBLE)
    }

    pub const DOUBLE: Self = Self::Double(DOUBLE, &[]);
    pub const SIMULATOR: Self = Self::Double("ollama-sim", &["--slots", "1", "--service-ms", "5"]);
}

/// Ends, with what it started, when it is dropped.
pub struct Instance {
    process: Process,
    pub url: String,
    port: u16,
}

impl Instance {
    /// `slots`: OLLAMA_NUM_PARALLEL. `plan`: flags for the double, which is to do by plan what the real server does
    /// by itself.
    pub async fn start(target: &Target, slots: usize, plan: &[&str]) -> Result<Self> {
        Self::start_on(target, free_port()?, slots, DEFAULT_QUEUE, plan).await
    }

    /// Takes one request besides the one it loads the model for.
    pub async fn with_short_queue(target: &Target, plan: &[&str]) -> Result<Self> {
        Self::start_on(target, free_port()?, 1, 1, plan).await
    }

    async fn start_on(target: &Target, port: u16, slots: usize, queue: usize, plan: &[&str]) -> Result<Self> {
        let slots = slots.to_string();
        let address = format!("127.0.0.1:{port}");
        let mut command = match &target.launch {
            Launch::Double(name, own) => {
                let mut command = Command::new(binary(name)?);
                command.args(["--listen", &address, "--model", &target.model]).args(*own).args(plan);
                if *name == DOUBLE {
                    command.args(["--parallel", &slots]);
                }
                command
            }
            Launch::Real { binary, models } => {
                let mut command = real(binary, models, &address, &target.work);
                command.env("OLLAMA_NUM_PARALLEL", &slots).env("OLLAMA_MAX_QUEUE", queue.to_string());
                command
            }
        };
        // The real server starts runners that would outlive it: they are killed with it, as a group.
        command.process_group(0);
        let process = Process::spawn("ollama", command, &target.work.join(format!("ollama-{port}.log")))?;
        let mut instance = Self { process, url: format!("http://{address}"), port };
        until(async || {
            ensure!(instance.process.is_running()?, "it ended:\n{}", instance.process.log());
            let answer = target.http.get(format!("{}/api/version", instance.url)).send().await?;
            ensure!(answer.status() == 200, "{}", answer.status());
            Ok(())
        })
        .await
        .context("start an Ollama")?;
        Ok(instance)
    }

    /// Killed, whatever it is doing. Gives the port back for a second life.
    pub fn kill(self) -> u16 {
        self.port
    }

    /// Comes back where it was.
    pub async fn back(target: &Target, port: u16) -> Result<Self> {
        Self::start_on(target, port, 1, DEFAULT_QUEUE, &[]).await
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let group = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        // The process itself is reaped by its own drop.
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
    }
}

/// Free a moment ago; nothing else here takes ports by number.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn real(binary: &Path, models: &Path, address: &str, home: &Path) -> Command {
    let mut command = Command::new(binary);
    command.arg("serve").env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.env("OLLAMA_HOST", address).env("OLLAMA_MODELS", models).env("HOME", home);
    command.env("OLLAMA_NOPRUNE", "1");
    command
}
