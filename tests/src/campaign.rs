//! Agents over one batch that are killed at random moments: what they made equals what an undisturbed agent makes, and a
//! kill costs no more requests than were in flight and in the journal's last window.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use chrono::DateTime;
use proto::rows::BatchPage;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::{
    batch_dir::{BatchDir, parts},
    harness::{OllamaSim, Process, agent_run},
    ollama_double::MODEL,
    ollama_sim::{audit::Made, sheets::slip},
};

/// For `--concurrency`, and the simulator's slots.
const SLOTS: u32 = 4;
/// The journal writes at least so often.
const WINDOW_MS: u32 = 50;

const LOOK: Duration = Duration::from_millis(20);
/// Looks at an agent that is not disturbed any more. Not a time: a machine may hold all processes for a while.
const LOOKS: usize = 30_000;

/// How a campaign goes.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    pub agents: usize,
    pub kills: usize,
    pub pages: usize,
    pub part_pages: usize,
    pub service_ms: u32,
    /// Longest time between two kills.
    pub pause: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub agents: usize,
    pub kills: usize,
    pub pages: usize,
    /// Of an undisturbed run: the fewest possible.
    pub needed: u64,
    /// Requests beyond those of an undisturbed run.
    pub repeated: u64,
    /// What they may be.
    pub allowed: u64,
    pub took: Duration,
    /// Of the moments and the agents that were killed.
    pub seed: u64,
}

impl Told {
    pub const HEAD: &str =
        "agents  kills  pages  requests needed  repeated  a kill  allowed a kill  seconds  seed";
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agents, kills, pages, needed, repeated, allowed, took, seed } = self;
        let each = |requests: &u64| *requests as f64 / (*kills).max(1) as f64;
        let (repeated_each, allowed_each, seconds) = (each(repeated), each(allowed), took.as_secs_f64());
        write!(
            f,
            "{agents:>6} {kills:>6} {pages:>6} {needed:>16} {repeated:>9} {repeated_each:>7.1} {allowed_each:>15.1} \
             {seconds:>8.0}  {seed}"
        )
    }
}

struct Stage<'a> {
    root: &'a Path,
    simulator: &'a OllamaSim,
}

impl Stage<'_> {
    fn state(&self, agent: usize) -> PathBuf {
        self.root.join(format!("state-{agent}"))
    }

    fn args(&self, state: &Path) -> Vec<String> {
        let slots = SLOTS.to_string();
        let state = state.display().to_string();
        let args = ["--engine", "ollama", "--model", MODEL, "--ollama-url", &self.simulator.url];
        let more = ["--state-dir", &state, "--concurrency", &slots];
        args.into_iter().chain(more).map(str::to_owned).collect()
    }

    fn start(&self, agent: usize) -> Result<Process> {
        let configure = |command: &mut Command| {
            command.env_clear().args(["run", "--batch-id", "campaign", "--root"]).arg(self.root);
            command.args(self.args(&self.state(agent)));
        };
        Process::start("dgx-agent", configure, &self.root.join(format!("agent-{agent}.log")))
    }
}

/// Less what differs between two equal runs.
pub async fn made(batch: &BatchDir) -> Result<Made> {
    let mut made = Made { ledger: batch.ledger().await?, suggestions: batch.suggestions().await? };
    for row in &mut made.ledger {
        (row.attempts, row.latency_ms) = (0, 0);
    }
    for row in &mut made.suggestions {
        row.generated_at = DateTime::UNIX_EPOCH;
    }
    Ok(made)
}

async fn batch(root: &Path, pages: &[BatchPage], part_pages: usize) -> Result<BatchDir> {
    let batch = BatchDir::new(root, "campaign")?;
    batch.write_parts(&parts(pages, part_pages)).await?;
    let mut spec = batch.spec().await?;
    spec.no_pilot = Some("a campaign".into());
    batch.write_spec(&spec).await?;
    Ok(batch)
}

/// Runs it. The rows are compared here; the requests are told.
pub async fn run(campaign: Campaign) -> Result<Told> {
    let folder = tempfile::tempdir()?;
    let pages: Vec<_> = (0..campaign.pages).map(slip).collect();
    let [disturbed, calm] = ["disturbed", "calm"].map(|name| folder.path().join(name));

    std::fs::create_dir_all(&calm)?;
    let simulator = OllamaSim::start(&calm.join("sim"), &[])?;
    let expected = batch(&calm, &pages, campaign.part_pages).await?;
    let stage = Stage { root: &calm, simulator: &simulator };
    let args = stage.args(&stage.state(0));
    let done = agent_run(&calm, "campaign", &args.iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(done.code == Some(0), "the undisturbed run ended with {:?}: {}", done.code, done.stderr);
    let needed = simulator.stats("").await?.now.requests;

    std::fs::create_dir_all(&disturbed)?;
    let (slots, service) = (SLOTS.to_string(), campaign.service_ms.to_string());
    let simulator = OllamaSim::start(&disturbed.join("sim"), &["--slots", &slots, "--service-ms", &service])?;
    let killed = batch(&disturbed, &pages, campaign.part_pages).await?;
    let stage = Stage { root: &disturbed, simulator: &simulator };
    let mut agents = (0..campaign.agents).map(|agent| stage.start(agent)).collect::<Result<Vec<_>>>()?;
    let (seed, began) = (rand::random(), Instant::now());
    let mut rng = StdRng::seed_from_u64(seed);
    let mut kills = 0;
    while kills < campaign.kills && !killed.is_complete().await? {
        let (agent, pause) =
            (rng.random_range(0..agents.len()), rng.random_range(Duration::ZERO..campaign.pause));
        // Random moments are what it is about.
        tokio::time::sleep(pause).await;
        if !agents[agent].is_running()? {
            ensure!(agents[agent].wait()?.success(), "an agent failed: {}", agents[agent].log());
            continue;
        }
        agents[agent].kill()?;
        kills += 1;
        agents[agent] = stage.start(agent)?;
    }
    for agent in &mut agents {
        let mut looks = 0;
        while agent.is_running()? {
            ensure!(looks < LOOKS, "an agent does not end: {}", agent.log());
            looks += 1;
            tokio::time::sleep(LOOK).await;
        }
        ensure!(agent.wait()?.success(), "an agent failed: {}", agent.log());
    }
    ensure!(killed.is_complete().await?, "there is no manifest");
    let (made, expected) = (made(&killed).await?, made(&expected).await?);
    ensure!(made.ledger == expected.ledger, "the ledger differs from an undisturbed run's");
    ensure!(made.suggestions == expected.suggestions, "the suggestions differ from an undisturbed run's");
    for folder in ["staged/", "leases/"] {
        let left = killed.store.list_sorted(&format!("{}{folder}", killed.keys.folder())).await?;
        ensure!(left.is_empty(), "left behind: {left:?}");
    }
    let asked = simulator.stats("").await?.now.requests;
    // What `SLOTS` slots answer in two windows (one being written, one filling), and what is asked there meanwhile;
    // a restart warms the model up.
    let in_window = u64::from(SLOTS * 2 * WINDOW_MS / campaign.service_ms.max(1) + SLOTS);
    let starts = kills as u64 + campaign.agents as u64;
    let allowed = kills as u64 * in_window + starts;
    let repeated = asked.checked_sub(needed).context("fewer requests than pages")?;
    let (agents, pages, took) = (campaign.agents, pages.len(), began.elapsed());
    Ok(Told { agents, kills, pages, needed, repeated, allowed, took, seed })
}
