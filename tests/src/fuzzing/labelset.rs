//! Labelsets that nobody wrote: the embedded one and small ones, with lines lost, doubled and exchanged, and with
//! pieces of TOML, of patterns and of Unicode put anywhere.

use anyhow::{Context, Result, ensure};
use dgx_agent::rules::Rules;
use proto::labelset::Labelset;
use rand::{Rng, seq::IndexedRandom};

const PIECES: &[&str] = &[
    "\"",
    "'",
    "'''",
    "\"\"\"",
    "[",
    "]",
    "[[labels]]",
    "[[labels.rules]]",
    "[fragments]",
    "[lexicons.x]",
    "=",
    "\n",
    "{",
    "}",
    "{{",
    "}}",
    "{{gap}}",
    "{{a}}",
    "{{x}}",
    "(",
    ")",
    "(?:",
    "(?i:",
    "(?P<value>",
    "(?-u:\\b)",
    "\\b",
    "\\d",
    "\\w",
    "\\s",
    "\\A",
    "\\z",
    "^",
    "$",
    "|",
    "?",
    "+",
    "*",
    ".",
    "{0,3}",
    "{99}",
    "[^\\n]",
    "[a-z]",
    "\\pL",
    "\\x00",
    "船",
    "é",
    "\u{301}",
    "ß",
    "\u{FEFF}",
    "\0",
    "\\u0000",
    "A",
    "b",
    "7",
    " ",
    "true",
    "false",
    "1e999",
    "-0",
    "1979-05-27",
    "repeats = true\n",
    "identifier = true\n",
    "on_invalid = \"keep\"\n",
    "on_invalid = \"lower\"\n",
    "validator = \"imo\"\n",
    "validator = \"date\"\n",
    "validator = \"lexicon\"\nlexicon = \"x\"\n",
    "stop = 'b'\n",
];

/// Of patterns.
const ATOMS: &[&str] = &[
    "a",
    "B",
    "é",
    "船",
    "7",
    " ",
    "\\d",
    "\\w",
    "\\pL",
    "[A-Z]",
    "[^a]",
    ".",
    "\\s",
    "(?-u:\\b)",
    "\\b",
    "^",
    "$",
    "{{a}}",
    "{{x}}",
    "(?P<value>a)",
    "(a|7)",
    "(?i:é)",
    "|",
    "",
];

const TIMES: &[&str] = &["", "", "", "?", "{0,3}", "{1,9}", "*", "+?", "{2}"];

/// Of pages.
const WORDS: &[&str] = &[
    "a",
    "A",
    "b",
    "B",
    "7",
    "77",
    " ",
    "\n",
    "é",
    "e\u{301}",
    "船",
    "OCEAN LANTERN",
    "IMO 9074729",
    "4522460",
    ": ",
    "«",
    "»",
    "7 March 2024",
    "Panama",
    "\0",
    "\u{FEFF}",
    "😀",
    "ﬁ",
    "İ",
    "Owner: ",
    "Paper Moon Fishing Co. Ltd",
    "bigeye tuna",
    ".",
];

fn pieces(rng: &mut impl Rng, of: &[&str], most: usize) -> String {
    (0..rng.random_range(0..=most)).map(|_| *of.choose(rng).unwrap_or(&"")).collect()
}

fn pattern(rng: &mut impl Rng) -> String {
    (0..rng.random_range(0..5)).map(|_| pieces(rng, ATOMS, 2) + TIMES.choose(rng).unwrap_or(&"")).collect()
}

/// One that is nearly always TOML, and often a labelset.
fn made_up(rng: &mut impl Rng) -> String {
    let labels = rng.random_range(1..4);
    let names: Vec<String> = (0..labels).map(|n| format!("\"L{n}\"")).collect();
    let mut toml = format!(
        "name = 'n'\nversion = '1'\nguidelines = ''\noverlap_order = [{}]\n[fragments]\ngap = '{}'\na = '{}'\n[lexicons.x]\nAAA = ['a', 'b é']\nB = ['船']\n",
        names.join(", "),
        if rng.random_bool(0.7) { ":{0,2}".to_owned() } else { pattern(rng) },
        pattern(rng),
    );
    for name in &names {
        toml += &format!(
            "[[labels]]\nname = {name}\ntitle = 't'\ndescription = ''\nexamples = ['a', 'b', '7']\n"
        );
        for (key, odds) in [("pattern", 0.2), ("stop", 0.3)] {
            if rng.random_bool(odds) {
                toml += &format!("{key} = '{}'\n", pattern(rng));
            }
        }
        for line in [
            "repeats = true",
            "on_invalid = 'keep'",
            "validator = 'lexicon'\nlexicon = 'x'",
            "validator = 'tonnage'",
        ] {
            if rng.random_bool(0.25) {
                toml += &format!("{line}\n");
            }
        }
        for _ in 0..rng.random_range(0..3) {
            toml += &format!("[[labels.rules]]\nvalue = '{}'\n", pattern(rng));
            if rng.random_bool(0.4) {
                toml += &format!("cues = ['{}', 'a']\n", pattern(rng));
            }
            if rng.random_bool(0.2) {
                toml += &format!("then = '{}'\n", pattern(rng));
            }
            if rng.random_bool(0.2) {
                toml += &format!("unless = ['{}']\n", pattern(rng));
            }
        }
    }
    toml
}

/// Loses, doubles or exchanges lines, or puts something where nobody would.
fn mutated(rng: &mut impl Rng, toml: &str) -> String {
    let mut lines: Vec<&str> = toml.split_inclusive('\n').collect();
    let (one, other) = (rng.random_range(0..lines.len()), rng.random_range(0..lines.len()));
    match rng.random_range(0..8) {
        0 => {
            lines.remove(one);
        }
        1 => lines.insert(other, lines[one]),
        2 => lines.swap(one, other),
        3 => lines.truncate(one),
        _ => {
            let chars: Vec<char> = lines[one].chars().collect();
            let start = rng.random_range(0..=chars.len());
            let end = (start + rng.random_range(0..4)).min(chars.len());
            let line: String = chars[..start]
                .iter()
                .copied()
                .chain(pieces(rng, PIECES, 2).chars())
                .chain(chars[end..].iter().copied())
                .collect();
            lines[one] = &line;
            return lines.concat();
        }
    }
    lines.concat()
}

/// # Errors
/// What does not hold.
pub fn holds(rng: &mut impl Rng) -> Result<()> {
    // The embedded one takes a hundred times as long to read, and more to compile.
    let embedded = rng.random_bool(0.02);
    let mut toml = if embedded { Labelset::embedded().toml().to_owned() } else { made_up(rng) };
    for _ in 0..rng.random_range(0..3) {
        if !toml.is_empty() {
            toml = mutated(rng, &toml);
        }
    }
    let Ok(labelset) = Labelset::known(&toml) else {
        ensure!(Labelset::parse(&toml).is_err(), "a new labelset is taken that is not known");
        return Ok(());
    };
    ensure!(labelset.toml() == toml, "the labelset is not as it was given");
    for label in &labelset.labels {
        let found = labelset.label(&label.name).context("a label is not found by its name")?;
        ensure!(found.name == label.name, "a name is of another label");
        ensure!(labelset.rank(&label.name) < labelset.labels.len(), "a label has no place in the order");
    }
    if embedded && rng.random_bool(0.8) {
        return Ok(());
    }
    let Ok(rules) = Rules::new(&labelset) else {
        ensure!(Labelset::parse(&toml).is_err(), "a new labelset is taken that does not compile");
        return Ok(());
    };
    for _ in 0..4 {
        let page = pieces(rng, WORDS, 40);
        let chars: Vec<char> = page.chars().collect();
        let mut end = 0;
        for (n, span) in rules.annotate(&page).iter().enumerate() {
            ensure!(span.mention == n && labelset.label(&span.label).is_some(), "a span is nobody's");
            ensure!(end <= span.start && span.start < span.end, "spans overlap, or one is empty");
            end = span.end;
            let there: String =
                chars.get(span.start..span.end).context("a span is off the page")?.iter().collect();
            ensure!(there == span.text, "a span's text is not the page's");
        }
        for label in &labelset.labels {
            let before = label.length_before_stop(&page);
            ensure!(page.is_char_boundary(before), "a value is cut within a character");
            let (_, _) = (label.check(&page), label.check_strictly(&page));
        }
    }
    Ok(())
}
