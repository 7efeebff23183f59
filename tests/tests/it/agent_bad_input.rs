//! A line of bad input each: an error that names the file and the way out, or a page outcome with a reason. Nothing
//! else of the batch is lost.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray},
    datatypes::{Field, Schema},
};
use e2e::{
    batch_dir::{BatchDir, page},
    harness::{agent_run, agent_run_json},
};
use parquet::arrow::ArrowWriter;
use proto::{hash::sha256_hex, keys::PartKind, parquet_io::encode, rows::BatchPage};
use tempfile::TempDir;

const TEXT: &str = "Flag State: France";

fn parquet(columns: &[(&str, ArrayRef)]) -> Vec<u8> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.iter().map(|(_, array)| array.clone()).collect();
    let batch = RecordBatch::try_new(schema.clone(), arrays).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

/// The four columns that a producer must write, for one page.
fn columns() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("doc_id", text("d")),
        ("page_num", Arc::new(Int32Array::from(vec![1]))),
        ("text", text(TEXT)),
        ("text_sha256", text(&sha256_hex(TEXT))),
    ]
}

async fn batch(pages: &[BatchPage]) -> (TempDir, BatchDir) {
    let root = tempfile::tempdir().unwrap();
    let batch = BatchDir::new(root.path(), "bad").unwrap();
    batch.write_parts(&[pages.to_vec()]).await.unwrap();
    (root, batch)
}

/// Runs over a good part, a bad one and a good one: the good ones are committed, and exit code 5 names the bad one.
async fn refused(bytes: Vec<u8>, says: &str) {
    let (root, batch) = batch(&[page("a", 1, TEXT)]).await;
    batch.write_file(1, bytes).await.unwrap();
    batch.write_file(2, encode(&[page("z", 1, TEXT)]).unwrap()).await.unwrap();
    let done = agent_run(root.path(), "bad", &[]).unwrap();
    assert_eq!(done.code, Some(5), "{}", done.stderr);
    assert!(
        done.stderr.contains("pages/part-00001.parquet") && done.stderr.contains(says),
        "{}",
        done.stderr
    );
    assert!(!done.stderr.contains("France"), "no page text in a message");
    for (part, there) in [(0, true), (1, false), (2, true)] {
        assert_eq!(batch.has(&batch.keys.part(PartKind::Commits, part)).await.unwrap(), there);
    }
    assert!(!batch.is_complete().await.unwrap());
    // Mended, only that part is left to do; it is another file, so without a description it is another batch.
    assert_eq!(batch.ledger().await.unwrap().len(), 2);
}

/// Runs over one file that is fine.
async fn taken(bytes: Vec<u8>) {
    let (root, batch) = batch(&[]).await;
    batch.write_file(0, bytes).await.unwrap();
    agent_run_json(root.path(), "bad", &[]).unwrap();
    assert_eq!(batch.outcomes().await.unwrap(), [(("d".to_owned(), 1), "suggested".to_owned())].into());
}

#[tokio::test]
async fn a_missing_column() {
    let columns: Vec<_> = columns().into_iter().filter(|(name, _)| *name != "text_sha256").collect();
    refused(parquet(&columns), "needs the column \"text_sha256\"").await;
}

#[tokio::test]
async fn a_renamed_column() {
    let mut columns = columns();
    columns[2].0 = "content";
    refused(parquet(&columns), "columns found: doc_id, page_num, content, text_sha256").await;
}

#[tokio::test]
async fn a_retyped_column() {
    let mut columns = columns();
    columns[1].1 = text("one");
    refused(parquet(&columns), "needs \"page_num\" to be an integer").await;
    // Another width of an integer is no other type.
    columns[1].1 = Arc::new(Int64Array::from(vec![1]));
    taken(parquet(&columns)).await;
}

#[tokio::test]
async fn extra_columns_in_any_order() {
    let mut columns = columns();
    columns.insert(0, ("producer", text("spark")));
    columns.reverse();
    taken(parquet(&columns)).await;
}

#[tokio::test]
async fn an_empty_file() {
    refused(Vec::new(), "is empty (0 bytes)").await;
}

#[tokio::test]
async fn a_truncated_file() {
    let whole = parquet(&columns());
    refused(whole[..whole.len() - 20].to_vec(), "is not a readable Parquet file").await;
}

#[tokio::test]
async fn a_file_with_a_hole() {
    // Its footer is whole, so only reading the rows shows it.
    let pages: Vec<_> = (1..200).map(|number| page("d", number, &format!("{TEXT} {number}"))).collect();
    let mut bytes = encode(&pages).unwrap().to_vec();
    bytes[4..300].fill(0xA5);
    refused(bytes, "part-00001.parquet").await;
}

#[tokio::test]
async fn a_file_that_is_not_the_one_of_the_batch() {
    let (root, batch) = batch(&[page("a", 1, TEXT)]).await;
    batch.write_file(1, encode(&[page("b", 1, TEXT)]).unwrap()).await.unwrap();
    batch.write_spec(&batch.spec().await.unwrap()).await.unwrap();
    batch.write_file(0, encode(&[page("c", 1, TEXT)]).unwrap()).await.unwrap();
    let done = agent_run(root.path(), "bad", &[]).unwrap();
    assert_eq!(done.code, Some(5), "{}", done.stderr);
    assert!(
        done.stderr.contains("part-00000.parquet is not the file that the batch was made with"),
        "{}",
        done.stderr
    );
    assert_eq!(batch.ledger().await.unwrap()[0].doc_id, "b", "the other part is done");
    // Restored, the batch completes.
    batch.write_file(0, encode(&[page("a", 1, TEXT)]).unwrap()).await.unwrap();
    assert_eq!(agent_run_json(root.path(), "bad", &[]).unwrap()["counts"]["suggested"], 2);
    batch.store.delete(&batch.keys.part(PartKind::Pages, 1)).await.unwrap();
    assert_eq!(agent_run(root.path(), "bad", &[]).unwrap().code, Some(0), "nothing of it is read again");
}

#[tokio::test]
async fn bad_rows_get_their_outcome_beside_good_ones() {
    let good = page("good", 1, TEXT);
    let other = page("twice", 1, "IMO No.: 4522460");
    let (root, batch) = batch(&[
        good.clone(),
        BatchPage { text_sha256: Some(sha256_hex("other")), ..page("wrong hash", 1, TEXT) },
        BatchPage { text_sha256: None, ..page("no hash", 1, TEXT) },
        page("copy", 1, TEXT),
        page("copy", 1, TEXT),
        page("twice", 1, TEXT),
        other,
        BatchPage { text: None, ..page("null", 1, TEXT) },
        page("empty", 1, ""),
        page("blank", 1, " \r\n\u{a0}\t"),
        BatchPage { doc_id: None, ..good.clone() },
        BatchPage { doc_id: Some(String::new()), ..page("", 7, TEXT) },
        BatchPage { page_num: None, ..page("no number", 1, TEXT) },
        page("zero", 0, TEXT),
    ])
    .await;
    let summary = agent_run_json(root.path(), "bad", &[]).unwrap();
    let outcomes = batch.outcomes().await.unwrap();
    let told: Vec<_> =
        outcomes.iter().map(|((doc, number), outcome)| (doc.as_str(), *number, outcome.as_str())).collect();
    assert_eq!(
        told,
        [
            ("", 1, "skipped missing_key"),
            ("", 7, "skipped missing_key"),
            ("blank", 1, "empty blank_text"),
            ("copy", 1, "suggested"),
            ("empty", 1, "empty blank_text"),
            ("good", 1, "suggested"),
            ("no hash", 1, "skipped hash_mismatch"),
            ("no number", 0, "skipped missing_key"),
            ("null", 1, "skipped null_text"),
            ("twice", 1, "skipped duplicate_key"),
            ("wrong hash", 1, "skipped hash_mismatch"),
            ("zero", 0, "skipped invalid_page_num"),
        ]
    );
    assert_eq!(batch.ledger().await.unwrap().len(), told.len(), "one row a key");
    let spans = batch.suggestions().await.unwrap();
    assert!(spans.iter().all(|span| span.doc_id == "good" || span.doc_id == "copy"));
    assert_eq!(summary["counts"]["pages"], told.len());
}

#[tokio::test]
async fn odd_characters_do_not_move_a_span() {
    for (doc, before) in [
        ("nul", "a\0b "),
        ("control", "\u{1}\u{7f}\u{85} "),
        ("astral", "𝄞🚢 "),
        ("rtl", "\u{202E}\u{200F}סירה "),
        ("crlf", "a\r\nb\r\n"),
        ("combining", "e\u{301}\u{327} "),
    ] {
        let text = format!("{before}{TEXT}\r\n");
        let (root, batch) = batch(&[page(doc, 1, &text)]).await;
        agent_run_json(root.path(), "bad", &[]).unwrap();
        let spans = batch.suggestions().await.unwrap();
        let flag = spans.iter().find(|span| span.label == "FLAG").unwrap_or_else(|| panic!("{doc}: no flag"));
        let chars: Vec<char> = text.chars().collect();
        let there: String = chars[flag.start as usize..flag.end as usize].iter().collect();
        assert_eq!((there.as_str(), &*flag.text), ("France", "France"), "{doc}");
    }
}

#[tokio::test]
async fn a_page_of_5_mb_works_and_one_above_the_limit_fails_alone() {
    let long = "Sin novedad en la mar. ".repeat(230_000) + TEXT;
    assert!(long.len() > 5_000_000);
    let (root, batch) = batch(&[page("long", 1, &long), page("short", 1, TEXT)]).await;
    agent_run_json(root.path(), "bad", &[]).unwrap();
    let spans = batch.suggestions().await.unwrap();
    assert!(spans.iter().any(|span| span.doc_id == "long" && span.end as usize == long.chars().count()));

    let (root, batch) = self::batch(&[page("long", 1, &long), page("short", 1, TEXT)]).await;
    agent_run_json(root.path(), "bad", &["--max-page-mib", "1"]).unwrap();
    let outcomes = batch.outcomes().await.unwrap();
    assert_eq!(outcomes[&("long".to_owned(), 1)], "failed page_too_large");
    assert_eq!(outcomes[&("short".to_owned(), 1)], "suggested");
}

#[tokio::test]
async fn odd_ids_travel_as_they_are() {
    let ids = ["../a", "a/b", "..", "100%", "it's \"quoted\"", "a b", "00123", "d:1", "Ünï", " "];
    let pages: Vec<_> = ids.iter().map(|id| page(id, 1, TEXT)).collect();
    let (root, batch) = batch(&pages).await;
    agent_run_json(root.path(), "bad", &[]).unwrap();
    let outcomes = batch.outcomes().await.unwrap();
    for id in ids {
        assert_eq!(outcomes[&(id.to_owned(), 1)], "suggested", "{id}");
    }
    let spans = batch.suggestions().await.unwrap();
    assert!(spans.iter().all(|span| span.span_id.starts_with(&format!("{}:1:", span.doc_id))));
}

#[tokio::test]
async fn keys_that_stand_in_several_files() {
    let (root, batch) = batch(&[page("copy", 1, TEXT), page("other", 1, TEXT), page("z", 1, TEXT)]).await;
    let second =
        [page("a", 1, TEXT), page("copy", 1, TEXT), page("other", 1, "IMO 9074729"), page("y", 1, TEXT)];
    batch.write_file(1, encode(&second).unwrap()).await.unwrap();
    agent_run_json(root.path(), "bad", &[]).unwrap();
    assert!(batch.is_complete().await.unwrap());
    let rows = batch.ledger().await.unwrap();
    let told: Vec<_> =
        rows.iter().map(|row| (row.doc_id.as_str(), row.outcome.as_str(), row.reason.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("copy", "suggested", None),
            ("other", "skipped", Some("duplicate_key")),
            ("z", "suggested", None),
            ("a", "suggested", None),
            ("y", "suggested", None),
        ]
    );
    let spans = batch.suggestions().await.unwrap();
    assert_eq!(spans.iter().filter(|span| span.doc_id == "copy").count(), 1, "one home, one span");
}

#[tokio::test]
async fn a_batch_id_that_is_none_and_a_batch_that_is_not_there() {
    let (root, _batch) = batch(&[page("d", 1, TEXT)]).await;
    let done = agent_run(root.path(), "../bad", &[]).unwrap();
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("batch id \"../bad\" is not valid"), "{}", done.stderr);
    let done = agent_run(root.path(), "other", &["--json"]).unwrap();
    assert_eq!(done.code, Some(5), "{}", done.stderr);
    let error: serde_json::Value = serde_json::from_str(&done.stderr).unwrap();
    assert!(error["message"].as_str().unwrap().contains("batch other has no pages"), "{error}");
}

#[test]
fn a_root_that_is_not_there() {
    let done = agent_run(Path::new("/no/such/root"), "bad", &[]).unwrap();
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert!(done.stderr.contains("the root /no/such/root is not a folder"), "{}", done.stderr);
    let done = agent_run(Path::new("ftp://host/x"), "bad", &[]).unwrap();
    assert_eq!(done.code, Some(3), "{}", done.stderr);
}
