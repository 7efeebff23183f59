//! Text as it is compared: lower case, without accents, ligatures, typographic quotes and dashes, line-break
//! hyphens and runs of blanks; and for each character, where it stands in the original.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{canonical_combining_class, is_combining_mark};

/// Accents above, below and through letters have a combining class from here on. Below it are the vowel signs,
/// nuktas and voicing marks of scripts in which they make another word.
const ACCENTS: u8 = 200;

/// Normalised text. `from` and `to` are byte offsets into the original, one of each a character.
#[derive(Debug, Default)]
pub(super) struct Normal {
    pub chars: Vec<char>,
    from: Vec<u32>,
    to: Vec<u32>,
}

impl Normal {
    pub fn new(text: &str) -> Self {
        let mut normal = Self {
            chars: Vec::with_capacity(text.len()),
            from: Vec::with_capacity(text.len()),
            to: Vec::with_capacity(text.len()),
        };
        let mut at = 0;
        while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
            at = normal.push(text, at, c);
        }
        normal
    }

    pub fn len(&self) -> usize {
        self.chars.len()
    }

    /// Without what is neither letter nor digit at both ends; empty when there is none within.
    pub fn core(&self) -> Range<usize> {
        let start = self.chars.iter().position(|c| is_word(*c)).unwrap_or(0);
        let end = self.chars.iter().rposition(|c| is_word(*c)).map_or(0, |last| last + 1);
        start..end.max(start)
    }

    /// The bytes of the original that a range stands for; None for one that cuts a character of the original.
    pub fn bytes(&self, range: Range<usize>) -> Option<Range<usize>> {
        let last = range.end.checked_sub(1).filter(|last| *last >= range.start)?;
        let (from, to) = (*self.from.get(range.start)?, *self.to.get(last)?);
        let cut = |left: usize, right: usize| {
            self.from.get(left).is_some() && self.from.get(left) == self.from.get(right)
        };
        let starts_within = range.start > 0 && cut(range.start - 1, range.start);
        (!starts_within && !cut(last, range.end)).then_some(from as usize..to as usize)
    }

    /// Whether a word may begin or end at `at`: also where a dash was left out.
    pub fn is_border(&self, at: usize) -> bool {
        match (at.checked_sub(1).and_then(|left| self.chars.get(left)), self.chars.get(at)) {
            (Some(left), Some(right)) => !(in_words(*left) && in_words(*right)) || self.is_joint(at),
            _ => true,
        }
    }

    /// Whether something was left out between two characters.
    pub fn is_joint(&self, at: usize) -> bool {
        let left = at.checked_sub(1).and_then(|left| self.to.get(left));
        left.zip(self.from.get(at)).is_some_and(|(left, right)| left < right)
    }

    /// Takes in the character at byte `at` and says where the next one starts.
    fn push(&mut self, text: &str, at: usize, c: char) -> usize {
        let next = at + c.len_utf8();
        if c.is_ascii_alphanumeric() {
            self.put(c.to_ascii_lowercase(), at, next);
        } else if c.is_whitespace() {
            let end = next + blanks(&text[next..]);
            if self.chars.last().is_some_and(|last| *last != ' ') {
                self.put(' ', at, end);
            }
            return end;
        } else if is_dash(c) {
            return self.push_dash(text, at, next);
        } else if let Some(quote) = plain_quote(c) {
            self.put(quote, at, next);
        } else if is_invisible(c) {
            // It stays within a span that goes around it, and is at the border of none.
        } else if is_accent(c) {
            if let Some(to) = self.to.last_mut() {
                *to = next as u32;
            }
        } else {
            let plain = std::iter::once(c).nfkd().flat_map(char::to_lowercase).filter(|c| !is_accent(*c));
            plain.for_each(|c| self.put(c, at, next));
        }
        next
    }

    /// A dash between letters goes, so that `pole-and-line` is found across a line break, with its hyphen or one
    /// more; elsewhere it stays, and what breaks the line behind it goes.
    fn push_dash(&mut self, text: &str, at: usize, next: usize) -> usize {
        let blanks = blanks(&text[next..]);
        let breaks_line = text[next..next + blanks].contains(['\n', '\r']);
        let left = self.chars.last().copied();
        let right = text[next + blanks..].chars().next();
        let joins = left.is_some_and(is_word) && right.is_some_and(is_word) && (blanks == 0 || breaks_line);
        if !joins {
            self.put('-', at, next);
            return next;
        }
        if !(left.is_some_and(char::is_alphabetic) && right.is_some_and(char::is_alphabetic)) {
            self.put('-', at, next);
        }
        next + blanks
    }

    fn put(&mut self, c: char, from: usize, to: usize) {
        self.chars.push(c);
        self.from.push(from as u32);
        self.to.push(to as u32);
    }
}

/// Letters, digits and the marks that belong to them.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

/// Part of a word of a script that parts words by blanks.
pub(super) fn in_words(c: char) -> bool {
    is_word(c) && !is_unspaced(c)
}

/// A character of a script that writes words without blanks between them: Thai to Burmese, Khmer, Chinese, Japanese.
pub(super) fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' | '\u{2E80}'..='\u{312F}'
        | '\u{31A0}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

/// How many bytes of white space begin the text.
fn blanks(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

fn is_accent(c: char) -> bool {
    !c.is_ascii() && canonical_combining_class(c) >= ACCENTS
}

fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{FE58}' | '\u{FE63}' | '\u{FF0D}' | '\u{AD}')
}

fn plain_quote(c: char) -> Option<char> {
    match c {
        '\''
        | '`'
        | '´'
        | '\u{2018}'..='\u{201B}'
        | '\u{2032}'
        | '\u{2039}'
        | '\u{203A}'
        | 'ʼ'
        | '\u{FF07}' => Some('\''),
        '"' | '\u{201C}'..='\u{201F}' | '\u{2033}' | '«' | '»' | '\u{FF02}' => Some('"'),
        _ => None,
    }
}

/// Zero-width and control characters, marks of direction.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}
