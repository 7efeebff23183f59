//! Hashes of objects, taken as they stream by.

use bytes::Bytes;
use futures::TryStreamExt;
use proto::{docs::FileRef, hash::sha256_hex, keys::Key, store::Store};
use sha2::{Digest, Sha256};

use super::BatchError;

/// With the length of what was hashed: a store may tell another one.
pub(super) async fn sha256(store: &Store, key: &Key) -> Result<(String, u64), BatchError> {
    let mut bytes = store.stream(key).await?;
    let mut hasher = Sha256::new();
    let mut length = 0;
    while let Some(chunk) = bytes.try_next().await? {
        length += chunk.len() as u64;
        hasher.update(&chunk);
    }
    Ok((hex::encode(hasher.finalize()), length))
}

/// A file that is about to be written.
pub(super) fn describe(key: &Key, rows: usize, bytes: &Bytes) -> FileRef {
    FileRef {
        key: key.as_str().to_owned(),
        rows: rows as u64,
        bytes: bytes.len() as u64,
        sha256: sha256_hex(bytes),
    }
}

/// Whether the object is there with the content that `file` says.
pub(super) async fn has_hash(store: &Store, file: &FileRef) -> Result<bool, BatchError> {
    match sha256(store, &Key::from_listing(&file.key)).await {
        Ok((found, _)) => Ok(found == file.sha256),
        Err(BatchError::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
