//! The agent and the doubles, each started on a port of its own.

use std::{fs, path::Path};

use anyhow::Result;

use super::{process::Process, small_disk::SmallDisk};
use crate::ollama_sim::{Moment, Stats};

/// `dgx-agent serve` over a root.
#[derive(Debug)]
pub struct Agent {
    pub process: Process,
    /// For `--agent`.
    pub url: String,
}

impl Agent {
    /// `work` keeps its jobs and its log, so that a second start on it goes on.
    pub fn start(root: &str, work: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        let (mut process, port_file) = spawn("dgx-agent", work, |command| {
            command.args(["serve", "--root", root, "--listen", "127.0.0.1:0"]);
            command.arg("--state-dir").arg(work.join("state")).args(args);
            command.envs(env.iter().copied());
        })?;
        let url = format!("http://{}", process.address(&port_file)?);
        Ok(Self { process, url })
    }

    /// The same where a small disk is mounted; its log and its port file lie in `work`.
    pub fn start_on(disk: &SmallDisk, root: &Path, state: &Path, work: &Path, args: &[&str]) -> Result<Self> {
        fs::create_dir_all(work)?;
        let port_file = work.join("dgx-agent.port");
        let _ = fs::remove_file(&port_file);
        let mut command = disk.command("dgx-agent")?;
        command.args(["serve", "--listen", "127.0.0.1:0", "--root"]).arg(root);
        command.arg("--state-dir").arg(state).arg("--port-file").arg(&port_file).args(args);
        let mut process = Process::spawn("dgx-agent", command, &work.join("dgx-agent.log"))?;
        let url = format!("http://{}", process.address(&port_file)?);
        Ok(Self { process, url })
    }
}

/// The Argilla stand-in.
#[derive(Debug)]
pub struct ArgillaStandIn {
    pub process: Process,
    pub url: String,
}

impl ArgillaStandIn {
    /// The owner's key that every stand-in has.
    pub const OWNER_KEY: &str = "argilla.apikey";

    /// `work` keeps what it stores, so that a second start on it goes on.
    pub fn start(work: &Path) -> Result<Self> {
        let (mut process, port_file) = spawn("argilla-standin", work, |command| {
            command.args(["--listen", "127.0.0.1:0"]).arg("--state-file").arg(work.join("argilla.json"));
        })?;
        let url = format!("http://{}", process.address(&port_file)?);
        Ok(Self { process, url })
    }
}

/// The Ollama double.
#[derive(Debug)]
pub struct OllamaDouble {
    pub process: Process,
    pub url: String,
}

impl OllamaDouble {
    pub fn start(work: &Path, args: &[&str]) -> Result<Self> {
        let (mut process, port_file) = spawn("ollama-double", work, |command| {
            command.args(["--listen", "127.0.0.1:0"]).args(args);
        })?;
        let url = format!("http://{}", process.address(&port_file)?);
        Ok(Self { process, url })
    }
}

/// The Ollama simulator.
#[derive(Debug)]
pub struct OllamaSim {
    pub process: Process,
    pub url: String,
}

impl OllamaSim {
    pub fn start(work: &Path, args: &[&str]) -> Result<Self> {
        Self::start_on(0, work, args)
    }

    /// On a port that is known before, so that one server may come after another.
    pub fn start_on(port: u16, work: &Path, args: &[&str]) -> Result<Self> {
        let (mut process, port_file) = spawn("ollama-sim", work, |command| {
            command.args(["--listen", &format!("127.0.0.1:{port}")]).args(args);
        })?;
        let url = format!("http://{}", process.address(&port_file)?);
        Ok(Self { process, url })
    }

    /// What it saw; `more`: `?samples&pages`.
    pub async fn stats(&self, more: &str) -> Result<Stats> {
        let answer = client()?.get(format!("{}/sim/stats{more}", self.url)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Notes how things stand, under a name.
    pub async fn mark(&self, name: &str) -> Result<Moment> {
        let answer = client()?.post(format!("{}/sim/mark/{name}", self.url)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }
}

fn client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().build()?)
}

fn spawn(
    name: &str,
    work: &Path,
    configure: impl FnOnce(&mut std::process::Command),
) -> Result<(Process, std::path::PathBuf)> {
    fs::create_dir_all(work)?;
    let port_file = work.join(format!("{name}.port"));
    // An earlier run's address must not be taken for this one's.
    let _ = fs::remove_file(&port_file);
    let process = Process::start(
        name,
        |command| {
            configure(command);
            command.arg("--port-file").arg(&port_file);
        },
        &work.join(format!("{name}.log")),
    )?;
    Ok((process, port_file))
}
