//! `make bench-ground`: how right the grounding is, and how fast.
//!
//! Prints the table of kinds, the halves of the real OCR, mentions a second, what odd pages cost, and what the rules
//! engine finds of the examples and how fast; `--only rules` the last alone. Times are of the processor, not of the clock: other work on the machine does not count. `--cases` writes the cases as JSON
//! lines instead, for another aligner to be measured on.
#![allow(clippy::print_stdout, reason = "the tables are what it is for")]

use std::{collections::BTreeMap, hint::black_box};

use anyhow::{Context, Result};
use dgx_agent::{ground::ground, rules::Rules};
use e2e::{
    corpus,
    grounding::{Case, KINDS_OF_REAL, Score, judge, kinds, odd, real, rules},
};
use proto::labelset::Labelset;

const SEED: u64 = 20_240_301;
const PAGES: usize = 3000;

/// Over the pages of the examples, for one measure of the rules engine.
const PASSES: usize = 10;

fn main() -> Result<()> {
    let labelset = Labelset::embedded();
    if std::env::args().any(|arg| arg == "rules") {
        return found_by_rules(&labelset);
    }
    let generated = kinds::cases(SEED, PAGES);
    let mut halves = Vec::new();
    for (name, pages) in [
        ("examples/", real::examples(&corpus::examples())?),
        (
            "tests/data/ground/print.jsonl",
            real::read(&corpus::examples().join("../tests/data/ground/print.jsonl"))?,
        ),
    ] {
        for (half, which) in [(real::Half::Tuned, "tuned"), (real::Half::Held, "held back")] {
            let pages: Vec<_> = pages.iter().filter(|page| half.has(&page.doc)).cloned().collect();
            for (before, how) in [(false, "no context"), (true, "context")] {
                let cases: Vec<Case> = pages.iter().map(|page| real::case(page, before)).collect();
                halves.push((format!("{name}, {which}, {how}"), cases));
            }
            halves.push((format!("{name}, {which}, other documents' mentions"), real::strangers(&pages)));
        }
    }
    if std::env::args().any(|arg| arg == "--cases") {
        let real = halves.iter().filter(|(name, _)| name.contains("held back"));
        for (set, cases) in
            std::iter::once(("generated", &generated)).chain(real.map(|(name, cases)| (name.as_str(), cases)))
        {
            for case in cases {
                let places: Vec<_> = case.expected.iter().map(|one| (one.kind, &one.places)).collect();
                println!(
                    "{}",
                    serde_json::json!({"set": set, "text": case.text, "mentions": case.mentions, "expected": places})
                );
            }
        }
        return Ok(());
    }
    table("generated, seed 20240301", &generated, &kinds::KINDS, &labelset);
    for (name, cases) in &halves {
        table(name, cases, &KINDS_OF_REAL, &labelset);
    }
    speed(&labelset)?;
    linearity(&labelset)?;
    found_by_rules(&labelset)
}

fn table(name: &str, cases: &[Case], order: &[&str], labelset: &Labelset) {
    let mut scores: BTreeMap<&str, Score> = BTreeMap::new();
    for case in cases {
        for (expected, (judged, _)) in case.expected.iter().zip(judge(case, labelset)) {
            scores.entry(expected.kind).or_default().count(judged);
        }
    }
    let mut all = Score::default();
    println!("\n{name}\n{:<24}{:>9}{:>9}{:>9}{:>9}", "kind", "mentions", "right", "wrong", "missed");
    let line = |kind: &str, score: &Score| {
        let share = |part| format!("{:.2} %", score.share(part));
        println!(
            "{kind:<24}{:>9}{:>9}{:>9}{:>9}",
            score.total(),
            share(score.right),
            share(score.wrong),
            share(score.missed)
        );
    };
    for kind in order {
        if let Some(score) = scores.get(kind) {
            all.add(*score);
            line(kind, score);
        }
    }
    line("all", &all);
}

fn speed(labelset: &Labelset) -> Result<()> {
    let cases = kinds::load(SEED, 400);
    let mentions: usize = cases.iter().map(|case| case.mentions.len()).sum();
    let bytes: usize = cases.iter().map(|case| case.text.len()).sum();
    let mut rates = Vec::new();
    for _ in 0..11 {
        let begun = processor_seconds()?;
        for case in &cases {
            black_box(ground(&case.text, &case.mentions, labelset));
        }
        rates.push(mentions as f64 / (processor_seconds()? - begun));
    }
    rates.sort_by(f64::total_cmp);
    let median = rates[rates.len() / 2];
    println!(
        "\nspeed: {median:.0} mentions/s on one core, index included (median of {}; least {:.0}, most {:.0}), {:.1} µs a page of {} bytes and 10 mentions: 60 % exact, 25 % normalised, 15 % fuzzy",
        rates.len(),
        rates[0],
        rates[rates.len() - 1],
        1e6 * 10.0 / median,
        bytes / cases.len(),
    );
    Ok(())
}

fn linearity(labelset: &Labelset) -> Result<()> {
    let mentions = odd::mentions();
    println!(
        "\nodd pages with {} mentions: seconds of one core, and times the page of half the length",
        odd::MENTIONS
    );
    println!("{:<24}{:>10}{:>10}{:>10}{:>8}{:>8}", "page", "1.25 MB", "2.5 MB", "5 MB", "", "");
    let sizes = [1_250_000, 2_500_000, 5_000_000].map(odd::pages);
    for (n, (name, _)) in sizes[0].iter().enumerate() {
        let mut seconds = Vec::new();
        for size in &sizes {
            let begun = processor_seconds()?;
            black_box(ground(&size[n].1, &mentions, labelset));
            seconds.push(processor_seconds()? - begun);
        }
        let [a, b, c] = seconds[..] else { continue };
        println!("{name:<24}{a:>10.2}{b:>10.2}{c:>10.2}{:>8.2}{:>8.2}", b / a, c / b);
    }
    Ok(())
}

/// Precision and recall by label, either half; then pages a second, of all the pages as often as it takes.
fn found_by_rules(labelset: &Labelset) -> Result<()> {
    let engine = Rules::new(labelset)?;
    let pages = real::examples(&corpus::examples())?;
    for (half, which) in [(real::Half::Tuned, "tuned"), (real::Half::Held, "held back")] {
        let pages: Vec<_> = pages.iter().filter(|page| half.has(&page.doc)).collect();
        let scores = rules::score(&pages, &engine);
        println!("\nrules engine, examples/, {which} ({} pages)", pages.len());
        println!("{:<24}{:>9}{:>9}{:>9}{:>9}", "label", "right", "wrong", "missed", "F1");
        for (label, found) in scores.iter().filter(|(label, _)| rules::LABELS.contains(&label.as_str())) {
            let rules::Found { right, wrong, missed } = *found;
            println!("{label:<24}{right:>9}{wrong:>9}{missed:>9}{:>9.3}", found.f1());
        }
    }
    let bytes: usize = pages.iter().map(|page| page.text.len()).sum();
    let mut rates = Vec::new();
    for _ in 0..11 {
        // The kernel counts in ticks of milliseconds: of one pass that would be much.
        let begun = processor_seconds()?;
        for page in std::iter::repeat_n(&pages, PASSES).flatten() {
            black_box(engine.annotate(&page.text));
        }
        rates.push((PASSES * pages.len()) as f64 / (processor_seconds()? - begun));
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "\nrules engine: {:.0} pages/s on one core (median of {}; least {:.0}, most {:.0}), {} pages of {} bytes on average",
        rates[rates.len() / 2],
        rates.len(),
        rates[0],
        rates[rates.len() - 1],
        pages.len(),
        bytes / pages.len().max(1),
    );
    Ok(())
}

/// What this thread has had of a processor.
fn processor_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = stat.split(' ').next().context("no time in schedstat")?.parse()?;
    Ok(nanoseconds * 1e-9)
}
