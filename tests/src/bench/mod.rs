//! `make bench`: what the agent reaches over a simulated Ollama, beside simple clients and a load generator in the
//! same run.
//!
//! ```text
//!  lab (batches, simulators, the agent as a process) ─► one module a group of rows ─► Row ─► a table of one screen
//! ```
//! Constraints: the agent is the released binary over a folder with its durability; ratios are what counts, since the
//! machine is shared; a row that cannot be measured says why and is no miss.

mod change;
mod clients;
mod daemon;
mod faults;
mod lab;
mod peers;
mod slots;
mod slowing;
mod zero;

use std::fmt;

use anyhow::Result;
use futures::future::LocalBoxFuture;

pub use lab::{Lab, Options};

/// A line of the table.
#[derive(Debug)]
pub struct Row {
    pub what: String,
    pub measured: String,
    pub bound: String,
    /// None: told for comparison, or it could not be measured.
    pub ok: Option<bool>,
}

impl Row {
    fn at_least(what: &str, measured: f64, bound: f64, unit: Unit) -> Self {
        let bound_text = format!("≥ {}", unit.show(bound));
        Self::new(what, unit.show(measured), bound_text, Some(measured >= bound))
    }

    fn at_most(what: &str, measured: f64, bound: f64, unit: Unit) -> Self {
        let bound_text = format!("≤ {}", unit.show(bound));
        Self::new(what, unit.show(measured), bound_text, Some(measured <= bound))
    }

    fn told(what: &str, measured: impl Into<String>) -> Self {
        Self::new(what, measured.into(), String::new(), None)
    }

    fn new(what: &str, measured: String, bound: String, ok: Option<bool>) -> Self {
        Self { what: what.to_owned(), measured, bound, ok }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.ok {
            Some(true) => "ok",
            Some(false) => "MISS",
            None => "",
        };
        write!(f, "{:<58} {:>16}  {:<12} {verdict}", self.what, self.measured, self.bound)
    }
}

/// How a number is shown.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Percent,
    Ratio,
    Count,
    Millis,
    Mebibytes,
    PerSecond,
}

impl Unit {
    fn show(self, number: f64) -> String {
        match self {
            Self::Percent => format!("{:.1} %", number * 100.0),
            Self::Ratio => format!("{number:.2} ×"),
            Self::Count => format!("{number:.0}"),
            Self::Millis => format!("{number:.0} ms"),
            Self::Mebibytes => format!("{number:.1} MiB"),
            Self::PerSecond => format!("{number:.0} /s"),
        }
    }
}

/// A group of rows.
pub struct Group {
    pub name: &'static str,
    pub run: for<'a> fn(&'a Lab) -> LocalBoxFuture<'a, Result<Vec<Row>>>,
}

pub fn groups() -> Vec<Group> {
    let mut groups = measured();
    groups.push(Group { name: PEERS, run: |lab| Box::pin(peers::rows(lab)) });
    groups
}

/// Asked for by name alone: its peers are not installed everywhere.
pub const PEERS: &str = "peers";

fn measured() -> Vec<Group> {
    vec![
        Group { name: "slots", run: |lab| Box::pin(slots::rows(lab)) },
        Group { name: "zero", run: |lab| Box::pin(zero::rows(lab)) },
        Group { name: "change", run: |lab| Box::pin(change::rows(lab)) },
        Group { name: "slowing", run: |lab| Box::pin(slowing::rows(lab)) },
        Group { name: "faults", run: |lab| Box::pin(faults::rows(lab)) },
        Group { name: "daemon", run: |lab| Box::pin(daemon::rows(lab)) },
    ]
}

/// The middle one; 0 of none.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}
