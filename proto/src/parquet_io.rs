//! Reading and writing the contract's tables as Parquet objects, a bounded batch at a time.

mod stored;

use std::marker::PhantomData;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use parquet::{
    arrow::{
        ArrowWriter, ProjectionMask,
        arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves},
        async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder},
    },
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};
use rayon::prelude::*;
use serde::de::DeserializeOwned;

use crate::{
    keys::Key,
    rows::{Row, RowError, convert, from_batch},
    schema::Table,
    store::{Object, Store, StoreError},
};
use stored::StoredFile;

/// Columns in which hardly two rows are alike.
const UNIQUE_COLUMNS: [&str; 2] = ["span_id", "text_sha256"];

/// Rows of a row group: few enough that pages of text fit in memory.
const ROW_GROUP_ROWS: usize = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum ParquetIoError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{uri} is empty (0 bytes), so it is no Parquet file: write it again")]
    Empty { uri: String },
    #[error("{uri} is not a readable Parquet file ({source}): it may be cut short; write it again")]
    Broken { uri: String, source: ParquetError },
    #[error("{uri}: {source}")]
    Rows { uri: String, source: RowError },
}

impl ParquetIoError {
    /// What the store failed at is no fault of the file.
    fn reading(uri: &str, source: ParquetError) -> Self {
        let uri = uri.to_owned();
        match source {
            ParquetError::External(source) => match source.downcast::<StoreError>() {
                Ok(error) => Self::Store(*error),
                Err(source) => Self::Broken { uri, source: ParquetError::External(source) },
            },
            source => Self::Broken { uri, source },
        }
    }
}

/// A table's file, opened: its footer is read and its columns are checked.
pub struct TableFile {
    stream: ParquetRecordBatchStreamBuilder<StoredFile>,
    table: Table,
    uri: String,
}

impl TableFile {
    /// Opens an object that a listing or `head` told of.
    pub async fn open(store: &Store, object: &Object, table: Table) -> Result<Self, ParquetIoError> {
        Self::open_sized(store, &object.key, object.bytes, table).await
    }

    /// Opens an object whose length is known.
    pub async fn open_sized(
        store: &Store,
        key: &Key,
        bytes: u64,
        table: Table,
    ) -> Result<Self, ParquetIoError> {
        let uri = store.uri_of(key);
        if bytes == 0 {
            return Err(ParquetIoError::Empty { uri });
        }
        let file = StoredFile { store: store.clone(), key: key.clone(), bytes };
        let stream = match ParquetRecordBatchStreamBuilder::new(file).await {
            Ok(stream) => stream,
            Err(source) => return Err(ParquetIoError::reading(&uri, source)),
        };
        match table.validate(stream.schema()) {
            Ok(()) => Ok(Self { stream, table, uri }),
            Err(source) => Err(ParquetIoError::Rows { uri, source: source.into() }),
        }
    }

    /// As the footer says.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.stream.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// The rows, at most `batch_rows` at a time.
    pub fn read<R: Row>(
        self,
        batch_rows: usize,
    ) -> Result<impl Stream<Item = Result<Vec<R>, ParquetIoError>> + Unpin + Send, ParquetIoError> {
        self.batches(batch_rows, from_batch)
    }

    /// Of every row these columns alone: the others are not fetched.
    pub fn read_columns<T: DeserializeOwned>(
        mut self,
        columns: &[&str],
        batch_rows: usize,
    ) -> Result<impl Stream<Item = Result<Vec<T>, ParquetIoError>> + Unpin + Send, ParquetIoError> {
        let mask = ProjectionMask::columns(self.stream.parquet_schema(), columns.iter().copied());
        self.stream = self.stream.with_projection(mask);
        let table = self.table;
        self.batches(batch_rows, move |batch| convert(table, batch))
    }

    fn batches<T>(
        self,
        batch_rows: usize,
        rows: impl Fn(&RecordBatch) -> Result<Vec<T>, RowError> + Unpin + Send,
    ) -> Result<impl Stream<Item = Result<Vec<T>, ParquetIoError>> + Unpin + Send, ParquetIoError> {
        let uri = self.uri;
        let stream: ParquetRecordBatchStream<_> = match self.stream.with_batch_size(batch_rows).build() {
            Ok(stream) => stream,
            Err(source) => return Err(ParquetIoError::reading(&uri, source)),
        };
        Ok(stream.map(move |batch| {
            let batch = batch.map_err(|source| ParquetIoError::reading(&uri, source))?;
            rows(&batch).map_err(|source| ParquetIoError::Rows { uri: uri.clone(), source })
        }))
    }
}

/// All rows of an object: for files that are bounded, such as one part.
pub async fn read_all<R: Row>(store: &Store, key: &Key) -> Result<Vec<R>, ParquetIoError> {
    let object = store.head(key).await?;
    let file = TableFile::open(store, &object, R::TABLE).await?;
    file.read(ROW_GROUP_ROWS)?.try_concat().await
}

/// Builds one table's file in memory: zstd, columns as in the contract.
pub struct RowWriter<R> {
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
    row: PhantomData<R>,
}

#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error(transparent)]
    Row(#[from] RowError),
    #[error("the Parquet file cannot be encoded: {0}")]
    Parquet(#[from] ParquetError),
}

impl<R: Row> RowWriter<R> {
    pub fn new() -> Result<Self, EncodeError> {
        Ok(Self { writer: writer(R::TABLE)?, rows: 0, row: PhantomData })
    }

    pub fn push(&mut self, rows: &[R]) -> Result<(), EncodeError> {
        if !rows.is_empty() {
            self.writer.write(&R::to_batch(rows)?)?;
            self.rows += rows.len() as u64;
        }
        Ok(())
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// A file without rows has its schema all the same.
    pub fn finish(self) -> Result<Bytes, EncodeError> {
        Ok(self.writer.into_inner()?.into())
    }
}

fn writer(table: Table) -> Result<ArrowWriter<Vec<u8>>, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_created_by(concat!("preannotate ", env!("CARGO_PKG_VERSION")).to_owned());
    // A dictionary would be as large as the column.
    let properties = UNIQUE_COLUMNS
        .into_iter()
        .fold(properties, |properties, name| properties.set_column_dictionary_enabled(name.into(), false));
    ArrowWriter::try_new(Vec::new(), table.schema(), Some(properties.build()))
}

/// Rows as one file; its columns are encoded on rayon.
pub fn encode<R: Row>(rows: &[R]) -> Result<Bytes, EncodeError> {
    let (mut file, factory) = writer(R::TABLE)?.into_serialized_writer()?;
    let groups: Vec<_> = (0..)
        .zip(rows.chunks(ROW_GROUP_ROWS))
        .map(|(index, rows)| Ok((rows, factory.create_column_writers(index)?)))
        .collect::<Result<_, ParquetError>>()?;
    let groups: Vec<_> = groups
        .into_par_iter()
        .map(|(rows, columns)| Ok(encode_group(&R::to_batch(rows)?, columns)?))
        .collect::<Result<_, EncodeError>>()?;
    for chunks in groups {
        let mut group = file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
    }
    Ok(file.into_inner()?.into())
}

fn encode_group(
    batch: &RecordBatch,
    columns: Vec<ArrowColumnWriter>,
) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
    let schema = batch.schema();
    let leaves =
        schema.fields().iter().zip(batch.columns()).map(|(field, array)| compute_leaves(field, array));
    let leaves: Vec<_> = leaves.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    let written = columns.into_par_iter().zip(leaves).map(|(mut column, leaf)| {
        column.write(&leaf)?;
        column.close()
    });
    written.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rows::{LedgerRow, Outcome},
        store::Env,
    };

    fn row(page_num: i32) -> LedgerRow {
        LedgerRow {
            doc_id: "d".into(),
            page_num,
            page_sha256: None,
            outcome: Outcome::Empty,
            reason: Some("no_mentions".into()),
            spans: 0,
            ungrounded: 0,
            chunks: 1,
            attempts: 0,
            prompt_tokens: 0,
            output_tokens: 0,
            latency_ms: 1,
            run_id: Some(1),
        }
    }

    async fn stored(bytes: Bytes) -> (tempfile::TempDir, Store, Key) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path().to_str().expect("UTF-8"), &Env::new()).expect("a store");
        let key = Key::from_listing("x/ledger.parquet");
        store.put(&key, bytes).await.expect("put");
        (folder, store, key)
    }

    #[tokio::test]
    async fn rows_come_back_in_bounded_batches() {
        let rows: Vec<_> = (1..=25).map(row).collect();
        let (_folder, store, key) = stored(encode(&rows).expect("encoded")).await;
        let object = store.head(&key).await.expect("there");
        let file = TableFile::open(&store, &object, Table::Ledger).await.expect("a ledger");
        assert_eq!(file.rows(), 25);
        let batches: Vec<Vec<LedgerRow>> =
            file.read(10).expect("readable").try_collect().await.expect("read");
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
        assert_eq!(batches.concat(), rows);
        assert_eq!(read_all::<LedgerRow>(&store, &key).await.expect("read"), rows);
    }

    #[tokio::test]
    async fn empty_cut_and_foreign_files_are_named() {
        let whole = encode(&[row(1)]).expect("encoded");
        for (bytes, says) in [
            (Bytes::new(), "is empty (0 bytes)"),
            (whole.slice(..whole.len() / 2), "is not a readable Parquet file"),
            (Bytes::from_static(b"no parquet at all"), "is not a readable Parquet file"),
        ] {
            let (_folder, store, key) = stored(bytes).await;
            let error = read_all::<LedgerRow>(&store, &key).await.expect_err("broken");
            assert!(error.to_string().contains(says), "{error}");
            assert!(error.to_string().contains("x/ledger.parquet"), "{error}");
        }
    }
}
