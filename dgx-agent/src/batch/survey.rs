//! What listings tell of a batch: which parts are committed, and whether their files are what was committed.
//!
//! Constraint: four listings, whatever the number of parts; nothing is read.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;
use proto::{
    docs::ManifestPart,
    keys::{BatchKeys, PartKind},
    store::{Object, Store, StoreError},
};

use super::{
    BatchError,
    standing::{Standing, Tag, Written},
};

#[derive(Debug, Default)]
pub(super) struct Survey {
    commits: HashSet<u32>,
    files: HashMap<(PartKind, u32), Listed>,
    /// Parts of which somebody may not have published all.
    staged: HashSet<u32>,
}

#[derive(Debug)]
struct Listed {
    bytes: u64,
    etag: Option<Tag>,
}

/// What a listing says of a file that a record vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Vouched {
    /// It is not there, or has another size.
    Wrong,
    /// It has its size.
    Unsure,
    /// It is as it was written.
    Right,
}

impl Survey {
    pub async fn take(store: &Store, keys: &BatchKeys) -> Result<Self, BatchError> {
        let mut survey = Self::default();
        // The records first: what a record says was written before it, or is staged.
        each(store, &keys.parts(PartKind::Commits), |object| {
            survey.commits.extend(keys.part_number(PartKind::Commits, &object.key));
        })
        .await?;
        for kind in [PartKind::Suggestions, PartKind::Ledger] {
            each(store, &keys.parts(kind), |Object { key, bytes, etag, .. }| {
                let Some(part) = keys.part_number(kind, &key) else { return };
                survey.files.insert((kind, part), Listed { bytes, etag: etag.as_deref().map(Tag::of) });
            })
            .await?;
        }
        each(store, &keys.staged_folder(), |object| survey.staged.extend(keys.staged_part(&object.key)))
            .await?;
        Ok(survey)
    }

    pub fn has_commit(&self, part: u32) -> bool {
        self.commits.contains(&part)
    }

    pub fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Both files of a part.
    pub fn vouches(&self, part: u32, standing: &Standing) -> Vouched {
        let both = self.file(PartKind::Suggestions, part, &standing.suggestions);
        let both = both.min(self.file(PartKind::Ledger, part, &standing.ledger));
        if self.staged.contains(&part) { both.min(Vouched::Unsure) } else { both }
    }

    /// Whether the files of a part are there with their sizes.
    pub fn has_sizes(&self, ManifestPart { part, suggestions, ledger, .. }: &ManifestPart) -> bool {
        let has = |kind, bytes| self.files.get(&(kind, *part)).is_some_and(|listed| listed.bytes == bytes);
        has(PartKind::Suggestions, suggestions.bytes) && has(PartKind::Ledger, ledger.bytes)
    }

    fn file(&self, kind: PartKind, part: u32, written: &Written) -> Vouched {
        match self.files.get(&(kind, part)) {
            Some(listed) if listed.bytes == written.bytes => match written.etag {
                Some(etag) if listed.etag == Some(etag) => Vouched::Right,
                _ => Vouched::Unsure,
            },
            _ => Vouched::Wrong,
        }
    }
}

async fn each(store: &Store, folder: &str, mut see: impl FnMut(Object)) -> Result<(), StoreError> {
    let mut objects = store.list(folder);
    while let Some(object) = objects.try_next().await? {
        see(object);
    }
    Ok(())
}
