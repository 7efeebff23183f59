//! Argilla's JSON, as far as we send and read it. Keys that are not here are ignored.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Debug, Clone, Deserialize)]
pub struct Items<T> {
    pub items: Vec<T>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct User {
    pub id: String,
    pub username: String,
    /// `owner`, `admin` or `annotator`.
    pub role: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Workspace {
    pub id: String,
    pub name: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Dataset {
    pub id: String,
    pub name: String,
    pub status: DatasetStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatasetStatus {
    Draft,
    Ready,
}

#[derive(Debug, Serialize)]
pub struct DatasetCreate<'a> {
    pub name: &'a str,
    pub workspace_id: &'a str,
    pub guidelines: &'a str,
    pub allow_extra_metadata: bool,
    pub distribution: Distribution,
}

/// A record is complete once it has `min_submitted` submitted responses.
#[derive(Debug, Serialize)]
#[serde(tag = "strategy", rename_all = "lowercase")]
pub enum Distribution {
    Overlap { min_submitted: u32 },
}

/// Of a field, a question or a metadata property: enough to see whether it is there.
#[derive(Debug, Clone, Deserialize)]
pub struct Named {
    pub name: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Question {
    pub id: String,
    pub name: String,
    pub required: bool,
    pub settings: QuestionSettings,
}

/// Only span questions have a field; of other types nothing is known here.
#[derive(Debug, Clone, Deserialize)]
pub struct QuestionSettings {
    pub r#type: String,
    pub field: Option<String>,
    #[serde(default)]
    pub options: Vec<LabelOption>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelOption {
    /// The label.
    pub value: String,
    /// What reviewers read.
    pub text: String,
    pub description: Option<String>,
}

/// Half-open, in code points.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    pub start: u32,
    pub end: u32,
    pub label: String,
}

/// A suggestion as it is pushed and as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Suggestion {
    pub question_id: String,
    pub value: Vec<Span>,
    /// As long as `value`, each from 0 to 1.
    pub score: Option<Vec<f64>>,
    pub agent: Option<String>,
    pub r#type: Option<String>,
}

impl PartialEq for Suggestion {
    /// Scores that went through a server and back are equal within rounding.
    fn eq(&self, other: &Self) -> bool {
        let close =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        let scores = match (&self.score, &other.score) {
            (Some(a), Some(b)) => close(a, b),
            (None, None) => true,
            _ => false,
        };
        scores
            && self.question_id == other.question_id
            && self.value == other.value
            && self.agent == other.agent
            && self.r#type == other.r#type
    }
}

/// An item of a bulk upsert. What is left out keeps its stored value.
#[derive(Debug, Clone, Serialize)]
pub struct RecordUpsert<'a> {
    pub external_id: &'a str,
    pub fields: Fields<'a>,
    pub metadata: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "<[Suggestion]>::is_empty")]
    pub suggestions: &'a [Suggestion],
}

#[derive(Debug, Clone, Serialize)]
pub struct Fields<'a> {
    pub text: &'a str,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    /// Argilla's own id, a UUID.
    pub id: String,
    pub external_id: Option<String>,
    pub fields: StoredFields,
    pub metadata: Option<Map<String, Value>>,
    #[serde(default)]
    pub suggestions: Vec<Suggestion>,
    #[serde(default)]
    pub responses: Vec<Response>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct StoredFields {
    pub text: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResponseStatus {
    Draft,
    Submitted,
    Discarded,
}

impl ResponseStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Submitted => "submitted",
            Self::Discarded => "discarded",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Response {
    pub id: String,
    pub user_id: String,
    pub status: ResponseStatus,
    /// By question name; null happens. A discarded response carries the spans it was opened with.
    pub values: Option<Map<String, Value>>,
    pub inserted_at: String,
    pub updated_at: String,
}

impl Response {
    /// The spans given to a question; none when it was not answered.
    pub fn spans(&self, question: &str) -> Result<Vec<Span>, serde_json::Error> {
        match self.values.as_ref().and_then(|values| values.get(question)).and_then(|v| v.get("value")) {
            Some(value) => Vec::<Span>::deserialize(value),
            None => Ok(Vec::new()),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct RecordsPage {
    pub items: Vec<Record>,
    /// Records of the dataset.
    pub total: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct SearchPage {
    pub items: Vec<SearchHit>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct SearchHit {
    pub record: Record,
}

/// From the search engine: may lag a moment behind.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Progress {
    pub total: u64,
    #[serde(default)]
    pub completed: u64,
    #[serde(default)]
    pub pending: u64,
}

/// Responses of one user, by the status of the record and of the response.
#[derive(Debug, Clone, Deserialize)]
pub struct UserProgress {
    pub username: String,
    #[serde(default)]
    pub completed: ResponseCounts,
    #[serde(default)]
    pub pending: ResponseCounts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ResponseCounts {
    pub submitted: u64,
    pub discarded: u64,
    pub draft: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct UsersProgress {
    pub users: Vec<UserProgress>,
}
