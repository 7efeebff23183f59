//! `doctor`: looks at every prerequisite, one line each, and says what to do about what is missing.
//!
//! ```text
//! store  lake  agent  model  argilla  disk        all at once, each bounded in time
//!   │      └─► motherduck                         from what they said
//!   └──────────┴─ clocks ─► clock
//! ```
//! Nothing is changed that stays: the probe object under the root is taken away again, and no table is made. A lake
//! that is not there yet is no problem where it can be made. No secret is in what it says.

mod agent;
mod answer;
mod argilla;
mod finding;
mod lake;
mod machine;
mod model;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

pub use self::answer::{Check, DoctorReport, Status};
use self::finding::{Found, Trouble};
use crate::{
    agent::Agent,
    cli::{DoctorArgs, Prerequisite},
    ctx::Ctx,
    failure::Failure,
    lake::Lake,
    printer::Progress,
    redact::{self, Secrets},
    report::{Report, seconds},
};

/// Of one look: what is up answers in a fraction of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of what a look bounds itself, so that it can tidy up, or ask somebody else, within its patience.
const STEP: Duration = Duration::from_secs(8);
/// MotherDuck's extension tries five times, for 10 s, before it says that it cannot be loaded.
const MOTHERDUCK_PATIENCE: Duration = Duration::from_secs(25);
/// Of one question for a version: a sign-off does not wait for what is away.
const VERSION_PATIENCE: Duration = Duration::from_secs(5);

pub async fn run(ctx: &Ctx, args: &DoctorArgs) -> Result<DoctorReport, Failure> {
    let start = Instant::now();
    let left = || "interrupted; at most a small object under _doctor/ of the root is left".to_owned();
    let looked = ctx.until_stopped(Box::pin(async { Ok(Box::pin(look(ctx, args)).await) }), left).await?;
    Ok(DoctorReport { seconds: seconds(start.elapsed()), ..looked })
}

async fn look(ctx: &Ctx, args: &DoctorArgs) -> DoctorReport {
    let settings = &ctx.settings;
    let looks = Looks {
        skip: args.skip.iter().copied().collect(),
        waiting: Mutex::default(),
        progress: ctx.printer.progress("asking", None),
    };
    let asks_agent = !looks.skip.contains(&Prerequisite::Agent);
    let lake_patience = if settings.lake.place.starts_with("md:") { MOTHERDUCK_PATIENCE } else { PATIENCE };
    let agent_url = redact::url(&settings.agent.url);
    let argilla_url = settings.argilla.url.as_deref().map(redact::url).unwrap_or_default();
    let late = |whom: &str, fix: &str| late(whom, PATIENCE, fix);
    let (store, lake, agent, model, argilla, disk, own) = tokio::join!(
        looks.at(
            Prerequisite::Store,
            PATIENCE,
            late(&settings.root, store::LATE_FIX),
            store::look(ctx, STEP)
        ),
        looks.at(
            Prerequisite::Lake,
            lake_patience,
            self::late(&settings.lake.place, lake_patience, lake::LATE_FIX),
            lake::look(ctx, STEP)
        ),
        looks.at(Prerequisite::Agent, PATIENCE, late(&agent_url, agent::LATE_FIX), agent::look(ctx)),
        looks.at(
            Prerequisite::Model,
            PATIENCE,
            late("the model server", model::LATE_FIX),
            model::look(ctx, asks_agent, STEP / 2)
        ),
        looks.at(Prerequisite::Argilla, PATIENCE, late(&argilla_url, argilla::LATE_FIX), argilla::look(ctx)),
        looks.at(Prerequisite::Disk, PATIENCE, late("`df`", machine::LATE_FIX), machine::disk(ctx)),
        own_versions(ctx),
    );
    let motherduck = looks.said(Prerequisite::Motherduck, || lake::motherduck(ctx, lake.looked.as_ref()));
    let asked = [store, lake, motherduck, agent, model, argilla, disk];
    let clocks: Vec<_> = asked.iter().filter_map(|look| look.looked.as_ref()?.as_ref().ok()?.clock).collect();
    let clock = looks.said(Prerequisite::Clock, || machine::clock(&clocks));
    let mut versions = own;
    let secrets = Secrets::of(settings, ctx.env());
    let mut checks = Vec::new();
    for Look { what, looked, took } in asked.into_iter().chain([clock]) {
        let looked = looked.unwrap_or_else(|| Ok(Found::unasked("skipped")));
        if let Ok(found) = &looked {
            versions.extend(found.versions.clone());
        }
        let mut check = Check::new(name(what), looked, seconds(took));
        check.found = secrets.scrub(&check.found);
        check.fix = check.fix.map(|fix| secrets.scrub(&fix));
        checks.push(check);
    }
    DoctorReport { checks, versions, seconds: 0.0 }
}

/// The looks of one run.
struct Looks {
    skip: BTreeSet<Prerequisite>,
    /// Who has not answered yet, for who watches.
    waiting: Mutex<BTreeSet<&'static str>>,
    progress: Progress,
}

struct Look {
    what: Prerequisite,
    /// None: skipped.
    looked: Option<Result<Found, Trouble>>,
    took: Duration,
}

impl Looks {
    async fn at(
        &self,
        what: Prerequisite,
        patience: Duration,
        late: Trouble,
        look: impl Future<Output = Result<Found, Trouble>>,
    ) -> Look {
        if self.skip.contains(&what) {
            return Look { what, looked: None, took: Duration::ZERO };
        }
        let start = Instant::now();
        self.waits_for(|waiting| waiting.insert(name(what)));
        let looked = tokio::time::timeout(patience, Box::pin(look)).await;
        self.waits_for(|waiting| waiting.remove(name(what)));
        Look { what, looked: Some(looked.unwrap_or(Err(late))), took: start.elapsed() }
    }

    /// What follows from the others.
    fn said(&self, what: Prerequisite, look: impl FnOnce() -> Result<Found, Trouble>) -> Look {
        let looked = (!self.skip.contains(&what)).then(look);
        Look { what, looked, took: Duration::ZERO }
    }

    fn waits_for(&self, change: impl FnOnce(&mut BTreeSet<&'static str>) -> bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut waiting);
        self.progress.message(waiting.iter().copied().collect::<Vec<_>>().join(", "));
    }
}

fn late(whom: impl fmt::Display, patience: Duration, fix: &str) -> Trouble {
    Trouble::away(format!("{whom}: no answer within {} s", patience.as_secs()), fix)
}

/// As a stage of a pilot: a problem ends it, with every line that says what to do.
pub async fn stage(ctx: &Ctx, args: &DoctorArgs) -> Result<Report, Failure> {
    let found = run(ctx, args).await?;
    if let Some(failure) = crate::printer::Answer::failure(&found) {
        let bad = found.checks.iter().filter(|check| check.status.is_bad());
        let lines: Vec<_> = bad.map(Check::told).collect();
        return Err(failure.context(lines.join("\n")));
    }
    let count = |status| found.checks.iter().filter(|check| check.status == status).count() as u64;
    let warnings = found.checks.iter().filter(|check| check.status == Status::Warning);
    let report = Report::new("doctor")
        .outcome("ok", count(Status::Ok))
        .outcome_if_any("warning", count(Status::Warning))
        .outcome_if_any("skipped", count(Status::Skipped));
    let report = warnings.fold(report, |report, check| report.note(check.told()));
    Ok(Report { seconds: found.seconds, ..report })
}

/// Tool to version, of everything that answers: what a sign-off records.
pub async fn versions(ctx: &Ctx) -> BTreeMap<String, String> {
    let agent = async {
        let mut agent = Agent::connect(&ctx.settings).await?;
        Ok::<_, Failure>(agent::versions(&agent.describe(Default::default()).await?))
    };
    let argilla = async {
        let version = super::argilla::connect(ctx)?.greet().await?.version;
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

fn name(prerequisite: Prerequisite) -> &'static str {
    match prerequisite {
        Prerequisite::Store => "store",
        Prerequisite::Lake => "lake",
        Prerequisite::Motherduck => "motherduck",
        Prerequisite::Agent => "agent",
        Prerequisite::Model => "model",
        Prerequisite::Argilla => "argilla",
        Prerequisite::Disk => "disk",
        Prerequisite::Clock => "clock",
    }
}
