//! Generated cases: pages in nine languages on which each mention was changed in one of fourteen ways, by a seed.

use dgx_agent::ground::MatchKind;
use proto::labelset::Mention;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::bend::{broken, decomposed, garbled, one_off, plain};
use super::names::{LANGUAGES, Language};
use super::{Case, Expected, Place};

pub const KINDS: [&str; 14] = [
    "exact",
    "case",
    "line break",
    "blanks",
    "hyphenation",
    "OCR confusion",
    "ligature",
    "decomposed",
    "accents",
    "quotes and dashes",
    "trailing punctuation",
    "repeats",
    "invented",
    "one digit off",
];

/// Mentions of a page.
const MENTIONS: usize = 10;

/// A page under construction.
struct Draft<'r> {
    rng: &'r mut StdRng,
    language: &'static Language,
    text: String,
    length: usize,
    mentions: Vec<(usize, Mention, Expected)>,
    used: Vec<String>,
}

/// Pages with mentions of all kinds.
pub fn cases(seed: u64, pages: usize) -> Vec<Case> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..pages).map(|n| page(&mut rng, &LANGUAGES[n % LANGUAGES.len()], n)).collect()
}

/// Pages of about 3 KB with ten mentions: 60 % exact, 25 % normalised, 15 % fuzzy.
pub fn load(seed: u64, pages: usize) -> Vec<Case> {
    let mut rng = StdRng::seed_from_u64(seed);
    let share = |n: usize| match n % 20 {
        0..12 => MatchKind::Exact,
        12..17 => MatchKind::Normalized,
        _ => MatchKind::Fuzzy,
    };
    let mut pages: Vec<Case> = (0..pages)
        .map(|n| {
            let mut draft = Draft::new(&mut rng, &LANGUAGES[n % 4]);
            for m in 0..MENTIONS {
                draft.filler(36);
                let kind = match share(n * MENTIONS + m) {
                    MatchKind::Exact => "exact",
                    MatchKind::Normalized => {
                        ["case", "line break", "blanks", "hyphenation", "accents"][(n + m) % 5]
                    }
                    MatchKind::Fuzzy => "OCR confusion",
                };
                draft.mention(kind);
            }
            draft.filler(60);
            draft.done()
        })
        .collect();
    pages.iter_mut().for_each(|page| page.text.truncate(page.text.floor_char_boundary(4000)));
    pages
}

fn page(rng: &mut StdRng, language: &'static Language, n: usize) -> Case {
    let mut draft = Draft::new(rng, language);
    for m in 0..MENTIONS {
        let filler = draft.rng.random_range(4..30);
        draft.filler(filler);
        draft.mention(KINDS[(n / LANGUAGES.len() * MENTIONS + m) % KINDS.len()]);
    }
    draft.filler(12);
    draft.done()
}

impl<'r> Draft<'r> {
    fn new(rng: &'r mut StdRng, language: &'static Language) -> Self {
        Self { rng, language, text: String::new(), length: 0, mentions: Vec::new(), used: Vec::new() }
    }

    fn done(mut self) -> Case {
        // A model goes down the page; what it invents may be anywhere.
        self.mentions.sort_by_key(|(at, ..)| *at);
        let (mentions, expected) =
            self.mentions.into_iter().map(|(_, mention, expected)| (mention, expected)).unzip();
        Case { text: self.text, mentions, expected }
    }

    fn push(&mut self, text: &str) -> Place {
        let start = self.length;
        self.length += text.chars().count();
        self.text.push_str(text);
        (start, self.length)
    }

    fn gap(&mut self) {
        let gap = if !self.language.spaced {
            ""
        } else if self.rng.random_bool(0.1) {
            "\n"
        } else {
            " "
        };
        if !self.text.is_empty() {
            self.push(gap);
        }
    }

    fn filler(&mut self, words: usize) {
        for n in 0..words {
            self.gap();
            let word = *self.language.filler.choose(self.rng).unwrap_or(&"");
            self.push(word);
            if n % 11 == 10 {
                self.push(if self.language.spaced { "." } else { "。" });
            }
        }
    }

    /// A name that the page does not have yet.
    fn name(&mut self) -> String {
        loop {
            let count = self.rng.random_range(2..=3);
            let words: Vec<&str> = self.language.words.choose_multiple(self.rng, count).copied().collect();
            let name = words.join(if self.language.spaced { " " } else { "" });
            if self.fresh(&name) {
                return name;
            }
        }
    }

    fn special(&mut self, has: impl Fn(&str) -> bool) -> String {
        for _ in 0..40 {
            let special = *self.language.special.choose(self.rng).unwrap_or(&"");
            let word = *self.language.words.choose(self.rng).unwrap_or(&"");
            let name = format!("{special}{}{word}", if self.language.spaced { " " } else { "" });
            if has(&name) && self.fresh(&name) {
                return name;
            }
        }
        self.name()
    }

    fn fresh(&mut self, name: &str) -> bool {
        let folded = name.to_lowercase();
        let fresh =
            self.used.iter().all(|other| !other.contains(&folded) && !folded.contains(other.as_str()));
        if fresh {
            self.used.push(folded);
        }
        fresh
    }

    fn label(&mut self) -> &'static str {
        ["VESSEL_NAME", "OWNER", "MASTER", "PORT", "VESSEL_NAME"].choose(self.rng).unwrap_or(&"OWNER")
    }

    fn identifier(&mut self) -> (&'static str, String) {
        loop {
            let (label, value) = match self.rng.random_range(0..5) {
                0 => ("IMO", imo(self.rng.random_range(300_000..999_999))),
                1 => (
                    "MMSI",
                    format!(
                        "{}{:06}",
                        [224, 351, 663, 412].choose(self.rng).unwrap_or(&224),
                        self.rng.random_range(0..1_000_000)
                    ),
                ),
                2 => (
                    "DATE",
                    format!(
                        "{}-{:02}-{:02}",
                        self.rng.random_range(1990..2025),
                        self.rng.random_range(1..13),
                        self.rng.random_range(1..29)
                    ),
                ),
                3 => (
                    "LICENCE_NO",
                    format!(
                        "LIC-{}-{:04}",
                        self.rng.random_range(2000..2025),
                        self.rng.random_range(0..10_000)
                    ),
                ),
                _ => (
                    "CALL_SIGN",
                    format!(
                        "3FR{}{}",
                        ['K', 'M', 'T'].choose(self.rng).unwrap_or(&'K'),
                        self.rng.random_range(2..10)
                    ),
                ),
            };
            if self.fresh(&value) {
                return (label, value);
            }
        }
    }

    fn mention(&mut self, kind: &'static str) {
        let rtl_or_spaced = self.language.spaced;
        match kind {
            "repeats" => return self.repeats(),
            "invented" => {
                let (label, text) = match self.rng.random_bool(0.3) {
                    true => self.identifier(),
                    false => (self.label(), self.name()),
                };
                // It may come with words that are on the page.
                let before = self.rng.random_bool(0.3).then(|| tail(&self.text));
                return self.ask(label, &text, before, kind, Vec::new());
            }
            "one digit off" => {
                let (label, text) = self.identifier();
                self.announced(&text);
                let off = one_off(&text, self.rng);
                self.used.push(off.to_lowercase());
                return self.ask(label, &off, None, kind, Vec::new());
            }
            _ => {}
        }
        let (label, name) = match kind {
            "exact" | "trailing punctuation" if self.rng.random_bool(0.4) => self.identifier(),
            "OCR confusion" if self.rng.random_bool(0.15) => {
                ("IMO", imo(self.rng.random_range(300_000..999_999)))
            }
            "ligature" => (
                self.label(),
                self.special(|name| ["fi", "fl", "ff", "æ", "œ", "Æ", "Œ"].iter().any(|l| name.contains(l))),
            ),
            "accents" | "decomposed" => (self.label(), self.special(|name| plain(name) != *name)),
            "quotes and dashes" => {
                (self.label(), self.special(|name| name.contains(['\'', '"', '-', '«', '“'])))
            }
            _ => (self.label(), self.name()),
        };
        let (page, asked) = self.changed(kind, &name, rtl_or_spaced);
        let before = self.rng.random_bool(0.5);
        let (place, context) = self.announced(&page);
        self.ask(label, &asked, before.then_some(context), kind, vec![place]);
    }

    /// Name on the page after what announces it, with the words in front.
    fn announced(&mut self, page: &str) -> (Place, String) {
        self.gap();
        let cue = *self.language.cues.choose(self.rng).unwrap_or(&"");
        self.push(cue);
        self.gap();
        let context = tail(&self.text);
        let place = self.push(page);
        if self.rng.random_bool(0.4) {
            let mark = *[",", ".", ";", ")"].choose(self.rng).unwrap_or(&",");
            self.push(mark);
        }
        (place, context)
    }

    fn ask(
        &mut self,
        label: &str,
        text: &str,
        before: Option<String>,
        kind: &'static str,
        places: Vec<Place>,
    ) {
        let at = places.first().map_or_else(|| self.rng.random_range(0..=self.length), |place| place.0);
        let mention = Mention { label: label.to_owned(), text: text.to_owned(), before };
        self.mentions.push((at, mention, Expected { kind, places }));
    }

    /// A name that stands several times: asked for as often, or fewer times and then with the words in front.
    fn repeats(&mut self) {
        let (label, name) = (self.label(), self.name());
        let count = self.rng.random_range(2..=5);
        let mut stands = Vec::new();
        for _ in 0..count {
            stands.push(self.announced(&name));
            let words = self.rng.random_range(3..9);
            self.filler(words);
        }
        let all = self.rng.random_bool(0.5);
        for (place, context) in &stands {
            if all {
                self.ask(label, &name, None, "repeats", vec![*place]);
            } else if self.rng.random_bool(0.5) {
                // Any place that has these words in front.
                let fits = stands.iter().filter(|(_, other)| other.ends_with(context.as_str()));
                let mut places: Vec<Place> = fits.map(|(place, _)| *place).collect();
                places.sort_by_key(|other| other != place);
                self.ask(label, &name, Some(context.clone()), "repeats", places);
            }
        }
    }

    /// What the page has, and what is asked for.
    fn changed(&mut self, kind: &str, name: &str, spaced: bool) -> (String, String) {
        let same = name.to_owned();
        let rng = &mut *self.rng;
        match kind {
            "case" => match rng.random_range(0..3) {
                0 => (name.to_uppercase(), same),
                1 => (same, name.to_lowercase()),
                _ => (name.to_lowercase(), same),
            },
            "line break" if spaced => {
                (name.replacen(' ', ["\n", "\r\n", "\n   "].choose(rng).unwrap_or(&"\n"), 1), same)
            }
            "line break" => (broken(name, "\n", rng), same),
            "blanks" if spaced => (
                name.replace(' ', ["  ", "    ", "\t", "\u{A0}", " \u{2009} "].choose(rng).unwrap_or(&"  ")),
                same,
            ),
            "hyphenation" if spaced => (
                broken(name, ["-\n", "-\r\n", "-\n  ", "\u{AD}\n", "‐\n"].choose(rng).unwrap_or(&"-\n"), rng),
                same,
            ),
            "OCR confusion" => (garbled(name, rng), same),
            "ligature" => {
                let mut page = same.clone();
                for (plain, ligature) in [("ffi", "ﬃ"), ("ffl", "ﬄ"), ("ff", "ﬀ"), ("fi", "ﬁ"), ("fl", "ﬂ")]
                {
                    page = page.replace(plain, ligature);
                }
                let asked = ["æ", "œ", "Æ", "Œ"]
                    .iter()
                    .zip(["ae", "oe", "Ae", "Oe"])
                    .fold(same, |name, (l, p)| name.replace(l, p));
                (page, asked)
            }
            "decomposed" if rng.random_bool(0.5) => (decomposed(name), same),
            "decomposed" => (same, decomposed(name)),
            "accents" if rng.random_bool(0.6) => (plain(name), same),
            "accents" => (same, plain(name)),
            "quotes and dashes" => {
                let dash = *["–", "‑", "—", "\u{2010}", "−"].choose(rng).unwrap_or(&"–");
                let page =
                    name.replace('\'', "’").replace('-', dash).replacen('"', "“", 1).replacen('"', "”", 1);
                if rng.random_bool(0.5) { (page, same) } else { (same, page) }
            }
            "trailing punctuation" => {
                let mark = *[".", ",", ":", ")", "\"", ";"].choose(rng).unwrap_or(&".");
                (same, format!("{}{name}{mark}", if mark == ")" { "(" } else { "" }))
            }
            _ => (same.clone(), same),
        }
    }
}

/// The last words of a text.
fn tail(text: &str) -> String {
    let start = text.char_indices().rev().nth(24).map_or(0, |(at, _)| at);
    let tail = text[start..].trim();
    tail.split_once(' ').map_or(tail, |(_, words)| words).to_owned()
}

fn imo(number: u32) -> String {
    let digits = format!("{number:06}");
    let sum: u32 =
        digits.bytes().zip((2..=7).rev()).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    format!("{digits}{}", sum % 10)
}
