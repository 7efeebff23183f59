//! From patterns as written to regular expressions: `{{name}}` stands for a fragment or for any name of a lexicon.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Lexicon, VALUE, pattern::Pattern};

/// The fragment between a cue and a value.
const GAP: &str = "gap";

/// How far a cue that rules a value out may stand before it, in characters.
const REACH: usize = 20;

/// Fragments within fragments.
const MAX_DEPTH: usize = 8;

/// Longest expanded pattern, in bytes.
const MAX_PATTERN: usize = 1 << 20;

pub(super) struct Expander<'a> {
    fragments: &'a BTreeMap<String, String>,
    lexicons: BTreeMap<&'a str, String>,
}

impl<'a> Expander<'a> {
    pub fn new(
        fragments: &'a BTreeMap<String, String>,
        lexicons: &'a BTreeMap<String, Arc<Lexicon>>,
    ) -> Self {
        let lexicons = lexicons.iter().map(|(name, lexicon)| (name.as_str(), lexicon.pattern())).collect();
        Self { fragments, lexicons }
    }

    /// `^` and `$` are borders of lines; letters have case.
    pub fn pattern(&self, pattern: &str) -> Result<Pattern, String> {
        Pattern::new(self.expand(pattern, 0)?)
    }

    /// A cue (its blanks are any white space), a gap, the value in its group (its own, where it has one), and what
    /// follows it.
    pub fn rule(&self, cues: &[String], value: &str, then: Option<&str>) -> Result<Pattern, String> {
        let cue = match cues {
            [] => String::new(),
            cues => format!(r"(?i:{})(?:{{{{{GAP}}}}})", cues.join("|").replace(' ', r"\s{1,3}")),
        };
        let group = format!("(?P<{VALUE}>");
        let value = if value.contains(&group) { value.to_owned() } else { format!("{group}{value})") };
        self.pattern(&format!("{cue}{value}{}", then.unwrap_or_default()))
    }

    /// Cues at the end of what stands before a value, with no letter and no line break behind them; None of none.
    pub fn unless(&self, cues: &[String]) -> Result<Option<Pattern>, String> {
        if cues.is_empty() {
            return Ok(None);
        }
        let cues = cues.join("|").replace(' ', r"\s{1,3}");
        self.pattern(&format!(r"(?:^|[^\p{{L}}])(?i:{cues})[^\p{{L}}\n]{{0,{REACH}}}\z")).map(Some)
    }

    fn expand(&self, pattern: &str, depth: usize) -> Result<String, String> {
        if depth > MAX_DEPTH {
            return Err(format!("fragments are nested more than {MAX_DEPTH} deep"));
        }
        let mut expanded = String::new();
        let mut rest = pattern;
        while let Some((before, (name, after))) =
            rest.split_once("{{").and_then(|(before, tail)| Some((before, tail.split_once("}}")?)))
        {
            expanded.push_str(before);
            match (self.fragments.get(name), self.lexicons.get(name)) {
                // A class is whole by itself, and so it can stand within another.
                (Some(class), _) if class.starts_with('[') && class.ends_with(']') => {
                    expanded.push_str(class)
                }
                (Some(fragment), _) => {
                    expanded.push_str("(?:");
                    expanded.push_str(&self.expand(fragment, depth + 1)?);
                    expanded.push(')');
                }
                (None, Some(names)) => expanded.push_str(names),
                (None, None) => return Err(format!("{{{{{name}}}}} is neither a fragment nor a lexicon")),
            }
            if expanded.len() > MAX_PATTERN {
                return Err(format!("the pattern is longer than {MAX_PATTERN} bytes"));
            }
            rest = after;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }
}
