//! Mentions that OCR garbled, or that the model tidied up.
//!
//! Groups of three characters that mention and page share say where to look; an alignment there says how like the
//! mention the page is. Costs are in half edits: a confusion that OCR is known for costs one, any other edit two,
//! and one edit in six characters is allowed. A digit is never another digit: only a character that looks like it.

use std::collections::HashMap;
use std::ops::Range;

use proto::labelset::{Label, Verdict};

use super::normal::{Normal, is_word};
use super::page::{Page, Postings, hash};
use super::place::Candidate;
use super::{MatchKind, Reason, Sought};

/// Characters of a group.
const GROUP: usize = 3;

/// Letters and digits that a mention must have, and characters that it may have.
const MIN_WORD: usize = 4;
const MAX_CHARS: usize = 120;

/// Characters for one half edit.
const CHARS_PER_HALF_EDIT: usize = 3;

/// Characters for one by which the page may be shorter or longer than the mention.
const CHARS_PER_LENGTH: usize = 10;

/// Half edits that an identifier may have, whatever its length.
const IDENTIFIER_EDITS: u16 = 2;

/// A group that stands more often than this says nothing; and this many places in all, and alignments.
const MAX_GROUP_PLACES: usize = 256;
const MAX_PLACES: usize = 2048;
const MAX_ALIGNMENTS: usize = 16;

/// Never.
const NO: u16 = u16::MAX / 4;

pub(super) struct Fuzzy<'a> {
    page: &'a Page<'a>,
    groups: Option<Postings>,
    /// What was found for a text and a strictness.
    found: HashMap<(&'a str, bool), Vec<Likeness>>,
}

/// A place that is like the mention, and what it costs to say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Likeness {
    cost: u16,
    start: usize,
    end: usize,
}

impl<'a> Fuzzy<'a> {
    pub fn new(page: &'a Page<'a>) -> Self {
        Self { page, groups: None, found: HashMap::new() }
    }

    /// Of the free places, those most like the mention. Where they read differently and are more than the
    /// mentions that wait for one, nobody can tell which it is.
    pub fn find(
        &mut self,
        sought: &Sought<'a>,
        waiting: usize,
        label: Option<&Label>,
        is_free: impl Fn(&Range<usize>) -> bool,
    ) -> Result<Vec<Candidate>, Reason> {
        let identifier = label.is_some_and(|label| label.identifier);
        let key = (sought.text(), identifier);
        if !self.found.contains_key(&key) {
            let found = self.look_for(sought, identifier);
            self.found.insert(key, found);
        }
        let found = self.found.get(&key).map_or(&[][..], Vec::as_slice);
        let free: Vec<(u16, Candidate)> = found
            .iter()
            .filter_map(|like| Some((like.cost, self.candidate(like, sought.normal.len())?)))
            .filter(|(_, candidate)| is_free(&candidate.bytes))
            .collect();
        let nothing = if found.is_empty() { Reason::NotFound } else { Reason::Taken };
        let best = free.first().ok_or(nothing)?.0;
        let candidates: Vec<Candidate> =
            free.into_iter().take_while(|(cost, _)| *cost == best).map(|(_, candidate)| candidate).collect();
        let read = |candidate: &Candidate| &self.page.normal.chars[candidate.range.clone()];
        if candidates.len() > waiting && candidates.iter().any(|other| read(other) != read(&candidates[0])) {
            return Err(Reason::Ambiguous);
        }
        if let Some(label) = label.filter(|_| identifier && best > 0) {
            for candidate in &candidates {
                told_apart(label, sought.text(), &self.page.text[candidate.bytes.clone()])?;
            }
        }
        Ok(candidates)
    }

    /// Every place that is like the mention, the likest first.
    fn look_for(&mut self, sought: &Sought<'_>, identifier: bool) -> Vec<Likeness> {
        let chars = &sought.normal.chars[sought.normal.core()];
        let word = chars.iter().filter(|c| is_word(**c)).count();
        if word < MIN_WORD || chars.len() > MAX_CHARS {
            return Vec::new();
        }
        let bound = (word / CHARS_PER_HALF_EDIT) as u16;
        let bound = if identifier { bound.max(IDENTIFIER_EDITS) } else { bound };
        let places = self.places(chars, bound);
        let aligned =
            places.into_iter().filter_map(|place| align(chars, &self.page.normal, place, bound, identifier));
        let mut found: Vec<Likeness> = aligned.collect();
        found.sort_by_key(|like| (like.cost, like.start, like.end));
        found.dedup();
        found
    }

    fn candidate(&self, like: &Likeness, length: usize) -> Option<Candidate> {
        let range = like.start..like.end;
        let bytes = self.page.normal.bytes(range.clone())?;
        let similarity = 1.0 - f64::from(like.cost) / (2.0 * length as f64);
        Some(Candidate { range, bytes, kind: MatchKind::Fuzzy, similarity })
    }

    /// Where the mention may begin, the places with most in common first.
    fn places(&mut self, chars: &[char], bound: u16) -> Vec<usize> {
        let groups = self.groups.get_or_insert_with(|| {
            let page = &self.page.normal.chars;
            Postings::new(groups(page).enumerate().map(|(at, group)| (group, at as u32)).collect())
        });
        let mut shared: Vec<_> = self::groups(chars)
            .enumerate()
            .map(|(at, group)| (groups.of(group), at))
            .filter(|(places, _)| places.len() <= MAX_GROUP_PLACES)
            .collect();
        shared.sort_by_key(|(places, _)| places.len());
        let mut starts: Vec<usize> = shared
            .iter()
            .flat_map(|(places, offset)| places.iter().map(|(_, at)| (*at as usize).saturating_sub(*offset)))
            .take(MAX_PLACES)
            .collect();
        starts.sort_unstable();
        // Starts that are no further apart than the edits can shift them are one place.
        let clusters = starts.chunk_by(|a, b| b - a <= usize::from(bound));
        let mut clusters: Vec<(usize, usize)> =
            clusters.map(|starts| (starts.len(), starts[starts.len() / 2])).collect();
        clusters.sort_by_key(|(votes, start)| (std::cmp::Reverse(*votes), *start));
        clusters.into_iter().take(MAX_ALIGNMENTS).map(|(_, start)| start).collect()
    }
}

/// Whether an identifier that the page reads otherwise is the mention all the same: its validator must know the
/// mention for valid, and the page's reading for invalid or for the same value. Where both would do, nobody can tell.
fn told_apart(label: &Label, mention: &str, on_page: &str) -> Result<(), Reason> {
    match (label.check_strictly(mention), label.check_strictly(on_page)) {
        (Verdict::Valid(_), Verdict::Invalid) => Ok(()),
        (Verdict::Valid(mention), Verdict::Valid(on_page)) if mention == on_page => Ok(()),
        _ => Err(Reason::NotFound),
    }
}

/// The best alignment of the mention with the page near `place` that begins and ends at borders of words.
fn align(mention: &[char], page: &Normal, place: usize, bound: u16, strict: bool) -> Option<Likeness> {
    let slack = usize::from(bound) + 1;
    let from = place.saturating_sub(slack);
    let to = (place + mention.len() + slack).min(page.len());
    let text = page.chars.get(from..to)?;
    let width = text.len() + 1;
    // Each cell: the cost so far, and where on the page its alignment began.
    let begin = |at: usize| if page.is_border(from + at) { (0, at) } else { (NO, at) };
    let mut rows: Vec<Vec<(u16, usize)>> = vec![(0..width).map(begin).collect()];
    for (i, &wanted) in mention.iter().enumerate() {
        let mut row = Vec::with_capacity(width);
        for j in 0..width {
            let add = |(cost, begin): (u16, usize), more: u16| (cost.saturating_add(more).min(NO), begin);
            let mut best = add(rows[i][j], left_out(wanted, strict));
            if let Some(&there) = j.checked_sub(1).and_then(|at| text.get(at)) {
                best = best.min(add(rows[i][j - 1], replaced(wanted, there, strict)));
                best = best.min(add(row[j - 1], left_out(there, strict)));
                if !strict && i > 0 && pair_for(there) == Some([mention[i - 1], wanted]) {
                    best = best.min(add(rows[i - 1][j - 1], 1));
                }
                if !strict && j > 1 && pair_for(wanted) == Some([text[j - 2], there]) {
                    best = best.min(add(rows[i][j - 2], 1));
                }
            }
            row.push(best);
        }
        rows.push(row);
    }
    let last = rows.last()?.iter().enumerate();
    let ends = last.filter(|(end, (_, begin))| end > begin && page.is_border(from + end));
    let (end, (cost, begin)) =
        ends.min_by_key(|(end, (cost, begin))| (*cost, (end - begin).abs_diff(mention.len())))?;
    let (start, end) = trimmed(page, from + begin, from + end)?;
    // A lost character is an error of OCR; a lost word is another mention.
    let word = |chars: &[char]| chars.iter().filter(|c| is_word(**c)).count();
    let (wanted, there) = (word(mention), word(&page.chars[start..end]));
    let alike = wanted.abs_diff(there) <= (wanted / CHARS_PER_LENGTH).max(1);
    (*cost <= bound && alike).then_some(Likeness { cost: *cost, start, end })
}

/// Without blanks and punctuation at the ends, which the alignment may have taken in.
fn trimmed(page: &Normal, start: usize, end: usize) -> Option<(usize, usize)> {
    let chars = &page.chars[start..end];
    let first = chars.iter().position(|c| is_word(*c))?;
    let last = chars.iter().rposition(|c| is_word(*c))?;
    Some((start + first, start + last + 1))
}

/// What it costs when a character stands on one side alone.
fn left_out(c: char, strict: bool) -> u16 {
    match c {
        ' ' => 1,
        c if c.is_numeric() => NO,
        c if !is_word(c) => 1,
        _ if strict => NO,
        _ => 2,
    }
}

fn replaced(wanted: char, there: char, strict: bool) -> u16 {
    if latin(wanted) == latin(there) {
        return 0;
    }
    let digits = usize::from(wanted.is_numeric()) + usize::from(there.is_numeric());
    match digits {
        2 => NO,
        1 if looks_like(wanted, there) => 1,
        1 => NO,
        _ if looks_like(wanted, there) => 1,
        _ if !is_word(wanted) && !is_word(there) => 1,
        _ if strict => NO,
        _ => 2,
    }
}

/// Two letters that OCR reads as one.
fn pair_for(c: char) -> Option<[char; 2]> {
    match c {
        'm' => Some(['r', 'n']),
        'w' => Some(['v', 'v']),
        'd' => Some(['c', 'l']),
        'h' => Some(['l', 'i']),
        'u' => Some(['l', 'l']),
        'ы' => Some(['ь', 'і']),
        _ => None,
    }
}

/// Characters that OCR takes for each other, in lower case; those drawn alike as Latin letters.
fn looks_like(a: char, b: char) -> bool {
    const ALIKE: &[&str] = &[
        "0odq", "1lij|!]t", "2z", "3зэ", "4a", "5s", "6bgб", "7t", "8b", "9gq", "ceo", "ao", "ae", "ft",
        "uv", "un", "nh", "nr", "vy", "kx", "rг", "nп", "uи", "иh", "hп", "шщ", "цп", "лп", "ьы", "mh",
    ];
    let (a, b) = (latin(a), latin(b));
    ALIKE.iter().any(|class| class.contains(a) && class.contains(b))
}

/// Groups of characters under the shapes that OCR cannot tell apart; one begins at each character.
fn groups(chars: &[char]) -> impl Iterator<Item = u32> {
    chars.windows(GROUP).map(|group| {
        let mut shapes = [' '; GROUP];
        shapes.iter_mut().zip(group).for_each(|(shape, c)| *shape = self::shape(*c));
        hash(&shapes)
    })
}

/// One character for all that OCR cannot tell apart.
fn shape(c: char) -> char {
    match latin(c) {
        '0' => 'o',
        '1' | 'i' | 'j' | '|' | '!' | ']' => 'l',
        '2' => 'z',
        '3' => 'з',
        '5' => 's',
        '6' | '9' | 'q' => 'g',
        '8' => 'b',
        c => c,
    }
}

/// The Latin letter for a Cyrillic one that is drawn alike, in one case or the other.
fn latin(c: char) -> char {
    match c {
        'а' => 'a',
        'в' => 'b',
        'е' => 'e',
        'к' => 'k',
        'м' => 'm',
        'н' => 'h',
        'о' => 'o',
        'р' => 'p',
        'с' => 'c',
        'т' => 't',
        'у' => 'y',
        'х' => 'x',
        'і' => 'i',
        c => c,
    }
}
