//! One sorted file of pages into parts: rows of one key stay together, and equal rows give equal bytes.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proto::{
    docs::PartSpec,
    hash::sha256_hex,
    keys::{BatchKeys, PartKind},
    parquet_io::RowWriter,
    rows::{BatchPage, from_batch},
};

use crate::failure::Failure;

/// Rows in memory at a time: one may hold megabytes of text.
const ROWS: usize = 64;
/// Text of a part, so that the agent can hold one whatever its pages are like.
const PART_TEXT: usize = 64 << 20;

/// A part before it is uploaded.
pub(super) struct LocalPart {
    pub path: PathBuf,
    rows: u64,
    bytes: u64,
    sha256: String,
}

impl LocalPart {
    pub(super) fn spec(&self, keys: &BatchKeys, number: u32) -> PartSpec {
        let key = keys.part(PartKind::Pages, number).as_str().to_owned();
        PartSpec { number, key, rows: self.rows, bytes: self.bytes, sha256: self.sha256.clone() }
    }
}

/// Cuts `sorted` into files in `folder` of at most `pages` keys; gives them and the number of keys. Blocks.
pub(super) fn parts(sorted: &Path, folder: &Path, pages: u64) -> Result<(Vec<LocalPart>, u64), Failure> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::data(format!("the sorted pages in {} cannot be read: {error}", sorted.display()))
    };
    let file = File::open(sorted).map_err(|error| Failure::file("read", sorted, &error))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.with_batch_size(ROWS).build())
        .map_err(|error| unreadable(&error))?;
    let mut cutter = Cutter { folder, pages, parts: Vec::new(), part: None, last: None, keys: 0 };
    for batch in reader {
        for page in from_batch::<BatchPage>(&batch.map_err(|error| unreadable(&error))?)? {
            cutter.page(page)?;
        }
    }
    cutter.finish()?;
    Ok((cutter.parts, cutter.keys))
}

struct Cutter<'a> {
    folder: &'a Path,
    pages: u64,
    parts: Vec<LocalPart>,
    part: Option<Part>,
    last: Option<(Option<String>, Option<i32>)>,
    keys: u64,
}

struct Part {
    writer: RowWriter<BatchPage>,
    rows: Vec<BatchPage>,
    keys: u64,
    text: usize,
}

impl Cutter<'_> {
    fn page(&mut self, page: BatchPage) -> Result<(), Failure> {
        let key = (page.doc_id.clone(), page.page_num);
        let new_key = self.last.as_ref() != Some(&key);
        if new_key {
            let full = |part: &Part| part.keys >= self.pages || part.text >= PART_TEXT;
            if self.part.as_ref().is_some_and(full) {
                self.finish()?;
            }
            self.last = Some(key);
            self.keys += 1;
        }
        let part = match &mut self.part {
            Some(part) => part,
            none => none.insert(Part { writer: RowWriter::new()?, rows: Vec::new(), keys: 0, text: 0 }),
        };
        part.keys += u64::from(new_key);
        part.text += page.text.as_ref().map_or(0, String::len);
        part.rows.push(page);
        if part.rows.len() == ROWS {
            part.writer.push(&part.rows)?;
            part.rows.clear();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let Some(mut part) = self.part.take() else { return Ok(()) };
        part.writer.push(&part.rows)?;
        let rows = part.writer.rows();
        let file = part.writer.finish()?;
        let path = self.folder.join(format!("part-{:05}.parquet", self.parts.len()));
        fs::write(&path, &file).map_err(|error| Failure::file("write", &path, &error))?;
        self.parts.push(LocalPart { path, rows, bytes: file.len() as u64, sha256: sha256_hex(&file) });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto::parquet_io::encode;

    use super::*;

    fn page(doc_id: &str, page_num: i32, text: &str) -> BatchPage {
        BatchPage {
            doc_id: Some(doc_id.into()),
            page_num: Some(page_num),
            text: Some(text.into()),
            text_sha256: None,
            run_id: None,
            ocr_confidence: None,
            source_uri: None,
        }
    }

    #[test]
    fn rivals_for_a_key_stay_in_one_part_and_a_second_cut_is_equal() {
        let folder = tempfile::tempdir().expect("a folder");
        let sorted = folder.path().join("pages.parquet");
        let mut rows: Vec<_> = (1..=150).map(|n| page("a", n, "x")).collect();
        rows.insert(100, page("a", 100, "rival"));
        rows.push(page("b", 1, "y"));
        fs::write(&sorted, encode(&rows).expect("encoded")).expect("written");
        let cut = || parts(&sorted, folder.path(), 100).expect("cut");
        let (first, keys) = cut();
        assert_eq!((first.iter().map(|part| part.rows).collect::<Vec<_>>(), keys), (vec![101, 51], 151));
        let hashes = |parts: Vec<LocalPart>| parts.into_iter().map(|part| part.sha256).collect::<Vec<_>>();
        assert_eq!(hashes(first), hashes(cut().0));
    }
}
