//! The annotators against the planted truth of `examples/`: how much the rules find, and how true the grounding is.
//! `cargo test -p e2e --test it annotators -- --nocapture` prints the tables; with `SHOW_WRONG` and `SHOW_MISSED` set,
//! the spans too.
//!
//! Only values that OCR left in one piece count. The patterns were written with the errors on both halves in view,
//! so these are figures of a baseline on known pages, not of its worth on others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use dgx_agent::ground::ground;
use dgx_agent::rules::Rules;
use e2e::corpus::examples;
use futures::TryStreamExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proto::labelset::{Labelset, Mention};
use proto::parquet_io::TableFile;
use proto::rows::Row;
use proto::schema::Table;
use proto::store::{Env, Store};
use serde::{Deserialize, Serialize};

/// Document, OCR run, page number.
type Key = (String, i64, i64);

/// A value that was printed on a page, and where OCR left it, in code points.
struct Planted {
    label: String,
    value: String,
    place: Option<(usize, usize)>,
    read_as: Option<String>,
}

/// What of a row of `raw_pages` matters here.
#[derive(Serialize, Deserialize)]
struct OcrPage {
    doc_id: String,
    run_id: i64,
    page_num: i64,
    text: Option<String>,
}

impl Row for OcrPage {
    const TABLE: Table = Table::RawPages;
}

struct Page {
    key: Key,
    text: String,
    planted: Vec<Planted>,
}

#[derive(Default, Clone, Copy)]
struct Score {
    right: usize,
    suggested: usize,
    planted: usize,
}

impl Score {
    fn precision(self) -> f64 {
        self.right as f64 / self.suggested.max(1) as f64
    }

    fn recall(self) -> f64 {
        self.right as f64 / self.planted.max(1) as f64
    }

    fn f1(self) -> f64 {
        2.0 * self.right as f64 / (self.suggested + self.planted).max(1) as f64
    }
}

fn truth() -> BTreeMap<Key, Vec<Planted>> {
    let mut pages: BTreeMap<Key, Vec<Planted>> = BTreeMap::new();
    let file = File::open(examples().join("truth.parquet")).expect("the truth");
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("readable") {
        let batch = batch.expect("a batch");
        let column =
            |name: &str, kind: DataType| cast(batch.column_by_name(name).expect(name), &kind).expect(name);
        let text = |name| column(name, DataType::Utf8);
        let number = |name| column(name, DataType::Int64);
        let (doc, label, value, read_as) = (text("doc_id"), text("label"), text("value"), text("ocr_text"));
        let (run, page, start, end) = (number("run_id"), number("page_num"), number("start"), number("end"));
        let string = |column: &dyn Array, row| {
            column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_owned())
        };
        let int = |column: &dyn Array, row| {
            column.is_valid(row).then(|| column.as_primitive::<Int64Type>().value(row))
        };
        for row in 0..batch.num_rows() {
            let key = (
                string(&doc, row).expect("an id"),
                int(&run, row).expect("a run"),
                int(&page, row).expect("a page"),
            );
            let place =
                int(&start, row).zip(int(&end, row)).map(|(start, end)| (start as usize, end as usize));
            pages.entry(key).or_default().push(Planted {
                label: string(&label, row).expect("a label"),
                value: string(&value, row).expect("a value"),
                place,
                read_as: string(&read_as, row),
            });
        }
    }
    pages
}

/// The pages that have a truth, of every OCR run.
async fn pages() -> Vec<Page> {
    let mut truth = truth();
    let store = Store::open(examples().to_str().expect("UTF-8"), &Env::new()).expect("a store");
    let mut pages = Vec::new();
    for object in store.list_sorted(proto::keys::RAW_PAGES).await.expect("listed") {
        let file = TableFile::open(&store, &object, Table::RawPages).await.expect("pages");
        let rows: Vec<Vec<OcrPage>> = file.read(100).expect("readable").try_collect().await.expect("read");
        for row in rows.into_iter().flatten() {
            let key = (row.doc_id, row.run_id, row.page_num);
            if let (Some(planted), Some(text)) = (truth.remove(&key), row.text) {
                pages.push(Page { key, text, planted });
            }
        }
    }
    pages
}

/// Spans are compared without what is neither letter nor digit at their ends.
fn trimmed(text: &[char], (start, end): (usize, usize)) -> (usize, usize) {
    let word = |at: &usize| text[*at].is_alphanumeric();
    let (first, last) = ((start..end).find(word), (start..end).rfind(word));
    first.zip(last).map_or((start, end), |(first, last)| (first, last + 1))
}

#[tokio::test]
async fn rules_are_a_baseline() {
    let pages = pages().await;
    let documents: BTreeSet<&str> = pages.iter().map(|page| page.key.0.as_str()).collect();
    let second: BTreeSet<&str> = documents.into_iter().skip(1).step_by(2).collect();
    let rules = Rules::new(&Labelset::embedded()).expect("it compiles");
    let mut scores = [BTreeMap::<&str, Score>::new(), BTreeMap::new()];
    let spans: Vec<_> = pages.iter().map(|page| rules.annotate(&page.text)).collect();
    for (page, spans) in pages.iter().zip(&spans) {
        let chars: Vec<char> = page.text.chars().collect();
        let scores = &mut scores[usize::from(second.contains(page.key.0.as_str()))];
        let mut open: BTreeSet<(&str, (usize, usize))> = BTreeSet::new();
        for planted in &page.planted {
            scores.entry(&planted.label).or_default().planted += usize::from(planted.place.is_some());
            open.extend(planted.place.map(|place| (planted.label.as_str(), trimmed(&chars, place))));
        }
        for span in spans {
            let score = scores.entry(&span.label).or_default();
            score.suggested += 1;
            let place = (span.label.as_str(), trimmed(&chars, (span.start, span.end)));
            let right = open.remove(&place);
            score.right += usize::from(right);
            if !right && std::env::var_os("SHOW_WRONG").is_some() {
                println!("wrong {:?} {} {:?}", page.key, span.label, span.text);
            }
        }
        for (label, place) in open.iter().filter(|_| std::env::var_os("SHOW_MISSED").is_some()) {
            let text: String = chars[place.0.saturating_sub(30)..place.1].iter().collect();
            println!("missed {:?} {label} {text:?}", page.key);
        }
    }
    println!("{:12} {:>26} | {:>26}", "", "one half: P R F1 (planted)", "other half: P R F1 (planted)");
    for label in &Labelset::embedded().labels {
        let [one, other] =
            [0, 1].map(|half| scores[half].get(label.name.as_str()).copied().unwrap_or_default());
        let row = |s: Score| format!("{:.2} {:.2} {:.2} {:>7}", s.precision(), s.recall(), s.f1(), s.planted);
        println!("{:12} {:>26} | {:>26}", label.name, row(one), row(other));
        let bound =
            if ["IMO", "MMSI", "CALL_SIGN", "DATE"].contains(&label.name.as_str()) { 0.90 } else { 0.70 };
        assert!(one.f1() >= bound && other.f1() >= bound, "{}: F1 is below {bound}", label.name);
    }
}

/// Asks for every planted value of a page, as printed, together and in the order of printing.
#[tokio::test]
async fn grounding_is_true() {
    let labelset = Labelset::embedded();
    // Right and left out, by how OCR read the value; and spans where nothing of their label and value stands.
    let mut tally = BTreeMap::<&str, [usize; 2]>::new();
    let (mut spans, mut wrong) = (0, 0);
    for page in pages().await {
        let chars: Vec<char> = page.text.chars().collect();
        let mentions: Vec<Mention> = page
            .planted
            .iter()
            .map(|planted| Mention {
                label: planted.label.clone(),
                text: planted.value.clone(),
                before: None,
            })
            .collect();
        // Mentions of one value are alike: which of them took which of its places does not matter.
        let found: Vec<_> = ground(&page.text, &mentions, &labelset)
            .spans
            .into_iter()
            .map(|span| (span.label, &mentions[span.mention].text, trimmed(&chars, (span.start, span.end))))
            .collect();
        let mut open: BTreeSet<_> = found.iter().cloned().collect();
        for planted in page.planted.iter().filter(|planted| planted.place.is_some()) {
            let place = planted.place.map_or((0, 0), |place| trimmed(&chars, place));
            let read_as = planted.read_as.clone().unwrap_or_default();
            let kind = match &read_as {
                text if *text == planted.value => "exact",
                text if plain(text) == plain(&planted.value) => "wrapped",
                _ => "garbled",
            };
            let right = open.remove(&(planted.label.clone(), &planted.value, place));
            tally.entry(kind).or_default()[usize::from(!right)] += 1;
            if !right && std::env::var_os("SHOW_MISSED").is_some() {
                println!("{kind} {:?} {} {:?} {read_as:?} {place:?}", page.key, planted.label, planted.value);
            }
        }
        spans += found.len();
        wrong += open.len();
        for (label, value, (start, end)) in open.iter().filter(|_| std::env::var_os("SHOW_WRONG").is_some()) {
            let text: String = chars[*start..*end].iter().collect();
            println!("wrong {:?} {label} {value:?} {text:?} {start}", page.key);
        }
    }
    println!("{spans} spans, {wrong} of them wrong");
    println!("{:10} {:>6} {:>8}", "read as", "right", "left out");
    for (kind, [right, left_out]) in &tally {
        println!("{kind:10} {right:>6} {left_out:>8}");
    }
    // Most of the wrong are right: places that the truth calls lost.
    assert!(wrong * 50 < spans, "{wrong} of {spans} spans are wrong");
    let share = |kind: &str| tally.get(kind).map_or(0.0, |[right, out]| *right as f64 / (right + out) as f64);
    assert!(share("exact") > 0.995 && share("wrapped") > 0.90 && share("garbled") > 0.55, "{tally:?}");
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).collect()
}
