//! A server whose requests slow each other, as on a GPU: there is a best number, and no queue tells of it.

use anyhow::Result;

use super::{Lab, Row, Unit, clients};

const SERVER: [&str; 6] = ["--slots", "64", "--slowdown", "6", "--service-ms", "40"];
const FIXED: [usize; 9] = [1, 2, 4, 5, 6, 7, 8, 10, 14];

pub(super) async fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let mut best = (0, 0.0);
    for concurrency in FIXED {
        let requests = if lab.is_quick() { 40 } else { 150.min(60 * concurrency) };
        let (_, tokens) = clients::fixed_rates(lab, &SERVER, concurrency, requests).await?;
        if tokens > best.1 {
            best = (concurrency, tokens);
        }
    }
    let simulator = lab.simulator(&SERVER)?;
    lab.run(1000, &simulator).await?;
    let (_, tokens) = clients::rates(&simulator).await?;
    let what = format!("each slows as slots fill: tokens/s ÷ best fixed ({})", best.0);
    Ok(vec![Row::at_least(&what, tokens / best.1, 0.97, Unit::Ratio)])
}
