//! What is kept of each commit record until the manifest is written, and held against the listings.
//!
//! Constraint: a batch may have tens of thousands of parts, and each of them stays in memory as long as the run: so only
//! what nothing else says. A file's key follows from its part's number, the plan has the pages, and of an etag nothing is
//! asked but whether it is the same.

use proto::{
    docs::{CommitRecord, Counts, FileRef, ManifestPart},
    keys::{BatchKeys, PartKind},
};
use sha2::{Digest, Sha256};

/// A part that has a record.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub suggestions: Written,
    pub ledger: Written,
    pub counts: Counts,
}

/// A file that a record vouches for.
#[derive(Debug, Clone)]
pub(super) struct Written {
    rows: u64,
    pub bytes: u64,
    sha256: [u8; 32],
    pub etag: Option<Tag>,
}

/// What stands for an etag, which may be of any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag([u8; 32]);

impl Standing {
    /// None when a hash in the record is none: no file can be what it says.
    pub fn of(record: &CommitRecord) -> Option<Self> {
        Some(Self {
            suggestions: Written::of(&record.suggestions, record.etags.suggestions.as_deref())?,
            ledger: Written::of(&record.ledger, record.etags.ledger.as_deref())?,
            counts: record.counts.clone(),
        })
    }

    /// As the manifest has it.
    pub fn in_manifest(&self, keys: &BatchKeys, part: u32, pages: FileRef) -> ManifestPart {
        let file = |kind, written: &Written| FileRef {
            key: keys.part(kind, part).as_str().to_owned(),
            rows: written.rows,
            bytes: written.bytes,
            sha256: hex::encode(written.sha256),
        };
        ManifestPart {
            part,
            pages,
            suggestions: file(PartKind::Suggestions, &self.suggestions),
            ledger: file(PartKind::Ledger, &self.ledger),
        }
    }
}

impl Written {
    fn of(file: &FileRef, etag: Option<&str>) -> Option<Self> {
        let mut sha256 = [0; 32];
        hex::decode_to_slice(&file.sha256, &mut sha256).ok()?;
        Some(Self { rows: file.rows, bytes: file.bytes, sha256, etag: etag.map(Tag::of) })
    }
}

impl Tag {
    pub fn of(etag: &str) -> Self {
        Self(Sha256::digest(etag).into())
    }
}
