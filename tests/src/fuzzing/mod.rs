//! Parse, ground, chunk and the labelset on inputs that nobody wrote: what must hold of any.
//!
//! Inputs are made of the pieces that pages, answers and Unicode have, as a source of chance says. `cargo test` gives a
//! seed (the short form); libFuzzer its bytes, which it bends towards code that no input reached (`make fuzz`, `fuzz/`).

mod labelset;

pub use labelset::holds;

use anyhow::{Context, Result, ensure};
use dgx_agent::{
    chunk::{ChunkBudget, chunks, overlapping},
    ground::ground,
    parse::parse,
};
use proto::labelset::{Labelset, Mention};
use rand::{Rng, RngCore, seq::IndexedRandom};

/// Chance that a fuzzer's bytes decide, and behind their end a sequence that is always the same: who draws until a number
/// suits him must come to an end.
#[derive(Debug)]
pub struct Bytes<'a> {
    left: &'a [u8],
    past: u64,
}

impl<'a> Bytes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes, past: 0 }
    }
}

impl RngCore for Bytes<'_> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if let Some((first, later)) = self.left.split_first() {
                (*byte, self.left) = (*first, later);
            } else {
                // Knuth's; its high bits are the better ones.
                self.past =
                    self.past.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (self.past >> 56) as u8;
            }
        }
    }
}

const PIECES: &[&str] = &[
    "a",
    "A",
    "aa",
    "OCEAN",
    "LANTERN",
    "ocean",
    "0",
    "O",
    "1",
    "l",
    "9074729",
    "12.50",
    " ",
    "  ",
    "\n",
    "\r\n",
    "-",
    "-\n",
    "\u{AD}",
    "—",
    "'",
    "’",
    "«",
    "\"",
    "ﬁ",
    "ﬃ",
    "ß",
    "½",
    "№",
    "İ",
    "ſ",
    "\u{301}",
    "\u{200B}",
    "\0",
    "船",
    "が",
    "각",
    "ع",
    "\u{64B}",
    "ж",
    "Ω",
    "😀",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\",
    "\\u",
    "\\ud800",
    "\\\"",
    "{\"mentions\": [",
    "{\"label\": \"IMO\", \"text\": \"",
    "\"}",
    "]}",
    "</think>",
    "```json",
    ".",
    "|",
    "é",
    "e\u{301}",
    "rn",
    "m",
    "\u{10FFFF}",
    "\u{E000}",
    "\t",
];

fn text(rng: &mut impl Rng, most: usize) -> String {
    let pieces = rng.random_range(0..=most);
    (0..pieces)
        .map(|_| match rng.random_range(0..20) {
            0 => rng.random::<char>().to_string(),
            _ => (*PIECES.choose(rng).unwrap_or(&"")).to_owned(),
        })
        .collect()
}

/// A made-up answer is parsed.
///
/// # Errors
/// What does not hold.
pub fn parses(rng: &mut impl Rng) -> Result<()> {
    parses_answer(&text(rng, 60))
}

/// Any answer is parsed.
///
/// # Errors
/// What does not hold.
pub fn parses_answer(answer: &str) -> Result<()> {
    if let Ok(parsed) = parse(answer) {
        ensure!(parsed.mentions.len() + parsed.lost <= answer.len(), "more mentions than characters");
    }
    Ok(())
}

/// Made-up mentions are found on a made-up page, or are not.
///
/// # Errors
/// What does not hold.
pub fn grounds(rng: &mut impl Rng, labelset: &Labelset) -> Result<()> {
    let page = text(rng, 120);
    let chars: Vec<char> = page.chars().collect();
    let labels = ["IMO", "OWNER", "VESSEL_NAME", "DATE", "CALL_SIGN", "NOBODYS"];
    let mut mentions = Vec::new();
    for _ in 0..rng.random_range(0..8) {
        let copied = rng.random_bool(0.6);
        let start = rng.random_range(0..=chars.len());
        let end = (start + rng.random_range(0..20)).min(chars.len());
        mentions.push(Mention {
            label: (*labels.choose(rng).unwrap_or(&"IMO")).to_owned(),
            text: if copied { chars[start..end].iter().collect() } else { text(rng, 6) },
            before: rng.random_bool(0.5).then(|| chars[start.saturating_sub(9)..start].iter().collect()),
        });
    }
    let grounded = ground(&page, &mentions, labelset);
    ensure!(grounded == ground(&page, &mentions, labelset), "not the same again");
    ensure!(
        grounded.spans.len() + grounded.ungrounded.len() == mentions.len(),
        "a mention is lost or twice there"
    );
    let mut end = 0;
    for span in &grounded.spans {
        ensure!(end <= span.start && span.start < span.end, "spans overlap, or one is empty");
        end = span.end;
        let there: String =
            chars.get(span.start..span.end).context("a span is off the page")?.iter().collect();
        ensure!(there == span.text, "a span's text is not the page's");
    }
    Ok(())
}

/// A made-up page is cut.
///
/// # Errors
/// What does not hold.
pub fn cuts(rng: &mut impl Rng) -> Result<()> {
    let page = text(rng, 2000);
    let budget = ChunkBudget::of_tokens(rng.random_range(1..600));
    let whole: String = chunks(&page, budget).into_iter().map(|piece| piece.text).collect();
    ensure!(whole == page, "the pieces are not the page");
    let chars: Vec<char> = page.chars().collect();
    for piece in overlapping(&page, budget, rng.random_range(0..900)) {
        let end = piece.start + piece.text.chars().count();
        let there: String = chars.get(piece.start..end).context("a piece is off the page")?.iter().collect();
        ensure!(there == piece.text, "a piece is not what the page has there");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn of_seeds(seeds: u64, holds: impl Fn(&mut StdRng) -> Result<()>) {
        for seed in 0..seeds {
            holds(&mut StdRng::seed_from_u64(seed)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }

    #[test]
    fn parse_holds() {
        of_seeds(5_000, parses);
    }

    #[test]
    fn ground_holds() {
        let labelset = Labelset::embedded();
        of_seeds(1_000, |rng| grounds(rng, &labelset));
    }

    #[test]
    fn chunk_holds() {
        of_seeds(300, cuts);
    }

    #[test]
    fn labelset_holds() {
        of_seeds(100, holds);
    }

    #[test]
    fn bytes_decide_and_may_end() {
        let said = |bytes: &[u8]| text(&mut Bytes::new(bytes), 60);
        assert_eq!(said(&[7; 900]), said(&[7; 900]));
        assert_ne!(said(&[7; 900]), said(&[200; 900]));
        for length in 0..40 {
            grounds(&mut Bytes::new(&vec![0xFF; length]), &Labelset::embedded()).expect("it holds");
        }
    }
}
