//! Keys that stand in more than one part of a foreign producer's batch: each page is done in one part, its home.
//!
//! Constraints: every key of a batch gets one ledger row, whoever does which part, and in whatever order: what is decided
//! here hangs on the files alone. Memory: 8 bytes a row while looking, then the keys that really repeat.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;
use proto::{
    hash::sha256_of_fields,
    parquet_io::TableFile,
    rows::{Outcome, PageIdentity},
    schema::Table,
    store::Store,
};

use super::{
    BatchError, PartPlan,
    admit::{Admitted, DUPLICATE_KEY, RowKey, Verdict},
};

/// Rows read together: a few short columns.
const ROWS_AT_ONCE: usize = 8192;

/// The keys of several parts.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    of: HashMap<RowKey, Repeat>,
}

#[derive(Debug)]
struct Repeat {
    /// The first part that has the key.
    home: u32,
    first: PageIdentity,
    /// In another part too.
    elsewhere: bool,
    /// With another text or run.
    differs: bool,
}

impl Repeats {
    /// `parts`: by number. A file that cannot be read is passed over: its part fails, and names it.
    pub(super) async fn find(store: &Store, parts: &[PartPlan]) -> Result<Self, BatchError> {
        if parts.len() < 2 {
            return Ok(Self::default());
        }
        let mut hashes = Vec::new();
        for part in parts {
            for_each(store, part, |page| hashes.push(short_hash(&page))).await?;
        }
        hashes.sort_unstable();
        let twice: HashSet<u64> =
            hashes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        drop(hashes);
        let mut repeats = Self::default();
        if !twice.is_empty() {
            for part in parts {
                let look = |page: PageIdentity| {
                    if twice.contains(&short_hash(&page)) {
                        repeats.see(part.number, page);
                    }
                };
                for_each(store, part, look).await?;
            }
            repeats.of.retain(|_, repeat| repeat.elsewhere);
        }
        if !repeats.of.is_empty() {
            tracing::warn!(
                keys = repeats.of.len(),
                "pages that stand in several parts are done in the first"
            );
        }
        Ok(repeats)
    }

    fn see(&mut self, part: u32, page: PageIdentity) {
        let key = (page.doc_id.clone().unwrap_or_default(), page.page_num.unwrap_or_default());
        match self.of.get_mut(&key) {
            None => {
                let repeat = Repeat { home: part, first: page, elsewhere: false, differs: false };
                self.of.insert(key, repeat);
            }
            // Within one part the rows are compared, text and all, when it is done.
            Some(repeat) if repeat.home == part => {}
            Some(repeat) => {
                repeat.elsewhere = true;
                repeat.differs |= repeat.first != page;
            }
        }
    }

    /// The row, if its page is this part's to do. With another content elsewhere it is nobody's: it is skipped at home.
    pub(super) fn at_home(&self, part: u32, mut row: Admitted) -> Option<Admitted> {
        match self.of.get(&row.key) {
            None => {}
            Some(repeat) if repeat.home != part => return None,
            Some(repeat) if repeat.differs => row.verdict = Verdict::Done(Outcome::Skipped, DUPLICATE_KEY),
            Some(_) => {}
        }
        Some(row)
    }
}

async fn for_each(
    store: &Store,
    part: &PartPlan,
    mut see: impl FnMut(PageIdentity),
) -> Result<(), BatchError> {
    let file = match TableFile::open_sized(store, &part.key, part.bytes, Table::BatchPages).await {
        Ok(file) => file,
        Err(error) => return unreadable(error.into()),
    };
    let mut rows = match file.read_columns::<PageIdentity>(&PageIdentity::COLUMNS, ROWS_AT_ONCE) {
        Ok(rows) => rows,
        Err(error) => return unreadable(error.into()),
    };
    loop {
        match rows.try_next().await {
            Ok(Some(rows)) => rows.into_iter().for_each(&mut see),
            Ok(None) => return Ok(()),
            Err(error) => return unreadable(error.into()),
        }
    }
}

fn unreadable(error: BatchError) -> Result<(), BatchError> {
    if error.is_of_a_part() { Ok(()) } else { Err(error) }
}

/// Keys of one hash may differ: the second look compares the keys themselves.
fn short_hash(page: &PageIdentity) -> u64 {
    let doc_id = page.doc_id.as_deref().unwrap_or_default();
    let page_num = page.page_num.unwrap_or_default().to_string();
    u64::from_str_radix(&sha256_of_fields([doc_id, &page_num])[..16], 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(doc_id: &str, sha256: &str) -> PageIdentity {
        PageIdentity {
            doc_id: Some(doc_id.into()),
            page_num: Some(1),
            text_sha256: Some(sha256.into()),
            run_id: None,
        }
    }

    fn row(doc_id: &str) -> Admitted {
        Admitted {
            key: (doc_id.into(), 1),
            page_sha256: None,
            run_id: None,
            content_sha256: String::new(),
            verdict: Verdict::Work("text".into()),
        }
    }

    #[test]
    fn a_page_has_one_home() {
        let mut repeats = Repeats::default();
        for (part, doc_id, sha256) in
            [(0, "same", "a"), (0, "other", "a"), (1, "other", "b"), (2, "same", "a")]
        {
            repeats.see(part, page(doc_id, sha256));
        }
        assert_eq!(repeats.at_home(0, row("same")), Some(row("same")));
        assert_eq!(repeats.at_home(2, row("same")), None);
        let skipped = Admitted { verdict: Verdict::Done(Outcome::Skipped, DUPLICATE_KEY), ..row("other") };
        assert_eq!(repeats.at_home(0, row("other")), Some(skipped));
        assert_eq!(repeats.at_home(1, row("other")), None);
        assert_eq!(repeats.at_home(1, row("once")), Some(row("once")));
    }
}
