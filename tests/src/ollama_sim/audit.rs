//! What an agent made of a batch, held against what the simulator did to it: nothing lost, nothing made up. Pure.

use std::collections::{BTreeMap, BTreeSet};

use proto::rows::{BatchPage, LedgerRow, Outcome, Suggestion};

use super::{Asked, Fault, Plan, Stats};

/// The agent's side of a batch.
pub struct Made {
    pub ledger: Vec<LedgerRow>,
    pub suggestions: Vec<Suggestion>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Audit {
    pub pages: usize,
    pub suggested: usize,
    pub failed: usize,
    /// Pages asked about in pieces, or of which only what could be saved was kept.
    pub in_pieces: usize,
    pub requests: u64,
    /// One a page that was asked about, if nothing had gone wrong.
    pub fewest: u64,
    pub faults: BTreeMap<Fault, u64>,
    /// By page: what is not as it must be.
    pub wrong: Vec<String>,
}

type Key = (String, i32);
/// Label, first and last place.
type Place = (String, i32, i32);

/// `clean`: of the same pages on a server without faults. `stats`: with `?pages`.
pub fn audit(pages: &[BatchPage], clean: &Made, made: &Made, stats: &Stats) -> Audit {
    let mut audit = Audit { pages: pages.len(), requests: stats.now.requests, ..Audit::default() };
    audit.faults.clone_from(&stats.faults);
    let (wanted, found) = (places(clean), places(made));
    let rows: BTreeMap<Key, &LedgerRow> = made.ledger.iter().map(|row| (key(row), row)).collect();
    if rows.len() != made.ledger.len() || rows.len() != pages.len() {
        audit.wrong.push(format!(
            "{} rows of {} pages in a ledger of {}",
            rows.len(),
            pages.len(),
            made.ledger.len()
        ));
    }
    let none = BTreeSet::new();
    for page in pages {
        let key: Key = (page.doc_id.clone().unwrap_or_default(), page.page_num.unwrap_or_default());
        let text = page.text.as_deref().unwrap_or_default();
        let Some(row) = rows.get(&key) else {
            audit.wrong.push(format!("{key:?}: no outcome"));
            continue;
        };
        let asked: Vec<&Asked> =
            stats.pages.iter().filter(|asked| !asked.text.is_empty() && text.contains(&asked.text)).collect();
        audit.fewest += u64::from(!asked.is_empty());
        let (wanted, found) = (wanted.get(&key).unwrap_or(&none), found.get(&key).unwrap_or(&none));
        if let Err(why) = audit.page(row, text, &asked, wanted, found) {
            audit.wrong.push(format!("{key:?} ({}, {:?}): {why}", row.outcome, row.reason));
        }
    }
    audit
}

impl Audit {
    fn page(
        &mut self,
        row: &LedgerRow,
        text: &str,
        asked: &[&Asked],
        wanted: &BTreeSet<Place>,
        found: &BTreeSet<Place>,
    ) -> Result<(), String> {
        let requests: usize = asked.iter().map(|asked| asked.faults.len()).sum();
        if requests != usize::try_from(row.attempts).unwrap_or_default() {
            return Err(format!("{} attempts in the ledger, {requests} at the server", row.attempts));
        }
        let last: BTreeSet<Fault> =
            asked.iter().filter_map(|asked| asked.faults.last().copied().flatten()).collect();
        if row.outcome == Outcome::Failed {
            self.failed += 1;
            let reason = row.reason.as_deref().unwrap_or_default();
            return match last.iter().any(|fault| reasons(*fault).contains(&reason)) {
                true if found.is_empty() => Ok(()),
                true => Err("failed, with spans".to_owned()),
                false => Err(format!("its last requests met {last:?}")),
            };
        }
        self.suggested += usize::from(row.outcome == Outcome::Suggested);
        let whole = asked.len() == 1 && last.is_empty();
        self.in_pieces += usize::from(!asked.is_empty() && !whole);
        if Plan::always(text).is_some_and(|fault| fault != Fault::CutJson) {
            return Err("no request about it was answered well".to_owned());
        }
        if whole && found != wanted {
            return Err(format!("{} spans, {} without faults", found.len(), wanted.len()));
        }
        // Of pieces the rules may find other mentions; never more than a few.
        if found.len() > wanted.len() + 3 {
            return Err(format!("{} spans, {} without faults", found.len(), wanted.len()));
        }
        Ok(())
    }
}

/// The ledger's reasons that a fault may end in.
fn reasons(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Status500 | Fault::MidStream => &["service_error"],
        Fault::Status503 | Fault::Html => &["service_unavailable", "service_error"],
        Fault::Hang => &["connection_broken", "timed_out"],
        Fault::CutJson => &["output_truncated"],
        Fault::Garbage => &["model_output_invalid"],
        Fault::NoDone => &["model_output_unfinished"],
        Fault::Whitespace => &["model_output_runaway"],
    }
}

fn key(row: &LedgerRow) -> Key {
    (row.doc_id.clone(), row.page_num)
}

fn places(made: &Made) -> BTreeMap<Key, BTreeSet<Place>> {
    let mut places = BTreeMap::<Key, BTreeSet<Place>>::new();
    for span in &made.suggestions {
        let page = places.entry((span.doc_id.to_string(), span.page_num)).or_default();
        page.insert((span.label.to_string(), span.start, span.end));
    }
    places
}
