//! One struct a row for the tables that Rust code reads or writes. The raw tables stay in SQL.
//!
//! Fields that a foreign producer may leave out or null are `Option`s; the stage that reads them decides.

use std::{borrow::Cow, sync::Arc};

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::schema::{SchemaError, Table};

/// A row of one of the contract's tables.
pub trait Row: Serialize + DeserializeOwned + Sync {
    const TABLE: Table;

    /// Rows as one record batch in the table's schema.
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, RowError> {
        serde_arrow::to_record_batch(Self::TABLE.schema().fields(), &rows)
            .map_err(|source| RowError::Convert { table: Self::TABLE, source })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RowError {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("{table}: a row cannot be read or written: {source}")]
    Convert { table: Table, source: serde_arrow::Error },
    #[error("{table}: {source}")]
    Arrow { table: Table, source: arrow::error::ArrowError },
}

/// The rows of a record batch whose columns may stand in any order, in any width, beside others.
pub fn from_batch<R: Row>(batch: &RecordBatch) -> Result<Vec<R>, RowError> {
    R::TABLE.validate(batch.schema_ref())?;
    convert(R::TABLE, batch)
}

/// The rows of a record batch that holds the columns of `T`, a part of the table's.
pub(crate) fn convert<T: DeserializeOwned>(table: Table, batch: &RecordBatch) -> Result<Vec<T>, RowError> {
    let arrow = |source| RowError::Arrow { table, source };
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for field in table.schema().fields() {
        if let Some(column) = batch.column_by_name(field.name()) {
            columns.push(arrow::compute::cast(column, field.data_type()).map_err(arrow)?);
            fields.push(field.clone());
        }
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let known = RecordBatch::try_new_with_options(schema, columns, &options).map_err(arrow)?;
    serde_arrow::from_record_batch(&known).map_err(|source| RowError::Convert { table, source })
}

/// A page of a batch. A foreign producer's file may hold nulls, and lacks the last three columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchPage {
    pub doc_id: Option<String>,
    /// From 1.
    pub page_num: Option<i32>,
    pub text: Option<String>,
    /// Lower hex SHA-256 of the UTF-8 text.
    pub text_sha256: Option<String>,
    #[serde(default)]
    pub run_id: Option<i64>,
    #[serde(default)]
    pub ocr_confidence: Option<f64>,
    /// The PDF.
    #[serde(default)]
    pub source_uri: Option<String>,
}

impl Row for BatchPage {
    const TABLE: Table = Table::BatchPages;
}

/// What makes a row of a batch's pages this page: `BatchPage` without the text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PageIdentity {
    pub doc_id: Option<String>,
    pub page_num: Option<i32>,
    /// As the producer wrote it; not checked against the text.
    pub text_sha256: Option<String>,
    #[serde(default)]
    pub run_id: Option<i64>,
}

impl PageIdentity {
    pub const COLUMNS: [&'static str; 4] = ["doc_id", "page_num", "text_sha256", "run_id"];
}

/// A suggested span, whose texts may be its writer's: a part has many. `start` and `end` count code points of the page text, end exclusive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuggestionRow<'a> {
    pub doc_id: Cow<'a, str>,
    pub page_num: i32,
    pub span_id: Cow<'a, str>,
    pub label: Cow<'a, str>,
    pub start: i32,
    pub end: i32,
    pub text: Cow<'a, str>,
    /// Of the span.
    pub text_sha256: Cow<'a, str>,
    /// 0 to 1; null where the model gives none that can be trusted.
    pub confidence: Option<f64>,
    pub model: Cow<'a, str>,
    /// The model digest.
    pub model_version: Cow<'a, str>,
    pub generated_at: DateTime<Utc>,
    /// How the mention was found on its page: `exact`, `normalized` or `fuzzy`.
    #[serde(rename = "match")]
    pub match_kind: Cow<'a, str>,
    /// 1 for an exact match.
    pub similarity: f64,
    pub page_sha256: Cow<'a, str>,
    pub prompt_sha256: Cow<'a, str>,
    /// The engine: `rules`, `ollama`.
    pub source: Cow<'a, str>,
    pub norm_value: Option<Cow<'a, str>>,
    pub run_id: Option<i64>,
}

impl SuggestionRow<'_> {
    pub fn into_owned(self) -> Suggestion {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        SuggestionRow {
            doc_id: owned(self.doc_id),
            span_id: owned(self.span_id),
            label: owned(self.label),
            text: owned(self.text),
            text_sha256: owned(self.text_sha256),
            model: owned(self.model),
            model_version: owned(self.model_version),
            match_kind: owned(self.match_kind),
            page_sha256: owned(self.page_sha256),
            prompt_sha256: owned(self.prompt_sha256),
            source: owned(self.source),
            norm_value: self.norm_value.map(owned),
            ..self
        }
    }
}

/// One that was read.
pub type Suggestion = SuggestionRow<'static>;

impl Row for SuggestionRow<'_> {
    const TABLE: Table = Table::Suggestions;

    /// Column by column: a part has tens of thousands of these, and an agent has nothing else to do at its end. Field by
    /// field it takes ten times as long.
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, RowError> {
        let texts = |of: fn(&Self) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
        };
        let numbers = |of: fn(&Self) -> i32| -> ArrayRef {
            Arc::new(Int32Array::from_iter_values(rows.iter().map(of)))
        };
        let times = rows.iter().map(|row| row.generated_at.timestamp_micros());
        let columns = vec![
            texts(|row| &row.doc_id),
            numbers(|row| row.page_num),
            texts(|row| &row.span_id),
            texts(|row| &row.label),
            numbers(|row| row.start),
            numbers(|row| row.end),
            texts(|row| &row.text),
            texts(|row| &row.text_sha256),
            Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.confidence))),
            texts(|row| &row.model),
            texts(|row| &row.model_version),
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
            texts(|row| &row.match_kind),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.similarity))),
            texts(|row| &row.page_sha256),
            texts(|row| &row.prompt_sha256),
            texts(|row| &row.source),
            Arc::new(StringArray::from_iter(rows.iter().map(|row| row.norm_value.as_deref()))),
            Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.run_id))),
        ];
        RecordBatch::try_new(Self::TABLE.schema(), columns)
            .map_err(|source| RowError::Arrow { table: Self::TABLE, source })
    }
}

/// How a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Suggested,
    Empty,
    Failed,
    Skipped,
}

impl Outcome {
    pub const ALL: [Self; 4] = [Self::Suggested, Self::Empty, Self::Failed, Self::Skipped];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suggested => "suggested",
            Self::Empty => "empty",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of a page: one row for each distinct key of the batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerRow {
    pub doc_id: String,
    pub page_num: i32,
    /// As the page came with it, right or wrong.
    pub page_sha256: Option<String>,
    pub outcome: Outcome,
    /// Null for `suggested`.
    pub reason: Option<String>,
    pub spans: i32,
    /// Mentions that were not found on the page, and dropped.
    pub ungrounded: i32,
    pub chunks: i32,
    /// Requests to the model server; 0 for the rules engine.
    pub attempts: i32,
    pub prompt_tokens: i64,
    pub output_tokens: i64,
    pub latency_ms: i64,
    pub run_id: Option<i64>,
}

impl Row for LedgerRow {
    const TABLE: Table = Table::Ledger;
}

/// A span without its text, as Argilla takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    pub start: i32,
    pub end: i32,
    pub label: String,
}

/// A merged page, ready for Argilla.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArgillaRecord {
    /// `<doc_id>:<page_num>`
    pub id: String,
    pub text: String,
    pub doc_id: String,
    pub page_num: i32,
    pub text_sha256: String,
    pub suggestions_entities: Vec<Entity>,
    /// As long as `suggestions_entities`, or null.
    pub suggestions_score: Option<Vec<f64>>,
    pub suggestions_agent: Option<String>,
    pub suggestions_type: Option<String>,
    /// What Argilla takes, less `question_id`.
    pub suggestions_json: Option<String>,
    pub outcome: Outcome,
    pub run_id: Option<i64>,
    pub source_uri: Option<String>,
}

impl Row for ArgillaRecord {
    const TABLE: Table = Table::ArgillaRecords;
}

/// One annotator's answer to one record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnnotatedPage {
    pub argilla_record_id: String,
    pub doc_id: String,
    pub page_num: i32,
    /// `submitted` or `discarded`.
    pub status: String,
    pub annotator_id: String,
    pub reviewer_id: Option<String>,
    pub record_sha256: String,
    pub record_json: String,
    pub run_id: Option<i64>,
    pub page_sha256: String,
}

impl Row for AnnotatedPage {
    const TABLE: Table = Table::AnnotatedPages;
}

/// A span of a submitted answer. Its text comes from the original page, by offset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnnotatedSpan {
    pub argilla_record_id: String,
    pub span_id: String,
    pub doc_id: String,
    pub page_num: i32,
    pub label: String,
    pub start: i32,
    pub end: i32,
    pub text: String,
    pub text_sha256: String,
    pub norm_value: Option<String>,
    pub annotator_id: String,
    pub run_id: Option<i64>,
    pub page_sha256: String,
}

impl Row for AnnotatedSpan {
    const TABLE: Table = Table::AnnotatedSpans;
}

/// A true span of a page, for `control eval --truth`. Without a place: OCR lost the value. Without a label as well:
/// the page was looked at, whether or not it has spans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruthSpan {
    pub doc_id: Option<String>,
    pub page_num: Option<i32>,
    pub label: Option<String>,
    pub start: Option<i32>,
    pub end: Option<i32>,
    /// The OCR run whose text is meant; null or absent: whichever.
    #[serde(default)]
    pub run_id: Option<i64>,
}

impl Row for TruthSpan {
    const TABLE: Table = Table::Truth;
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::LargeStringArray,
        datatypes::{DataType, Field, Schema},
    };

    use super::*;

    #[test]
    fn rows_come_back_as_they_went() {
        let generated_at = DateTime::from_timestamp_micros(1_700_000_000_123_456).expect("a time");
        // No two columns of one type hold the same.
        let row = Suggestion {
            doc_id: "a\u{0}𝔘".into(),
            page_num: 1,
            span_id: "s".into(),
            label: "IMO".into(),
            start: 0,
            end: 2,
            text: "x".into(),
            text_sha256: "y".into(),
            confidence: None,
            model: "m".into(),
            model_version: "d".into(),
            generated_at,
            match_kind: "exact".into(),
            similarity: 1.0,
            page_sha256: "p".into(),
            prompt_sha256: "q".into(),
            source: "rules".into(),
            norm_value: Some("9074729".into()),
            run_id: Some(3),
        };
        let other = Suggestion {
            confidence: Some(0.5),
            similarity: 0.9,
            norm_value: None,
            run_id: None,
            page_num: -1,
            ..row.clone()
        };
        let rows = [row, other];
        let batch = Suggestion::to_batch(&rows).expect("written");
        let field_by_field = serde_arrow::to_record_batch(Table::Suggestions.schema().fields(), &&rows[..]);
        assert_eq!(batch, field_by_field.expect("written"));
        assert_eq!(batch.schema(), Table::Suggestions.schema());
        assert_eq!(from_batch::<Suggestion>(&batch).expect("read"), rows);
        assert_eq!(Suggestion::to_batch(&[]).expect("written").num_rows(), 0);
    }

    #[test]
    fn records_hold_lists() {
        let row = ArgillaRecord {
            id: "d:1".into(),
            text: "t".into(),
            doc_id: "d".into(),
            page_num: 1,
            text_sha256: "h".into(),
            suggestions_entities: vec![Entity { start: 0, end: 1, label: "IMO".into() }],
            suggestions_score: None,
            suggestions_agent: Some("rules".into()),
            suggestions_type: Some("model".into()),
            suggestions_json: None,
            outcome: Outcome::Suggested,
            run_id: None,
            source_uri: None,
        };
        let batch = ArgillaRecord::to_batch(std::slice::from_ref(&row)).expect("written");
        assert_eq!(from_batch::<ArgillaRecord>(&batch).expect("read"), [row]);
    }

    #[test]
    fn a_foreign_file_may_have_wider_types_other_order_and_fewer_columns() {
        let schema = Schema::new(vec![
            Field::new("extra", DataType::Int64, true),
            Field::new("page_num", DataType::Int64, true),
            Field::new("text", DataType::LargeUtf8, true),
            Field::new("text_sha256", DataType::LargeUtf8, true),
            Field::new("doc_id", DataType::LargeUtf8, true),
        ]);
        let text = |s: Option<&str>| Arc::new(LargeStringArray::from(vec![s]));
        let batch = RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(Int64Array::from(vec![1])),
                Arc::new(Int64Array::from(vec![7])),
                text(None),
                text(Some("h")),
                text(Some("d")),
            ],
        )
        .expect("a batch");
        let pages = from_batch::<BatchPage>(&batch).expect("read");
        assert_eq!(pages[0].page_num, Some(7));
        assert_eq!(pages[0].text, None);
        assert_eq!(pages[0].run_id, None);
    }
}
