//! `ocr load` and `ocr check`.
//!
//! - A file that cannot be read as its table is named and set aside; the rest is loaded, and the command fails.
//! - Rows with a wrong hash or a taken key are loaded and flagged: what is not in the lake, no check can find.
//! - Documents are chosen by formatting their keys; no id is read out of a key.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    path::Path,
    time::Instant,
};

use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proto::{
    docs::CheckStatus,
    ids::DocId,
    keys,
    parquet_io::ParquetIoError,
    schema::Table,
    store::{Object, Store},
};

use super::check;
use crate::{
    cli::OcrArgs,
    ctx::Ctx,
    documents,
    failure::Failure,
    lake::{Database, Lake, Session},
    report::Report,
    sql::{Params, Script},
    staging::{Staged, Staging},
};

/// Files, and their bytes, of one transaction.
const FILES: usize = 200;
const BYTES: u64 = 128 << 20;
/// Listings at a time.
const AT_ONCE: usize = 16;
/// Findings that are told; all are counted.
const TOLD: usize = 20;

pub async fn load(ctx: &Ctx, args: &OcrArgs) -> Result<Report, Failure> {
    let start = Instant::now();
    let asked = documents::asked(&args.documents)?;
    let lake = Lake::of(ctx)?;
    let files = list(ctx, &asked).await?;
    let mut load = Load {
        ctx,
        lake: &lake,
        staging: Staging::of(ctx)?,
        doc_ids: (!asked.is_empty()).then(|| texts(&asked)),
        counts: BTreeMap::new(),
        flags: Vec::new(),
        set_aside: Vec::new(),
    };
    let progress = ctx.printer.progress("ocr load", Some(files.len() as u64));
    let mut done = 0;
    for files in chunks(&files) {
        load.chunk(files).await?;
        done += files.len() as u64;
        progress.at(done);
    }
    drop(progress);
    let Load { counts, flags, set_aside, .. } = load;
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    let loaded = count("pages_loaded") + count("documents_loaded");
    let mut wrong = told(set_aside.len() as u64, &set_aside).map_or_else(Vec::new, |told| {
        vec![format!("{} of {} files are set aside: {told}", set_aside.len(), files.len())]
    });
    for id in missing(&lake, &asked).await? {
        wrong.push(format!("document {id:?} has no pages below {}/{}", ctx.settings.root, keys::RAW_PAGES));
    }
    if !wrong.is_empty() {
        let rest = format!("the rest is loaded ({} pages now)", count("pages_loaded"));
        return Err(Failure::data(format!("{}; {rest}: have these written again", wrong.join("; "))));
    }
    let mut report = Report::new("ocr load")
        .pages(count("pages_in_files"), count("pages_loaded") + count("pages_there_already"))
        .outcome("documents", count("documents_in_files"))
        .outcome("pages_loaded", count("pages_loaded"))
        .outcome_if_any("pages_without_key", count("pages_without_key"))
        .outcome_if_any("documents_without_key", count("documents_without_key"))
        .outcome_if_any("flagged_key_taken", count("flagged_key_taken"))
        .outcome_if_any("flagged_wrong_hash", count("flagged_wrong_hash"))
        .artifact(lake.uri(Database::Raw))
        .already_done(loaded == 0);
    report.notes = flags;
    Ok(report.since(start))
}

/// Counts what is loaded of the documents asked for, and runs the checks of the raw tables over them.
pub async fn check(ctx: &Ctx, args: &OcrArgs) -> Result<Report, Failure> {
    let start = Instant::now();
    let asked = documents::asked(&args.documents)?;
    let doc_ids = (!asked.is_empty()).then(|| texts(&asked));
    let lake = Lake::of(ctx)?;
    let (documents, pages, checks) = lake
        .read(&[Database::Raw], move |session| {
            let params = Params::default().texts("doc_ids", doc_ids.as_deref());
            let checks = check::of_session(session, &params)?;
            // The documents that the checks looked at: the newest run of each.
            let counts = session.query(
                "SELECT (SELECT count(*) FROM _scope WHERE run_id IS NOT NULL), (SELECT count(DISTINCT (page.doc_id, \
                 page.page_num)) FROM rawdb.main.raw_pages AS page SEMI JOIN _scope USING (doc_id, run_id))",
                [],
                |row| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?)),
            )?;
            let (documents, pages) = counts.into_iter().next().unwrap_or_default();
            Ok((documents, pages, checks))
        })
        .await?;
    let mut report = Report::new("ocr check")
        .pages(pages, pages)
        .outcome("documents", documents)
        .artifact(lake.uri(Database::Raw));
    let mut stands_in_the_way = Vec::new();
    for check in checks.iter().filter(|check| check.number <= 4 && check.status != CheckStatus::Pass) {
        let says = format!("check {} ({}): {}", check.number, check.name, check::findings(check));
        // Wrong hashes, double keys and gaps are judged at the sign-off; their pages are skipped until then.
        if check.number <= 2 || check.status == CheckStatus::NotRun {
            stands_in_the_way.push(says);
        } else {
            report =
                report.outcome(&check.name.replace(' ', "_"), check.found.parse().unwrap_or(1)).note(says);
        }
    }
    if !stands_in_the_way.is_empty() {
        return Err(Failure::gate(format!("{}: load what is missing", stands_in_the_way.join("; "))));
    }
    Ok(report.since(start))
}

fn texts(ids: &[DocId]) -> Vec<String> {
    ids.iter().map(|id| id.as_str().to_owned()).collect()
}

/// The files of the documents asked for; of all without any.
async fn list(ctx: &Ctx, asked: &[DocId]) -> Result<Vec<(Table, Object)>, Failure> {
    let store = ctx.store()?;
    if let Some(folder) = store.local_path(&keys::Key::from_listing(""))
        && !folder.is_dir()
    {
        return Err(Failure::config(format!("the root {} is not there: give --root", folder.display())));
    }
    let listing = async {
        let mut documents = store.list_sorted(keys::RAW_DOCUMENTS).await?;
        let pages = if asked.is_empty() {
            store.list_sorted(keys::RAW_PAGES).await?
        } else {
            let folders: HashSet<String> = asked.iter().map(keys::doc_folder).collect();
            documents.retain(|object| object.key.as_str().split('/').any(|name| folders.contains(name)));
            pages_of(store, asked).await?
        };
        let documents = documents.into_iter().map(|object| (Table::RawDocuments, object));
        let pages = pages.into_iter().map(|object| (Table::RawPages, object));
        Ok(documents.chain(pages).filter(|(_, object)| object.key.as_str().ends_with(".parquet")).collect())
    };
    let files: Vec<_> = ctx.until_stopped(listing, || "interrupted; nothing was loaded".to_owned()).await?;
    if files.is_empty() && asked.is_empty() {
        let root = store.root();
        return Err(Failure::data(format!(
            "there are no Parquet files below {root}/md_raw_ocr/: run the OCR first"
        )));
    }
    Ok(files)
}

async fn pages_of(store: &Store, asked: &[DocId]) -> Result<Vec<Object>, Failure> {
    let prefixes: Vec<_> = asked.iter().map(keys::raw_pages_of).collect();
    let listings = prefixes.iter().map(|prefix| store.list_sorted(prefix));
    let listings: Vec<Vec<Object>> = futures::stream::iter(listings).buffered(AT_ONCE).try_collect().await?;
    Ok(listings.concat())
}

fn chunks(files: &[(Table, Object)]) -> Vec<&[(Table, Object)]> {
    let mut chunks = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, (_, object)) in files.iter().enumerate() {
        if at > from && (at - from == FILES || bytes + object.bytes > BYTES) {
            chunks.push(&files[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += object.bytes;
    }
    chunks.extend((from < files.len()).then(|| &files[from..]));
    chunks
}

struct Load<'a> {
    ctx: &'a Ctx,
    lake: &'a Lake,
    staging: Staging<'a>,
    doc_ids: Option<Vec<String>>,
    counts: BTreeMap<String, u64>,
    flags: Vec<String>,
    set_aside: Vec<String>,
}

impl Load<'_> {
    async fn chunk(&mut self, files: &[(Table, Object)]) -> Result<(), Failure> {
        let objects: Vec<_> = files.iter().map(|(_, object)| object.clone()).collect();
        let staged = self.staging.stage(&objects).await?;
        let mut good = Vec::new();
        for ((table, _), staged) in files.iter().zip(staged) {
            let (table, opened) = (*table, staged.clone());
            let validated = tokio::task::spawn_blocking(move || validate(&opened.path, table, opened.uri))
                .await
                .map_err(|error| Failure::data(format!("a file could not be looked at: {error}")))?;
            match validated {
                Ok(()) => good.push((table, staged)),
                Err(error) => self.set_aside(error.to_string()),
            }
        }
        match self.run(&good).await {
            // Something in some file that its footer does not tell: find out in which.
            Err(Failure::Data(_)) => {
                for file in good {
                    if let Err(failure) = self.run(std::slice::from_ref(&file)).await {
                        let Failure::Data(message) = failure else { return Err(failure) };
                        let message = message.replace(&file.1.text, &file.1.uri);
                        let named = message.contains(&file.1.uri);
                        self.set_aside(if named { message } else { format!("{}: {message}", file.1.uri) });
                    }
                }
                Ok(())
            }
            done => done,
        }
    }

    async fn run(&mut self, files: &[(Table, Staged)]) -> Result<(), Failure> {
        let of = |table: Table| -> Vec<String> {
            files.iter().filter(|(of, _)| *of == table).map(|(_, staged)| staged.text.clone()).collect()
        };
        let params = Params::default()
            .files("documents_glob", &of(Table::RawDocuments))
            .files("pages_glob", &of(Table::RawPages))
            .texts("doc_ids", self.doc_ids.as_deref());
        let (counts, flags) = self
            .lake
            .write(Database::Raw, move |session| {
                session.run(Script::LoadRaw, &params)?;
                Ok((session.report("_load_report")?, flags(session)?))
            })
            .await?;
        for (name, count) in counts {
            *self.counts.entry(name).or_default() += count;
        }
        let room = TOLD.saturating_sub(self.flags.len());
        self.flags.extend(flags.into_iter().take(room));
        Ok(())
    }

    fn set_aside(&mut self, why: String) {
        self.ctx.printer.note(&format!("set aside: {why}"));
        self.set_aside.push(why);
    }
}

fn flags(session: &Session) -> Result<Vec<String>, Failure> {
    let sql = format!(
        "SELECT doc_id, run_id, page_num, reason FROM _load_flags ORDER BY doc_id, run_id, page_num LIMIT {TOLD}"
    );
    session.query(&sql, [], |row| {
        let doc_id = row.get::<_, Option<String>>(0)?.unwrap_or_default();
        let run_id = row.get::<_, Option<i64>>(1)?.map_or("?".to_owned(), |run| run.to_string());
        let page = row.get::<_, Option<i32>>(2)?.map_or(String::new(), |page| format!(" page {page}"));
        Ok(format!("document {doc_id:?}{page} (run {run_id}): {}", row.get::<_, String>(3)?))
    })
}

/// The documents asked for of which the lake knows no page.
async fn missing(lake: &Lake, asked: &[DocId]) -> Result<Vec<String>, Failure> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let ids = serde_json::json!(texts(asked)).to_string();
    lake.read(&[Database::Raw], move |session| {
        session.query(
            "SELECT doc_id FROM (SELECT unnest(?::JSON::VARCHAR[]) AS doc_id) ANTI JOIN rawdb.main.raw_pages \
             USING (doc_id) ORDER BY doc_id",
            [ids],
            |row| row.get(0),
        )
    })
    .await
}

/// Whether a file can be read as its table: it has a footer, and every column in a type that will do.
fn validate(path: &Path, table: Table, uri: String) -> Result<(), ParquetIoError> {
    let broken = |source| ParquetIoError::Broken { uri: uri.clone(), source };
    let file = File::open(path).map_err(|error| broken(error.into()))?;
    if file.metadata().is_ok_and(|meta| meta.len() == 0) {
        return Err(ParquetIoError::Empty { uri });
    }
    let found = ParquetRecordBatchReaderBuilder::try_new(file).map_err(broken)?;
    table.validate(found.schema()).map_err(|source| ParquetIoError::Rows { uri, source: source.into() })
}

/// The first of `all`, joined; None without any.
fn told(count: u64, all: &[String]) -> Option<String> {
    let more = count.saturating_sub(TOLD as u64);
    let first = all.iter().take(TOLD).cloned().collect::<Vec<_>>().join("; ");
    match (all.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(first),
        (false, more) => Some(format!("{first}; and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_takes_so_many_files_and_bytes() {
        let file = |bytes| {
            let key = keys::Key::from_listing("k");
            let object = Object { key, bytes, etag: None, last_modified: chrono::DateTime::UNIX_EPOCH };
            (Table::RawPages, object)
        };
        let sizes = |files: &[(Table, Object)]| chunks(files).into_iter().map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), Vec::<usize>::new());
        assert_eq!(sizes(&vec![file(1); 2 * FILES + 1]), [FILES, FILES, 1]);
        assert_eq!(sizes(&[file(1), file(BYTES), file(2 * BYTES), file(1), file(1)]), [1, 1, 1, 2]);
    }

    #[test]
    fn long_lists_are_cut_short() {
        let all: Vec<_> = (0..30).map(|n| n.to_string()).collect();
        assert!(told(30, &all).is_some_and(|told| told.ends_with("19; and 10 more")));
        assert_eq!(told(0, &[]), None);
    }
}
