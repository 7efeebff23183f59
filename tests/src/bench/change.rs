//! Slots that come and go, with log-normal service times.

use anyhow::Result;

use super::{Lab, Row, Unit};
use crate::ollama_sim::Sample;

/// Answers before each change.
const CHANGES: [usize; 2] = [800, 1100];
/// Answers at the end in which a straggler shows nothing of the controller: there is nothing left to ask.
const TAIL: usize = 20;
/// Share of the answers that a settled controller keeps within bounds.
const WITHIN: f64 = 0.95;

pub(super) async fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let scale = if lab.is_quick() { 5 } else { 1 };
    let changes = CHANGES.map(|after| after / scale);
    let (fewer, more) = (format!("{}:2", changes[0]), format!("{}:8", changes[1]));
    let args = ["--slots", "8", "--then", &fewer, "--then", &more, "--service-ms", "50", "--sigma", "0.6"];
    let simulator = lab.simulator(&args)?;
    let run = lab.job(2200, &simulator).await?;
    let samples = simulator.stats("?samples").await?.samples;
    let end = samples.len().saturating_sub(TAIL);
    let settled = [settled(&samples[changes[0]..changes[1]]), settled(&samples[changes[1]..end])];
    let worst = settled.into_iter().max().unwrap_or_default();
    Ok(vec![
        Row::at_least(
            "8 → 2 → 8 slots, log-normal: slot time busy",
            run.done.busy_since(&run.submitted),
            0.95,
            Unit::Percent,
        ),
        Row::at_most(
            &format!("  answers until settled ({} down, {} up)", settled[0], settled[1]),
            worst as f64,
            60.0,
            Unit::Count,
        ),
    ])
}

/// Answers before the first from which nearly all, to the end, had no fewer requests there than slots, and no more
/// than twice as many and two.
fn settled(samples: &[Sample]) -> usize {
    let within = |sample: &Sample| (sample.slots..=2 * sample.slots + 2).contains(&sample.in_flight);
    let (mut good, mut settled) = (0.0, samples.len());
    for (back, sample) in samples.iter().rev().enumerate() {
        good += f64::from(u8::from(within(sample)));
        if within(sample) && good >= WITHIN * (back + 1) as f64 {
            settled = samples.len() - 1 - back;
        }
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_is_when_it_stays_so() {
        let samples = |in_flight: &[u32]| {
            in_flight
                .iter()
                .map(|in_flight| Sample { at_ns: 0, in_flight: *in_flight, slots: 2 })
                .collect::<Vec<_>>()
        };
        assert_eq!(settled(&samples(&[10, 9, 8, 6, 5, 4, 3, 3, 3])), 3);
        assert_eq!(settled(&samples(&[3, 3, 3])), 0);
        assert_eq!(settled(&samples(&[3, 9, 9])), 3, "never");
    }
}
