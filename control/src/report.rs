//! What a stage did, in numbers that add up across stages.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::printer::Answer;

/// What a stage did. Pages count distinct keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Its name in the stage table.
    pub stage: String,
    pub pages_in: Option<u64>,
    pub pages_out: Option<u64>,
    /// Pages by outcome, and whatever else the stage counts.
    pub outcomes: BTreeMap<String, u64>,
    pub seconds: f64,
    /// URIs and paths of what it made or found made.
    pub artifacts: Vec<String>,
    /// Nothing was left to do.
    pub already_done: bool,
    /// What a person should know: one sentence each.
    pub notes: Vec<String>,
}

impl Report {
    pub fn new(stage: &str) -> Self {
        Self { stage: stage.to_owned(), ..Self::default() }
    }

    #[must_use]
    pub fn pages(mut self, pages_in: u64, pages_out: u64) -> Self {
        (self.pages_in, self.pages_out) = (Some(pages_in), Some(pages_out));
        self
    }

    #[must_use]
    pub fn outcome(mut self, name: &str, count: u64) -> Self {
        self.outcomes.insert(name.to_owned(), count);
        self
    }

    /// Outcomes with a count of zero are left out.
    #[must_use]
    pub fn outcome_if_any(self, name: &str, count: u64) -> Self {
        if count == 0 { self } else { self.outcome(name, count) }
    }

    #[must_use]
    pub fn artifact(mut self, uri: impl Into<String>) -> Self {
        self.artifacts.push(uri.into());
        self
    }

    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    #[must_use]
    pub fn already_done(mut self, already_done: bool) -> Self {
        self.already_done = already_done;
        self
    }

    #[must_use]
    pub fn since(mut self, start: Instant) -> Self {
        self.seconds = seconds(start.elapsed());
        self
    }
}

impl Answer for Report {
    fn text(&self) -> String {
        let mut text = stage_table(std::slice::from_ref(self));
        for line in &self.artifacts {
            text.push_str(&format!("  {line}\n"));
        }
        for note in &self.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        text
    }
}

/// Seconds to the millisecond.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// One line a stage: pages in and out, outcomes, seconds.
pub fn stage_table(reports: &[Report]) -> String {
    let number = |pages: Option<u64>| pages.map_or_else(|| "–".to_owned(), |pages| pages.to_string());
    let rows = reports.iter().map(|report| {
        let outcomes: Vec<_> =
            report.outcomes.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let done = if report.already_done { "already done" } else { "" };
        vec![
            report.stage.clone(),
            number(report.pages_in),
            number(report.pages_out),
            outcomes.join(", "),
            format!("{:.2}", report.seconds),
            done.to_owned(),
        ]
    });
    table(&["stage", "pages in", "pages out", "outcome", "seconds", ""], &[1, 2, 4], rows)
}

/// A plain table; `right` names the columns that hold numbers.
pub fn table(header: &[&str], right: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text: String =
        table.lines().flat_map(|line| [line.trim_end().to_owned(), "\n".to_owned()]).collect();
    if text.is_empty() {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_well() {
        let report = Report::new("merge")
            .pages(64, 61)
            .outcome("records", 61)
            .outcome_if_any("skipped", 3)
            .outcome_if_any("blank", 0)
            .artifact("s3://b/argilla_records.parquet")
            .note("3 pages are not reviewable");
        insta::assert_snapshot!(report.text());
    }

    #[test]
    fn stages_line_up() {
        let loaded =
            Report { already_done: true, ..Report::new("ocr load").pages(64, 64).outcome("flagged", 0) };
        let checked = Report { seconds: 1.2345, ..Report::new("check").outcome("PASS", 10) };
        insta::assert_snapshot!(stage_table(&[loaded, checked]));
    }
}
