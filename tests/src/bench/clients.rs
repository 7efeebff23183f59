//! The baselines: clients that anybody would write first, and `wrk` (Debian package `wrk`).

use std::{
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::future::try_join_all;

use super::Lab;
use crate::harness::OllamaSim;

/// Connections of the load generator, and its seconds.
const CONNECTIONS: u32 = 16;
const SECONDS: u32 = 3;

/// Sends `requests`, always `concurrency` of them at once, and reads each answer to its end.
pub(super) async fn fixed(url: &str, bodies: &[Bytes], concurrency: usize, requests: usize) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let next = AtomicUsize::new(0);
    let worker = async || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return anyhow::Ok(());
            }
            let body = bodies[number % bodies.len()].clone();
            let answer = http.post(format!("{url}/api/chat")).body(body).send().await?;
            answer.error_for_status()?.bytes().await?;
        }
    };
    try_join_all((0..concurrency).map(|_| worker())).await?;
    Ok(())
}

/// What a fixed client gets from a simulator of its own: answers and tokens a second.
pub(super) async fn fixed_rates(
    lab: &Lab,
    args: &[&str],
    concurrency: usize,
    requests: usize,
) -> Result<(f64, f64)> {
    let simulator = lab.simulator(args)?;
    fixed(&simulator.url, &lab.bodies, concurrency, requests).await?;
    rates(&simulator).await
}

/// Answers and tokens a second, from the first request to the last answer.
pub(super) async fn rates(simulator: &OllamaSim) -> Result<(f64, f64)> {
    let stats = simulator.stats("").await?;
    let (first, last) = stats.first_request.zip(stats.last_answer).context("nothing was asked")?;
    let seconds = (last.at_ns - first.at_ns) as f64 / 1e9;
    Ok((last.answers as f64 / seconds, last.tokens as f64 / seconds))
}

/// Requests a second of `wrk`; None where it is not installed.
pub(super) fn wrk(lab: &Lab) -> Result<Option<f64>> {
    let script = lab.bodies_file.with_extension("lua");
    std::fs::write(&script, include_str!("wrk.lua"))?;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{SECONDS}s"), "-s"])
        .arg(&script)
        .arg(&lab.zero.url)
        .env("BODIES", &lab.bodies_file)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("wrk does not start"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "wrk met errors: {text}");
    let rate = text
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"))
        .and_then(|rate| rate.trim().parse().ok());
    match rate {
        Some(rate) => Ok(Some(rate)),
        None => bail!("wrk said no rate: {text}"),
    }
}
