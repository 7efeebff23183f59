//! Which rows of a pages file are work, and what becomes of the others. Pure.

use proto::{
    hash::{sha256_hex, sha256_of_fields},
    rows::{BatchPage, Outcome},
};

/// A row's key. A null id counts as "", a null number as 0: neither is a page's.
pub(super) type RowKey = (String, i32);

/// A row that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Admitted {
    pub key: RowKey,
    /// As it came.
    pub page_sha256: Option<String>,
    pub run_id: Option<i64>,
    /// Of all that makes the row this page: rows of one key and one content are one page.
    pub content_sha256: String,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Text to annotate.
    Work(String),
    /// An outcome without work.
    Done(Outcome, &'static str),
}

pub(super) const DUPLICATE_KEY: &str = "duplicate_key";

/// `page_bytes`: the longest text.
pub(super) fn admit(page: BatchPage, page_bytes: usize) -> Admitted {
    let BatchPage { doc_id, page_num, text, text_sha256, run_id, .. } = page;
    let actual = text.as_ref().map(sha256_hex);
    let content_sha256 = sha256_of_fields([
        actual.as_deref().unwrap_or("null"),
        text_sha256.as_deref().unwrap_or("null"),
        &format!("{run_id:?}"),
    ]);
    let verdict = match text {
        _ if doc_id.as_ref().is_none_or(String::is_empty) || page_num.is_none() => {
            Verdict::Done(Outcome::Skipped, "missing_key")
        }
        _ if page_num.is_some_and(|number| number < 1) => Verdict::Done(Outcome::Skipped, "invalid_page_num"),
        None => Verdict::Done(Outcome::Skipped, "null_text"),
        Some(_) if actual != text_sha256 => Verdict::Done(Outcome::Skipped, "hash_mismatch"),
        Some(text) if text.len() > page_bytes => Verdict::Done(Outcome::Failed, "page_too_large"),
        Some(text) if text.chars().all(char::is_whitespace) => Verdict::Done(Outcome::Empty, "blank_text"),
        Some(text) => Verdict::Work(text),
    };
    let key = (doc_id.unwrap_or_default(), page_num.unwrap_or_default());
    Admitted { key, page_sha256: text_sha256, run_id, content_sha256, verdict }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: Option<&str>) -> BatchPage {
        BatchPage {
            doc_id: Some("d".into()),
            page_num: Some(1),
            text: text.map(str::to_owned),
            text_sha256: text.map(sha256_hex),
            run_id: Some(1),
            ocr_confidence: None,
            source_uri: None,
        }
    }

    #[test]
    fn each_bad_row_has_its_reason() {
        let good = page(Some("IMO 9074729"));
        let cases = [
            (BatchPage { doc_id: None, ..good.clone() }, Outcome::Skipped, "missing_key"),
            (BatchPage { doc_id: Some(String::new()), ..good.clone() }, Outcome::Skipped, "missing_key"),
            (BatchPage { page_num: None, ..good.clone() }, Outcome::Skipped, "missing_key"),
            (BatchPage { page_num: Some(0), ..good.clone() }, Outcome::Skipped, "invalid_page_num"),
            (page(None), Outcome::Skipped, "null_text"),
            (BatchPage { text_sha256: None, ..good.clone() }, Outcome::Skipped, "hash_mismatch"),
            (BatchPage { text: Some("other".into()), ..good.clone() }, Outcome::Skipped, "hash_mismatch"),
            (page(Some("")), Outcome::Empty, "blank_text"),
            (page(Some(" \r\n\u{3000}\t")), Outcome::Empty, "blank_text"),
            (page(Some(&"x".repeat(21))), Outcome::Failed, "page_too_large"),
        ];
        for (page, outcome, reason) in cases {
            assert_eq!(admit(page, 20).verdict, Verdict::Done(outcome, reason));
        }
        assert_eq!(admit(good, 20).verdict, Verdict::Work("IMO 9074729".into()));
        assert_eq!(admit(page(Some("\0\u{202E}𝄞")), 20).verdict, Verdict::Work("\0\u{202E}𝄞".into()));
    }

    #[test]
    fn content_tells_a_copy_from_another_page() {
        let of = |page| admit(page, 20).content_sha256;
        let good = page(Some("a"));
        let copy = BatchPage { ocr_confidence: Some(0.5), ..good.clone() };
        assert_eq!(of(good.clone()), of(copy));
        assert_ne!(of(good.clone()), of(BatchPage { run_id: Some(2), ..good.clone() }));
        assert_ne!(of(good), of(page(Some("b"))));
    }
}
