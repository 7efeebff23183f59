//! Text as it is compared: lower case, without accents, ligatures, typographic quotes and dashes, line-break
//! hyphens and runs of blanks; and for each character, where it stands in the original.
//!
//! One pass, which also tells each word as it ends: there is no second look at the page. ASCII, and the letters of
//! Latin, Greek and Cyrillic that fold to one letter, go through tables.

use std::ops::Range;
use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{canonical_combining_class, is_combining_mark};

/// Accents above, below and through letters have a combining class from here on. Below it are nuktas and voicing
/// marks of scripts in which they make another word, and the points of Hebrew and Arabic, which do not.
const ACCENTS: u8 = 200;

/// Set in `from` where something was left out between a character and the one before it.
const JOINT: u32 = 1 << 31;

/// Longest text, in bytes.
pub(super) const MAX_BYTES: usize = JOINT as usize - 1;

/// The end of the table of simple letters: Latin, Greek, Cyrillic.
const TABLE_END: usize = 0x530;

/// What a character is to words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Outside,
    /// Of a script that writes words without blanks between them: each is a word.
    Unspaced,
    Digit,
    Letter,
}

/// What to do with an ASCII byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ascii {
    Mark,
    Digit,
    Letter,
    Blank,
    Dash,
    Quote,
    Control,
}

const ASCII: [Ascii; 128] = {
    let mut table = [Ascii::Mark; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'0'..=b'9' => Ascii::Digit,
            b'a'..=b'z' | b'A'..=b'Z' => Ascii::Letter,
            b' ' | b'\t'..=b'\r' => Ascii::Blank,
            b'-' => Ascii::Dash,
            b'`' => Ascii::Quote,
            0..=31 | 127 => Ascii::Control,
            _ => Ascii::Mark,
        };
        byte += 1;
    }
    table
};

/// What letters of the table's scripts fold to, by code point from 128; NUL for those that need more than that.
static SIMPLE: LazyLock<Vec<char>> = LazyLock::new(|| {
    (128..TABLE_END as u32)
        .map(|code| {
            let c = char::from_u32(code).filter(|c| c.is_alphabetic() && plain_quote(*c).is_none());
            let mut folded = c.into_iter().flat_map(spelt_out);
            match (folded.next(), folded.next()) {
                (Some(c), None) if c.is_alphabetic() => c,
                _ => '\0',
            }
        })
        .collect()
});

/// Folded text. `from` holds byte offsets into the original.
#[derive(Debug, Default)]
pub(super) struct Folded {
    pub chars: Vec<char>,
    from: Vec<u32>,
}

/// A word of the text: its hash, and where it starts among the folded characters. What a dash joined is told whole
/// and in parts: `LAN-TERN`, but also `vessel—LANTERN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    pub hash: u32,
    pub start: u32,
}

impl Folded {
    /// Adds a text behind what is there; without a JOINT to it, and told of as if it stood alone.
    pub fn add(&mut self, text: &str, on_word: impl FnMut(Word, u32)) -> Range<usize> {
        let start = self.chars.len();
        self.chars.reserve(text.len() + 1);
        self.from.reserve(text.len() + 1);
        Folder::new(self, text, on_word).run();
        start..self.chars.len()
    }

    pub fn clear(&mut self) {
        self.chars.clear();
        self.from.clear();
    }

    pub fn len(&self) -> usize {
        self.chars.len()
    }

    /// The bytes of the original that a range stands for; None for one that cuts a character of the original.
    pub fn bytes(&self, text: &str, range: Range<usize>) -> Option<Range<usize>> {
        let last = range.end.checked_sub(1).filter(|last| *last >= range.start)?;
        let at = |index: usize| self.from.get(index).map(|from| from & !JOINT);
        let (from, last_from) = (at(range.start)?, at(last)?);
        let starts_within = range.start > 0 && at(range.start - 1) == Some(from);
        if starts_within || at(range.end) == Some(last_from) {
            return None;
        }
        let mut rest = text.get(last_from as usize..)?.chars();
        let mut end = last_from as usize + rest.next()?.len_utf8();
        // The accents that the last character carries are its own.
        if !text.as_bytes().get(end).is_none_or(u8::is_ascii) {
            end += rest.take_while(|c| is_accent(*c)).map(char::len_utf8).sum::<usize>();
        }
        Some(from as usize..end)
    }

    /// The byte of the original where a character starts.
    pub fn byte(&self, at: usize) -> usize {
        self.from.get(at).map_or(0, |from| (from & !JOINT) as usize)
    }

    /// Whether a word may begin or end at `at`: also where a dash was left out.
    pub fn is_border(&self, at: usize) -> bool {
        match (at.checked_sub(1).and_then(|left| self.chars.get(left)), self.chars.get(at)) {
            (Some(left), Some(right)) => !(in_words(*left) && in_words(*right)) || self.is_joint(at),
            _ => true,
        }
    }

    /// Whether something was left out before a character.
    pub fn is_joint(&self, at: usize) -> bool {
        self.from.get(at).is_some_and(|from| from & JOINT != 0)
    }

    /// Without what is neither letter nor digit at both ends; empty when there is none within.
    pub fn core(&self, range: Range<usize>) -> Range<usize> {
        let chars = &self.chars[range.clone()];
        let start = chars.iter().position(|c| is_word(*c)).unwrap_or(0);
        let end = chars.iter().rposition(|c| is_word(*c)).map_or(start, |last| last + 1);
        range.start + start..range.start + end
    }
}

/// The state of a pass.
struct Folder<'a, F> {
    folded: &'a mut Folded,
    text: &'a str,
    on_word: F,
    first: usize,
    /// What is put next stands behind something that was left out.
    joint: u32,
    kind: Kind,
    start: usize,
    /// Where the part behind the last joint starts, when the word has one.
    part: Option<usize>,
}

impl Word {
    /// By length and some of its letters: two words with one hash cost a comparison, no more.
    fn new(chars: &[char], start: usize) -> Self {
        let length = chars.len() - start;
        let at = |at: usize| u32::from(chars[start + at]);
        let mut hash = (length as u32).wrapping_mul(0x9E37_79B1) ^ at(0).wrapping_mul(0x85EB_CA6B);
        for next in [at(length / 2), at(length - 1), at(length / 4), at(length * 3 / 4)] {
            hash = (hash.rotate_left(11) ^ next).wrapping_mul(0xC2B2_AE35);
        }
        Self { hash: hash ^ hash >> 15, start: start as u32 }
    }
}

impl<'a, F: FnMut(Word, u32)> Folder<'a, F> {
    fn new(folded: &'a mut Folded, text: &'a str, on_word: F) -> Self {
        let first = folded.chars.len();
        Self { folded, text, on_word, first, joint: 0, kind: Kind::Outside, start: 0, part: None }
    }

    fn run(mut self) {
        let bytes = self.text.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if byte >= 128 {
                at = self.beyond_ascii(at);
                continue;
            }
            match ASCII[usize::from(byte)] {
                Ascii::Letter => {
                    at = self.letters(at);
                    continue;
                }
                Ascii::Digit => self.put(char::from(byte), Kind::Digit, at),
                Ascii::Mark => self.put(char::from(byte), Kind::Outside, at),
                Ascii::Quote => self.put('\'', Kind::Outside, at),
                Ascii::Blank => self.blank(at),
                Ascii::Dash => {
                    at = self.dash(at, at + 1);
                    continue;
                }
                // It stays within a span that goes around it, and is at the border of none.
                Ascii::Control => {}
            }
            at += 1;
        }
        self.end_word();
    }

    /// The run of ASCII letters at byte `at`; says where it ends.
    fn letters(&mut self, at: usize) -> usize {
        self.begin(Kind::Letter);
        let rest = &self.text.as_bytes()[at..];
        let run = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let first = self.folded.from.len();
        self.folded.chars.extend(rest[..run].iter().map(|byte| char::from(byte | 0x20)));
        self.folded.from.extend(at as u32..(at + run) as u32);
        self.folded.from[first] |= self.joint;
        self.joint = 0;
        at + run
    }

    fn put(&mut self, c: char, kind: Kind, at: usize) {
        self.begin(kind);
        self.folded.chars.push(c);
        self.folded.from.push(at as u32 | self.joint);
        self.joint = 0;
    }

    fn begin(&mut self, kind: Kind) {
        if kind != self.kind || kind == Kind::Unspaced {
            self.end_word();
            self.kind = kind;
            self.start = self.folded.chars.len();
        } else if self.joint != 0 && kind != Kind::Outside {
            let end = self.folded.chars.len();
            let part = self.part.unwrap_or(self.start);
            (self.on_word)(Word::new(&self.folded.chars, part), end as u32);
            self.part = Some(end);
        }
    }

    fn end_word(&mut self) {
        if self.kind == Kind::Outside {
            return;
        }
        let end = self.folded.chars.len() as u32;
        (self.on_word)(Word::new(&self.folded.chars, self.start), end);
        if let Some(part) = self.part.take() {
            (self.on_word)(Word::new(&self.folded.chars, part), end);
        }
    }

    fn last(&self) -> Option<char> {
        self.folded.chars[self.first..].last().copied()
    }

    fn blank(&mut self, at: usize) {
        if self.last().is_some_and(|last| last != ' ') {
            self.put(' ', Kind::Outside, at);
        }
    }

    /// A dash between letters goes, so that `pole-and-line` is found across a line break, with its hyphen or one
    /// more; elsewhere one stays of each run, and what breaks the line behind it goes.
    fn dash(&mut self, at: usize, next: usize) -> usize {
        let rest = &self.text[next..];
        let blanks = rest.len() - rest.trim_start().len();
        let breaks_line =
            self.text.as_bytes()[next..next + blanks].iter().any(|b| matches!(b, b'\n' | b'\r'));
        let left = self.last();
        let right = rest[blanks..].chars().next();
        let joins = left.is_some_and(is_word) && right.is_some_and(is_word) && (blanks == 0 || breaks_line);
        if !joins {
            if left != Some('-') {
                self.put('-', Kind::Outside, at);
            }
            return next;
        }
        if left.is_some_and(char::is_alphabetic) && right.is_some_and(char::is_alphabetic) {
            self.joint = JOINT;
        } else {
            self.put('-', Kind::Outside, at);
        }
        next + blanks
    }

    /// Takes in the character at byte `at` and says where the next one starts.
    fn beyond_ascii(&mut self, at: usize) -> usize {
        let Some(c) = self.text[at..].chars().next() else { return self.text.len() };
        let next = at + c.len_utf8();
        let code = c as usize;
        if let Some(&simple) = SIMPLE.get(code.wrapping_sub(128)).filter(|c| **c != '\0') {
            self.put(simple, Kind::Letter, at);
        } else if is_plain_ideograph(code) {
            self.put(c, Kind::Unspaced, at);
        } else if c.is_whitespace() {
            self.blank(at);
        } else if is_dash(c) || (c == '¬' && self.text[next..].starts_with(['\n', '\r'])) {
            return self.dash(at, next);
        } else if let Some(quote) = plain_quote(c) {
            self.put(quote, Kind::Outside, at);
        } else if !is_invisible(c) && !is_accent(c) {
            for c in spelt_out(c) {
                self.put(c, kind(c), at);
            }
        }
        next
    }
}

/// What a character folds to, one or several.
fn spelt_out(c: char) -> impl Iterator<Item = char> {
    let (instead, own) = match c {
        'ß' | 'ẞ' => ("ss", None),
        'æ' | 'Æ' | 'ǽ' | 'Ǽ' => ("ae", None),
        'œ' | 'Œ' => ("oe", None),
        'ø' | 'Ø' => ("o", None),
        'ł' | 'Ł' => ("l", None),
        'đ' | 'Đ' | 'ð' | 'Ð' => ("d", None),
        'þ' | 'Þ' => ("th", None),
        'ı' => ("i", None),
        'ς' => ("σ", None),
        _ => ("", Some(c)),
    };
    let own =
        own.into_iter().flat_map(|c| std::iter::once(plain_digit(c)).nfkd()).flat_map(char::to_lowercase);
    instead.chars().chain(own.filter(|c| !is_accent(*c)))
}

/// ASCII for the digits of Arabic, Persian and Devanagari.
fn plain_digit(c: char) -> char {
    let zero = match c {
        '\u{660}'..='\u{669}' => 0x660,
        '\u{6F0}'..='\u{6F9}' => 0x6F0,
        '\u{966}'..='\u{96F}' => 0x966,
        _ => return c,
    };
    char::from_digit(c as u32 - zero, 10).unwrap_or(c)
}

fn kind(c: char) -> Kind {
    match c {
        c if !is_word(c) => Kind::Outside,
        c if is_unspaced(c) => Kind::Unspaced,
        c if c.is_numeric() => Kind::Digit,
        _ => Kind::Letter,
    }
}

/// Letters, digits and the marks that belong to them.
pub(super) fn is_word(c: char) -> bool {
    match c {
        '0'..='9' | 'a'..='z' | 'A'..='Z' => true,
        '\0'..='\x7F' => false,
        c => c.is_alphanumeric() || is_combining_mark(c),
    }
}

/// Part of a word of a script that parts words by blanks.
pub(super) fn in_words(c: char) -> bool {
    is_word(c) && !is_unspaced(c)
}

/// A character of a script that writes words without blanks between them, Thai to Burmese, Khmer, Chinese, Japanese,
/// or that glues particles to them: Korean.
pub(super) fn is_unspaced(c: char) -> bool {
    c >= '\u{0E00}'
        && matches!(c,
            '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1100}'..='\u{11FF}' | '\u{1780}'..='\u{17FF}'
            | '\u{2E80}'..='\u{312F}' | '\u{31A0}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7FF}'
            | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

/// Hiragana, Katakana and ideographs that stand for themselves.
fn is_plain_ideograph(code: usize) -> bool {
    matches!(code, 0x4E00..=0x9FFF | 0x3400..=0x4DBF)
}

fn is_accent(c: char) -> bool {
    match c {
        '\0'..='\u{2FF}' => false,
        // Points and cantillation of Hebrew, vowel signs and lengthening of Arabic.
        '\u{591}'..='\u{5BD}'
        | '\u{5BF}'
        | '\u{5C1}'..='\u{5C7}'
        | '\u{610}'..='\u{61A}'
        | '\u{640}'
        | '\u{64B}'..='\u{65F}'
        | '\u{670}'
        | '\u{6D6}'..='\u{6DC}'
        | '\u{6DF}'..='\u{6ED}' => true,
        c => canonical_combining_class(c) >= ACCENTS,
    }
}

fn is_dash(c: char) -> bool {
    matches!(
        c,
        '-' | '\u{2010}'
            ..='\u{2015}' | '\u{2E17}' | '\u{2212}' | '\u{FE58}' | '\u{FE63}' | '\u{FF0D}' | '\u{AD}'
    )
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
        | 'ʹ'
        | '\u{FF07}' => Some('\''),
        '"' | '\u{201C}'..='\u{201F}' | '\u{2033}' | '«' | '»' | '\u{FF02}' => Some('"'),
        _ => None,
    }
}

/// Zero-width and control characters, marks of direction.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}'
            | '\u{FE00}'..='\u{FE0F}' | '\u{61C}')
}
