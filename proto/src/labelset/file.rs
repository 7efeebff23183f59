//! The labelset as it is written.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{MAX_LABELS, validators::ValidatorKind};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LabelsetFile {
    pub name: String,
    pub version: String,
    pub guidelines: String,
    /// Every label once. Of two spans that overlap, the one whose label comes first here wins.
    pub overlap_order: Vec<String>,
    /// Pieces of patterns by name, for `{{name}}`.
    #[serde(default)]
    pub fragments: BTreeMap<String, String>,
    /// Lists of names by code.
    #[serde(default)]
    pub lexicons: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    pub labels: Vec<LabelFile>,
    #[serde(default)]
    pub worked_examples: Vec<WorkedExample>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LabelFile {
    pub name: String,
    pub title: String,
    pub description: String,
    pub examples: Vec<String>,
    #[serde(default)]
    pub identifier: bool,
    #[serde(default)]
    pub repeats: bool,
    /// What a value looks like: every example matches it whole, and it is the value of rules that give none.
    pub pattern: Option<String>,
    pub validator: Option<ValidatorKind>,
    pub lexicon: Option<String>,
    #[serde(default)]
    pub on_invalid: OnInvalid,
    /// A value ends before this.
    pub stop: Option<String>,
    #[serde(default)]
    pub rules: Vec<RuleFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleFile {
    /// Any of these stands before the value, in any case of letters, parted from it by the fragment `gap`.
    #[serde(default)]
    pub cues: Vec<String>,
    pub value: Option<String>,
    /// What must follow the value, and is no part of it.
    pub then: Option<String>,
    /// After any of these, with no letter between, there is no value.
    #[serde(default)]
    pub unless: Vec<String>,
}

/// What becomes of a span that its label's validator refuses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnInvalid {
    #[default]
    Drop,
    /// It stays, without a normal form, with half its confidence where it has one.
    Lower,
    /// It stays, without a normal form.
    Keep,
}

/// A page and what is to be found on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkedExample {
    pub text: String,
    pub mentions: Vec<Mention>,
}

/// Words that a model found on a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mention {
    pub label: String,
    /// Verbatim.
    pub text: String,
    /// The words in front of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

impl LabelsetFile {
    /// What can be said without compiling anything.
    pub fn check(&self) -> Result<(), String> {
        if self.labels.is_empty() || self.labels.len() > MAX_LABELS {
            return Err(format!("it needs 1 to {MAX_LABELS} labels, and has {}", self.labels.len()));
        }
        let names: HashSet<&str> = self.labels.iter().map(|label| label.name.as_str()).collect();
        let mut ordered = HashSet::new();
        for name in &self.overlap_order {
            if !names.contains(name.as_str()) || !ordered.insert(name.as_str()) {
                return Err(format!("overlap_order names {name:?}, which is no label or is there twice"));
            }
        }
        for example in &self.worked_examples {
            for mention in &example.mentions {
                if !names.contains(mention.label.as_str()) || !example.text.contains(&mention.text) {
                    return Err(format!(
                        "a worked example mentions {:?}, which its text does not hold",
                        mention.text
                    ));
                }
            }
        }
        Ok(())
    }

    /// What is wrong with the name of a label, and which label that is.
    pub fn check_labels(&self) -> Result<(), (usize, String)> {
        let mut names = HashSet::new();
        for (nth, label) in self.labels.iter().enumerate() {
            if !is_label_name(&label.name) {
                return Err((nth, "is no name of a label: capitals, digits and '_'".to_owned()));
            }
            if !names.insert(label.name.as_str()) {
                return Err((nth, "is there twice".to_owned()));
            }
        }
        Ok(())
    }
}

/// The line in which a label has its name, from 1; the first where it cannot be told.
pub(super) fn line_of(toml: &str, nth: usize) -> usize {
    #[derive(Deserialize)]
    struct Named {
        name: toml::Spanned<String>,
    }
    #[derive(Deserialize)]
    struct Names {
        labels: Vec<Named>,
    }
    let names = toml::from_str::<Names>(toml).ok();
    let start = names.and_then(|names| names.labels.get(nth).map(|label| label.name.span().start));
    1 + toml.get(..start.unwrap_or(0)).map_or(0, |before| before.matches('\n').count())
}

fn is_label_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}
