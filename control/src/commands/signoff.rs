//! `signoff`: records that a pilot passed its gates, and by that enables large batches of the same kind.
//!
//! - Refuses while a gate fails; only check 3 can be accepted, with a reason that is recorded.
//! - `_signoff.json` is written once; signing again finds it, and writes the log anew from it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use proto::{
    docs::{BatchSpec, CheckResult, CheckStatus, Manifest, Signoff, VERSION},
    ids::BatchId,
    keys::BatchKeys,
    labelset::Labelset,
    parquet_io::TableFile,
    schema::Table,
    store::Created,
};

use super::{check, doctor};
use crate::{
    argilla::export,
    batch::{self, retries::Retries},
    cli::{Investigated, SignoffArgs},
    ctx::Ctx,
    env,
    failure::Failure,
    lake::{Database, Lake},
    pilot_log,
    report::Report,
};

/// Where the pilot log of a batch goes unless asked otherwise.
pub fn log_folder(asked: Option<&Path>, batch: &BatchId) -> PathBuf {
    asked.map_or_else(|| Path::new("pilot-log").join(batch.as_str()), Path::to_owned)
}

pub async fn run(ctx: &Ctx, args: &SignoffArgs) -> Result<Report, Failure> {
    let start = Instant::now();
    let key = BatchKeys::new(&args.batch).signoff();
    let before: Option<Signoff> = batch::document(ctx, &key).await?;
    let already_done = before.is_some();
    let signed = match before {
        Some(signed) => signed,
        None => sign(ctx, args).await?,
    };
    let folder = log_folder(args.output.as_deref(), &args.batch);
    let files = write_log(&folder, &signed)?;
    let mut report = Report::new("signoff")
        .outcome("PASS", passed(&signed.checks))
        .outcome_if_any("investigated", signed.investigated.len() as u64)
        .artifact(ctx.store()?.uri_of(&key))
        .already_done(already_done)
        .note(format!(
            "signed by {}: batches of any size may now use labelset {} {} with {}",
            signed.signed_by, signed.labelset_name, signed.labelset_version, signed.provenance.model
        ));
    for file in files {
        report = report.artifact(file.display().to_string());
    }
    Ok(report.since(start))
}

/// Checks the gates and writes `_signoff.json`.
async fn sign(ctx: &Ctx, args: &SignoffArgs) -> Result<Signoff, Failure> {
    let id = &args.batch;
    let keys = BatchKeys::new(id);
    let signed_by = args
        .by
        .clone()
        .or_else(|| ctx.settings.user.clone())
        .ok_or_else(|| Failure::usage(format!("who signs? give --by 'NAME', or set {}", env::USER)))?;
    let spec = batch::spec(ctx, id).await?.ok_or_else(|| batch::unknown(ctx, id))?;
    let manifest = batch::manifest(ctx, id).await?.ok_or_else(|| {
        Failure::gate(format!(
            "batch {id} is not complete: run `control preannotate submit {id} --watch` first"
        ))
    })?;
    let checks = check::checks(ctx, id).await?;
    let investigated = accepted(&checks, &args.investigated)?;
    let labelset = Labelset::parse(&spec.labelset.toml)?;
    let signed = Signoff {
        version: VERSION,
        batch_id: id.clone(),
        signed_at: ctx.now(),
        signed_by,
        labelset_name: labelset.name,
        labelset_version: labelset.version,
        counts: counts(ctx, &spec, &manifest).await?,
        provenance: manifest.provenance,
        doc_ids: spec.selection.doc_ids,
        checks,
        investigated,
        tool_versions: doctor::versions(ctx).await,
    };
    let json = serde_json::to_vec_pretty(&signed).map_err(|e| Failure::data(format!("the sign-off: {e}")))?;
    match ctx.store()?.put_create(&keys.signoff(), json).await? {
        Created::New => Ok(signed),
        // Somebody signed meanwhile: theirs stands.
        Created::Exists => batch::document(ctx, &keys.signoff()).await?.ok_or_else(|| {
            Failure::data(format!("the sign-off of batch {id} vanished while it was read: sign again"))
        }),
    }
}

/// What was accepted, of what fails; a failure if anything else stands in the way.
fn accepted(checks: &[CheckResult], investigated: &[Investigated]) -> Result<BTreeMap<u32, String>, Failure> {
    let reasons: BTreeMap<u32, &str> =
        investigated.iter().map(|accepted| (accepted.check, accepted.why.as_str())).collect();
    let mut open = Vec::new();
    let mut accepted = BTreeMap::new();
    for check in checks.iter().filter(|check| check.status != CheckStatus::Pass) {
        match (check.status, reasons.get(&check.number)) {
            (CheckStatus::Fail, Some(why)) => {
                accepted.insert(check.number, (*why).to_owned());
            }
            (CheckStatus::NotRun, _) => {
                open.push(format!("check {} ({}) has no input", check.number, check.name))
            }
            _ => open.push(format!("check {} ({}): {}", check.number, check.name, check::findings(check))),
        }
    }
    if open.is_empty() {
        return Ok(accepted);
    }
    let hint = "mend them; only hash mismatches can be accepted, with --investigated 3='why'";
    Err(Failure::gate(format!("nothing is signed: {}. {hint}", open.join("; "))))
}

/// Counts by stage; the stages are numbered, so that the map keeps their order.
async fn counts(
    ctx: &Ctx,
    spec: &BatchSpec,
    manifest: &Manifest,
) -> Result<BTreeMap<String, BTreeMap<String, u64>>, Failure> {
    fn stage(name: &str, counts: &[(&str, u64)]) -> (String, BTreeMap<String, u64>) {
        (name.to_owned(), counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect())
    }
    let store = ctx.store()?;
    let keys = BatchKeys::new(&spec.batch_id);
    let lake = Lake::of(ctx)?;
    let (documents, pages) = raw(&lake, spec).await?;
    let mut stages = vec![
        stage("1 ocr", &[("documents", documents), ("pages", pages)]),
        stage(
            "2 batch",
            &[("documents", spec.documents), ("pages", spec.pages), ("parts", spec.parts.len() as u64)],
        ),
    ];
    let of = &manifest.counts;
    let mut annotated = stage(
        "3 preannotate",
        &[
            ("pages", of.pages),
            ("suggested", of.suggested),
            ("empty", of.empty),
            ("failed", of.failed),
            ("skipped", of.skipped),
            ("spans", of.spans),
            ("ungrounded", of.ungrounded),
        ],
    );
    let retries = Retries::of(ctx, manifest).await?;
    retries.refuse_foreign(&spec.batch_id)?;
    if !retries.done.is_empty() {
        annotated.1.insert("retried".to_owned(), retries.mended(manifest));
    }
    annotated.1.extend(of.reasons.iter().map(|(reason, pages)| (format!("reason {reason}"), *pages)));
    stages.push(annotated);
    if let Some(records) = store.head_opt(&keys.records()).await? {
        let records = TableFile::open(store, &records, Table::ArgillaRecords).await?.rows();
        stages.push(stage("4 merge", &[("records", records)]));
    }
    if let Some(exported) = export::last(store, &keys).await? {
        let name = "5 export";
        let (pages, spans) = (exported.pages.rows, exported.spans.rows);
        stages.push(stage(name, &[("records", exported.record_count), ("pages", pages), ("spans", spans)]));
    }
    let (pages, spans) = loaded(&lake, spec).await?;
    stages.push(stage("6 annotations", &[("pages", pages), ("spans", spans)]));
    Ok(stages.into_iter().collect())
}

/// Documents of the batch that the lake has, and their distinct pages, of all runs.
async fn raw(lake: &Lake, spec: &BatchSpec) -> Result<(u64, u64), Failure> {
    let ids = serde_json::to_string(&spec.selection.doc_ids).unwrap_or_default();
    pair(
        lake,
        Database::Raw,
        "WITH asked AS (SELECT unnest(from_json(?, '[\"VARCHAR\"]')) AS doc_id) SELECT
             (SELECT count(DISTINCT doc_id) FROM rawdb.main.raw_documents SEMI JOIN asked USING (doc_id)),
             (SELECT count(DISTINCT (doc_id, run_id, page_num)) FROM rawdb.main.raw_pages SEMI JOIN asked USING (doc_id))",
        ids,
    )
    .await
}

/// Annotated pages and spans of the newest export that the lake has.
async fn loaded(lake: &Lake, spec: &BatchSpec) -> Result<(u64, u64), Failure> {
    pair(
        lake,
        Database::Annotated,
        "WITH newest AS (
             SELECT argilla_dataset, max(export_run_id) AS export_run_id FROM anndb.main.annotations_exports
             WHERE argilla_dataset = ? GROUP BY argilla_dataset
         ) SELECT
             (SELECT count(*) FROM anndb.main.annotations_pages SEMI JOIN newest USING (argilla_dataset, export_run_id)),
             (SELECT count(*) FROM anndb.main.annotations_spans SEMI JOIN newest USING (argilla_dataset, export_run_id))",
        spec.batch_id.dataset(),
    )
    .await
}

async fn pair(
    lake: &Lake,
    database: Database,
    sql: &'static str,
    value: String,
) -> Result<(u64, u64), Failure> {
    let databases: &'static [Database] = match database {
        Database::Raw => &[Database::Raw],
        Database::Annotated => &[Database::Annotated],
    };
    let rows = lake
        .read(databases, move |session| session.query(sql, [value], |row| Ok((row.get(0)?, row.get(1)?))))
        .await?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

fn write_log(folder: &Path, signed: &Signoff) -> Result<[PathBuf; 2], Failure> {
    let folder = &std::path::absolute(folder).map_err(|error| Failure::file("find", folder, &error))?;
    fs::create_dir_all(folder).map_err(|error| Failure::file("make", folder, &error))?;
    let (text, json) = (folder.join("pilot-log.md"), folder.join("pilot-log.json"));
    let document = serde_json::to_string_pretty(signed).unwrap_or_default();
    for (path, content) in [(&text, pilot_log::markdown(signed)), (&json, format!("{document}\n"))] {
        fs::write(path, content).map_err(|error| Failure::file("write", path, &error))?;
    }
    Ok([text, json])
}

fn passed(checks: &[CheckResult]) -> u64 {
    checks.iter().filter(|check| check.status == CheckStatus::Pass).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(failing: &[(u32, CheckStatus)]) -> Vec<CheckResult> {
        (1..=10)
            .map(|number| CheckResult {
                number,
                name: "n".into(),
                status: failing
                    .iter()
                    .find(|(n, _)| *n == number)
                    .map_or(CheckStatus::Pass, |(_, status)| *status),
                expected: "0".into(),
                found: "1".into(),
                offenders: vec![],
            })
            .collect()
    }

    #[test]
    fn only_a_failed_check_with_a_reason_is_accepted() {
        let why = ["3=typed by hand".parse().expect("a reason")];
        let failed = checks(&[(3, CheckStatus::Fail)]);
        assert_eq!(accepted(&failed, &why).expect("accepted")[&3], "typed by hand");
        assert!(accepted(&checks(&[]), &why).expect("nothing to accept").is_empty());
        for open in [vec![(3, CheckStatus::NotRun)], vec![(3, CheckStatus::Fail), (8, CheckStatus::Fail)]] {
            assert_eq!(accepted(&checks(&open), &why).expect_err("open").exit_code(), 1);
        }
        let error = accepted(&failed, &[]).expect_err("no reason").to_string();
        assert!(error.contains("check 3 (n): 1") && error.contains("--investigated 3="), "{error}");
    }
}
