//! Which calibration a batch's confidences get: the newest that `control eval --fit` stored for its labelset, prompt,
//! model digest and engine when the batch first ran, and that one to its end.
//!
//! Invariant: the first run writes its choice, or that there is none, beside the batch (`_calibration.json`,
//! create-only), so that a restart, another shard and a part done again give the same confidences whatever is fitted
//! meanwhile. It is no part of the fingerprint, for it changes no span.

use proto::{
    docs::{self, Calibration, CalibrationPin, Provenance},
    keys::{self, BatchKeys, Key},
    store::{Created, Store},
};
use serde::de::DeserializeOwned;

use super::BatchError;
use crate::engine::Engine;

/// None: confidences stay raw.
pub(super) async fn find(
    store: &Store,
    keys: &BatchKeys,
    provenance: &Provenance,
) -> Result<Option<Calibration>, BatchError> {
    if !has_confidences(provenance) {
        return Ok(None);
    }
    if let Some(pin) = read::<CalibrationPin>(store, &keys.calibration()).await? {
        return Ok(pin.calibration);
    }
    let Provenance { labelset_sha256, prompt_sha256, model_digest, engine, .. } = provenance;
    let key = keys::calibration(labelset_sha256, prompt_sha256, model_digest);
    let Some(newest) = read::<Calibration>(store, &key).await? else { return Ok(None) };
    if newest.provenance.engine != *engine {
        // Agreement with the rules raises what the hybrid gives: the two are not on one scale.
        let (uri, fitted) = (store.uri_of(&key), &newest.provenance.engine);
        tracing::warn!(uri, fitted, engine, "the calibration is of another engine: confidences stay raw");
        return Ok(None);
    }
    Ok(Some(newest))
}

/// Before the first part is begun.
pub(super) async fn pin(
    store: &Store,
    keys: &BatchKeys,
    provenance: &Provenance,
    chosen: Option<&Calibration>,
) -> Result<(), BatchError> {
    if !has_confidences(provenance) {
        return Ok(());
    }
    let key = keys.calibration();
    let pin = CalibrationPin { version: docs::VERSION, calibration: chosen.cloned() };
    let json = serde_json::to_vec_pretty(&pin).map_err(|error| BatchError::Internal(error.to_string()))?;
    if store.put_create(&key, json).await? == Created::New {
        return Ok(());
    }
    match read::<CalibrationPin>(store, &key).await? {
        Some(standing) if standing.calibration == pin.calibration => Ok(()),
        _ => Err(BatchError::Differs(format!(
            "{} names another calibration than this run found: one was fitted at this moment; run the batch again",
            store.uri_of(&key)
        ))),
    }
}

fn has_confidences(provenance: &Provenance) -> bool {
    provenance.engine.parse().is_ok_and(Engine::has_model)
}

async fn read<T: DeserializeOwned>(store: &Store, key: &Key) -> Result<Option<T>, BatchError> {
    let Some(bytes) = store.get_opt(key).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let uri = store.uri_of(key);
        BatchError::BadData(format!(
            "{uri} is no calibration ({error}): fit it again with `control eval --fit`, or delete it"
        ))
    })
}
