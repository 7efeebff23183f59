//! A fifth of all requests fails, in nine ways.

use anyhow::Result;

use super::{Lab, Row, Unit};
use crate::ollama_sim::audit::audit;

/// What hangs is cut off after so long; the agent may lose its patience before.
const SERVER: [&str; 8] = ["--slots", "4", "--service-ms", "5", "--faults", "0.2", "--hang-ms", "2000"];
const PAGES: usize = 1000;

pub(super) async fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let clean = lab.run(PAGES, &lab.zero).await?.made().await?;
    let simulator = lab.simulator(&SERVER)?;
    let run = lab.run(PAGES, &simulator).await?;
    let stats = simulator.stats("?pages").await?;
    let audit = audit(lab.pages(PAGES), &clean, &run.made().await?, &stats);
    let injected: u64 = audit.faults.values().sum();
    let told = format!("{} of {}", audit.pages - audit.wrong.len().min(audit.pages), audit.pages);
    let ok = audit.wrong.is_empty();
    let mut rows = vec![
        Row::new("20 % faults of 9 kinds: pages as injected", told, "all".to_owned(), Some(ok)),
        Row::at_most(
            "  requests ÷ fewest possible",
            audit.requests as f64 / audit.fewest.max(1) as f64,
            1.6,
            Unit::Ratio,
        ),
        Row::told(
            &format!("  {} kinds; suggested | failed | in pieces or saved", audit.faults.len()),
            format!("{} | {} | {}", audit.suggested, audit.failed, audit.in_pieces),
        ),
        Row::told("  faults injected", injected.to_string()),
    ];
    rows.extend(audit.wrong.iter().take(5).map(|wrong| Row::told(&format!("  ! {wrong}"), "")));
    Ok(rows)
}
