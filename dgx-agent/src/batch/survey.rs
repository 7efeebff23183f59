//! What listings tell of a batch: which parts are committed, and whether their files are what was committed.
//!
//! Constraint: four listings, whatever the number of parts; nothing is read.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;
use proto::{
    docs::FileRef,
    keys::{BatchKeys, PartKind},
    store::{Object, Store, StoreError},
};

use super::{BatchError, commit::Standing};

#[derive(Debug, Default)]
pub(super) struct Survey {
    commits: HashSet<u32>,
    files: HashMap<String, Listed>,
    /// Parts of which somebody may not have published all.
    staged: HashSet<u32>,
}

#[derive(Debug)]
struct Listed {
    bytes: u64,
    etag: Option<String>,
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
                survey.files.insert(key.as_str().to_owned(), Listed { bytes, etag });
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
    pub fn vouches(&self, part: &Standing) -> Vouched {
        let (files, etags) = (&part.files, &part.etags);
        let both = self.file(&files.suggestions, etags.suggestions.as_deref());
        let both = both.min(self.file(&files.ledger, etags.ledger.as_deref()));
        if self.staged.contains(&files.part) { both.min(Vouched::Unsure) } else { both }
    }

    /// Whether a file is there with its size.
    pub fn has_size(&self, file: &FileRef) -> bool {
        self.file(file, None) != Vouched::Wrong
    }

    fn file(&self, file: &FileRef, etag: Option<&str>) -> Vouched {
        match self.files.get(&file.key) {
            Some(listed) if listed.bytes == file.bytes => match etag {
                Some(etag) if listed.etag.as_deref() == Some(etag) => Vouched::Right,
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
