//! The stages of the lake by `control` as a person runs it: what they do, twice, and with bad input.

use std::{fs, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Int32Array, RecordBatch, StringArray},
    datatypes::{Field, Schema},
};
use e2e::{
    corpus::{RawDocument, RawPage, copy_examples, examples, write_document},
    harness::{Control, Shell},
    played::Played,
    sme::truth::Truth,
};
use parquet::arrow::ArrowWriter;
use proto::{
    hash::sha256_hex,
    ids::DocId,
    keys,
    parquet_io::read_all,
    rows::{BatchPage, Row as _},
    store::{Env, Store},
};
use serde_json::{Value, json};

/// A root, a lake and a cache of their own.
struct Place {
    folder: tempfile::TempDir,
    control: Control,
}

impl Place {
    /// With tables and without data.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("the root [1] 'x'");
        fs::create_dir_all(&root).unwrap();
        let cache = folder.path().join("cache").display().to_string();
        let control = Control::new(folder.path(), root.to_str().unwrap()).with("PREANNOTATE_CACHE", &cache);
        let place = Self { folder, control };
        place.json(&["lake", "init"]);
        place
    }

    /// With the examples in the lake.
    fn with_examples() -> Self {
        let place = Self::new();
        copy_examples(Path::new(&place.root())).unwrap();
        place.json(&["ocr", "load"]);
        place
    }

    fn root(&self) -> String {
        self.control.env.iter().find(|(name, _)| name == "PREANNOTATE_ROOT").unwrap().1.clone()
    }

    fn store(&self) -> Store {
        Store::open(&self.root(), &Env::new()).unwrap()
    }

    fn file(&self, key: &keys::Key) -> std::path::PathBuf {
        self.store().local_path(key).unwrap()
    }

    fn lake(&self, database: &str) -> String {
        self.folder.path().join(format!("lake/{database}.duckdb")).display().to_string()
    }

    fn json(&self, args: &[&str]) -> Value {
        self.control.json(args).unwrap()
    }

    /// Ends with this code; gives the message.
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let done = self.control.run(&[args, &["--json"]].concat()).unwrap();
        assert_eq!(done.code, Some(code), "{args:?}: {}{}", done.stdout, done.stderr);
        let failure: Value = serde_json::from_str(&done.stderr).unwrap();
        assert_eq!(failure["exit_code"], json!(code));
        failure["message"].as_str().unwrap().to_owned()
    }

    async fn document(&self, doc_id: &str, pages: &[RawPage]) {
        write_document(&self.root(), &RawDocument::new(doc_id, 1), pages).await.unwrap();
    }

    /// A document with one page in a file with another column in the place of `name`.
    async fn other_column(&self, doc_id: &str, name: &str, new_name: &str, new: Option<ArrayRef>) {
        let change = |columns: &mut Vec<(String, ArrayRef)>| {
            let column = columns.iter_mut().find(|(found, _)| found == name).unwrap();
            let array = new.unwrap_or_else(|| column.1.clone());
            *column = (new_name.into(), array);
        };
        self.odd_columns(doc_id, change).await;
    }

    /// A document with one page in a file whose columns `change` makes.
    async fn odd_columns(&self, doc_id: &str, change: impl FnOnce(&mut Vec<(String, ArrayRef)>)) {
        let page = RawPage::new(doc_id, 1, 1, "text");
        self.document(doc_id, std::slice::from_ref(&page)).await;
        let batch = RawPage::to_batch(&[page]).unwrap();
        let names = batch.schema_ref().fields().iter().map(|field| field.name().clone());
        let mut columns: Vec<_> = names.zip(batch.columns().iter().cloned()).collect();
        change(&mut columns);
        let fields: Vec<_> =
            columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        fs::write(self.file(&pages_key(doc_id)), writer.into_inner().unwrap()).unwrap();
    }
}

fn pages_key(doc_id: &str) -> keys::Key {
    keys::raw_pages(&DocId::new(doc_id).unwrap(), 1)
}

fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

#[test]
fn the_examples_go_in_once_and_into_a_batch_once() {
    let place = Place::new();
    copy_examples(Path::new(&place.root())).unwrap();
    assert_eq!(place.json(&["lake", "init"])["already_done"], json!(true));
    let first = place.json(&["ocr", "load", "--doc-id", "00123"]);
    assert_eq!((&first["pages_out"], &first["outcomes"]["documents"]), (&json!(5), &json!(1)), "{first}");
    let all = place.json(&["ocr", "load"]);
    assert_eq!((&all["pages_in"], &all["outcomes"]["pages_loaded"]), (&json!(78), &json!(73)), "{all}");
    assert_eq!(place.json(&["ocr", "load"])["already_done"], json!(true));
    let checked = place.json(&["ocr", "check"]);
    assert_eq!((&checked["pages_out"], &checked["outcomes"]), (&json!(73), &json!({"documents": 15})));

    let create = ["batch", "create", "p", "--all", "--part-pages", "50"];
    let made = place.json(&create);
    assert_eq!((&made["pages_out"], &made["outcomes"]["parts"]), (&json!(73), &json!(2)), "{made}");
    assert_eq!(made["already_done"], json!(false));
    assert_eq!(place.json(&create)["already_done"], json!(true));
    let other = place.fails(5, &["batch", "create", "p", "--doc-id", "00123", "--part-pages", "50"]);
    assert!(other.contains("pages: there 73, asked for 5"), "{other}");
    let other = place.fails(5, &["batch", "create", "p", "--all", "--part-pages", "50", "--model", "m"]);
    assert!(other.contains("model: there none, asked for m"), "{other}");
    let shown = place.json(&["batch", "show", "p"]);
    assert_eq!(
        (&shown["state"], &shown["parts"], &shown["pages"]),
        (&json!("created"), &json!(2), &json!(73))
    );
    assert_eq!(place.json(&["batch", "list"])["batches"][0]["batch_id"], json!("p"));
    assert!(place.fails(5, &["batch", "show", "q"]).contains("no batch q"));
}

#[test]
fn ids_that_are_none_and_places_that_are_not_there_are_refused() {
    let place = Place::with_examples();
    for id in ["P", "a/b", "", "..", &"x".repeat(64)] {
        assert!(place.fails(2, &["batch", "create", id, "--all"]).contains("batch id"), "{id:?}");
    }
    assert!(place.fails(3, &["ocr", "load", "--root", "/nonexistent/root"]).contains("/nonexistent/root"));
    assert!(place.fails(3, &["ocr", "load", "--root", "ftp://x"]).contains("ftp://x"));
    let empty = place.folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(place.fails(5, &["ocr", "load", "--root", empty.to_str().unwrap()]).contains("no Parquet files"));
    assert!(place.fails(3, &["ocr", "check", "--lake", "/nonexistent/lake"]).contains("lake init"));
    assert!(place.fails(3, &["ocr", "check", "--lake", "md:"]).contains("MOTHERDUCK_TOKEN"));
    assert!(place.fails(5, &["batch", "create", "p", "--doc-id", "nobody"]).contains("\"nobody\""));
    assert!(place.fails(5, &["ocr", "load", "--doc-id", "nobody"]).contains("\"nobody\""));
    assert!(place.fails(1, &["ocr", "check", "--doc-id", "nobody"]).contains("nobody"));
    assert!(place.fails(5, &["merge", "nothing"]).contains("no batch nothing"));
    assert!(place.fails(5, &["annotations", "load", "nothing"]).contains("no complete export"));
    assert!(place.fails(5, &["check", "nothing"]).contains("no batch nothing"));
}

#[tokio::test]
async fn files_that_cannot_be_read_are_named_and_the_rest_is_loaded() {
    let place = Place::new();
    place.document("good", &[RawPage::new("good", 1, 1, "x")]).await;
    place.odd_columns("missing", |columns| columns.retain(|(name, _)| name != "text")).await;
    place.other_column("renamed", "page_num", "page", None).await;
    place.other_column("retyped", "run_id", "run_id", Some(text("one"))).await;
    place.other_column("narrow", "run_id", "run_id", Some(Arc::new(Int32Array::from(vec![1])))).await;
    place.odd_columns("extra", |columns| columns.insert(0, ("more".into(), text("more")))).await;
    for (doc_id, keep) in [("empty", 0), ("cut", 700)] {
        place.document(doc_id, &[RawPage::new(doc_id, 1, 1, "x")]).await;
        let file = place.file(&pages_key(doc_id));
        fs::write(&file, &fs::read(&file).unwrap()[..keep]).unwrap();
    }
    // Its footer is whole, its data is not.
    place.document("torn", &[RawPage::new("torn", 1, 1, &"long text ".repeat(1000))]).await;
    let file = place.file(&pages_key("torn"));
    let mut bytes = fs::read(&file).unwrap();
    bytes[4..200].fill(0xff);
    fs::write(&file, bytes).unwrap();

    let says = place.fails(5, &["ocr", "load"]);
    for (doc_id, what) in [
        ("missing", "\"text\""),
        ("renamed", "\"page_num\""),
        ("retyped", "\"run_id\""),
        ("empty", "0 bytes"),
        ("cut", "not a readable Parquet file"),
        ("torn", "torn"),
    ] {
        let named = says.split("; ").find(|part| part.contains(&format!("/doc_id={doc_id}/")));
        assert!(named.is_some_and(|part| part.contains(what)), "{doc_id}: {says}");
    }
    assert!(says.contains("6 of 18 files are set aside") && says.contains("3 pages now"), "{says}");
    assert!(!says.contains("long text"), "page text is never told: {says}");
    for doc_id in ["good", "extra", "narrow"] {
        assert_eq!(place.json(&["ocr", "check", "--doc-id", doc_id])["pages_out"], json!(1), "{doc_id}");
    }
    assert!(place.fails(1, &["ocr", "check", "--doc-id", "empty"]).contains("documents without pages"));
}

#[tokio::test]
async fn odd_pages_and_ids_come_through_as_they_are() {
    let place = Place::new();
    let large = "F/V ASTRA 9074729\n".repeat(5 << 16);
    let texts = ["", " \t\r\n", "a\0b\u{1}\u{7f}", "𝔘𝔫𝔦 🚢", "\u{202e}abc\u{202c} שלום", "a\r\nb\rc", &large];
    let pages = |id: &str| -> Vec<_> {
        (1..).zip(texts).map(|(number, text)| RawPage::new(id, 1, number, text)).collect()
    };
    let ids = ["../../x", "a/b", ".", "50%", "'quote\" it", " blank ", "%2E", "doc_id=1", "\u{202e}ש"];
    for id in ids {
        place.document(id, &pages(id)).await;
    }
    let list = place.folder.path().join("ids.txt");
    fs::write(&list, ids.join("\n")).unwrap();
    let list = list.to_str().unwrap();
    let loaded = place.json(&["ocr", "load", "--doc-ids-file", list]);
    assert_eq!(loaded["outcomes"]["pages_loaded"], json!(texts.len() * ids.len()), "{loaded}");
    assert_eq!(loaded["outcomes"].get("flagged_wrong_hash"), None, "{loaded}");
    let made = place.json(&["batch", "create", "odd", "--doc-ids-file", list]);
    assert_eq!(made["pages_out"], json!(texts.len() * ids.len()), "{made}");
    let played = Played::new(&place.root(), "odd").unwrap();
    let mut found = Vec::new();
    for part in 0..made["outcomes"]["parts"].as_u64().unwrap() {
        let key = played.keys.part(keys::PartKind::Pages, u32::try_from(part).unwrap());
        found.extend(read_all::<BatchPage>(&place.store(), &key).await.unwrap());
    }
    let mut expected: Vec<_> = ids
        .iter()
        .flat_map(|id| pages(id))
        .map(|page| (Some(page.doc_id), Some(page.page_num), page.text))
        .collect();
    expected.sort();
    let found: Vec<_> = found.into_iter().map(|page| (page.doc_id, page.page_num, page.text)).collect();
    assert!(found == expected, "the texts of {} pages came through otherwise", found.len());
}

#[tokio::test]
async fn wrong_hashes_and_double_keys_are_loaded_flagged_and_kept_in_the_batch() {
    let place = Place::new();
    let mut pages: Vec<_> = (1..=4).map(|number| RawPage::new("d", 1, number, "text")).collect();
    pages[0].text_sha256 = Some(sha256_hex("another"));
    (pages[1].text, pages[1].text_sha256) = (None, None);
    pages.push(RawPage::new("d", 1, 3, "a rival"));
    pages.push(RawPage::new("d", 1, 4, "text"));
    place.document("d", &pages).await;
    let loaded = place.json(&["ocr", "load"]);
    let outcomes = &loaded["outcomes"];
    assert_eq!((&outcomes["flagged_wrong_hash"], &outcomes["flagged_key_taken"]), (&json!(1), &json!(2)));
    assert!(loaded["notes"].to_string().contains("page 1 (run 1): text_sha256 is not the hash"), "{loaded}");
    let checked = place.json(&["ocr", "check"]);
    assert_eq!(checked["outcomes"]["text_hash_mismatches"], json!(1), "{checked}");
    let made = place.json(&["batch", "create", "b", "--all", "--part-pages", "3"]);
    assert_eq!((&made["pages_out"], &made["outcomes"]["double_rows"]), (&json!(4), &json!(1)), "{made}");
    let played = Played::new(&place.root(), "b").unwrap();
    played.annotate(&Truth::default(), &[0, 1], true).await.unwrap();
    let merged = place.json(&["merge", "b"]);
    let outcomes = &merged["outcomes"];
    assert_eq!(
        (&merged["pages_in"], &merged["pages_out"], &outcomes["skipped"]),
        (&json!(4), &json!(1), &json!(3))
    );
}

#[tokio::test]
async fn a_create_that_broke_off_can_be_repeated_and_a_foreign_folder_is_left_alone() {
    let place = Place::with_examples();
    let played = Played::new(&place.root(), "p").unwrap();
    for part in [0, 7] {
        place.store().put(&played.keys.part(keys::PartKind::Pages, part), "half a file").await.unwrap();
    }
    place.json(&["batch", "create", "p", "--all"]);
    assert!(place.store().head_opt(&played.keys.part(keys::PartKind::Pages, 7)).await.unwrap().is_none());
    read_all::<BatchPage>(&place.store(), &played.keys.part(keys::PartKind::Pages, 0)).await.unwrap();

    let foreign = keys::Key::from_listing("argilla/in/vessels_ocr_q/pages/theirs.parquet");
    place.store().put(&foreign, "theirs").await.unwrap();
    assert!(place.fails(5, &["batch", "create", "q", "--all"]).contains("theirs.parquet"));
    assert_eq!(place.store().get(&foreign).await.unwrap(), "theirs");
}

#[tokio::test]
async fn only_what_is_committed_and_unchanged_is_merged() {
    let place = Place::with_examples();
    place.json(&["batch", "create", "p", "--all", "--part-pages", "40"]);
    assert!(place.fails(1, &["merge", "p"]).contains("0 of 2 parts"));
    let truth = Truth::read(&examples().join("truth.parquet")).unwrap();
    let played = Played::new(&place.root(), "p").unwrap();
    played.annotate(&truth, &[0], false).await.unwrap();
    assert!(place.fails(1, &["merge", "p"]).contains("1 of 2 parts are committed"));
    let partial = place.json(&["merge", "p", "--partial"]);
    assert_eq!(partial["outcomes"]["unaccounted"], json!(33), "{partial}");

    played.annotate(&truth, &[1], false).await.unwrap();
    let whole = place.json(&["merge", "p", "--partial"]);
    assert_eq!((&whole["pages_out"], &whole["already_done"]), (&json!(71), &json!(false)), "{whole}");
    let suggestions = place.file(&played.keys.part(keys::PartKind::Suggestions, 1));
    let bytes = fs::read(&suggestions).unwrap();
    fs::write(&suggestions, &bytes[1..]).unwrap();
    assert!(place.fails(5, &["merge", "p", "--partial"]).contains("suggestions/part-00001.parquet"));
    fs::write(&suggestions, bytes).unwrap();

    played.export(1).await.unwrap();
    played.export(2).await.unwrap();
    let spans = place.file(&played.keys.export(2).spans(0));
    fs::write(&spans, "other spans").unwrap();
    assert!(place.fails(5, &["annotations", "load", "p"]).contains("export_run_id=2/spans/part-000.parquet"));
    let loaded = place.json(&["annotations", "load", "p", "--export-run", "1"]);
    assert_eq!(loaded["outcomes"]["answers_loaded"], json!(142), "{loaded}");
    assert!(place.fails(5, &["annotations", "load", "p", "--export-run", "9"]).contains("export_run_id=9"));
}

#[tokio::test]
async fn a_large_batch_wants_a_signed_pilot_or_a_reason() {
    let place = Place::new();
    let pages: Vec<_> = (1..=1001).map(|number| RawPage::new("d", 1, number, "x")).collect();
    place.document("d", &pages).await;
    place
        .document("gone", &pages[..1].iter().map(|_| RawPage::new("gone", 1, 1, "x")).collect::<Vec<_>>())
        .await;
    place.json(&["ocr", "load"]);
    let shell = Shell::find().unwrap();
    let withdraw = format!(
        "ATTACH '{}' AS rawdb;\nINSERT INTO rawdb.main.tombstones VALUES ('gone', '2026-01-01', 'asked to');",
        place.lake("md_raw_ocr").replace('\'', "''")
    );
    shell.run(&withdraw).unwrap();
    assert!(place.fails(1, &["batch", "create", "large", "--all"]).contains("none is signed"));
    let reasoned = place.json(&["batch", "create", "without", "--all", "--no-pilot", "a drill"]);
    assert_eq!((&reasoned["pages_out"], &reasoned["outcomes"]["documents"]), (&json!(1001), &json!(1)));

    let played = Played::new(&place.root(), "pilot").unwrap();
    let signed = |labelset: &str| {
        json!({
            "version": 1, "batch_id": "pilot", "signed_at": "2026-01-01T00:00:00Z", "signed_by": "ada",
            "labelset_name": "l", "labelset_version": "1", "doc_ids": [], "counts": {}, "checks": [],
            "investigated": {}, "tool_versions": {},
            "provenance": {"engine": "rules", "model": "rules", "model_digest": "d", "prompt_sha256": "p",
                "labelset_sha256": labelset, "options": {}, "agent_version": "1"},
        })
    };
    let embedded = proto::labelset::Labelset::embedded();
    for (labelset, large) in [("other", false), (embedded.sha256(), true)] {
        let signoff = serde_json::to_vec(&signed(labelset)).unwrap();
        place.store().put(&played.keys.signoff(), signoff).await.unwrap();
        if large {
            let other = place.fails(1, &["batch", "create", "large", "--all", "--engine", "ollama"]);
            assert!(other.contains("engine rules"), "{other}");
            place.json(&["batch", "create", "large", "--all", "--engine", "rules"]);
            let again = place.json(&["batch", "create", "large", "--all", "--engine", "rules"]);
            assert_eq!(again["already_done"], json!(true));
            let shown = place.json(&["batch", "show", "large"]);
            assert_eq!(shown["pilot"], json!("pilot"), "{shown}");
        } else {
            assert!(place.fails(1, &["batch", "create", "large", "--all"]).contains("another labelset"));
        }
    }
}

#[test]
fn who_has_the_lake_open_is_named() {
    let place = Place::with_examples();
    let attach = format!("ATTACH '{}' AS rawdb;", place.lake("md_raw_ocr").replace('\'', "''"));
    let shell = Shell::find().unwrap();
    let holder = shell.stay(&attach, &place.folder.path().join("mark.csv")).unwrap();
    for args in [["ocr", "load"], ["ocr", "check"]] {
        let says = place.fails(4, &[args[0], args[1], "--lock-timeout", "0"]);
        assert!(says.contains(&format!("PID {}", holder.id())), "{says}");
        assert!(says.contains("md_raw_ocr.duckdb") && says.contains("--lock-timeout"), "{says}");
    }
    drop(holder);
    assert_eq!(place.json(&["ocr", "load"])["already_done"], json!(true));
}
