//! The labels: what they mean, how to find them without a model, what a valid value is.
//!
//! A labelset is one TOML file. The prompt, the JSON schema, the rules engine, the validators and the Argilla
//! question all come from it, and its bytes travel in the batch, so that no two stages can differ.
//!
//! ```text
//! TOML ─► file (as written) ─► expand (fragments, lexicons) ─► Labelset: patterns, validators
//! ```

mod dates;
mod expand;
mod file;
mod lexicon;
mod pattern;
mod validators;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use regex_automata::meta::Regex;
use regex_syntax::hir::Hir;

pub use file::{Mention, OnInvalid, WorkedExample};
pub use lexicon::Lexicon;
use lexicon::fold;
use pattern::Pattern;
pub use validators::Validator;

use crate::hash::sha256_hex;

/// The labelset that the programs carry.
const EMBEDDED: &str = include_str!("../../labels/labelset.v1.toml");

/// The name of the group that holds a rule's value.
const VALUE: &str = "value";

/// Argilla takes no more options in a span question.
const MAX_LABELS: usize = 500;

/// How much of the text before a value is looked at for what rules it out, in bytes.
const MAX_BEFORE: usize = 64;

/// Fewest examples of a label.
const MIN_EXAMPLES: usize = 3;

#[derive(Debug, thiserror::Error)]
pub enum LabelsetError {
    #[error("the labelset cannot be read: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("the labelset {labelset:?} cannot be used: {problem}")]
    Whole { labelset: String, problem: String },
    /// `line`: of its name, from 1.
    #[error("the labelset {labelset:?} cannot be used: label {label:?} (line {line}): {problem}")]
    Label { labelset: String, label: String, line: usize, problem: String },
}

/// A checked labelset: names are unique, patterns are regular expressions, and where it was parsed as a new one, they
/// compile and examples are valid values of their label.
#[derive(Debug, Clone)]
pub struct Labelset {
    pub name: String,
    pub version: String,
    /// For the people who review, in Markdown.
    pub guidelines: String,
    /// In the order in which people see them.
    pub labels: Vec<Label>,
    /// Pages with their mentions, as the prompt shows them.
    pub worked_examples: Vec<WorkedExample>,
    by_name: HashMap<String, usize>,
    toml: String,
    sha256: String,
}

/// A label of a labelset.
#[derive(Debug, Clone)]
pub struct Label {
    /// As suggestions and exports carry it: `[A-Z][A-Z0-9_]*`.
    pub name: String,
    /// As people see it.
    pub title: String,
    pub description: String,
    pub examples: Vec<String>,
    /// A number or code that stands for one thing: it is never matched by likeness.
    pub identifier: bool,
    /// What a rule found once is the same thing wherever its words stand on the page.
    pub repeats: bool,
    pub on_invalid: OnInvalid,
    pub rules: Vec<Rule>,
    validator: Option<Validator>,
    /// Matches each example whole.
    whole: Option<Pattern>,
    stop: Option<Pattern>,
    rank: usize,
}

/// A pattern that finds values of a label in a page. It knows no borders of words, which would keep it from the
/// fast engine of the regex crate: a match must begin, and the value stand, at them.
#[derive(Debug, Clone)]
pub struct Rule {
    pattern: Pattern,
    unless: Option<Pattern>,
    /// Whether the match is the value, with nothing around it.
    pub is_value: bool,
}

/// What a label's validator says of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The label has no validator.
    Unchecked,
    /// With the value's normal form.
    Valid(String),
    /// What OCR may have made of a valid value; nobody can tell of which.
    Garbled,
    Invalid,
}

impl Labelset {
    /// The labelset for documents about fishing vessels. It is compiled once; copies share that.
    pub fn embedded() -> Self {
        static LABELSET: LazyLock<Labelset> =
            LazyLock::new(|| Labelset::known(EMBEDDED).expect("a test parses the embedded labelset"));
        LABELSET.clone()
    }

    /// A new one: all of it is checked.
    pub fn parse(toml: &str) -> Result<Self, LabelsetError> {
        let labelset = Self::known(toml)?;
        labelset.compile()?;
        labelset.each(Label::check_examples)?;
        Ok(labelset)
    }

    /// One that was parsed before, as that of a batch. Its patterns are compiled when they are first used; before
    /// that, [`compile`](Self::compile) it.
    pub fn known(toml: &str) -> Result<Self, LabelsetError> {
        let file: file::LabelsetFile = toml::from_str(toml)?;
        let whole = |problem: String| LabelsetError::Whole { labelset: file.name.clone(), problem };
        let of_label = |nth: usize, problem: String| LabelsetError::Label {
            labelset: file.name.clone(),
            label: file.labels[nth].name.clone(),
            line: file::line_of(toml, nth),
            problem,
        };
        file.check_labels().map_err(|(nth, problem)| of_label(nth, problem))?;
        file.check().map_err(whole)?;
        let lexicons = file
            .lexicons
            .iter()
            .map(|(name, codes)| {
                let lexicon =
                    Lexicon::new(codes).map_err(|problem| format!("lexicon {name:?}: {problem}"))?;
                Ok((name.clone(), Arc::new(lexicon)))
            })
            .collect::<Result<BTreeMap<_, _>, String>>()
            .map_err(whole)?;
        let compiler =
            Compiler { expander: expand::Expander::new(&file.fragments, &lexicons), lexicons: &lexicons };
        let mut labels = Vec::with_capacity(file.labels.len());
        for (nth, label) in file.labels.iter().enumerate() {
            let problem = |problem| of_label(nth, problem);
            let rank = file.overlap_order.iter().position(|name| *name == label.name);
            let rank = rank.ok_or_else(|| problem("is missing in overlap_order".to_owned()))?;
            labels.push(compiler.label(label, rank).map_err(problem)?);
        }
        let by_name = labels.iter().enumerate().map(|(index, label)| (label.name.clone(), index)).collect();
        Ok(Self {
            name: file.name,
            version: file.version,
            guidelines: file.guidelines,
            labels,
            worked_examples: file.worked_examples,
            by_name,
            toml: toml.to_owned(),
            sha256: sha256_hex(toml),
        })
    }

    /// Compiles all patterns that are not yet.
    pub fn compile(&self) -> Result<(), LabelsetError> {
        self.each(Label::compile)
    }

    fn each(&self, check: fn(&Label) -> Result<(), String>) -> Result<(), LabelsetError> {
        self.labels.iter().enumerate().try_for_each(|(nth, label)| {
            let named = |problem| LabelsetError::Label {
                labelset: self.name.clone(),
                label: label.name.clone(),
                line: file::line_of(&self.toml, nth),
                problem,
            };
            check(label).map_err(named)
        })
    }

    /// Of the TOML, byte for byte.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// As it was given.
    pub fn toml(&self) -> &str {
        &self.toml
    }

    pub fn label(&self, name: &str) -> Option<&Label> {
        self.by_name.get(name).map(|&index| &self.labels[index])
    }

    /// The place of a label in the overlap order: of two spans that overlap, the lower rank wins. A label that
    /// is not of this labelset comes last.
    pub fn rank(&self, name: &str) -> usize {
        self.label(name).map_or(self.labels.len(), |label| label.rank)
    }
}

impl Label {
    /// What the validator says of a text as it stands on the page, OCR confusions included (`9O74729`).
    pub fn check(&self, text: &str) -> Verdict {
        match &self.validator {
            None => Verdict::Unchecked,
            Some(validator) => match validator.read_garbled(text) {
                Some(value) => Verdict::Valid(value),
                None if validator.may_be(text) => Verdict::Garbled,
                None => Verdict::Invalid,
            },
        }
    }

    /// What the validator says of a text that must be right as it is.
    pub fn check_strictly(&self, text: &str) -> Verdict {
        match &self.validator {
            None => Verdict::Unchecked,
            Some(validator) => validator.read(text).map_or(Verdict::Invalid, Verdict::Valid),
        }
    }

    /// How many bytes of `value` come before the words that end a value of this label.
    pub fn length_before_stop(&self, value: &str) -> usize {
        self.stop
            .as_ref()
            .and_then(|stop| stop.regex().find(value))
            .map_or(value.len(), |found| found.start())
    }
}

impl Label {
    fn compile(&self) -> Result<(), String> {
        for (n, rule) in self.rules.iter().enumerate() {
            let patterns = std::iter::once(&rule.pattern).chain(&rule.unless);
            let mut compiled = patterns.map(Pattern::compile);
            compiled.try_for_each(|done| done.map_err(|problem| format!("rule {}: {problem}", n + 1)))?;
        }
        let problem = |what: &'static str| move |problem| format!("{what}: {problem}");
        self.stop.as_ref().map(Pattern::compile).transpose().map_err(problem("stop"))?;
        self.whole.as_ref().map(Pattern::compile).transpose().map_err(problem("pattern"))?;
        Ok(())
    }

    fn check_examples(&self) -> Result<(), String> {
        for example in &self.examples {
            if self.whole.as_ref().is_some_and(|whole| !whole.regex().is_match(example)) {
                return Err(format!("the example {example:?} does not match its pattern"));
            }
            if self.check_strictly(example) == Verdict::Invalid {
                return Err(format!("the example {example:?} fails its validator"));
            }
        }
        Ok(())
    }
}

impl Rule {
    pub fn regex(&self) -> &Regex {
        self.pattern.regex()
    }

    /// What the regex matches, for who looks for many rules at once.
    pub fn hir(&self) -> Option<Hir> {
        self.pattern.hir()
    }

    /// Whether what stands before a value says that it is none: the number after `Tel.` is no ship's.
    pub fn is_ruled_out(&self, before: &str) -> bool {
        let near = before.floor_char_boundary(before.len().saturating_sub(MAX_BEFORE));
        self.unless.as_ref().is_some_and(|unless| unless.regex().is_match(&before[near..]))
    }

    /// The group of the regex that is the value.
    pub fn group(&self) -> usize {
        self.pattern.group()
    }
}

/// Turns labels as written into labels that work.
struct Compiler<'a> {
    expander: expand::Expander<'a>,
    lexicons: &'a BTreeMap<String, Arc<Lexicon>>,
}

impl Compiler<'_> {
    fn label(&self, file: &file::LabelFile, rank: usize) -> Result<Label, String> {
        if file.examples.len() < MIN_EXAMPLES {
            return Err(format!("needs {MIN_EXAMPLES} examples"));
        }
        let whole =
            file.pattern.as_ref().map(|pattern| self.expander.pattern(&format!(r"\A(?:{pattern})\z")));
        let stop = file.stop.as_ref().map(|stop| self.expander.pattern(stop));
        Ok(Label {
            name: file.name.clone(),
            title: file.title.clone(),
            description: file.description.clone(),
            examples: file.examples.clone(),
            identifier: file.identifier,
            repeats: file.repeats,
            on_invalid: file.on_invalid,
            rules: file
                .rules
                .iter()
                .enumerate()
                .map(|(n, rule)| {
                    self.rule(file, rule).map_err(|problem| format!("rule {}: {problem}", n + 1))
                })
                .collect::<Result<_, _>>()?,
            validator: self.validator(file)?,
            whole: whole.transpose().map_err(|problem| format!("pattern: {problem}"))?,
            stop: stop.transpose().map_err(|problem| format!("stop: {problem}"))?,
            rank,
        })
    }

    fn rule(&self, label: &file::LabelFile, rule: &file::RuleFile) -> Result<Rule, String> {
        let value = rule.value.as_ref().or(label.pattern.as_ref());
        let value = value.ok_or("needs a value, or the label a pattern")?;
        let pattern = self.expander.rule(&rule.cues, value, rule.then.as_deref())?;
        let is_whole =
            rule.cues.is_empty() && rule.then.is_none() && !value.contains(&format!("(?P<{VALUE}>"));
        Ok(Rule { pattern, unless: self.expander.unless(&rule.unless)?, is_value: is_whole })
    }

    fn validator(&self, file: &file::LabelFile) -> Result<Option<Validator>, String> {
        let lexicon = match &file.lexicon {
            None => None,
            Some(name) => {
                Some(self.lexicons.get(name).ok_or_else(|| format!("there is no lexicon {name:?}"))?.clone())
            }
        };
        match (file.validator, lexicon) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err("has a lexicon, but no validator that reads it".to_owned()),
            (Some(kind), lexicon) => Validator::new(kind, lexicon).map(Some),
        }
    }
}
