//! The daemon: how soon it serves, what it takes when idle, and how fast it lets go.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{Lab, Row, Unit, median};
use crate::{agent_jobs::AgentJobs, harness::Agent};

const ROUNDS: usize = 5;

pub(super) async fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let mut ready = Vec::new();
    for _ in 0..ROUNDS {
        let begun = std::time::Instant::now();
        let agent = start(lab, &lab.zero.url)?;
        AgentJobs::connect(&agent.url).await?.list(1, "").await?;
        ready.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let agent = start(lab, &lab.zero.url)?;
    AgentJobs::connect(&agent.url).await?.list(1, "").await?;
    // What a start leaves behind is given back a moment later, or not at all.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let idle = resident_mebibytes(agent.process.id())?;
    drop(agent);
    let mut cancelled = Vec::new();
    for _ in 0..ROUNDS {
        cancelled.push(cancel(lab).await?);
    }
    let worst = cancelled.into_iter().fold(0.0, f64::max);
    Ok(vec![
        Row::at_most("cancel: the server sees the last disconnect within", worst, 100.0, Unit::Millis),
        Row::at_most("idle agent: memory", idle, 25e6 / f64::from(1 << 20), Unit::Mebibytes),
        Row::at_most("agent: serves after", median(ready), 300.0, Unit::Millis),
    ])
}

fn start(lab: &Lab, url: &str) -> Result<Agent> {
    let root = lab.root().display().to_string();
    Agent::start(&root, &lab.work(), &lab.agent_args(url), &[])
}

/// Milliseconds from the moment before the cancel to the last disconnect.
async fn cancel(lab: &Lab) -> Result<f64> {
    let simulator = lab.simulator(&["--slots", "8", "--service-ms", "400"])?;
    let batch = lab.batch(lab.pages(1000)).await?;
    let agent = start(lab, &simulator.url)?;
    let mut jobs = AgentJobs::connect(&agent.url).await?;
    jobs.submit(batch.batch.as_str()).await?;
    until(&simulator, |stats| stats.now.answers >= 10 && stats.in_flight > 1).await?;
    let asked = simulator.mark("cancel").await?;
    jobs.cancel(batch.batch.as_str()).await?;
    let seen = until(&simulator, |stats| stats.in_flight == 0).await?;
    let last = seen.last_disconnect_ns.context("every request was answered: nothing was cancelled")?;
    Ok(last.saturating_sub(asked.at_ns) as f64 / 1e6)
}

async fn until(
    simulator: &crate::harness::OllamaSim,
    what: impl Fn(&crate::ollama_sim::Stats) -> bool,
) -> Result<crate::ollama_sim::Stats> {
    for _ in 0..3000 {
        let stats = simulator.stats("").await?;
        if what(&stats) {
            return Ok(stats);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("the simulator did not get there within 30 s")
}

fn resident_mebibytes(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("there is no /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    ensure!(kib > 0.0, "no memory at all");
    Ok(kib / 1024.0)
}
