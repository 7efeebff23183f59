//! Four slots of 50 ms that nobody told the agent of.

use anyhow::Result;

use super::{Lab, Row, Unit, clients::fixed_rates};

const SERVER: [&str; 4] = ["--slots", "4", "--service-ms", "50"];
const SLOTS: u32 = 4;
/// Answers a second, when no slot is ever idle.
const PERFECT: f64 = 80.0;

pub(super) async fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let simulator = lab.simulator(&SERVER)?;
    let run = lab.job(1000, &simulator).await?;
    let stats = simulator.stats("?samples").await?;
    let rate = run.done.answers as f64 / run.took.as_secs_f64();
    let idle = stats.first_request.zip(stats.last_answer).map(|(first, last)| {
        let slots = f64::from(SLOTS);
        let moments = [run.submitted, first, last, run.done];
        let [before, during, after] = [0, 1, 2].map(|n| moments[n + 1].idle_since(&moments[n]) / slots * 1e3);
        format!("{before:.0} | {during:.0} | {after:.0} ms")
    });
    let (fixed, _) = fixed_rates(lab, &SERVER, 4, 240).await?;
    let (serial, _) = fixed_rates(lab, &SERVER, 1, 40).await?;
    Ok(vec![
        Row::at_least(
            "4 slots × 50 ms: slot time busy, submission to manifest",
            run.done.busy_since(&run.submitted),
            0.985,
            Unit::Percent,
        ),
        Row::at_most(
            "  most in flight after 100 answers",
            f64::from(stats.max_in_flight_after(100)),
            10.0,
            Unit::Count,
        ),
        Row::told(
            "  idle before the first request | until the last answer | after",
            idle.unwrap_or_default(),
        ),
        Row::told("  requests/s: agent ÷ perfect", Unit::Ratio.show(rate / PERFECT)),
        Row::told(
            "  agent ÷ client with 4 fixed | serial client",
            format!("{:.2} | {:.2} ×", rate / fixed, rate / serial),
        ),
    ])
}
