//! What the agent made of a batch, as far as it is committed: the manifest's parts, or those of the commits.

use std::collections::BTreeMap;

use futures::{Stream, TryStreamExt};
use proto::{
    docs::{BatchSpec, CommitRecord, Counts, Manifest, Provenance},
    ids::BatchId,
    keys::Key,
    labelset::Labelset,
    parquet_io::{ParquetIoError, TableFile},
    rows::Row,
    store::Store,
};

use super::retries::Retries;
use crate::{ctx::Ctx, failure::Failure};

/// Rows of suggestions or ledger in memory at a time.
const READ_ROWS: usize = 1024;

#[derive(Debug)]
pub struct Annotated {
    /// By the key of the part's pages.
    pub parts: BTreeMap<String, PartFiles>,
    /// Of batches that tried again what failed in this one, the newest first: where one has a page, it counts there.
    pub retried: Vec<PartFiles>,
    /// Why a batch that has failed pages of this one does not count.
    pub note: Option<String>,
    /// None while nothing is committed.
    pub provenance: Option<Provenance>,
    /// Of the whole batch, when it is complete.
    pub counts: Option<Counts>,
}

/// The files of a committed part.
#[derive(Debug, Clone)]
pub struct PartFiles {
    pub suggestions: Key,
    pub ledger: Key,
}

impl PartFiles {
    fn at(suggestions: &str, ledger: &str) -> Self {
        Self { suggestions: Key::from_listing(suggestions), ledger: Key::from_listing(ledger) }
    }
}

impl Annotated {
    pub async fn of(ctx: &Ctx, id: &BatchId) -> Result<Self, Failure> {
        let Some(manifest) = super::manifest(ctx, id).await? else {
            return Ok(super::commits(ctx, id).await?.into());
        };
        let retries = Retries::of(ctx, &manifest).await?;
        let note = retries.note();
        let retried = retries.done.into_iter().rev().flat_map(|retry| retry.parts);
        let retried = retried.map(|part| PartFiles::at(&part.suggestions.key, &part.ledger.key)).collect();
        Ok(Self { retried, note, ..manifest.into() })
    }
}

impl From<Manifest> for Annotated {
    fn from(manifest: Manifest) -> Self {
        let files = manifest.parts.into_iter();
        let files =
            files.map(|part| (part.pages.key, PartFiles::at(&part.suggestions.key, &part.ledger.key)));
        Self {
            parts: files.collect(),
            retried: Vec::new(),
            note: None,
            provenance: Some(manifest.provenance),
            counts: Some(manifest.counts),
        }
    }
}

impl From<Vec<CommitRecord>> for Annotated {
    fn from(commits: Vec<CommitRecord>) -> Self {
        let (mut parts, mut provenance) = (BTreeMap::new(), None);
        for commit in commits {
            parts.insert(commit.pages.key, PartFiles::at(&commit.suggestions.key, &commit.ledger.key));
            provenance.get_or_insert(commit.provenance);
        }
        Self { parts, retried: Vec::new(), note: None, provenance, counts: None }
    }
}

/// The rows of a file of suggestions or a ledger, a bounded batch at a time.
pub async fn rows<R: Row + Send + 'static>(
    store: &Store,
    key: &Key,
) -> Result<impl Stream<Item = Result<Vec<R>, Failure>> + Unpin + Send + use<R>, Failure> {
    let file = TableFile::open(store, &store.head(key).await?, R::TABLE).await?;
    Ok(file.read::<R>(READ_ROWS)?.map_err(|error: ParquetIoError| error.into()))
}

/// The labels of a batch's labelset with their titles, in its order; the embedded ones for a foreign batch.
pub fn labels(spec: Option<&BatchSpec>) -> Vec<(String, String)> {
    let labelset = spec.and_then(|spec| Labelset::parse(&spec.labelset.toml).ok());
    let labels = labelset.unwrap_or_else(Labelset::embedded).labels;
    labels.into_iter().map(|label| (label.name, label.title)).collect()
}
