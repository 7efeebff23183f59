//! `doctor`: looks at every prerequisite, one line each, and says what to do about what is missing.
//!
//! Nothing is changed that stays: the probe object under the root is taken away again, and no table is made. A lake
//! that is not there yet is no problem where it can be made. Each look is bounded in time.

mod checks;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde::Serialize;

use self::checks::Found;
use crate::{
    agent::Agent,
    cli::{DoctorArgs, Prerequisite},
    commands::argilla,
    ctx::Ctx,
    failure::Failure,
    lake::Lake,
    printer::Answer,
    report::{Report, seconds, table},
};

/// Of one look. The lake has the time that --lock-timeout gives it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of one question for a version: a sign-off does not wait for what is away.
const VERSION_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DoctorReport {
    pub checks: Vec<Check>,
    /// Tool to version, of what answered.
    pub versions: BTreeMap<String, String>,
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub status: Status,
    /// What was found; for a problem, what to do as well.
    pub found: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Not configured as it must be.
    Problem,
    Unreachable,
    Skipped,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Problem => "PROBLEM",
            Self::Unreachable => "UNREACHABLE",
            Self::Skipped => "skipped",
        }
    }
}

impl Answer for DoctorReport {
    fn text(&self) -> String {
        let rows = self
            .checks
            .iter()
            .map(|check| vec![check.name.to_owned(), check.status.as_str().to_owned(), check.found.clone()]);
        let mut text = table(&["prerequisite", "", ""], &[], rows);
        let versions: Vec<_> =
            self.versions.iter().map(|(tool, version)| format!("{tool} {version}")).collect();
        text.push_str(&format!("versions: {}\n", versions.join(", ")));
        text
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

pub async fn run(ctx: &Ctx, args: &DoctorArgs) -> Result<DoctorReport, Failure> {
    let start = Instant::now();
    let skip: BTreeSet<Prerequisite> = args.skip.iter().copied().collect();
    let wanted = |prerequisite| !skip.contains(&prerequisite);
    let look = async {
        let mut checks = Vec::new();
        let mut versions = own_versions(ctx).await;
        let mut clocks = Vec::new();
        let mut note = |prerequisite, found: Option<Result<Found, Failure>>| {
            let found = found.map(|found| {
                found.map(|found| {
                    versions.extend(found.versions);
                    clocks.extend(found.clock);
                    found.says
                })
            });
            checks.push(check(name(prerequisite), found));
        };
        let (store, agent, argilla) = tokio::join!(
            timed(wanted(Prerequisite::Store), Box::pin(checks::store(ctx))),
            timed(wanted(Prerequisite::Agent), Box::pin(checks::agent(ctx))),
            timed(wanted(Prerequisite::Argilla), Box::pin(checks::argilla(ctx))),
        );
        note(Prerequisite::Store, store);
        let lake = if wanted(Prerequisite::Lake) { Some(checks::lake(ctx).await) } else { None };
        note(Prerequisite::Lake, lake);
        note(Prerequisite::Agent, agent);
        note(Prerequisite::Argilla, argilla);
        note(Prerequisite::Disk, timed(wanted(Prerequisite::Disk), checks::disk(ctx)).await);
        let clock = wanted(Prerequisite::Clock).then(|| checks::clock(&clocks).map(|found| found.says));
        checks.push(check(name(Prerequisite::Clock), clock));
        Ok(DoctorReport { checks, versions, seconds: seconds(start.elapsed()) })
    };
    ctx.until_stopped(Box::pin(look), || "interrupted; nothing was changed".to_owned()).await
}

/// As a stage of a pilot: a problem ends it, with every line that says what to do.
pub async fn stage(ctx: &Ctx, args: &DoctorArgs) -> Result<Report, Failure> {
    let found = run(ctx, args).await?;
    if let Some(failure) = found.failure() {
        let bad = found.checks.iter().filter(|check| !matches!(check.status, Status::Ok | Status::Skipped));
        let lines: Vec<_> = bad.map(|check| format!("{}: {}", check.name, check.found)).collect();
        return Err(failure.context(lines.join("\n")));
    }
    let ok = found.checks.iter().filter(|check| check.status == Status::Ok).count() as u64;
    let skipped = found.checks.len() as u64 - ok;
    let report = Report::new("doctor").outcome("ok", ok).outcome_if_any("skipped", skipped);
    Ok(Report { seconds: found.seconds, ..report })
}

/// Tool to version, of everything that answers: what a sign-off records.
pub async fn versions(ctx: &Ctx) -> BTreeMap<String, String> {
    let agent = async {
        let mut agent = Agent::connect(&ctx.settings).await?;
        Ok::<_, Failure>(checks::versions_of(&agent.describe(Default::default()).await?))
    };
    let argilla = async {
        let version = argilla::connect(ctx)?.version().await?;
        Ok::<_, Failure>(BTreeMap::from([("argilla".to_owned(), version)]))
    };
    let (own, agent, argilla) = tokio::join!(
        own_versions(ctx),
        tokio::time::timeout(VERSION_PATIENCE, agent),
        tokio::time::timeout(VERSION_PATIENCE, argilla)
    );
    let answered = [agent, argilla].into_iter().filter_map(|found| found.ok()?.ok());
    own.into_iter().chain(answered.flatten()).collect()
}

/// Of this program and of the DuckDB library that it runs with.
async fn own_versions(ctx: &Ctx) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([("control".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    let Ok(lake) = Lake::of(ctx) else { return versions };
    let asked = lake.scratch(|session| session.query("SELECT version()", [], |row| row.get::<_, String>(0)));
    if let Ok([version]) = asked.await.as_deref() {
        versions.insert("duckdb".to_owned(), version.trim_start_matches('v').to_owned());
    }
    versions
}

async fn timed(
    wanted: bool,
    look: impl Future<Output = Result<Found, Failure>>,
) -> Option<Result<Found, Failure>> {
    if !wanted {
        return None;
    }
    let late = |_| Failure::unreachable(format!("no answer within {} s: is it up?", PATIENCE.as_secs()));
    Some(tokio::time::timeout(PATIENCE, look).await.map_err(late).and_then(|found| found))
}

fn check(name: &'static str, found: Option<Result<String, Failure>>) -> Check {
    let (status, found) = match found {
        None => (Status::Skipped, String::new()),
        Some(Ok(says)) => (Status::Ok, says),
        Some(Err(failure)) if failure.exit_code() == 4 => (Status::Unreachable, failure.to_string()),
        Some(Err(failure)) => (Status::Problem, failure.to_string()),
    };
    Check { name, status, found }
}

fn name(prerequisite: Prerequisite) -> &'static str {
    match prerequisite {
        Prerequisite::Store => "store",
        Prerequisite::Lake => "lake",
        Prerequisite::Agent => "agent",
        Prerequisite::Argilla => "argilla",
        Prerequisite::Disk => "disk",
        Prerequisite::Clock => "clock",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(found: Vec<Option<Result<String, Failure>>>) -> DoctorReport {
        let checks = found.into_iter().map(|found| check("store", found)).collect();
        let versions = BTreeMap::from([("control".into(), "1".into()), ("duckdb".into(), "2".into())]);
        DoctorReport { checks, versions, seconds: 0.0 }
    }

    #[test]
    fn a_report_reads_well_and_has_its_exit_code() {
        let fine = || Some(Ok("all is well".to_owned()));
        let away = || Some(Err(Failure::unreachable("nobody there: start it")));
        let wrong = || Some(Err(Failure::config("no key: set it")));
        let code = |found| report(found).failure().map(|failure| failure.exit_code());
        assert_eq!(code(vec![fine(), None]), None);
        assert_eq!(code(vec![fine(), away()]), Some(4));
        assert_eq!(code(vec![away(), wrong()]), Some(3));
        insta::assert_snapshot!(report(vec![fine(), None, away(), wrong()]).text());
    }
}
