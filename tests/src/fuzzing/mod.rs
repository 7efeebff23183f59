//! `make fuzz`: parse, ground, chunk and the labelset on inputs that nobody wrote, for a time, on stable Rust.
//!
//! cargo-fuzz wants a nightly compiler, which is not there; this makes inputs of pieces that pages, answers and Unicode have, from a seed,
//! and checks what must hold of any. It prints the seed of an input before it fails on it: `fuzz TARGET SECONDS SEED`.
#![allow(clippy::print_stdout, reason = "the summary is what it is for")]

mod labelset;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dgx_agent::{
    chunk::{ChunkBudget, chunks, overlapping},
    ground::ground,
    parse::parse,
};
use proto::labelset::{Labelset, Mention};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

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

fn text(rng: &mut StdRng, most: usize) -> String {
    let pieces = rng.random_range(0..=most);
    (0..pieces)
        .map(|_| match rng.random_range(0..20) {
            0 => rng.random::<char>().to_string(),
            _ => (*PIECES.choose(rng).unwrap_or(&"")).to_owned(),
        })
        .collect()
}

fn parses(rng: &mut StdRng) -> Result<()> {
    let answer = text(rng, 60);
    if let Ok(parsed) = parse(&answer) {
        ensure!(parsed.mentions.len() + parsed.lost <= answer.len(), "more mentions than characters");
    }
    Ok(())
}

fn grounds(rng: &mut StdRng, labelset: &Labelset) -> Result<()> {
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

fn cuts(rng: &mut StdRng) -> Result<()> {
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

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let target = args.first().map_or("all", String::as_str);
    let seconds: u64 = args.get(1).map_or(Ok(600), |seconds| seconds.parse())?;
    let first: u64 = args.get(2).map_or(Ok(0), |seed| seed.parse())?;
    let labelset = Labelset::embedded();
    let targets = ["parse", "ground", "chunk", "labelset"];
    if target != "all" && !targets.contains(&target) {
        bail!("{target:?} is no target: parse, ground, chunk, labelset or all");
    }
    for name in targets.into_iter().filter(|name| target == "all" || target == *name) {
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut seed = first;
        while Instant::now() < until {
            let mut rng = StdRng::seed_from_u64(seed);
            let held = match name {
                "parse" => parses(&mut rng),
                "ground" => grounds(&mut rng, &labelset),
                "labelset" => labelset::holds(&mut rng),
                _ => cuts(&mut rng),
            };
            held.with_context(|| format!("{name} fails on the input of seed {seed}"))?;
            seed += 1;
        }
        println!("{name}: {} inputs in {seconds} s, none failed", seed - first);
    }
    Ok(())
}
