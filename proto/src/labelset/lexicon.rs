//! Names by code: countries, ports, species, months.

use std::collections::{BTreeMap, HashMap, HashSet};

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// A list of codes, each with the names that stand for it in any language.
#[derive(Debug, Clone)]
pub struct Lexicon {
    /// Those that are looked for, the longest first, so that an alternation takes the longest.
    names: Vec<String>,
    /// By name, folded.
    codes: HashMap<String, String>,
    /// Those that people write on pages, too: `YFT`, `OTB`, `PAN`.
    written: HashSet<String>,
}

/// Before a name that is read, but is another word more often than a name: patterns leave it out.
const READ_ONLY: char = '~';

/// Shortest code that is taken for itself.
const MIN_WRITTEN: usize = 2;

impl Lexicon {
    pub(super) fn new(codes: &BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        let all = || codes.values().flatten();
        let mut names: Vec<String> = all().filter(|name| !name.starts_with(READ_ONLY)).cloned().collect();
        if names.is_empty() || all().any(|name| fold(name).is_empty()) {
            return Err("has no names to look for, or an empty one".to_owned());
        }
        names.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let mut by_name: HashMap<String, String> = HashMap::new();
        for (code, name) in codes.iter().flat_map(|(code, names)| names.iter().map(move |name| (code, name)))
        {
            if let Some(other) = by_name.insert(fold(name), code.clone()).filter(|other| other != code) {
                return Err(format!("{name:?} stands for both {other:?} and {code:?}"));
            }
        }
        let capitals =
            |code: &String| code.len() >= MIN_WRITTEN && code.bytes().all(|b| b.is_ascii_uppercase());
        let written = codes.keys().filter(|code| capitals(code)).cloned().collect();
        Ok(Self { names, codes: by_name, written })
    }

    /// The code of a name, whatever its case, accents, blanks and hyphens; of a code in capitals, itself.
    pub fn code(&self, name: &str) -> Option<&str> {
        let written = || self.written.get(name.trim()).map(String::as_str);
        self.codes.get(&fold(name)).map(String::as_str).or_else(written)
    }

    /// An alternation of the names that are looked for. Where the list writes a capital first, the page must, too: Manta is a port,
    /// manta is not.
    pub(super) fn pattern(&self) -> String {
        let names: Vec<String> = self.names.iter().map(|name| name_pattern(name)).collect();
        format!("(?:{})", names.join("|"))
    }
}

/// Lower case, without accents; blanks and hyphens become one blank, and outer punctuation goes.
pub fn fold(text: &str) -> String {
    let plain: String = text
        .nfkd()
        .filter(|c| !is_combining_mark(*c))
        .flat_map(char::to_lowercase)
        .map(|c| match c {
            '’' | 'ʼ' => '\'',
            '-' | '‐' | '‑' | '–' => ' ',
            c => c,
        })
        .collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    words.join(" ").trim_matches(|c: char| !c.is_alphanumeric()).to_owned()
}

fn name_pattern(name: &str) -> String {
    let mut pattern = String::new();
    let mut chars = name.chars();
    if let Some(first) = chars.next() {
        let with_case = if first.is_uppercase() { "(?-i:" } else { "(?i:" };
        pattern.push_str(with_case);
        pattern.push_str(&char_pattern(first));
        pattern.push(')');
    }
    pattern.push_str("(?i:");
    chars.for_each(|c| pattern.push_str(&char_pattern(c)));
    pattern.push(')');
    pattern
}

/// A character as it may stand on the page: OCR drops accents, breaks lines, bends apostrophes.
fn char_pattern(c: char) -> String {
    match c {
        ' ' | '-' => r"[\s-]{1,3}".to_owned(),
        '\'' => "['’‘ʼ]".to_owned(),
        c => match c.nfd().next().filter(|base| *base != c) {
            Some(base) => format!("[{c}{base}]"),
            None => regex_syntax::escape(c.encode_utf8(&mut [0; 4])),
        },
    }
}
