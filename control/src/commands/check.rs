//! `check`: the ten integrity checks, over a batch or over what the lake holds.
//!
//! A check without its input says NOT RUN, which is no pass.

use std::time::Instant;

use proto::{
    docs::{BatchSpec, CheckResult, CheckStatus},
    ids::BatchId,
    keys::{BatchKeys, PartKind},
    store::Object,
};
use serde::Serialize;

use crate::{
    batch,
    cli::{CheckArgs, DocumentArgs},
    ctx::Ctx,
    documents,
    failure::Failure,
    lake::{Database, Lake, Session},
    printer::Answer,
    report::{Report, table},
    sql::{Params, Script},
    staging::{Staging, paths},
};

/// What the checks found, with exit code 1 if any does not pass.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    #[serde(flatten)]
    pub report: Report,
    pub checks: Vec<CheckResult>,
}

pub async fn run(ctx: &Ctx, args: &CheckArgs) -> Result<Checked, Failure> {
    let start = Instant::now();
    let mut checks = over(ctx, args.batch.as_ref(), &args.documents).await?;
    // The last two are about a batch's files.
    checks.retain(|check| args.batch.is_some() || check.number <= 8);
    let count = |status| checks.iter().filter(|check| check.status == status).count() as u64;
    let report = Report::new("check")
        .outcome("PASS", count(CheckStatus::Pass))
        .outcome_if_any("FAIL", count(CheckStatus::Fail))
        .outcome_if_any("NOT RUN", count(CheckStatus::NotRun))
        .since(start);
    Ok(Checked { report, checks })
}

/// The ten checks over a batch and its documents.
pub async fn checks(ctx: &Ctx, batch: &BatchId) -> Result<Vec<CheckResult>, Failure> {
    over(ctx, Some(batch), &DocumentArgs::default()).await
}

/// Over a batch, its documents or those asked for; over all of the lake without either.
async fn over(ctx: &Ctx, batch: Option<&BatchId>, asked: &DocumentArgs) -> Result<Vec<CheckResult>, Failure> {
    let asked = documents::asked(asked)?;
    let mut doc_ids: Option<Vec<String>> =
        (!asked.is_empty()).then(|| asked.iter().map(|id| id.as_str().to_owned()).collect());
    let mut params = Params::default();
    if let Some(batch) = batch {
        let keys = BatchKeys::new(batch);
        let spec = batch::spec(ctx, batch).await?;
        // So that a document of the batch that has no page at all is looked for.
        doc_ids = doc_ids.or_else(|| spec.map(|BatchSpec { selection, .. }| selection.doc_ids));
        let staging = Staging::of(ctx)?;
        for (name, kind) in [
            ("pages_glob", PartKind::Pages),
            ("suggestions_glob", PartKind::Suggestions),
            ("ledger_glob", PartKind::Ledger),
        ] {
            let objects: Vec<Object> = batch::part_files(ctx, &keys, kind).await?;
            if objects.is_empty() && kind == PartKind::Pages {
                return Err(batch::unknown(ctx, batch));
            }
            let files = paths(&staging.stage(&objects).await?);
            // No file at all: the check has no input.
            params = if files.is_empty() { params.texts(name, None) } else { params.files(name, &files) };
        }
        params = params.text("argilla_dataset", Some(&batch.dataset()));
    }
    params = params.texts("doc_ids", doc_ids.as_deref());
    Lake::of(ctx)?.read(Database::BOTH, move |session| of_session(session, &params)).await
}

/// Runs the script of the checks, and leaves its temporary tables.
pub(super) fn of_session(session: &Session, params: &Params) -> Result<Vec<CheckResult>, Failure> {
    session.run(Script::Checks, params)?;
    let rows = session.query(
        "SELECT check_no, name, status, expected, found, to_json(offenders)::VARCHAR FROM _checks ORDER BY check_no",
        [],
        |row| {
            let texts: [String; 5] = [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?];
            Ok((row.get::<_, u32>(0)?, texts))
        },
    )?;
    rows.into_iter()
        .map(|(number, [name, status, expected, found, offenders])| {
            let status = match status.as_str() {
                "PASS" => CheckStatus::Pass,
                "FAIL" => CheckStatus::Fail,
                _ => CheckStatus::NotRun,
            };
            let offenders = serde_json::from_str(&offenders).map_err(|error| {
                Failure::data(format!("check {number}: its offenders are no list: {error}"))
            })?;
            Ok(CheckResult { number, name, status, expected, found, offenders })
        })
        .collect()
}

/// What a check found, on one line.
pub(super) fn findings(check: &CheckResult) -> String {
    if check.offenders.is_empty() {
        check.found.clone()
    } else {
        format!("{}: {}", check.found, check.offenders.join(", "))
    }
}

fn status(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::Pass => "PASS",
        CheckStatus::Fail => "FAIL",
        CheckStatus::NotRun => "NOT RUN",
    }
}

impl Answer for Checked {
    fn text(&self) -> String {
        let rows = self.checks.iter().map(|check| {
            [
                check.number.to_string(),
                status(check.status).into(),
                check.name.clone(),
                check.expected.clone(),
                check.found.clone(),
            ]
            .to_vec()
        });
        let mut text = table(&["check", "status", "", "expected", "found"], &[0], rows);
        for check in &self.checks {
            for offender in &check.offenders {
                text.push_str(&format!("  check {}: {offender}\n", check.number));
            }
        }
        text
    }

    fn gate(&self) -> Option<String> {
        let of = |wanted: CheckStatus| -> Vec<String> {
            self.checks
                .iter()
                .filter(|check| check.status == wanted)
                .map(|check| check.number.to_string())
                .collect()
        };
        match (of(CheckStatus::Fail), of(CheckStatus::NotRun)) {
            (failed, not_run) if failed.is_empty() && not_run.is_empty() => None,
            (failed, not_run) if not_run.is_empty() => Some(format!("checks failed: {}", failed.join(", "))),
            (failed, not_run) if failed.is_empty() => {
                Some(format!("checks lack their input: {}", not_run.join(", ")))
            }
            (failed, not_run) => Some(format!(
                "checks failed: {}; checks lack their input: {}",
                failed.join(", "),
                not_run.join(", ")
            )),
        }
    }
}
