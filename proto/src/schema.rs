//! The Parquet tables of the pipeline: their columns in order, and validation that names the wrong one.
//!
//! Column order is part of the contract for writers. Readers find columns by name, accept any width of a kind,
//! and ignore columns they do not know.

use std::{fmt, sync::Arc};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

/// A table of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    RawDocuments,
    RawPages,
    BatchPages,
    Suggestions,
    Ledger,
    ArgillaRecords,
    AnnotatedPages,
    AnnotatedSpans,
    Truth,
}

/// What a column holds, whatever its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8
    Text,
    /// stored as INT32
    Int,
    /// stored as INT64
    BigInt,
    /// stored as DOUBLE
    Double,
    /// stored as microseconds, UTC
    Timestamp,
    /// `LIST<STRUCT(start INT, end INT, label TEXT)>`
    Spans,
    /// `LIST<DOUBLE>`
    Doubles,
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// A reader cannot do without it.
    pub required: bool,
}

const fn col(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, required: true }
}

const fn optional(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, required: false }
}

const RAW_DOCUMENTS: &[Column] = &[
    col("doc_id", Kind::Text),
    col("run_id", Kind::BigInt),
    col("ingest_ts", Kind::Timestamp),
    col("filename", Kind::Text),
    col("r2_key", Kind::Text),
    col("content_type", Kind::Text),
    col("size_bytes", Kind::BigInt),
    col("doc_sha256", Kind::Text),
    col("uploader", Kind::Text),
    col("source_meta_json", Kind::Text),
    col("hf_space_commit", Kind::Text),
    col("ocr_model", Kind::Text),
    col("ocr_image_digest", Kind::Text),
    col("ocr_params_json", Kind::Text),
];

const RAW_PAGES: &[Column] = &[
    col("doc_id", Kind::Text),
    col("run_id", Kind::BigInt),
    col("page_num", Kind::Int),
    col("page_width", Kind::Int),
    col("page_height", Kind::Int),
    col("text", Kind::Text),
    col("text_sha256", Kind::Text),
    col("page_image_sha256", Kind::Text),
    col("ocr_confidence", Kind::Double),
    col("blocks_json", Kind::Text),
    col("lines_json", Kind::Text),
    col("tables_json", Kind::Text),
    col("figures_json", Kind::Text),
    col("ocr_runtime_ms", Kind::BigInt),
    col("created_at", Kind::Timestamp),
];

const BATCH_PAGES: &[Column] = &[
    col("doc_id", Kind::Text),
    col("page_num", Kind::Int),
    col("text", Kind::Text),
    col("text_sha256", Kind::Text),
    optional("run_id", Kind::BigInt),
    optional("ocr_confidence", Kind::Double),
    optional("source_uri", Kind::Text),
];

const SUGGESTIONS: &[Column] = &[
    col("doc_id", Kind::Text),
    col("page_num", Kind::Int),
    col("span_id", Kind::Text),
    col("label", Kind::Text),
    col("start", Kind::Int),
    col("end", Kind::Int),
    col("text", Kind::Text),
    col("text_sha256", Kind::Text),
    col("confidence", Kind::Double),
    col("model", Kind::Text),
    col("model_version", Kind::Text),
    col("generated_at", Kind::Timestamp),
    col("match", Kind::Text),
    col("similarity", Kind::Double),
    col("page_sha256", Kind::Text),
    col("prompt_sha256", Kind::Text),
    col("source", Kind::Text),
    col("norm_value", Kind::Text),
    col("run_id", Kind::BigInt),
];

const LEDGER: &[Column] = &[
    col("doc_id", Kind::Text),
    col("page_num", Kind::Int),
    col("page_sha256", Kind::Text),
    col("outcome", Kind::Text),
    col("reason", Kind::Text),
    col("spans", Kind::Int),
    col("ungrounded", Kind::Int),
    col("chunks", Kind::Int),
    col("attempts", Kind::Int),
    col("prompt_tokens", Kind::BigInt),
    col("output_tokens", Kind::BigInt),
    col("latency_ms", Kind::BigInt),
    col("run_id", Kind::BigInt),
];

const ARGILLA_RECORDS: &[Column] = &[
    col("id", Kind::Text),
    col("text", Kind::Text),
    col("doc_id", Kind::Text),
    col("page_num", Kind::Int),
    col("text_sha256", Kind::Text),
    col("suggestions_entities", Kind::Spans),
    col("suggestions_score", Kind::Doubles),
    col("suggestions_agent", Kind::Text),
    col("suggestions_type", Kind::Text),
    col("suggestions_json", Kind::Text),
    col("outcome", Kind::Text),
    col("run_id", Kind::BigInt),
    col("source_uri", Kind::Text),
];

const ANNOTATED_PAGES: &[Column] = &[
    col("argilla_record_id", Kind::Text),
    col("doc_id", Kind::Text),
    col("page_num", Kind::Int),
    col("status", Kind::Text),
    col("annotator_id", Kind::Text),
    col("reviewer_id", Kind::Text),
    col("record_sha256", Kind::Text),
    col("record_json", Kind::Text),
    col("run_id", Kind::BigInt),
    col("page_sha256", Kind::Text),
];

const ANNOTATED_SPANS: &[Column] = &[
    col("argilla_record_id", Kind::Text),
    col("span_id", Kind::Text),
    col("doc_id", Kind::Text),
    col("page_num", Kind::Int),
    col("label", Kind::Text),
    col("start", Kind::Int),
    col("end", Kind::Int),
    col("text", Kind::Text),
    col("text_sha256", Kind::Text),
    col("norm_value", Kind::Text),
    col("annotator_id", Kind::Text),
    col("run_id", Kind::BigInt),
    col("page_sha256", Kind::Text),
];

const TRUTH: &[Column] = &[
    col("doc_id", Kind::Text),
    col("page_num", Kind::Int),
    col("label", Kind::Text),
    col("start", Kind::Int),
    col("end", Kind::Int),
    optional("run_id", Kind::BigInt),
];

/// Why a file is not of its table. The caller adds which file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SchemaError {
    #[error("{table} needs the column {column:?} ({kind}), which is missing; columns found: {found}")]
    Missing { table: Table, column: &'static str, kind: Kind, found: String },
    #[error("{table} needs {column:?} to be {kind}, and it is {found}")]
    WrongType { table: Table, column: &'static str, kind: Kind, found: String },
    #[error("{table} has two columns named {column:?}")]
    Twice { table: Table, column: &'static str },
}

impl Table {
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::RawDocuments => RAW_DOCUMENTS,
            Self::RawPages => RAW_PAGES,
            Self::BatchPages => BATCH_PAGES,
            Self::Suggestions => SUGGESTIONS,
            Self::Ledger => LEDGER,
            Self::ArgillaRecords => ARGILLA_RECORDS,
            Self::AnnotatedPages => ANNOTATED_PAGES,
            Self::AnnotatedSpans => ANNOTATED_SPANS,
            Self::Truth => TRUTH,
        }
    }

    /// The schema that writers use. Every column is nullable: a null is told by row, not refused by file.
    pub fn schema(self) -> SchemaRef {
        Arc::new(Schema::new(
            self.columns()
                .iter()
                .map(|column| Field::new(column.name, column.kind.data_type(), true))
                .collect::<Vec<_>>(),
        ))
    }

    /// Checks that a file's columns can be read as this table.
    pub fn validate(self, found: &Schema) -> Result<(), SchemaError> {
        for column in self.columns() {
            let mut named = found.fields().iter().filter(|field| field.name() == column.name);
            match (named.next(), named.next()) {
                (Some(_), Some(_)) => return Err(SchemaError::Twice { table: self, column: column.name }),
                (Some(field), None) if column.kind.accepts(field.data_type()) => {}
                (Some(field), None) => {
                    return Err(SchemaError::WrongType {
                        table: self,
                        column: column.name,
                        kind: column.kind,
                        found: field.data_type().to_string(),
                    });
                }
                (None, _) if column.required => {
                    return Err(SchemaError::Missing {
                        table: self,
                        column: column.name,
                        kind: column.kind,
                        found: names(found),
                    });
                }
                (None, _) => {}
            }
        }
        Ok(())
    }
}

fn names(schema: &Schema) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

impl Kind {
    pub fn data_type(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Int => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Spans => {
                DataType::List(Arc::new(Field::new("item", DataType::Struct(span_fields()), true)))
            }
            Self::Doubles => DataType::List(Arc::new(Field::new("item", DataType::Float64, true))),
        }
    }

    /// Whether a foreign writer's type can be read as this kind.
    fn accepts(self, found: &DataType) -> bool {
        match (self, found) {
            (_, DataType::Null) => true,
            (kind, DataType::Dictionary(_, values)) => kind.accepts(values),
            (Self::Text, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => true,
            (Self::Int | Self::BigInt, found) => found.is_integer(),
            (Self::Double, found) => found.is_numeric(),
            (Self::Timestamp, DataType::Timestamp(_, _)) => true,
            (Self::Spans, DataType::List(item) | DataType::LargeList(item)) => match item.data_type() {
                DataType::Struct(fields) => {
                    ["start", "end", "label"].iter().all(|name| fields.find(name).is_some())
                }
                _ => false,
            },
            (Self::Doubles, DataType::List(item) | DataType::LargeList(item)) => {
                item.data_type().is_numeric() || item.data_type().is_null()
            }
            _ => false,
        }
    }
}

fn span_fields() -> Fields {
    Fields::from(vec![
        Field::new("start", DataType::Int32, true),
        Field::new("end", DataType::Int32, true),
        Field::new("label", DataType::Utf8, true),
    ])
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RawDocuments => "raw_documents",
            Self::RawPages => "raw_pages",
            Self::BatchPages => "batch pages",
            Self::Suggestions => "suggestions",
            Self::Ledger => "ledger",
            Self::ArgillaRecords => "argilla_records",
            Self::AnnotatedPages => "annotated pages",
            Self::AnnotatedSpans => "annotated spans",
            Self::Truth => "truth",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Int | Self::BigInt => "an integer",
            Self::Double => "a number",
            Self::Timestamp => "a timestamp",
            Self::Spans => "a list of (start, end, label)",
            Self::Doubles => "a list of numbers",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(table: Table, name: &str) -> Vec<Arc<Field>> {
        table.schema().fields().iter().filter(|field| field.name() != name).cloned().collect()
    }

    #[test]
    fn the_written_schema_is_valid_and_extra_columns_are_ignored() {
        let mut fields: Vec<_> = Table::Ledger.schema().fields().to_vec();
        fields.push(Arc::new(Field::new("more", DataType::Boolean, true)));
        assert_eq!(Table::Ledger.validate(&Schema::new(fields)), Ok(()));
    }

    #[test]
    fn a_missing_column_is_named() {
        let error =
            Table::RawPages.validate(&Schema::new(without(Table::RawPages, "text"))).expect_err("missing");
        assert!(
            error.to_string().contains(r#"raw_pages needs the column "text" (text), which is missing"#),
            "{error}"
        );
    }

    #[test]
    fn a_retyped_column_is_named_with_both_types() {
        let mut fields = without(Table::RawPages, "page_num");
        fields.push(Arc::new(Field::new("page_num", DataType::Utf8, true)));
        let error = Table::RawPages.validate(&Schema::new(fields)).expect_err("retyped");
        assert_eq!(error.to_string(), r#"raw_pages needs "page_num" to be an integer, and it is Utf8"#);
    }

    #[test]
    fn widths_do_not_matter_and_the_agent_needs_four_columns() {
        let fields = vec![
            Field::new("text_sha256", DataType::LargeUtf8, false),
            Field::new("text", DataType::Utf8View, false),
            Field::new("page_num", DataType::Int64, false),
            Field::new(
                "doc_id",
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
                false,
            ),
        ];
        assert_eq!(Table::BatchPages.validate(&Schema::new(fields)), Ok(()));
    }
}
