//! Where the rules of a labelset match: one pass over a page for all of them.
//!
//! Rules match only at borders of words. So one automaton of the heads of all of them is started at each border, and
//! says which may match there; it is dead after a letter or two where none does. Only those are then asked whether
//! they do, and where their value is.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use proto::labelset::Labelset;
use regex_automata::{
    Anchored, MatchKind,
    hybrid::{
        LazyStateID,
        dfa::{Cache, DFA},
    },
    nfa::thompson,
    util::start,
};
use regex_syntax::hir::Hir;

use super::{heads::head, values::kind};

/// Largest automaton of all patterns, in bytes. Of a labelset that needs more, each rule looks for itself.
const MAX_COMPILED: usize = 64 << 20;

/// What each thread may keep of it, in bytes.
const MAX_KEPT: usize = 8 << 20;

/// Times that this may be full on a page before each rule looks for itself.
const MAX_FULL: usize = 2;

pub(super) struct Starts {
    dfa: DFA,
    rules: usize,
    /// By threads that are not at work.
    idle: Mutex<Vec<Scratch>>,
}

struct Scratch {
    cache: Cache,
    found: Found,
}

/// Where each rule matches, in order; of those that cannot be told, None.
#[derive(Default)]
pub(super) struct Found {
    by_rule: Vec<Vec<u32>>,
}

impl Found {
    pub fn of(&self, rule: usize) -> Option<&[u32]> {
        self.by_rule.get(rule).map(Vec::as_slice)
    }
}

impl Starts {
    /// None for a labelset that is too large.
    pub fn new(labelset: &Labelset) -> Option<Self> {
        let rules = labelset.labels.iter().flat_map(|label| &label.rules);
        let heads: Vec<Hir> = rules.map(|rule| rule.hir().map(|hir| head(&hir))).collect::<Option<_>>()?;
        let config = thompson::Config::new()
            .utf8(false)
            .nfa_size_limit(Some(MAX_COMPILED))
            .which_captures(thompson::WhichCaptures::None);
        let nfa = thompson::Compiler::new().configure(config).build_many_from_hir(&heads).ok()?;
        let config = DFA::config()
            .match_kind(MatchKind::All)
            .unicode_word_boundary(true)
            .cache_capacity(MAX_KEPT)
            .skip_cache_capacity_check(true);
        let dfa = DFA::builder().configure(config).build_from_nfa(nfa).ok()?;
        Some(Self { dfa, rules: heads.len(), idle: Mutex::default() })
    }
}

impl Starts {
    /// Where the rules match on a page, handed to `work`.
    pub fn with_found<T>(&self, text: &str, work: impl FnOnce(&Found) -> T) -> T {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch =
            idle.unwrap_or_else(|| Scratch { cache: Cache::new(&self.dfa), found: Found::default() });
        let Scratch { cache, found } = &mut scratch;
        found.by_rule.resize_with(self.rules, Vec::new);
        found.by_rule.iter_mut().for_each(Vec::clear);
        if u32::try_from(text.len()).is_err() || self.find(cache, text, found).is_none() {
            found.by_rule.clear();
        }
        let done = work(found);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        done
    }

    /// None where the automaton gives up: a boundary of words among other letters than ASCII's, or too many states.
    fn find(&self, cache: &mut Cache, text: &str, found: &mut Found) -> Option<()> {
        let full = cache.clear_count() + MAX_FULL;
        let bytes = text.as_bytes();
        let mut left = 0;
        for (at, c) in text.char_indices() {
            let right = kind(c);
            let border = left != right || left == 0;
            left = right;
            if border {
                self.find_at(cache, bytes, at, found)?;
                if cache.clear_count() > full {
                    return None;
                }
            }
        }
        Some(())
    }

    fn find_at(&self, cache: &mut Cache, bytes: &[u8], at: usize, found: &mut Found) -> Option<()> {
        let before = at.checked_sub(1).map(|before| bytes[before]);
        let config = start::Config::new().anchored(Anchored::Yes).look_behind(before);
        let mut state = self.dfa.start_state(cache, &config).ok()?;
        for &byte in &bytes[at..] {
            state = self.dfa.next_state(cache, state, byte).ok()?;
            if state.is_tagged() {
                if state.is_dead() {
                    return Some(());
                }
                if state.is_quit() {
                    return None;
                }
                self.note(cache, state, at, found);
            }
        }
        state = self.dfa.next_eoi_state(cache, state).ok()?;
        self.note(cache, state, at, found);
        Some(())
    }

    fn note(&self, cache: &Cache, state: LazyStateID, at: usize, found: &mut Found) {
        if !state.is_match() {
            return;
        }
        let at = at as u32;
        for nth in 0..self.dfa.match_len(cache, state) {
            let places = &mut found.by_rule[self.dfa.match_pattern(cache, state, nth).as_usize()];
            if places.last() != Some(&at) {
                places.push(at);
            }
        }
    }
}

impl fmt::Debug for Starts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starts").field("rules", &self.rules).finish_non_exhaustive()
    }
}
