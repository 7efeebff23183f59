//! Pages that OCR really read, with the mentions as printed and where they came out.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Context, Result};
use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proto::labelset::{Labelset, Mention, Verdict};
use serde::Deserialize;

use super::{Case, Expected, Place};

/// A page of the files, one JSON document a line.
#[derive(Debug, Clone, Deserialize)]
pub struct Page {
    pub doc: String,
    pub text: String,
    pub mentions: Vec<Truth>,
}

/// A mention as printed. Without a place OCR left nothing of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Truth {
    pub label: String,
    pub text: String,
    pub start: Option<usize>,
    pub end: Option<usize>,
}

/// Which documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    Tuned,
    Held,
}

impl Half {
    /// By the document's name, so that all its pages and readings are on one side.
    pub fn has(self, doc: &str) -> bool {
        let sum: u32 = doc.bytes().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        (sum / 7).is_multiple_of(2) == (self == Self::Tuned)
    }
}

pub fn read(path: &Path) -> Result<Vec<Page>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The corpus of `examples/`: each page of each OCR run, with the values planted there.
pub fn examples(root: &Path) -> Result<Vec<Page>> {
    let mut pages: BTreeMap<(String, i64, i64), Page> = BTreeMap::new();
    for file in parquet_files(&root.join("md_raw_ocr/pages"))? {
        for batch in batches(&file)? {
            let (docs, runs, numbers) =
                (texts(&batch, "doc_id")?, numbers(&batch, "run_id")?, numbers(&batch, "page_num")?);
            let read = texts(&batch, "text")?;
            for row in 0..batch.num_rows() {
                let doc = docs.as_string::<i32>().value(row).to_owned();
                let key = (doc.clone(), at(&runs, row).unwrap_or(0), at(&numbers, row).unwrap_or(0));
                let text = read.as_string::<i32>().value(row).to_owned();
                pages.insert(key, Page { doc, text, mentions: Vec::new() });
            }
        }
    }
    for batch in batches(&root.join("truth.parquet"))? {
        let (docs, runs, numbers_) =
            (texts(&batch, "doc_id")?, numbers(&batch, "run_id")?, numbers(&batch, "page_num")?);
        let (labels, values) = (texts(&batch, "label")?, texts(&batch, "value")?);
        let (starts, ends) = (numbers(&batch, "start")?, numbers(&batch, "end")?);
        for row in 0..batch.num_rows() {
            let doc = docs.as_string::<i32>().value(row).to_owned();
            let key = (doc, at(&runs, row).unwrap_or(0), at(&numbers_, row).unwrap_or(0));
            let truth = Truth {
                label: labels.as_string::<i32>().value(row).to_owned(),
                text: values.as_string::<i32>().value(row).to_owned(),
                start: at(&starts, row).map(|at| at as usize),
                end: at(&ends, row).map(|at| at as usize),
            };
            pages.get_mut(&key).context("the truth names a page that is not there")?.mentions.push(truth);
        }
    }
    Ok(pages.into_values().collect())
}

fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => files.extend(parquet_files(&path)?),
            false => files.push(path),
        }
    }
    files.sort();
    Ok(files)
}

fn batches(path: &Path) -> Result<Vec<RecordBatch>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()?;
    Ok(reader.collect::<Result<_, _>>()?)
}

fn texts(batch: &RecordBatch, name: &str) -> Result<ArrayRef> {
    Ok(cast(batch.column_by_name(name).context("a column is missing")?, &DataType::Utf8)?)
}

fn numbers(batch: &RecordBatch, name: &str) -> Result<ArrayRef> {
    Ok(cast(batch.column_by_name(name).context("a column is missing")?, &DataType::Int64)?)
}

fn at(numbers: &ArrayRef, row: usize) -> Option<i64> {
    let numbers = numbers.as_primitive::<Int64Type>();
    numbers.is_valid(row).then(|| numbers.value(row))
}

/// A page's mentions in the order of the page, as a model gives them: those that OCR left whole, and those that it
/// garbled, as the model tidies them up. What it lost no model sees. With `before`, each has the words in front of
/// it, as they stand there. A place of the same value is as good as another.
pub fn case(page: &Page, before: bool) -> Case {
    let chars: Vec<char> = page.text.chars().collect();
    let (mut mentions, mut expected) = (Vec::new(), Vec::new());
    let mut truths: Vec<(&Truth, Place)> =
        page.mentions.iter().filter_map(|truth| Some((truth, truth.start.zip(truth.end)?))).collect();
    truths.sort_by_key(|(_, place)| *place);
    let read = |(start, end): Place| chars.get(start..end).unwrap_or_default().iter().collect::<String>();
    for (truth, place) in &truths {
        let kind = kind(truth, &read(*place));
        let same = |(other, _): &&(&Truth, Place)| squeezed(&other.text) == squeezed(&truth.text);
        let alike = || truths.iter().filter(same);
        let places = match kind {
            // Where it also stands with its own digits, it is asked for there.
            ANOTHER if alike().any(|(truth, place)| self::kind(truth, &read(*place)) != kind) => {
                continue;
            }
            ANOTHER => Vec::new(),
            _ => alike().flat_map(|(_, place)| [*place, whole_words(&chars, *place)]).collect(),
        };
        let before = before.then(|| read((place.0.saturating_sub(20), place.0)));
        mentions.push(Mention { label: truth.label.clone(), text: truth.text.clone(), before });
        expected.push(Expected { kind, places });
    }
    Case { text: page.text.clone(), mentions, expected }
}

const ANOTHER: &str = "another identifier";

/// How OCR left a mention. Of an identifier that came out with another digit, or as another that is valid, too, nobody
/// can tell which it is: it must be refused. Of an amount, a citation or a name with a number people mark what stands
/// there all the same; no digit is bent for most of them, so these are missed, and counted apart.
fn kind(truth: &Truth, read: &str) -> &'static str {
    static LABELSET: LazyLock<Labelset> = LazyLock::new(Labelset::embedded);
    let identifier = LABELSET.label(&truth.label).filter(|label| label.identifier);
    let valid = |text: &str| match identifier.map(|label| label.check_strictly(text)) {
        Some(Verdict::Valid(value)) => Some(value),
        _ => None,
    };
    let is_another = valid(read).is_some_and(|value| valid(&truth.text).is_none_or(|own| own != value));
    let has_digits = has_digits_of(read, &truth.text) || !truth.text.contains(|c: char| c.is_ascii_digit());
    match squeezed(read) == squeezed(&truth.text) {
        true => "whole",
        false if identifier.is_some() && (is_another || !has_digits) => ANOTHER,
        false if has_digits => "garbled",
        false => "garbled number",
    }
}

/// Whether a reading has the digits of a text, but for those for which it has a letter or mark, or the other way round.
fn has_digits_of(read: &str, text: &str) -> bool {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<Vec<_>>();
    let length = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
    let within = |some: &[char], all: &[char]| {
        let mut all = all.iter();
        some.iter().all(|digit| all.any(|other| other == digit))
    };
    let (there, asked) = (digits(read), digits(text));
    let misread = within(&there, &asked) || within(&asked, &there);
    there == asked || (misread && length(read) == length(text))
}

/// With up to two characters on either side that OCR glued on: whoever marks the word marks them, too.
fn whole_words(chars: &[char], (start, end): Place) -> Place {
    let word = |c: &&char| c.is_alphanumeric();
    let left = chars[..start].iter().rev().take_while(word).count();
    let right = chars[end..].iter().take_while(word).count();
    let short = |count: usize| if count <= 2 { count } else { 0 };
    (start - short(left), end + short(right))
}

/// Mentions of one document asked of the pages of another: all must be refused but those that stand there, too.
pub fn strangers(pages: &[Page]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, page) in pages.iter().enumerate() {
        let text = squeezed(&page.text);
        let others =
            pages.iter().cycle().skip(n + 1).take(pages.len() - 1).filter(|other| other.doc != page.doc);
        let mentions: Vec<Mention> = others
            .flat_map(|other| &other.mentions)
            .filter(|truth| !text.contains(&squeezed(&truth.text)))
            .filter(|truth| {
                !page.mentions.iter().any(|own| squeezed(&own.text).contains(&squeezed(&truth.text)))
            })
            .take(40)
            .map(|truth| Mention { label: truth.label.clone(), text: truth.text.clone(), before: None })
            .collect();
        let expected =
            mentions.iter().map(|_| Expected { kind: "another document's", places: Vec::new() }).collect();
        cases.push(Case { text: page.text.clone(), mentions, expected });
    }
    cases
}

fn squeezed(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
