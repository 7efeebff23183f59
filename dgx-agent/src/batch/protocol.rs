//! How a part and a batch become done, over a store alone. `model` tries every order of its steps.
//!
//! ```text
//! create suggestions ─► create ledger ─► create commit record ──────────────► list ─► create manifest
//!        └── another's lies there ──► stage ours ─► create record ─► publish ─┘
//! ```
//!
//! Constraints: the record is create-only, and the first one stands. Under their own names files are only ever created,
//! or replaced by what the standing record says: so whoever comes late (a zombie, a second agent) destroys nothing that is
//! committed, and a part whose files were once right stays right. Files that lost their place wait under `staged/`, by
//! their hash; one is removed there when it is not what the record says, or lies where it belongs. A store may say of our
//! own retried write that something lies there already: what counts is whether it is ours.

use bytes::Bytes;
use proto::{
    docs::{CommitRecord, CommitTags, FileRef, Manifest},
    hash::sha256_hex,
    ids::BatchId,
    keys::{BatchKeys, Key, PartKind},
    store::Store,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    BatchError,
    failpoint::{Point, reach},
    files,
    standing::Standing,
    survey::{Survey, Vouched},
};

/// One batch in one store.
#[derive(Clone, Copy)]
pub(super) struct Protocol<'a> {
    pub store: &'a Store,
    pub keys: &'a BatchKeys,
    pub batch: &'a BatchId,
    pub fingerprint: &'a str,
}

/// What one agent would commit.
pub(super) struct Attempt {
    pub record: CommitRecord,
    pub suggestions: Bytes,
    pub ledger: Bytes,
}

/// How a part stands that has a record.
#[derive(Debug)]
pub(super) enum Settled {
    /// Its files are what the record says.
    Whole(CommitRecord),
    /// They are not, and nowhere in the store is what is.
    Lost(CommitRecord),
}

impl Attempt {
    fn files(&self) -> [(&FileRef, &Bytes, Point); 2] {
        [
            (&self.record.suggestions, &self.suggestions, Point::Suggestions),
            (&self.record.ledger, &self.ledger, Point::Ledger),
        ]
    }

    fn bytes_of(&self, sha256: &str) -> Option<Bytes> {
        self.files().into_iter().find(|(file, ..)| file.sha256 == sha256).map(|(_, bytes, _)| bytes.clone())
    }
}

impl Protocol<'_> {
    /// The record of a part.
    pub async fn record(&self, part: u32) -> Result<Option<CommitRecord>, BatchError> {
        let key = self.keys.part(PartKind::Commits, part);
        let Some(record) = self.read::<CommitRecord>(&key).await? else { return Ok(None) };
        if record.batch_id != *self.batch || record.fingerprint != self.fingerprint {
            return Err(self.another(&key, &record.fingerprint));
        }
        let files = [(PartKind::Suggestions, &record.suggestions), (PartKind::Ledger, &record.ledger)];
        let are_its_own = |(kind, file): (_, &FileRef)| file.key == self.keys.part(kind, part).as_str();
        if record.part != part || !files.into_iter().all(are_its_own) {
            return Err(BatchError::Differs(format!(
                "{} is a record of another part, or names another one's files: delete it, and run the batch again",
                self.store.uri_of(&key)
            )));
        }
        Ok(Some(record))
    }

    /// Commits an attempt, or finds what is committed already.
    pub async fn commit(&self, attempt: &Attempt) -> Result<Settled, BatchError> {
        let mut record = attempt.record.clone();
        let part = record.part;
        let laid = self.lay(attempt).await?;
        match &laid {
            Some(tags) => record.etags = tags.clone(),
            None => self.stage(attempt).await?,
        }
        let key = self.keys.part(PartKind::Commits, part);
        let made = self.store.create(&key, document(&record)?).await?.is_some();
        reach(Point::Commit, part).await;
        if made && laid.is_some() {
            return Ok(Settled::Whole(record));
        }
        let standing = match made {
            true => record,
            false => self.record(part).await?.ok_or_else(|| self.gone(&key))?,
        };
        let settled = self.settle(standing, Some(attempt)).await?;
        if laid.is_none() {
            self.unstage(&settled, attempt).await?;
        }
        Ok(settled)
    }

    /// Creates the files; None when another's lies in the place of one.
    async fn lay(&self, attempt: &Attempt) -> Result<Option<CommitTags>, BatchError> {
        let mut tags = Vec::with_capacity(2);
        for (file, bytes, point) in attempt.files() {
            let key = Key::from_listing(&file.key);
            let etag = match self.store.create(&key, bytes.clone()).await? {
                Some(version) => version.etag().map(str::to_owned),
                // Ours if we wrote it before and did not hear of it.
                None if files::has_hash(self.store, file).await? => None,
                None => return Ok(None),
            };
            tags.push(etag);
            reach(point, attempt.record.part).await;
        }
        let [suggestions, ledger] = <[_; 2]>::try_from(tags).unwrap_or_default();
        Ok(Some(CommitTags { suggestions, ledger }))
    }

    async fn stage(&self, attempt: &Attempt) -> Result<(), BatchError> {
        for (file, bytes, _) in attempt.files() {
            self.store.put(&self.keys.staged(attempt.record.part, &file.sha256), bytes.clone()).await?;
        }
        Ok(())
    }

    /// Makes the files what the standing record says: of the attempt, or of what was staged.
    pub async fn settle(
        &self,
        record: CommitRecord,
        attempt: Option<&Attempt>,
    ) -> Result<Settled, BatchError> {
        Ok(if self.heal(&record, attempt).await? { Settled::Whole(record) } else { Settled::Lost(record) })
    }

    async fn heal(&self, record: &CommitRecord, attempt: Option<&Attempt>) -> Result<bool, BatchError> {
        for file in [&record.suggestions, &record.ledger] {
            if files::has_hash(self.store, file).await? {
                continue;
            }
            let ours = attempt.and_then(|attempt| attempt.bytes_of(&file.sha256));
            let right = match ours {
                Some(bytes) => Some(bytes),
                None => self.staged(record.part, file).await?,
            };
            match right {
                Some(bytes) => self.store.put(&Key::from_listing(&file.key), bytes).await?,
                // Another may have published it since, and tidied up.
                None if files::has_hash(self.store, file).await? => {}
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn staged(&self, part: u32, file: &FileRef) -> Result<Option<Bytes>, BatchError> {
        let bytes = self.store.get_opt(&self.keys.staged(part, &file.sha256)).await?;
        Ok(bytes.filter(|bytes| sha256_hex(bytes) == file.sha256))
    }

    /// Ours are in their places, or will not be needed.
    async fn unstage(&self, settled: &Settled, attempt: &Attempt) -> Result<(), BatchError> {
        let Settled::Whole(record) = settled else { return Ok(()) };
        for (file, ..) in attempt.files() {
            self.store.delete(&self.keys.staged(record.part, &file.sha256)).await?;
        }
        Ok(())
    }

    /// A part whose files are what its record says: by the listing, else by their hashes. None: it must be done again.
    /// `kept`: what is known of its record.
    pub async fn verified(
        &self,
        part: u32,
        kept: Option<Standing>,
        survey: &Survey,
    ) -> Result<Option<Standing>, BatchError> {
        if let Some(kept) = kept.filter(|kept| survey.vouches(part, kept) == Vouched::Right) {
            return Ok(Some(kept));
        }
        let Some(record) = self.record(part).await? else { return Ok(None) };
        let Some(standing) = Standing::of(&record) else { return Ok(None) };
        let right = survey.vouches(part, &standing) == Vouched::Right || self.heal(&record, None).await?;
        Ok(right.then_some(standing))
    }

    /// Writes the manifest over the records of all parts, whose files are right; the one that stands.
    pub async fn complete(&self, manifest: Manifest) -> Result<Manifest, BatchError> {
        let key = self.keys.manifest();
        let standing = match self.store.create(&key, document(&manifest)?).await? {
            Some(_) => manifest,
            None => self.manifest().await?.ok_or_else(|| self.gone(&key))?,
        };
        Ok(standing)
    }

    pub async fn manifest(&self) -> Result<Option<Manifest>, BatchError> {
        let key = self.keys.manifest();
        let Some(manifest) = self.read::<Manifest>(&key).await? else { return Ok(None) };
        if manifest.fingerprint != self.fingerprint {
            return Err(self.another(&key, &manifest.fingerprint));
        }
        Ok(Some(manifest))
    }

    /// Removes what agents that died left staged: once the manifest stands, nobody needs it.
    pub async fn sweep(&self) -> Result<(), BatchError> {
        for object in self.store.list_sorted(&self.keys.staged_folder()).await? {
            self.store.delete(&object.key).await?;
        }
        Ok(())
    }

    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, BatchError> {
        let Some(bytes) = self.store.get_opt(key).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let uri = self.store.uri_of(key);
            BatchError::Differs(format!("{uri} cannot be read ({error}): delete it, and run the batch again"))
        })
    }

    fn another(&self, key: &Key, found: &str) -> BatchError {
        BatchError::Differs(format!(
            "{} is of other pages, another labelset, engine, model or option than this run of batch {} (fingerprint \
             {found}, now {}): run it as it was begun, or make a new batch with this one as its parent",
            self.store.uri_of(key),
            self.batch,
            self.fingerprint
        ))
    }

    fn gone(&self, key: &Key) -> BatchError {
        let uri = self.store.uri_of(key);
        BatchError::StoreUnreachable(format!(
            "{uri} was there and is not: something else deletes below the root"
        ))
    }
}

fn document(document: &impl Serialize) -> Result<Vec<u8>, BatchError> {
    serde_json::to_vec_pretty(document).map_err(|error| BatchError::Internal(error.to_string()))
}
