//! What things are called. Ids travel as columns and fields; they are never parsed back out of keys.

use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::hash::sha256_hex;

/// All but ASCII letters and digits, `-`, `_` and `.` is percent-encoded in a key.
const KEY_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdError {
    #[error(
        "batch id {0:?} is not valid: 1 to 63 of a-z, 0-9, '_' and '-', starting with a letter or digit, e.g. pilot-2026-11"
    )]
    BatchId(String),
    #[error("document id is empty: every row needs a non-empty doc_id")]
    EmptyDocId,
}

/// A batch: `[a-z0-9][a-z0-9_-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BatchId(String);

impl BatchId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The Argilla dataset and the folder of the batch.
    pub fn dataset(&self) -> String {
        format!("vessels_ocr_{}", self.0)
    }
}

impl FromStr for BatchId {
    type Err = IdError;

    fn from_str(id: &str) -> Result<Self, IdError> {
        let head = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let valid = (1..=63).contains(&id.len())
            && id.bytes().enumerate().all(|(i, b)| head(b) || (i > 0 && (b == b'_' || b == b'-')));
        if valid { Ok(Self(id.to_owned())) } else { Err(IdError::BatchId(id.to_owned())) }
    }
}

impl TryFrom<String> for BatchId {
    type Error = IdError;

    fn try_from(id: String) -> Result<Self, IdError> {
        id.parse()
    }
}

impl From<BatchId> for String {
    fn from(id: BatchId) -> Self {
        id.0
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A document: any non-empty string.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DocId(String);

impl DocId {
    pub fn new(id: impl Into<String>) -> Result<Self, IdError> {
        let id = id.into();
        if id.is_empty() { Err(IdError::EmptyDocId) } else { Ok(Self(id)) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it stands in a key: percent-encoded, so that `/`, `..`, quotes and blanks are harmless.
    pub fn encoded(&self) -> String {
        key_segment(&self.0)
    }
}

/// Any text as one segment of a key.
pub(crate) fn key_segment(text: &str) -> String {
    let encoded = utf8_percent_encode(text, KEY_ENCODED).to_string();
    match encoded.strip_prefix('.') {
        Some(rest) => format!("%2E{rest}"),
        None => encoded,
    }
}

impl FromStr for DocId {
    type Err = IdError;

    fn from_str(id: &str) -> Result<Self, IdError> {
        Self::new(id)
    }
}

impl TryFrom<String> for DocId {
    type Error = IdError;

    fn try_from(id: String) -> Result<Self, IdError> {
        Self::new(id)
    }
}

impl From<DocId> for String {
    fn from(id: DocId) -> Self {
        id.0
    }
}

impl fmt::Display for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A page of a batch; sorts by document, then page number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageKey {
    pub doc_id: DocId,
    /// From 1.
    pub page_num: i32,
}

impl PageKey {
    pub fn new(doc_id: DocId, page_num: i32) -> Self {
        Self { doc_id, page_num }
    }

    /// `<doc_id>:<page_num>`: the id of its Argilla record.
    pub fn record_id(&self) -> String {
        format!("{}:{}", self.doc_id, self.page_num)
    }

    /// `<doc_id>:<page_num>:<16 hex>`, the same for the same label and place.
    pub fn span_id(&self, label: &str, span: CharSpan) -> String {
        let place = sha256_hex(format!("{label}\0{}\0{}", span.start.0, span.end.0));
        format!("{}:{}:{}", self.doc_id.as_str(), self.page_num, &place[..16])
    }
}

impl fmt::Display for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document {:?} page {}", self.doc_id.as_str(), self.page_num)
    }
}

/// An offset into a page's text in Unicode code points, never bytes or UTF-16 units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CharOffset(pub u32);

/// A half-open range of code points, `start < end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CharSpan {
    pub start: CharOffset,
    pub end: CharOffset,
}

impl CharSpan {
    /// None when empty or reversed.
    pub fn new(start: u32, end: u32) -> Option<Self> {
        (start < end).then_some(Self { start: CharOffset(start), end: CharOffset(end) })
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// `text[start:end]` in code points; None when it reaches past the end.
    pub fn slice(self, text: &str) -> Option<&str> {
        let mut bounds = text.char_indices().map(|(byte, _)| byte).chain([text.len()]);
        let from = bounds.nth(self.start.0 as usize)?;
        let to = bounds.nth((self.end.0 - self.start.0 - 1) as usize)?;
        text.get(from..to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn batch_ids_are_as_the_design_says() {
        for good in ["a", "0", "pilot-1", "p_2", &"x".repeat(63)] {
            assert!(good.parse::<BatchId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a b", "a/b", "..", "é", &"x".repeat(64)] {
            assert_eq!(bad.parse::<BatchId>(), Err(IdError::BatchId(bad.to_owned())));
        }
    }

    #[test]
    fn odd_document_ids_are_harmless_in_keys() {
        let encoded = |id: &str| DocId::new(id).expect("not empty").encoded();
        assert_eq!(encoded("../a b/c%\"'"), "%2E.%2Fa%20b%2Fc%25%22%27");
        assert_eq!(encoded(".."), "%2E.");
        assert_eq!(encoded("00123"), "00123");
        assert_eq!(encoded("Fœ"), "F%C5%93");
        assert_eq!(DocId::new(""), Err(IdError::EmptyDocId));
    }

    #[test]
    fn span_ids_are_stable() {
        let page = PageKey::new(DocId::new("d:1").expect("not empty"), 2);
        let span = CharSpan::new(3, 5).expect("not empty");
        let id = page.span_id("IMO", span);
        assert_eq!(id, format!("d:1:2:{}", &sha256_hex("IMO\x003\x005")[..16]));
    }

    proptest! {
        #[test]
        fn slices_count_code_points(text in "\\PC{0,40}", start in 0u32..50, len in 1u32..50) {
            let span = CharSpan::new(start, start + len).expect("not empty");
            let chars: Vec<char> = text.chars().collect();
            let expected = chars.get(start as usize..(start + len) as usize).map(|c| c.iter().collect::<String>());
            prop_assert_eq!(span.slice(&text).map(str::to_owned), expected);
        }

        #[test]
        fn encoded_ids_stay_one_path_segment(id in ".{1,30}") {
            let encoded = DocId::new(id.clone()).expect("not empty").encoded();
            prop_assert!(!encoded.starts_with('.'));
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.%".contains(&b)));
            let back = percent_encoding::percent_decode_str(&encoded).decode_utf8().expect("was UTF-8");
            prop_assert_eq!(back, id);
        }
    }
}
