//! `control preview` as a person runs it: what the file shows, and that it does nothing but show.

use std::{collections::BTreeMap, fs, path::Path};

use dgx_agent::rules::Rules;
use e2e::{
    batch_files::{BatchFiles, PageFile},
    corpus::copy_examples,
    harness::Control,
};
use proto::{
    keys::{self, PartKind},
    labelset::Labelset,
    parquet_io::read_all,
    rows::{Outcome, Row},
    schema::Table,
    store::{Env, Store},
};
use serde::{Deserialize, Serialize};

const ODD: &str = "<script>alert(1)</script> \u{202e}'\"& /../%";

struct Place {
    folder: tempfile::TempDir,
    control: Control,
    files: BatchFiles,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        let control = Control::new(folder.path(), root.to_str().unwrap());
        let files = BatchFiles::new(root.to_str().unwrap(), "p").unwrap();
        Self { folder, control, files }
    }

    /// The report and the file.
    fn preview(&self, args: &[&str]) -> (serde_json::Value, String) {
        let report = self.control.json(&[&["preview", "p"], args].concat()).unwrap();
        let path = Path::new(report["artifacts"][0].as_str().unwrap());
        assert!(path.is_absolute(), "{report}");
        (report.clone(), fs::read_to_string(path).unwrap())
    }
}

fn bad_pages() -> Vec<PageFile> {
    vec![
        PageFile::new(
            ODD,
            1,
            "<script>alert(1)</script> & \"x\" IMO 9074729\0\r\n\u{202e}\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{1f6a2} PORTO",
            &[("IMO", "9074729"), ("PORT", "PORTO"), ("OWNER", "<script>alert(1)</script> & \"x\"")],
        ),
        PageFile::new(ODD, 2, "nothing here", &[]),
        PageFile::new("b", 1, "unread", &[]).ended(Outcome::Failed, "page_too_large"),
        PageFile::new("b", 2, "wrong", &[]).ended(Outcome::Skipped, "hash_mismatch"),
        PageFile::new("c", 1, " \n", &[]).ended(Outcome::Empty, "blank_text"),
    ]
}

#[tokio::test]
async fn whatever_a_page_holds_is_shown_as_text() {
    let place = Place::new();
    place.files.write(&bad_pages()).await.unwrap();
    let (report, html) = place.preview(&[]);
    assert_eq!(html.matches("<script").count(), 1, "the file's own");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot;</mark> IMO "), "{html}");
    assert!(html.contains(">9074729</mark><i title=\"U+0000\">\u{2400}</i>"));
    assert!(html.contains("<i title=\"U+202E\">\u{25af}</i>\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{1f6a2} <mark"));
    assert!(!html.contains(['\0', '\u{202e}', '\r']));
    assert!(html.contains("unicode-bidi: isolate") && html.contains("dir=\"auto\""));
    assert!(html.contains("exact match\nmeans: 9074729"), "kind and normal form as a tooltip");
    for told in
        ["failed: page_too_large", "skipped: hash_mismatch", "empty: blank_text", "no text on this page"]
    {
        assert!(html.contains(told), "{told}");
    }
    assert_eq!(report["outcomes"]["spans"], 3);
    assert_eq!(report["outcomes"]["suggested"], 1);
    assert_eq!(report["outcomes"]["empty"], 2);
}

#[tokio::test]
async fn the_file_asks_for_nothing_and_stands_where_it_was_asked_for() {
    let place = Place::new();
    place.files.write(&bad_pages()).await.unwrap();
    let (_, html) = place.preview(&["--output", "out/x.html"]);
    assert!(place.folder.path().join("out/x.html").is_file());
    assert!(html.contains("default-src 'none'"));
    for request in ["http://", "https://", " src=", "@import", "url(", "fetch("] {
        assert!(!html.contains(request), "{request}");
    }
    let nonce = html.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert_eq!(html.matches(&format!("<script nonce=\"{nonce}\">")).count(), 1);
}

#[tokio::test]
async fn it_is_bounded_and_says_what_is_left_out() {
    let place = Place::new();
    place.files.write(&bad_pages()).await.unwrap();
    let (report, html) = place.preview(&["--max-pages", "2"]);
    assert_eq!((&report["pages_in"], &report["pages_out"]), (&5.into(), &2.into()));
    assert!(report["notes"][0].as_str().unwrap().contains("first 2 of 5 pages"), "{report}");
    assert_eq!(html.matches("<section ").count(), 2);
}

#[tokio::test]
async fn before_the_agent_every_page_is_pending_and_no_batch_is_an_error() {
    let place = Place::new();
    let missing = place.control.run(&["preview", "p"]).unwrap();
    assert_eq!(missing.code, Some(5), "{}", missing.stderr);
    assert!(missing.stderr.contains("no batch p"), "{}", missing.stderr);

    place.files.write(&bad_pages()).await.unwrap();
    place.files.store.delete(&place.files.keys.manifest()).await.unwrap();
    let (report, html) = place.preview(&[]);
    assert_eq!(report["outcomes"]["pending"], 5, "{report}");
    assert!(html.contains("not complete") && !html.contains("<mark "), "{report}");
    let pages = place.files.keys.part(PartKind::Pages, 0);
    place.files.store.put(&pages, &b"PAR1 cut short"[..]).await.unwrap();
    let broken = place.control.run(&["preview", "p"]).unwrap();
    assert_eq!(broken.code, Some(5));
    assert!(broken.stderr.contains("pages/part-00000.parquet"), "{}", broken.stderr);
}

/// Of a row of `raw_pages`: what is shown.
#[derive(Serialize, Deserialize)]
struct OcrPage {
    doc_id: String,
    run_id: i64,
    page_num: i32,
    text: Option<String>,
}

impl Row for OcrPage {
    const TABLE: Table = Table::RawPages;
}

/// The newest run of the committed documents, annotated by the rules.
async fn real_pages(root: &Path) -> Vec<PageFile> {
    copy_examples(root).unwrap();
    let store = Store::open(root.to_str().unwrap(), &Env::new()).unwrap();
    let mut newest: BTreeMap<(String, i32), OcrPage> = BTreeMap::new();
    for object in store.list_sorted(keys::RAW_PAGES).await.unwrap() {
        for page in read_all::<OcrPage>(&store, &object.key).await.unwrap() {
            let key = (page.doc_id.clone(), page.page_num);
            let old = newest.get(&key).is_some_and(|old| old.run_id > page.run_id);
            if !old {
                newest.insert(key, page);
            }
        }
    }
    let rules = Rules::new(&Labelset::embedded()).expect("it compiles");
    let page = |((doc_id, page_num), page): ((String, i32), OcrPage)| {
        let text = page.text.unwrap_or_default();
        let mut file = PageFile::new(&doc_id, page_num, &text, &[]);
        let spans = rules.annotate(&text);
        file.spans = spans.into_iter().map(|span| (span.label, span.start as u32, span.end as u32)).collect();
        match file.spans[..] {
            [] if text.trim().is_empty() => file.ended(Outcome::Empty, "blank_text"),
            [] => file,
            _ => PageFile { outcome: Outcome::Suggested, reason: None, ..file },
        }
    };
    newest.into_iter().map(page).collect()
}

#[tokio::test]
async fn every_span_of_the_examples_is_highlighted_on_its_words() {
    let place = Place::new();
    let pages = real_pages(&place.folder.path().join("data")).await;
    place.files.write(&pages).await.unwrap();
    let (report, html) = place.preview(&[]);
    let sections: Vec<&str> = html.split("<section ").skip(1).collect();
    assert_eq!(sections.len(), pages.len());
    let mut spans = 0;
    for (section, page) in sections.iter().zip(&pages) {
        let drawn: Vec<String> = section.split("<mark ").skip(1).map(marked).collect();
        let expected: Vec<String> = page
            .spans
            .iter()
            .map(|(_, start, end)| {
                page.text.chars().skip(*start as usize).take((end - start) as usize).collect()
            })
            .collect();
        assert_eq!(drawn, expected, "{} {}", page.doc_id, page.page_num);
        spans += drawn.len();
    }
    assert!(spans > 500, "{spans}");
    assert_eq!(report["outcomes"]["spans"], spans);
}

/// The text of a mark: what a browser would make of it.
fn marked(html: &str) -> String {
    let inner = html.split_once('>').unwrap().1.split("</mark>").next().unwrap();
    let plain = inner.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
    plain.replace("&amp;", "&")
}
