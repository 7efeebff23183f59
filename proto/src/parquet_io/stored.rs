//! A Parquet file in a store, read by ranges.
//!
//! Constraint: a store that fails, or cuts an answer, and a file that is broken are told apart: the one passes, the other
//! stays. What the store fails at comes as [`ParquetError::External`] with a `StoreError` in it.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use parquet::{
    arrow::{arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader},
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataReader},
};

use crate::{keys::Key, store::Store};

pub(super) struct StoredFile {
    pub store: Store,
    pub key: Key,
    pub bytes: u64,
}

impl StoredFile {
    async fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ParquetError> {
        // Such a place is one that the file itself names.
        if let Some(range) = ranges.iter().find(|range| range.end > self.bytes) {
            return Err(ParquetError::EOF(format!(
                "it names bytes to {}, and has {}",
                range.end, self.bytes
            )));
        }
        let read = self.store.ranges(&self.key, ranges).await;
        read.map_err(|error| ParquetError::External(Box::new(error)))
    }
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { Ok(self.ranges(&[range]).await?.concat().into()) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.ranges(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let options = options.map(|options| options.metadata_options().clone());
        let reader = ParquetMetaDataReader::new().with_metadata_options(options);
        let bytes = self.bytes;
        async move { Ok(Arc::new(reader.load_and_finish(self, bytes).await?)) }.boxed()
    }
}
