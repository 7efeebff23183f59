//! How OCR errs: which characters it takes for each other, and what each error costs.
//!
//! Costs are in tenths of an edit. A digit is never another digit (but for one in a long text of letters, see
//! `align`), is never lost and never added; it may only be read as a letter that is drawn like it, or the other way round.

use std::sync::LazyLock;

use super::fold::is_word;

/// Never.
pub(super) const NO: u16 = 255;

/// Any character for any other, and one that stands on one side alone.
const REPLACED: u16 = 10;
const ALONE: u16 = 8;
/// One of a single stroke, which specks add and blots take away.
const THIN: u16 = 6;
const BLANK: u16 = 3;
const MARK: u16 = 2;

/// Characters drawn so much alike that only their word tells them apart.
pub(super) const TWIN: u16 = 3;
/// Characters that a worn or blurred type confuses.
const LIKE: u16 = 5;
/// Two letters read as one, or one as two.
pub(super) const PAIR: u16 = 4;

const TWINS: &[&str] = &[
    "0o", "0q", "0d", "1l", "1i", "1j", "1t", "il", "ij", "lj", "2z", "5s", "6b", "6g", "8b", "9g", "9q",
    "gq", "7t", "4a", "sf", "uv", "ce", "oe", "co", "un", "nr", "hb", "tf", "vy", "8s", "8g", "3e", "3b",
    "1r", "oq", "od",
];
const LIKES: &[&str] = &[
    "ao", "ae", "as", "nh", "mn", "rt", "tl", "ti", "lf", "fi", "pf", "ef", "cg", "dq", "vw", "xk", "yg",
    "zs", "hk", "bd", "ri", "rv", "rc", "rf", "nu", "au", "an", "eg", "es", "bh", "lb", "hl", "nv", "uy",
    "ou", "gy", "py", "jf", "je", "it", "kt", "kr", "mw", "wu", "bo", "do", "pr", "dc", "0c", "0u", "gj",
    "bv", "vd", "br", "db", "гr", "гt", "rг", "ht", "7z", "7l", "7i", "1f", "6c", "6o", "8o", "9o", "3z",
    "5g", "5b", "6e", "8r", "нп", "пн", "шщ", "цп", "лп", "иn", "ии", "ьы", "бь", "гт", "вз", "жк", "дл",
    "шп", "ни", "зэ", "3з", "6б", "чу", "ct", "щц", "ип", "иш", "зв", "דר", "הח", "הת", "חת", "ון", "וז",
    "וי", "זן", "םס", "כב", "נג", "טמ", "רך", "דך", "מם", "כך", "נן", "פף", "צץ", "עצ", "بت", "بث", "تث",
    "بن", "تن", "ثن", "بي", "تي", "ني", "جح", "حخ", "جخ", "دذ", "رز", "سش", "صض", "طظ", "عغ", "فق", "ةه",
    "ىي",
];
/// Marks that stand for letters and digits of one stroke, or for what they are part of.
const STROKES: &[&str] = &[
    "1|!][/\\",
    "i|!][",
    "l|!][/\\",
    "t]",
    "j]",
    "c(",
    "s$",
    "5$§",
    "s§",
    "8&",
    "e€£",
    "c€",
    "o°",
    "0°@¢€©",
    "q°",
];
const PAIRS: &[(&str, char)] = &[
    ("rn", 'm'),
    ("nn", 'm'),
    ("in", 'm'),
    ("ni", 'm'),
    ("ri", 'm'),
    ("vv", 'w'),
    ("uv", 'w'),
    ("vu", 'w'),
    ("cl", 'd'),
    ("ci", 'd'),
    ("ol", 'd'),
    ("li", 'h'),
    ("ii", 'u'),
    ("ll", 'u'),
    ("li", 'u'),
    ("il", 'u'),
    ("ii", 'n'),
    ("ri", 'n'),
    ("ti", 'n'),
    ("lc", 'k'),
    ("ic", 'k'),
    ("lo", 'b'),
    ("li", 'b'),
    ("fi", 'h'),
    ("tt", 'u'),
    ("ij", 'y'),
    ("lj", 'y'),
    ("rr", 'n'),
    ("fl", 'h'),
    ("ii", 'h'),
    ("ss", 'b'),
    ("fs", 'b'),
    ("il", 'n'),
    ("li", 'n'),
    ("it", 'n'),
    // Not misread, but spelt out: `Moewe`.
    ("ae", 'a'),
    ("oe", 'o'),
    ("ue", 'u'),
];

const LETTERS: usize = 26;

static COSTS: LazyLock<Costs> = LazyLock::new(Costs::new);
static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| (0..TABLE as u32).map(Shape::new).collect());

/// The class of what is neither letter nor digit.
const OUTSIDE: u8 = 255;

/// The end of the tables by code point: Latin, Greek, Cyrillic.
const TABLE: usize = 0x530;

#[derive(Debug, Clone, Copy)]
struct Shape {
    /// The ASCII character drawn like this one, itself, or 0.
    ascii: u8,
    class: u8,
}

/// The tables, at hand for a whole page.
#[derive(Clone, Copy)]
pub(super) struct Look {
    costs: &'static Costs,
    shapes: &'static [Shape],
}

struct Costs {
    /// By two ASCII characters.
    ascii: Vec<u8>,
    /// By two letters: the letters, as bits, that they may be read as.
    pairs: Vec<u32>,
    /// Pairs of others and their cost, sorted.
    others: Vec<(char, char, u16)>,
}

impl Costs {
    fn new() -> Self {
        let mut ascii = vec![0; 128 * 128];
        let mut others = Vec::new();
        for a in 0..128u8 {
            for b in 0..128u8 {
                let (c, d) = (char::from(a), char::from(b));
                let cost = match (a == b, is_word(c), is_word(d)) {
                    (true, ..) => 0,
                    (_, false, false) => {
                        if c == ' ' || d == ' ' {
                            BLANK
                        } else {
                            MARK
                        }
                    }
                    _ if c.is_ascii_digit() || d.is_ascii_digit() => NO,
                    _ => REPLACED,
                };
                ascii[usize::from(a) * 128 + usize::from(b)] = cost as u8;
            }
        }
        let mut alike = |a: char, b: char, cost: u16| {
            let (a, b) = (drawn(a), drawn(b));
            if a.is_ascii() && b.is_ascii() {
                ascii[a as usize * 128 + b as usize] = cost as u8;
                ascii[b as usize * 128 + a as usize] = cost as u8;
            } else {
                others.extend([(a, b, cost), (b, a, cost)]);
            }
        };
        for (lists, cost) in [(LIKES, LIKE), (TWINS, TWIN)] {
            for pair in lists {
                let mut chars = pair.chars();
                if let (Some(a), Some(b)) = (chars.next(), chars.next()) {
                    alike(a, b, cost);
                }
            }
        }
        for strokes in STROKES {
            let mut chars = strokes.chars();
            let Some(first) = chars.next() else { continue };
            chars.for_each(|mark| alike(first, mark, TWIN));
        }
        others.sort_unstable();
        let mut pairs = vec![0; LETTERS * LETTERS];
        for (pair, one) in PAIRS {
            let mut chars = pair.chars();
            if let (Some(a), Some(b)) = (chars.next().and_then(letter), chars.next().and_then(letter)) {
                pairs[a * LETTERS + b] |= bit(*one);
            }
        }
        Self { ascii, pairs, others }
    }
}

/// As [`Look::plain`], before there are tables.
fn drawn(c: char) -> char {
    match latin(c) {
        0 => c,
        ascii => char::from(ascii),
    }
}

/// Whether one of the two is no letter.
fn is_sign(a: char, b: char) -> bool {
    [a, b].iter().any(|c| c.is_numeric() || !is_word(*c))
}

fn letter(c: char) -> Option<usize> {
    c.is_ascii_lowercase().then(|| c as usize - 'a' as usize)
}

/// A Latin letter as a bit, for comparison with [`Look::pair`].
pub(super) fn bit(c: char) -> u32 {
    letter(c).map_or(0, |letter| 1 << letter)
}

impl Look {
    pub fn new() -> Self {
        Self { costs: &COSTS, shapes: &SHAPES }
    }

    /// The ASCII character drawn like this one, else itself.
    pub fn plain(&self, c: char) -> char {
        match self.shapes.get(c as usize) {
            Some(shape) if shape.ascii != 0 => char::from(shape.ascii),
            _ => c,
        }
    }

    /// One of 64 classes; what OCR cannot tell apart is in one. None for what is neither letter nor digit.
    #[inline]
    pub fn class(&self, c: char) -> Option<u8> {
        match self.shapes.get(c as usize) {
            Some(shape) => (shape.class != OUTSIDE).then_some(shape.class),
            None => is_word(c).then(|| other_class(c as u32)),
        }
    }

    /// What it costs to read one character for another; both plain. An identifier is read otherwise only where a
    /// letter stands for a digit.
    #[inline]
    pub fn replaced(&self, wanted: char, there: char, identifier: bool) -> u16 {
        if wanted == there {
            return 0;
        }
        let (a, b) = (wanted as usize, there as usize);
        let cost =
            if (a | b) < 128 { u16::from(self.costs.ascii[a * 128 + b]) } else { self.others(wanted, there) };
        if identifier && !(cost <= TWIN && is_sign(wanted, there)) { NO } else { cost }
    }

    fn others(&self, wanted: char, there: char) -> u16 {
        match self.costs.others.binary_search_by_key(&(wanted, there), |(a, b, _)| (*a, *b)) {
            Ok(at) => self.costs.others[at].2,
            Err(_) if wanted.is_numeric() || there.is_numeric() => NO,
            Err(_) => REPLACED,
        }
    }

    /// What it costs when a character stands on one side alone.
    pub fn alone(&self, c: char, identifier: bool) -> u16 {
        match c {
            ' ' => BLANK,
            '0'..='9' => NO,
            c if !is_word(c) => MARK,
            _ if identifier => NO,
            'i' | 'l' | 't' | 'j' | 'f' | 'r' => THIN,
            c if c.is_numeric() => NO,
            _ => ALONE,
        }
    }

    /// The letters, as bits, that two may be read as.
    pub fn pair(&self, a: char, b: char) -> u32 {
        match (letter(a), letter(b)) {
            (Some(a), Some(b)) => self.costs.pairs[a * LETTERS + b],
            _ => 0,
        }
    }
}

impl Shape {
    fn new(code: u32) -> Self {
        let c = char::from_u32(code).unwrap_or('\0');
        let ascii = if c.is_ascii() { c as u8 } else { latin(c) };
        let class = match ascii {
            b'0' | b'o' | b'd' | b'q' => 0,
            b'1' | b'i' | b'l' | b'j' | b't' | b'f' | b'7' => 1,
            b'2' | b'z' => 2,
            b'5' | b's' => 3,
            b'8' | b'b' | b'6' | b'h' => 4,
            b'g' | b'9' => 5,
            b'c' | b'e' => 6,
            b'u' | b'v' | b'n' => 7,
            b'3'..=b'4' | b'a' => 8,
            b'k' | b'x' => 9,
            b'm' => 10,
            b'p' => 11,
            b'r' => 12,
            b'w' => 13,
            b'y' => 14,
            _ => other_class(code),
        };
        let class = if is_word(c) { class } else { OUTSIDE };
        Self { ascii, class }
    }
}

/// For what has no Latin look: 15 to 63.
fn other_class(code: u32) -> u8 {
    (15 + (code.wrapping_mul(0x9E37_79B1) >> 16) % 49) as u8
}

/// The Latin letter drawn like a Cyrillic or Greek one, in one case or the other; 0: none.
fn latin(c: char) -> u8 {
    match c {
        'а' | 'α' => b'a',
        'в' | 'β' => b'b',
        'е' | 'ε' => b'e',
        'к' | 'κ' => b'k',
        'м' | 'μ' => b'm',
        'н' | 'η' => b'h',
        'о' | 'ο' | 'σ' => b'o',
        'р' | 'ρ' => b'p',
        'с' => b'c',
        'т' | 'τ' => b't',
        'у' | 'υ' => b'y',
        'х' | 'χ' => b'x',
        'і' | 'ι' => b'i',
        'ѕ' => b's',
        'ј' => b'j',
        'ζ' => b'z',
        'ν' => b'v',
        'ω' => b'w',
        _ => 0,
    }
}
