//! Every record of a dataset, out of a listing that may repeat some and miss others.
//!
//! The listing is ordered by time of insertion alone, so pages by offset are not reliable where times are equal.
//! Repeats are dropped by record id; while fewer are seen than there are, the listing is read again.
//! Memory grows with the number of records (8 bytes each) and with what people answered, not with their texts.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
};

use super::{
    answers::Answered,
    client::{ArgillaError, Client, PAGE},
};

/// Scans before giving up.
const SCANS: usize = 5;

#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error(transparent)]
    Argilla(#[from] ArgillaError),
    #[error(
        "Argilla lists {seen} of the {total} records of the dataset even after {SCANS} readings: are records being pushed or deleted right now? Export again"
    )]
    Unstable { seen: u64, total: u64 },
}

/// The answers of a dataset.
#[derive(Debug, Default)]
pub struct Answers {
    /// Records of the dataset, answered or not.
    pub records: u64,
    /// By external id: only records that somebody submitted or discarded.
    pub answered: HashMap<String, Answered>,
}

pub async fn answers(client: &Client, dataset_id: &str) -> Result<Answers, ScanError> {
    let hasher = RandomState::new();
    let mut seen = HashSet::new();
    let mut answers = Answers::default();
    for _ in 0..SCANS {
        let mut offset = 0;
        loop {
            let page = client.records(dataset_id, offset, PAGE).await?;
            offset += page.items.len();
            let last = page.items.is_empty() || offset as u64 >= page.total;
            answers.records = page.total;
            for record in page.items {
                seen.insert(hasher.hash_one(&record.id));
                let Some(external_id) = record.external_id.clone() else { continue };
                match Answered::of(record) {
                    Some(answered) => drop(answers.answered.insert(external_id, answered)),
                    None => drop(answers.answered.remove(&external_id)),
                }
            }
            if last {
                break;
            }
        }
        if seen.len() as u64 == answers.records {
            return Ok(answers);
        }
    }
    Err(ScanError::Unstable { seen: seen.len() as u64, total: answers.records })
}
