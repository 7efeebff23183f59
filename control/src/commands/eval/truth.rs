//! What suggestions are judged by: a file, or the submitted answers of an export.
//!
//! Memory: the truth's spans, without any text.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::File,
    path::Path,
    sync::Arc,
};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proto::{
    keys::BatchKeys,
    rows::{AnnotatedPage, AnnotatedSpan, Row, TruthSpan, from_batch},
};

use crate::{
    argilla::export,
    cli::EvalArgs,
    commands::annotations,
    ctx::Ctx,
    evaluation::{Answer, PageId, Span},
    failure::Failure,
    staging::Staging,
};

const READ_ROWS: usize = 4096;

/// Answers by page.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// `file` or `answers`.
    pub kind: &'static str,
    pub source: String,
    pages: HashMap<PageId, Vec<Entry>>,
    pub discarded: u64,
    pub notes: Vec<String>,
}

/// One truth of a page, and the text it is about.
#[derive(Debug, Default)]
struct Entry {
    run_id: Option<i64>,
    page_sha256: Option<String>,
    answer: Arc<Answer>,
}

/// What the truth says of a page.
#[derive(Debug, PartialEq)]
pub(super) enum Known {
    Answers(Vec<Arc<Answer>>),
    Not,
    /// Its text was another.
    OtherText,
    /// It is of another OCR run, and has no hash to tell by.
    OtherRun,
}

impl Truth {
    pub async fn of(ctx: &Ctx, args: &EvalArgs) -> Result<Self, Failure> {
        match &args.truth {
            Some(path) => Self::of_file(path),
            None => Self::of_answers(ctx, args).await,
        }
    }

    /// The pages that it knows.
    pub fn pages(&self) -> impl Iterator<Item = &PageId> {
        self.pages.keys()
    }

    pub fn page(&self, id: &PageId, run_id: Option<i64>, page_sha256: Option<&str>) -> Known {
        let Some(entries) = self.pages.get(id) else { return Known::Not };
        let one_run = entries.iter().all(|entry| entry.run_id == entries[0].run_id);
        let mut found = Vec::new();
        let mut other = Known::OtherRun;
        for entry in entries {
            // The hash is the better witness: two runs may have read the same.
            let same = match (&entry.page_sha256, entry.run_id) {
                (Some(hash), _) => Some(hash.as_str()) == page_sha256,
                (None, Some(run)) => run_id.map_or(one_run, |run_id| run_id == run),
                (None, None) => true,
            };
            if same {
                found.push(entry.answer.clone());
            } else if entry.page_sha256.is_some() {
                other = Known::OtherText;
            }
        }
        if found.is_empty() { other } else { Known::Answers(found) }
    }

    fn of_file(path: &Path) -> Result<Self, Failure> {
        let mut truth = Self { kind: "file", source: path.display().to_string(), ..Self::default() };
        let mut read: HashMap<(PageId, Option<i64>), Answer> = HashMap::new();
        let (mut unnamed, mut row_number) = (0u64, 0u64);
        let bad = |row: u64, why: &str| Failure::data(format!("{}: row {row} {why}", path.display()));
        for_rows(path, |row: TruthSpan| {
            row_number += 1;
            let (Some(doc_id), Some(page_num)) = (row.doc_id, row.page_num) else {
                unnamed += 1;
                return Ok(());
            };
            let answer = read.entry(((doc_id, page_num), row.run_id)).or_default();
            match (row.label, row.start, row.end) {
                (None, None, None) => {}
                (Some(label), None, None) => *answer.lost.entry(label).or_default() += 1,
                (Some(label), Some(start), Some(end)) => {
                    let span = place(label, start, end)
                        .ok_or_else(|| bad(row_number, &format!("has no place: {start} to {end}")))?;
                    answer.spans.push(span);
                }
                _ => return Err(bad(row_number, "has a place without its label, or half a place")),
            }
            Ok(())
        })?;
        let mut twice = 0;
        for ((page, run_id), mut answer) in read {
            answer.spans.sort();
            let before = answer.spans.len();
            answer.spans.dedup();
            twice += before - answer.spans.len();
            let entry = Entry { run_id, page_sha256: None, answer: Arc::new(answer) };
            truth.pages.entry(page).or_default().push(entry);
        }
        truth.note_if(unnamed, "rows of the truth have no document or page number and do not count");
        truth.note_if(twice as u64, "rows of the truth say what another says, and count once");
        Ok(truth)
    }

    async fn of_answers(ctx: &Ctx, args: &EvalArgs) -> Result<Self, Failure> {
        let (store, mut batch) = (ctx.store()?, &args.batch);
        let mut found = match args.export_run {
            Some(run) => Some(annotations::find(ctx, batch, Some(run)).await?),
            None => export::last(store, &BatchKeys::new(batch)).await?,
        };
        if let (None, Some(other)) = (&found, &args.compare) {
            batch = other;
            found = export::last(store, &BatchKeys::new(batch)).await?;
        }
        let export = found.ok_or_else(|| {
            let batches = args.compare.iter().fold(args.batch.to_string(), |all, other| format!("{all} and {other}"));
            Failure::data(format!(
                "there is nothing to judge by: no answers to {batches} are exported under {}: have them reviewed and \
                 run `control argilla export {}`, or give --truth FILE.parquet",
                store.root(),
                args.batch
            ))
        })?;
        let staging = Staging::of(ctx)?;
        let redo = "it changed after the export; run `control argilla export` again";
        let pages = staging.stage_verified(&export.pages.files, redo).await?;
        let spans = staging.stage_verified(&export.spans.files, redo).await?;

        let source = store.uri_of(&BatchKeys::new(batch).export(export.export_run_id).schema());
        let mut truth = Self { kind: "answers", source, ..Self::default() };
        let wanted = |annotator: &str| args.annotator.as_deref().is_none_or(|asked| asked == annotator);
        let mut answers: HashMap<(PageId, String), (Entry, Answer)> = HashMap::new();
        let mut annotators = BTreeSet::new();
        for file in &pages {
            for_rows(&file.path, |row: AnnotatedPage| {
                annotators.insert(row.annotator_id.clone());
                if !wanted(&row.annotator_id) {
                } else if row.status == "submitted" {
                    let answer = Answer { annotator: Some(row.annotator_id.clone()), ..Answer::default() };
                    let page_sha256 = Some(row.page_sha256);
                    let entry = Entry { run_id: row.run_id, page_sha256, ..Entry::default() };
                    answers.insert(((row.doc_id, row.page_num), row.annotator_id), (entry, answer));
                } else {
                    truth.discarded += 1;
                }
                Ok(())
            })?;
        }
        if let Some(asked) = args.annotator.as_ref().filter(|asked| !annotators.contains(*asked)) {
            let known = annotators.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Failure::usage(format!(
                "no answer in {} is of annotator {asked:?}; it has answers of {known}",
                truth.source
            )));
        }
        let mut strays = 0;
        for file in &spans {
            for_rows(&file.path, |row: AnnotatedSpan| {
                if !wanted(&row.annotator_id) {
                    return Ok(());
                }
                let answer = answers.get_mut(&((row.doc_id, row.page_num), row.annotator_id));
                match (answer, place(row.label, row.start, row.end)) {
                    (Some((_, answer)), Some(span)) => answer.spans.push(span),
                    _ => strays += 1,
                }
                Ok(())
            })?;
        }
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.sort_by(|a, b| a.0.cmp(&b.0));
        for ((page, _), (entry, mut answer)) in answers {
            answer.spans.sort();
            truth.pages.entry(page).or_default().push(Entry { answer: Arc::new(answer), ..entry });
        }
        if batch != &args.batch {
            truth
                .notes
                .push(format!("the answers are those to batch {batch}: batch {} has none", args.batch));
        }
        truth.note_if(strays, "spans of the export belong to no submitted answer, or have no place");
        Ok(truth)
    }

    fn note_if(&mut self, count: u64, what: &str) {
        if count > 0 {
            self.notes.push(format!("{count} {what}"));
        }
    }

    /// How many pages of the truth are not among these.
    pub fn elsewhere(&self, batch: &HashSet<PageId>) -> u64 {
        self.pages().filter(|page| !batch.contains(*page)).count() as u64
    }
}

/// A place that can be one.
pub(super) fn place(label: String, start: i32, end: i32) -> Option<Span> {
    let (start, end) = (u32::try_from(start).ok()?, u32::try_from(end).ok()?);
    (start < end).then_some(Span { label, start, end })
}

/// The rows of a local file, one after another.
fn for_rows<R: Row>(path: &Path, mut each: impl FnMut(R) -> Result<(), Failure>) -> Result<(), Failure> {
    let file = File::open(path).map_err(|error| Failure::file("read", path, &error))?;
    let broken = |error: &dyn std::fmt::Display| {
        Failure::data(format!("{} is not a readable Parquet file ({error}): write it again", path.display()))
    };
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| broken(&error))?;
    let named = |name: &str| reader.schema().field_with_name(name).is_ok();
    let columns = R::TABLE.columns().iter();
    let missing: Vec<_> = columns.filter(|c| c.required && !named(c.name)).map(|c| c.name).collect();
    if !missing.is_empty() {
        let found: Vec<_> = reader.schema().fields().iter().map(|field| field.name().as_str()).collect();
        return Err(Failure::data(format!(
            "{} lacks the columns {}; it has {}. A {} needs {}",
            path.display(),
            missing.join(", "),
            found.join(", "),
            R::TABLE,
            R::TABLE.columns().iter().filter(|c| c.required).map(|c| c.name).collect::<Vec<_>>().join(", ")
        )));
    }
    let batches = reader.with_batch_size(READ_ROWS).build().map_err(|error| broken(&error))?;
    for batch in batches {
        let batch = batch.map_err(|error| broken(&error))?;
        let rows = from_batch::<R>(&batch).map_err(|error| Failure::from(error).context(path.display()))?;
        rows.into_iter().try_for_each(&mut each)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::{parquet_io::encode, rows::LedgerRow};

    use super::*;

    fn row(page_num: i32, run_id: Option<i64>, label: Option<&str>, at: Option<(i32, i32)>) -> TruthSpan {
        TruthSpan {
            doc_id: Some("d".into()),
            page_num: Some(page_num),
            label: label.map(Into::into),
            start: at.map(|at| at.0),
            end: at.map(|at| at.1),
            run_id,
        }
    }

    fn file<R: Row>(rows: &[R]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), encode(rows).expect("encoded")).expect("written");
        file
    }

    fn read(rows: &[TruthSpan]) -> Result<Truth, Failure> {
        Truth::of_file(file(rows).path())
    }

    fn answer(truth: &Truth, page_num: i32, run_id: Option<i64>) -> Option<Arc<Answer>> {
        match truth.page(&("d".into(), page_num), run_id, Some("hash")) {
            Known::Answers(answers) => answers.into_iter().next(),
            _ => None,
        }
    }

    #[test]
    fn lost_values_known_pages_and_runs() {
        let truth = read(&[
            row(1, Some(1), Some("IMO"), Some((3, 9))),
            row(1, Some(1), Some("IMO"), Some((3, 9))),
            row(1, Some(1), Some("FLAG"), None),
            row(1, Some(2), Some("IMO"), Some((4, 9))),
            row(2, None, None, None),
            TruthSpan { doc_id: None, ..row(1, None, None, None) },
        ])
        .expect("read");
        let first = answer(&truth, 1, Some(1)).expect("known");
        assert_eq!((first.spans.len(), first.lost["FLAG"]), (1, 1));
        assert_eq!(answer(&truth, 1, Some(2)).expect("known").spans[0].start, 4);
        assert_eq!(truth.page(&("d".into(), 1), Some(3), None), Known::OtherRun);
        assert_eq!(truth.page(&("d".into(), 1), None, None), Known::OtherRun, "which of two runs?");
        assert!(answer(&truth, 2, Some(7)).expect("known").spans.is_empty());
        assert_eq!(truth.page(&("e".into(), 1), None, None), Known::Not);
        assert_eq!(truth.notes.len(), 2, "{:?}", truth.notes);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        for (rows, says) in [
            (row(1, None, Some("IMO"), Some((9, 3))), "row 1 has no place: 9 to 3"),
            (row(1, None, None, Some((3, 9))), "row 1 has a place without its label"),
        ] {
            let error = read(&[rows]).expect_err("refused");
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(error.exit_code(), 5);
        }
        let other = Truth::of_file(file::<LedgerRow>(&[]).path()).expect_err("another table");
        assert!(
            other.to_string().contains("lacks the columns label, start, end; it has doc_id, "),
            "{other}"
        );
        assert_eq!(Truth::of_file(Path::new("/nowhere/t")).expect_err("not there").exit_code(), 3);
    }
}
