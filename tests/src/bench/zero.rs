//! A server that takes no time: what is measured is the agent alone.

use anyhow::Result;

use super::{Lab, Row, Unit, clients, median};

const ROUNDS: usize = 3;
const PAGES: usize = 10_000;

pub(super) async fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let (mut pages, mut requests, mut ratios, mut raw) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let wrk = clients::wrk(lab)?;
        let run = lab.run(PAGES, &lab.zero).await?;
        let seconds = run.took.as_secs_f64();
        let rate = (run.done.answers - run.submitted.answers) as f64 / seconds;
        pages.push(lab.pages(PAGES).len() as f64 / seconds);
        requests.push(rate);
        if let Some(wrk) = wrk {
            ratios.push(rate / wrk);
            raw.push(wrk);
        }
    }
    let begun = std::time::Instant::now();
    let count = lab.bodies.len().min(2000);
    clients::fixed(&lab.zero.url, &lab.bodies, 8, count).await?;
    let fixed = count as f64 / begun.elapsed().as_secs_f64();
    let what = "no service time, 20 tokens a write: requests, agent ÷ wrk";
    Ok(vec![
        match ratios.is_empty() {
            true => Row::told(what, "install wrk"),
            false => Row::at_least(what, median(ratios), 0.5, Unit::Ratio),
        },
        Row::at_least("  pages/s, grounded, written, committed", median(pages), 2600.0, Unit::PerSecond),
        Row::told(
            "  requests/s: wrk | agent ÷ client with 8 fixed",
            format!("{:.0} | {:.2} ×", median(raw), median(requests) / fixed),
        ),
    ])
}
