//! How good suggestions are, as pure functions: nothing here reads or writes.
//!
//! ```text
//! pages with suggestions and true answers ─► matching ─► scores ──► report
//!                                               ├──────► compare (two runs)
//!                                               └──────► calibration (isotonic)
//! ```
//! - A span is right when the truth has one of its label there: at just this place, or (counted apart) at one that
//!   overlaps. Every span of one side answers to one of the other at most.
//! - A page with several answers counts once an answer: each is a truth of its own.
//! - A share of nothing is no number: it is None, shown as "–".

pub mod calibration;
pub mod compare;
pub mod matching;
pub mod report;
pub mod scores;

use std::{collections::BTreeMap, sync::Arc};

use proto::rows::Outcome;
use serde::Serialize;

/// A labelled place on a page. Offsets count code points, end exclusive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Span {
    pub label: String,
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// What an engine suggested.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggested {
    pub span: Span,
    /// As the engine gave it.
    pub confidence: Option<f64>,
    /// `exact`, `normalized`, `fuzzy`.
    pub match_kind: String,
    pub source: String,
}

/// One truth of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// None: planted, or of one who is not named.
    pub annotator: Option<String>,
    pub spans: Vec<Span>,
    /// Values that OCR lost, by label: they have no place, and none can find them.
    pub lost: BTreeMap<String, u64>,
}

/// A document's page.
pub type PageId = (String, i32);

/// A page that is scored.
#[derive(Debug, Clone)]
pub struct Page {
    pub id: PageId,
    pub outcome: Outcome,
    pub page_sha256: Option<String>,
    /// By place.
    pub suggested: Vec<Suggested>,
    /// At least one.
    pub answers: Vec<Arc<Answer>>,
}

impl Page {
    /// The suggestions' spans.
    pub fn spans(&self) -> Vec<Span> {
        self.suggested.iter().map(|suggested| suggested.span.clone()).collect()
    }
}
