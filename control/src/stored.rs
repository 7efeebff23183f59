//! Reading the JSON documents of a batch.

use proto::{keys::Key, store::Store};
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// A JSON document of the store; None when there is no such object.
pub async fn document<T: DeserializeOwned>(store: &Store, key: &Key) -> Result<Option<T>, Failure> {
    let Some(bytes) = store.get_opt(key).await? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Failure::data(format!("{} cannot be read: {error}", store.uri_of(key))))
}
