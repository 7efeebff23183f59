//! `merge`: a batch's pages and suggestions into `argilla_records.parquet`.
//!
//! - Only what a commit vouches for is merged, and only with the hashes that it says.
//! - Records are published when every page is accounted for: autoload takes what it finds. With `--partial`, pages
//!   of parts that are not committed may be missing.
//! - Records that are there already are not written again.
//! - Pages that failed and were retried by another batch become what they are there: that batch has no records of its
//!   own, so that a page has one, and is reviewed once.

use std::{collections::BTreeMap, fs, time::Instant};

use proto::{
    docs::FileRef,
    ids::BatchId,
    keys::{BatchKeys, PartKind},
    store::Store,
};

use crate::{
    batch::{self, retries::Retries},
    cli::MergeArgs,
    ctx::Ctx,
    failure::Failure,
    lake::Lake,
    report::Report,
    sql::{Params, Script},
    staging::{Staging, paths, sha256_of_file},
};

/// The files that commits vouch for.
#[derive(Default)]
struct Committed {
    pages: Vec<FileRef>,
    suggestions: Vec<FileRef>,
    ledger: Vec<FileRef>,
    /// Pages that failed and did not when they were tried again.
    retried: u64,
    /// Of a batch that tries pages again, and is not complete.
    note: Option<String>,
}

pub async fn run(ctx: &Ctx, args: &MergeArgs) -> Result<Report, Failure> {
    let start = Instant::now();
    let batch = &args.batch;
    let (store, staging, keys) = (ctx.store()?, Staging::of(ctx)?, BatchKeys::new(batch));
    not_a_retry(ctx, batch).await?;
    let committed = committed(ctx, batch, args.partial).await?;
    let redo = "it changed after its part was committed; annotate the batch again under another id";
    staging.stage_verified(&committed.pages, redo).await?;
    let redo = "it is not what was committed: restore it; or delete it, and `control preannotate retry BATCH --lost` for \
                its batch makes it again";
    let suggestions = paths(&staging.stage_verified(&committed.suggestions, redo).await?);
    let ledger = paths(&staging.stage_verified(&committed.ledger, redo).await?);
    // Every file of pages, committed or not: a page that no commit speaks of must be seen to be missing.
    let pages = batch::part_files(ctx, &keys, PartKind::Pages).await?;
    let pages = paths(&staging.stage(&pages).await?);

    fs::create_dir_all(&ctx.settings.cache)
        .map_err(|error| Failure::file("make", &ctx.settings.cache, &error))?;
    let work = tempfile::Builder::new()
        .prefix("merge-")
        .tempdir_in(&ctx.settings.cache)
        .map_err(|error| Failure::file("make a folder in", &ctx.settings.cache, &error))?;
    let records = work.path().join("argilla_records.parquet");
    let params = Params::default()
        .files("pages_glob", &pages)
        .files("suggestions_glob", &suggestions)
        .files("ledger_glob", &ledger)
        .text("output_uri", records.to_str());
    let counts = Lake::of(ctx)?
        .scratch(move |session| {
            session.run(Script::Merge, &params)?;
            session.report("_merge_report")
        })
        .await?;
    accounted_for(batch, &counts, args.partial)?;
    let there = already_there(store, &staging, &keys, &sha256_of_file(&records).await?).await?;
    if !there {
        staging.upload(&records, &keys.records()).await?;
    }
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    let report = Report::new("merge")
        .pages(count("pages"), count("records"))
        .outcome("suggested", count("records_suggested"))
        .outcome("empty", count("records_empty"))
        .outcome_if_any("failed", count("records_failed"))
        .outcome_if_any("retried", committed.retried)
        .outcome_if_any("skipped", count("skipped"))
        .outcome_if_any("blank", count("blank"))
        .outcome_if_any("unaccounted", count("unaccounted"))
        .outcome("spans", count("spans_in_records"))
        .artifact(store.uri_of(&keys.records()))
        .already_done(there);
    let lost = count("spans") - count("spans_in_records").min(count("spans"));
    let report = match lost {
        0 => report,
        lost => report.note(format!("{lost} suggestions are of pages that became no record")),
    };
    let report = committed.note.into_iter().fold(report, Report::note);
    Ok(report.since(start))
}

/// The records of pages that are tried again are the parent's.
async fn not_a_retry(ctx: &Ctx, batch: &BatchId) -> Result<(), Failure> {
    let of = async |batch: &BatchId| {
        Ok::<_, Failure>(
            batch::spec(ctx, batch).await?.filter(|spec| spec.retry).and_then(|spec| spec.parent),
        )
    };
    let Some(mut first) = of(batch).await? else { return Ok(()) };
    while let Some(parent) = of(&first).await? {
        first = parent;
    }
    Err(Failure::gate(format!(
        "batch {batch} has pages that failed in batch {first}, and they are merged with it: run `control merge {first}`"
    )))
}

async fn committed(ctx: &Ctx, batch: &BatchId, partial: bool) -> Result<Committed, Failure> {
    let mut parts = Vec::new();
    let mut committed = Committed::default();
    if let Some(manifest) = batch::manifest(ctx, batch).await? {
        let retries = Retries::of(ctx, &manifest).await?;
        retries.refuse_foreign(batch)?;
        committed.retried = retries.mended(&manifest);
        committed.note = retries.note().map(|note| format!("{note}: merge again when it is"));
        parts.extend(manifest.parts.into_iter().map(|part| (part.pages, part.suggestions, part.ledger)));
        // Their pages are the same, and are there.
        for part in retries.done.into_iter().flat_map(|retry| retry.parts) {
            committed.suggestions.push(part.suggestions);
            committed.ledger.push(part.ledger);
        }
    } else {
        let commits = batch::commits(ctx, batch).await?;
        let pages = batch::part_files(ctx, &BatchKeys::new(batch), PartKind::Pages).await?.len();
        let state = format!("{} of {pages} parts are committed", commits.len());
        if pages == 0 {
            return Err(batch::unknown(ctx, batch));
        } else if commits.is_empty() {
            return Err(Failure::gate(format!(
                "batch {batch} cannot be merged: {state}: run `control preannotate submit {batch} --watch`"
            )));
        } else if !partial {
            return Err(Failure::gate(format!(
                "batch {batch} is not complete: {state}: wait for `control preannotate watch {batch}`, or merge what \
                 is there with --partial"
            )));
        }
        parts.extend(commits.into_iter().map(|commit| (commit.pages, commit.suggestions, commit.ledger)));
    }
    for (pages, suggestions, ledger) in parts {
        committed.pages.push(pages);
        committed.suggestions.push(suggestions);
        committed.ledger.push(ledger);
    }
    Ok(committed)
}

fn accounted_for(batch: &BatchId, counts: &BTreeMap<String, u64>, partial: bool) -> Result<(), Failure> {
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    let (pages, unaccounted, changed) = (count("pages"), count("unaccounted"), count("changed"));
    let records = count("records") + count("skipped") + count("blank");
    if changed > 0 {
        return Err(Failure::gate(format!(
            "batch {batch} is not merged: {changed} of {pages} pages have another text than the one that was \
             annotated: annotate the batch again under another id"
        )));
    }
    if unaccounted > 0 && !partial {
        return Err(Failure::gate(format!(
            "batch {batch} is not merged: {unaccounted} of {pages} pages are in no ledger: run `control preannotate \
             retry {batch}`, or merge the others with --partial"
        )));
    }
    if records + unaccounted != pages {
        return Err(Failure::gate(format!(
            "batch {batch} is not merged: {pages} pages became {records} records, skipped and blank pages, and \
             {unaccounted} are unaccounted for: this is a defect, report it"
        )));
    }
    Ok(())
}

async fn already_there(
    store: &Store,
    staging: &Staging<'_>,
    keys: &BatchKeys,
    sha256: &str,
) -> Result<bool, Failure> {
    let Some(object) = store.head_opt(&keys.records()).await? else { return Ok(false) };
    let staged = staging.stage(&[object]).await?;
    for staged in &staged {
        if sha256_of_file(&staged.path).await? != sha256 {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_must_be_accounted_for() {
        let batch: BatchId = "b".parse().expect("a batch id");
        let judged = |counts: &[(&str, u64)], partial| {
            let counts = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
            accounted_for(&batch, &counts, partial)
        };
        let whole = [("pages", 6), ("records", 3), ("skipped", 2), ("blank", 1)];
        assert_eq!(judged(&whole, false), Ok(()));
        let open = [("pages", 7), ("records", 3), ("skipped", 2), ("blank", 1), ("unaccounted", 1)];
        assert_eq!(judged(&open, false).map_err(|failure| failure.exit_code()), Err(1));
        assert_eq!(judged(&open, true), Ok(()));
        let changed = [("pages", 7), ("records", 6), ("changed", 1)];
        assert_eq!(judged(&changed, true).map_err(|failure| failure.exit_code()), Err(1));
        assert!(judged(&[("pages", 7), ("records", 6)], true).is_err());
    }
}
