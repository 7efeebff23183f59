//! What `doctor` answers with: one line a prerequisite, with what to do below it.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Row, Table, presets};
use serde::Serialize;

use super::finding::{Found, Kind, Trouble};
use crate::{failure::Failure, printer::Answer};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DoctorReport {
    pub checks: Vec<Check>,
    /// Tool to version, of what answered.
    pub versions: BTreeMap<String, String>,
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub status: Status,
    pub found: String,
    /// What to do; null where nothing is to be done, or where `found` says it.
    pub fix: Option<String>,
    pub seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// It works, and a person should know.
    Warning,
    /// Not configured as it must be.
    Problem,
    Unreachable,
    /// Not asked, or not needed.
    Skipped,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
            Self::Unreachable => "UNREACHABLE",
            Self::Skipped => "–",
        }
    }

    fn color(self) -> Option<Color> {
        match self {
            Self::Ok => Some(Color::Green),
            Self::Warning => Some(Color::Yellow),
            Self::Problem | Self::Unreachable => Some(Color::Red),
            Self::Skipped => None,
        }
    }

    /// Whether a pilot can go on.
    pub(super) fn is_bad(self) -> bool {
        matches!(self, Self::Problem | Self::Unreachable)
    }
}

impl Check {
    pub(super) fn new(name: &'static str, looked: Result<Found, Trouble>, seconds: f64) -> Self {
        let (status, found, fix) = match looked {
            Ok(Found { says, kind: Kind::Fine, .. }) => (Status::Ok, says, None),
            Ok(Found { says, kind: Kind::Warning(fix), .. }) => (Status::Warning, says, Some(fix)),
            Ok(Found { says, kind: Kind::Unasked, .. }) => (Status::Skipped, says, None),
            Err(Trouble { status, found, fix }) => (status, found, fix),
        };
        Self { name, status, found, fix, seconds }
    }

    /// For one who reads this line alone.
    pub(super) fn told(&self) -> String {
        let fix = self.fix.as_ref().map(|fix| format!("; {fix}")).unwrap_or_default();
        format!("{}: {}{fix}", self.name, self.found)
    }
}

impl DoctorReport {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        for check in &self.checks {
            let mut status = Cell::new(check.status.as_str());
            if let Some(color) = check.status.color() {
                status = status.fg(color);
            }
            let fix = check.fix.as_ref().map(|fix| format!("\n→ {fix}")).unwrap_or_default();
            let found = Cell::new(format!("{}{fix}", check.found)).set_alignment(CellAlignment::Left);
            table.add_row(Row::from(vec![Cell::new(check.name), status, found]));
        }
        table
    }

    fn summary(&self) -> String {
        let count = |status| self.checks.iter().filter(|check| check.status == status).count();
        let counts = [
            (count(Status::Ok), "ok"),
            (count(Status::Warning), "to know"),
            (count(Status::Problem), "to mend"),
            (count(Status::Unreachable), "unreachable"),
            (count(Status::Skipped), "not asked"),
        ];
        let counts: Vec<_> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        format!("{} in {:.1} s", counts.join(", "), self.seconds)
    }

    fn below(&self) -> String {
        let versions: Vec<_> =
            self.versions.iter().map(|(tool, version)| format!("{tool} {version}")).collect();
        format!("{}\nversions: {}\n", self.summary(), versions.join(", "))
    }
}

impl Answer for DoctorReport {
    fn text(&self) -> String {
        let mut table = self.table();
        table.set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
        lines(&table) + &self.below()
    }

    fn on_screen(&self) -> String {
        let mut table = self.table();
        table.set_content_arrangement(ContentArrangement::Dynamic);
        let mut below = Table::new();
        below.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        below.add_row(vec![self.below().trim_end()]);
        lines(&table) + &lines(&below)
    }

    fn failure(&self) -> Option<Failure> {
        let with =
            |status| self.checks.iter().filter(move |check| check.status == status).map(|check| check.name);
        let (problems, away): (Vec<_>, Vec<_>) =
            (with(Status::Problem).collect(), with(Status::Unreachable).collect());
        let all = [problems.as_slice(), away.as_slice()].concat().join(", ");
        let message = format!("not ready: {all}; the lines above say what to do, --skip leaves one out");
        match (problems.is_empty(), away.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Failure::Unreachable(message)),
            (false, _) => Some(Failure::Config(message)),
        }
    }
}

fn lines(table: &Table) -> String {
    table.lines().flat_map(|line| [line.trim_end().to_owned(), "\n".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(looked: Vec<Result<Found, Trouble>>) -> DoctorReport {
        let checks = looked.into_iter().map(|looked| Check::new("store", looked, 0.1)).collect();
        let versions = BTreeMap::from([("control".into(), "1".into()), ("duckdb".into(), "2".into())]);
        DoctorReport { checks, versions, seconds: 0.12 }
    }

    fn away() -> Result<Found, Trouble> {
        Err(Trouble::away("nobody there", "start it"))
    }

    fn wrong() -> Result<Found, Trouble> {
        Err(Failure::config("no key: set it").into())
    }

    #[test]
    fn problems_and_services_that_are_away_have_their_exit_codes() {
        let code = |looked| report(looked).failure().map(|failure| failure.exit_code());
        let fine = || Ok(Found::fine("all is well"));
        assert_eq!(code(vec![fine(), Ok(Found::warning("slow", "wait")), Ok(Found::unasked(""))]), None);
        assert_eq!(code(vec![fine(), away()]), Some(4));
        assert_eq!(code(vec![away(), wrong()]), Some(3));
    }

    #[test]
    fn a_report_reads_well() {
        let all = vec![
            Ok(Found::fine("all is well")),
            Ok(Found::unasked("not needed")),
            Ok(Found::warning("the model runs on the CPU", "give Ollama the GPU")),
            away(),
            wrong(),
        ];
        insta::assert_snapshot!(report(all).text());
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        let long = "word ".repeat(60);
        let mut table = report(vec![Ok(Found::warning(long.clone(), long))]).table();
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(80).force_no_tty();
        let text = lines(&table);
        assert!(text.lines().count() > 8 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
