//! What people use in the agent's place (`make bench-peers`): from PyPI, over the same simulator.

use std::{fs, path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::{Lab, Row};

const SERVERS: [(&str, &[&str], usize); 2] =
    [("4 slots × 50 ms", &["--slots", "4", "--service-ms", "50"], 200), ("no service time", &[], 1000)];
const PEERS: [&str; 2] = ["langextract", "distilabel"];

pub(super) async fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, server, pages) in SERVERS {
        let simulator = lab.simulator(server)?;
        // The first run over a server without service time makes the answers, for all.
        lab.run(pages, &simulator).await?;
        let simulator = if server.is_empty() { simulator } else { lab.simulator(server)? };
        let took = lab.run(pages, &simulator).await?.took;
        let agent = lab.pages(pages).len() as f64 / took.as_secs_f64();
        rows.push(Row::told(&format!("{name}: agent"), format!("{agent:.0} pages/s")));
        for peer in PEERS {
            let what = format!("  agent ÷ {peer}");
            rows.push(match rate(lab, peer, &simulator.url, pages).await {
                Ok(rate) => Row::told(&what, format!("{:.1} × ({rate:.0}/s)", agent / rate)),
                Err(why) => Row::told(&format!("{what}: {why:#}"), "not measured"),
            });
        }
    }
    Ok(rows)
}

/// Pages a second of a peer's second run: its first makes the answers.
async fn rate(lab: &Lab, peer: &str, url: &str, pages: usize) -> Result<f64> {
    let input = lab.work().with_extension("jsonl");
    let texts = lab.pages(pages).iter().filter_map(|page| page.text.as_ref());
    let lines: Result<Vec<_>, _> = texts.map(serde_json::to_string).collect();
    fs::write(&input, lines?.join("\n"))?;
    let mut last = 0.0;
    for _ in 0..2 {
        last = once(peer, url, &input).await?;
    }
    Ok(last)
}

async fn once(peer: &str, url: &str, input: &PathBuf) -> Result<f64> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let python = cache.context("HOME is not set")?.join("preannotate/peers/bin/python");
    ensure!(python.is_file(), "tests/peers/install.sh did not run");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers").join(format!("{peer}_peer.py"));
    let output = Command::new(python)
        .arg(script)
        .arg(url)
        .arg(input)
        .env("NO_PROXY", "127.0.0.1")
        .env("HF_HUB_OFFLINE", "1")
        .stdin(Stdio::null())
        .output();
    let output = output.await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let rate = text.lines().find_map(|line| line.strip_prefix("PAGES/S "));
    let rate = rate.with_context(|| errors.lines().last().unwrap_or("it said nothing").to_owned())?;
    Ok(rate.trim().parse()?)
}
