//! The planted truth of a corpus (`examples/truth.parquet`): the spans of each page of each OCR run.

use std::{collections::HashMap, fs::File, path::Path};

use anyhow::{Context, Result, ensure};
use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Span;

/// A page of an OCR run: doc id, run id, page number.
type Page = (String, i64, i64);

/// Spans by page, in order and without overlap.
#[derive(Debug, Default)]
pub struct Truth {
    pages: HashMap<Page, Vec<Span>>,
}

impl Truth {
    /// Reads `doc_id, run_id, page_num, label, start, end`. A row without a place (OCR lost the value) still says
    /// that the page has truth.
    pub fn read(path: &Path) -> Result<Self> {
        let mut truth = Self::default();
        let file = File::open(path)?;
        for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            truth.take(&batch?)?;
        }
        for (page, spans) in &mut truth.pages {
            spans.sort();
            let overlap = spans.windows(2).any(|pair| pair[1].start < pair[0].end);
            ensure!(!overlap, "two true spans of {page:?} overlap");
        }
        Ok(truth)
    }

    /// The page's spans; none at all if the truth does not know the page.
    pub fn page(&self, doc_id: &str, run_id: i64, page_num: i64) -> Option<&[Span]> {
        self.pages.get(&(doc_id.to_owned(), run_id, page_num)).map(Vec::as_slice)
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let (doc_ids, labels) =
            (column(batch, "doc_id", &DataType::Utf8)?, column(batch, "label", &DataType::Utf8)?);
        let (doc_ids, labels) = (doc_ids.as_string::<i32>(), labels.as_string::<i32>());
        let numbers =
            ["run_id", "page_num", "start", "end"].map(|name| column(batch, name, &DataType::Int64));
        let [run_ids, page_nums, starts, ends] = numbers;
        let (run_ids, page_nums, starts, ends) = (run_ids?, page_nums?, starts?, ends?);
        let (run_ids, page_nums) =
            (run_ids.as_primitive::<Int64Type>(), page_nums.as_primitive::<Int64Type>());
        let (starts, ends) = (starts.as_primitive::<Int64Type>(), ends.as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            let page = (doc_ids.value(row).to_owned(), run_ids.value(row), page_nums.value(row));
            let spans = self.pages.entry(page.clone()).or_default();
            if starts.is_null(row) {
                continue;
            }
            let (start, end) = (u32::try_from(starts.value(row))?, u32::try_from(ends.value(row))?);
            ensure!(start < end, "a true span of {page:?} is empty: {start} to {end}");
            spans.push(Span { start, end, label: labels.value(row).to_owned() });
        }
        Ok(())
    }
}

fn column(batch: &RecordBatch, name: &str, kind: &DataType) -> Result<ArrayRef> {
    let column = batch.column_by_name(name).with_context(|| format!("the column {name:?} is missing"))?;
    cast(column, kind).with_context(|| format!("the column {name:?} is not {kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Truth {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/truth.parquet");
        Truth::read(&path).expect("the examples' truth reads")
    }

    #[test]
    fn the_examples_have_a_truth_for_each_run() {
        let truth = examples();
        let spans = |run_id| -> usize {
            (1..=5).filter_map(|page| truth.page("transhipment-2024-05", run_id, page)).map(<[_]>::len).sum()
        };
        assert!(0 < spans(1) && spans(1) < spans(2), "the rereading at a higher resolution finds more");
        assert!(truth.page("rôle-d'équipage", 1, 1).is_some_and(|spans| !spans.is_empty()));
    }

    #[test]
    fn a_blank_page_has_no_truth() {
        assert_eq!(examples().page("00123", 1, 5), None);
    }

    #[test]
    fn a_missing_file_and_another_file_are_errors() {
        assert!(Truth::read(Path::new("/nonexistent/truth.parquet")).is_err());
        assert!(Truth::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml").as_path()).is_err());
    }
}
