//! What callers send, and the rules that Argilla's schema checks before it looks at the dataset.
//! Unknown keys are ignored.

use std::collections::HashSet;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::request::Parts,
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    errors::ApiError,
    state::{LabelOption, MetadataSettings, ResponseStatus, Span, SuggestionType},
    values::{answered, check_fields, text_or_number},
};

/// A JSON body; what is not one, or not of this shape, is a schema error.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| ApiError::body([], format!("the body broke off: {error}")))?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| ApiError::body([], error.to_string()))
    }
}

#[derive(Deserialize)]
pub struct WorkspaceCreate {
    pub name: String,
}

#[derive(Deserialize)]
pub struct WorkspaceUserCreate {
    pub user_id: String,
}

#[derive(Deserialize)]
pub struct DatasetCreate {
    pub name: String,
    pub workspace_id: String,
    pub guidelines: Option<String>,
    #[serde(default = "yes")]
    pub allow_extra_metadata: bool,
    #[serde(default)]
    pub distribution: Distribution,
    pub metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
pub struct Distribution {
    pub strategy: Strategy,
    pub min_submitted: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    Overlap,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { strategy: Strategy::Overlap, min_submitted: 1 }
    }
}

impl DatasetCreate {
    pub fn check(&self) -> Result<(), ApiError> {
        length("name", &self.name, 200)?;
        self.guidelines.as_deref().map_or(Ok(()), |text| length("guidelines", text, 10_000))?;
        let Strategy::Overlap = self.distribution.strategy;
        require(self.distribution.min_submitted >= 1, "distribution", "min_submitted must be at least 1")
    }
}

#[derive(Deserialize)]
pub struct FieldCreate {
    pub name: String,
    pub title: String,
    pub required: Option<bool>,
    pub settings: FieldSettings,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FieldSettings {
    Text {
        #[serde(default)]
        use_markdown: bool,
    },
}

impl FieldCreate {
    pub fn check(&self) -> Result<(), ApiError> {
        length("name", &self.name, 200)?;
        length("title", &self.title, 500)
    }
}

#[derive(Deserialize)]
pub struct QuestionCreate {
    pub name: String,
    pub title: String,
    pub description: Option<String>,
    pub required: Option<bool>,
    pub settings: QuestionSettings,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum QuestionSettings {
    Span {
        field: String,
        options: Vec<LabelOption>,
        visible_options: Option<usize>,
        #[serde(default)]
        allow_overlapping: bool,
    },
}

impl QuestionCreate {
    pub fn check(&self) -> Result<(), ApiError> {
        length("name", &self.name, 200)?;
        length("title", &self.title, 500)?;
        self.description.as_deref().map_or(Ok(()), |text| length("description", text, 1000))?;
        let QuestionSettings::Span { field, options, visible_options, .. } = &self.settings;
        length("field", field, 200)?;
        require((1..=500).contains(&options.len()), "options", "expected 1 to 500 options")?;
        for option in options {
            length("value", &option.value, 200)?;
            length("text", &option.text, 500)?;
            option.description.as_deref().map_or(Ok(()), |text| length("description", text, 1000))?;
        }
        let mut values: Vec<_> = options.iter().map(|o| &o.value).collect();
        values.sort();
        values.dedup();
        require(values.len() == options.len(), "options", "Option values must be unique, found duplicates")?;
        let visible = visible_options.is_none_or(|visible| (3..=options.len()).contains(&visible));
        require(visible, "visible_options", "must be at least 3 and at most the number of options")
    }
}

#[derive(Deserialize)]
pub struct MetadataPropertyCreate {
    pub name: String,
    pub title: String,
    pub settings: MetadataSettings,
    #[serde(default = "yes")]
    pub visible_for_annotators: bool,
}

impl MetadataPropertyCreate {
    pub fn check(&self) -> Result<(), ApiError> {
        length("name", &self.name, 200)?;
        length("title", &self.title, 500)
    }
}

#[derive(Deserialize)]
pub struct RecordsBulk {
    pub items: Vec<RecordUpsert>,
}

/// An item of a bulk upsert. The outer `Option` of `fields` and `metadata` tells a key that was sent from one
/// that was left out: what was left out keeps its stored value.
#[derive(Deserialize)]
pub struct RecordUpsert {
    pub id: Option<String>,
    #[serde(default, deserialize_with = "text_or_number")]
    pub external_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub fields: Option<Option<Map<String, Value>>>,
    #[serde(default, deserialize_with = "present")]
    pub metadata: Option<Option<Map<String, Value>>>,
    pub suggestions: Option<Vec<SuggestionCreate>>,
}

impl RecordsBulk {
    pub fn check(&self) -> Result<(), ApiError> {
        require((1..=500).contains(&self.items.len()), "items", "List should have 1 to 500 items")?;
        let mut external_ids: Vec<_> = self.items.iter().filter_map(|i| i.external_id.as_ref()).collect();
        let count = external_ids.len();
        external_ids.sort();
        external_ids.dedup();
        require(external_ids.len() == count, "items", "Value error, External IDs must be unique")?;
        for (position, item) in self.items.iter().enumerate() {
            let at = [json!("items"), json!(position)];
            item.fields.iter().flatten().try_for_each(|fields| check_fields(fields, &at))?;
            for suggestion in item.suggestions.iter().flatten() {
                suggestion.check(&[json!("items"), json!(position), json!("suggestions")])?;
            }
        }
        Ok(())
    }
}

/// A search: of its filters only the one by external id is understood.
#[derive(Deserialize)]
pub struct Search {
    query: Option<Value>,
    filters: Option<Filters>,
    sort: Option<Value>,
}

#[derive(Deserialize)]
struct Filters {
    and: Vec<Filter>,
}

#[derive(Deserialize)]
struct Filter {
    r#type: String,
    scope: Value,
    values: Option<Vec<String>>,
}

impl Search {
    /// The external ids that are asked for; None for all records.
    pub fn external_ids(self) -> Result<Option<HashSet<String>>, ApiError> {
        let refused = || ApiError::Unprocessable("STAND-IN: searches by external_id only".to_owned());
        if self.query.is_some() || self.sort.is_some() {
            return Err(refused());
        }
        let Some(filters) = self.filters else { return Ok(None) };
        let [Filter { r#type, scope, values: Some(values) }] = filters.and.as_slice() else {
            return Err(refused());
        };
        if r#type != "terms" || *scope != json!({"entity": "record", "property": "external_id"}) {
            return Err(refused());
        }
        require((1..=250).contains(&values.len()), "values", "List should have 1 to 250 items")?;
        Ok(Some(values.iter().cloned().collect()))
    }
}

#[derive(Deserialize)]
pub struct RecordUpdate {
    #[serde(default, deserialize_with = "present")]
    pub fields: Option<Option<Map<String, Value>>>,
    #[serde(default, deserialize_with = "present")]
    pub metadata: Option<Option<Map<String, Value>>>,
    #[serde(default, deserialize_with = "present")]
    pub suggestions: Option<Option<Vec<SuggestionCreate>>>,
}

#[derive(Deserialize)]
pub struct SuggestionCreate {
    pub question_id: String,
    pub value: Vec<Span>,
    pub score: Option<Value>,
    pub agent: Option<String>,
    pub r#type: Option<SuggestionType>,
}

impl SuggestionCreate {
    pub fn check(&self, loc: &[Value]) -> Result<(), ApiError> {
        let at = |key: &str| loc.iter().cloned().chain([json!(key)]).collect::<Vec<_>>();
        check_uuid(&self.question_id).map_err(|msg| ApiError::body(at("question_id"), msg))?;
        check_spans(&self.value).map_err(|msg| ApiError::body(at("value"), msg))?;
        if let Some(agent) = &self.agent {
            check_agent(agent).map_err(|msg| ApiError::body(at("agent"), msg))?;
        }
        if let Some(score) = &self.score {
            check_score(score).map_err(|msg| ApiError::body(at("score"), msg))?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
pub struct ResponseCreate {
    pub status: ResponseStatus,
    pub values: Option<Map<String, Value>>,
}

impl ResponseCreate {
    pub fn check(&self) -> Result<(), ApiError> {
        for (name, value) in self.values.iter().flatten() {
            answered(value).map_err(|msg| ApiError::body([json!("values"), json!(name)], msg))?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
pub struct ResponsesBulk {
    pub items: Vec<ResponseUpsert>,
}

#[derive(Deserialize)]
pub struct ResponseUpsert {
    pub record_id: String,
    #[serde(flatten)]
    pub response: ResponseCreate,
}

impl ResponsesBulk {
    pub fn check(&self) -> Result<(), ApiError> {
        require((1..=100).contains(&self.items.len()), "items", "List should have 1 to 100 items")?;
        for item in &self.items {
            check_uuid(&item.record_id).map_err(|msg| ApiError::body([json!("record_id")], msg))?;
            let missing = item.response.status == ResponseStatus::Submitted && item.response.values.is_none();
            require(!missing, "values", "Field required")?;
            item.response.check()?;
        }
        Ok(())
    }
}

/// Bounds that need no record: `0 <= start < end`, at most 10,000 spans.
pub fn check_spans(spans: &[Span]) -> Result<(), &'static str> {
    if spans.len() > 10_000 {
        return Err("List should have at most 10000 items");
    }
    for span in spans {
        if span.start < 0 {
            return Err("Input should be greater than or equal to 0");
        }
        if span.end <= span.start {
            return Err(
                "Value error, span question response value 'end' must have a value greater than 'start'",
            );
        }
    }
    Ok(())
}

/// The id of a path.
pub struct Id(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let wrong = |msg: &str| ApiError::Schema { loc: vec![json!("path")], msg: msg.to_owned() };
        let Path(id) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|e| wrong(&e.to_string()))?;
        check_uuid(&id).map_err(wrong)?;
        Ok(Self(id))
    }
}

fn check_uuid(id: &str) -> Result<(), &'static str> {
    let lengths = [8, 4, 4, 4, 12];
    let mut parts = id.split('-');
    let is_part =
        |(part, length): (&str, usize)| part.len() == length && part.chars().all(|c| c.is_ascii_hexdigit());
    let well = id.split('-').count() == lengths.len() && parts.by_ref().zip(lengths).all(is_part);
    if well { Ok(()) } else { Err("Input should be a valid UUID") }
}

fn check_agent(agent: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_:./".contains(c) || c.is_whitespace();
    let well = agent.chars().all(allowed) && agent.contains(|c: char| c.is_ascii_alphanumeric());
    if well && agent.chars().count() <= 200 {
        Ok(())
    } else {
        Err("String should match the pattern of agents and have 1 to 200 characters")
    }
}

fn check_score(score: &Value) -> Result<(), &'static str> {
    let in_range = |value: &Value| value.as_f64().is_some_and(|score| (0.0..=1.0).contains(&score));
    match score {
        Value::Array(scores) if scores.is_empty() => Err("Value error, score must have at least one item"),
        Value::Array(scores) if scores.iter().all(in_range) => Ok(()),
        single if in_range(single) => Ok(()),
        _ => Err("Value error, score must be between 0 and 1"),
    }
}

/// 1 to `max` code points.
fn length(key: &str, text: &str, max: usize) -> Result<(), ApiError> {
    let message = format!("String should have 1 to {max} characters");
    require((1..=max).contains(&text.chars().count()), key, &message)
}

fn require(condition: bool, key: &str, msg: &str) -> Result<(), ApiError> {
    if condition { Ok(()) } else { Err(ApiError::body([json!(key)], msg)) }
}

fn yes() -> bool {
    true
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
