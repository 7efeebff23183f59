//! A regular expression that is compiled when it is first used: all those of a labelset take megabytes and tens of
//! milliseconds, and a model needs none of them.

use std::sync::{Arc, OnceLock};

use regex::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;

/// Largest compiled one, in bytes.
const MAX_COMPILED: usize = 64 << 20;

/// Clones share what is compiled.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    source: String,
    compiled: Arc<OnceLock<Result<Regex, String>>>,
}

impl Pattern {
    /// Refuses what is no regular expression. `^` and `$` are borders of lines.
    pub fn new(source: String) -> Result<Self, String> {
        let parsed = ParserBuilder::new().multi_line(true).build().parse(&source);
        parsed.map_err(|error| last_line(&error.to_string()))?;
        Ok(Self { source, compiled: Arc::default() })
    }

    /// Refuses what would be too large.
    pub fn compile(&self) -> Result<&Regex, String> {
        let build = || {
            let regex = RegexBuilder::new(&self.source).multi_line(true).size_limit(MAX_COMPILED).build();
            regex.map_err(|error| last_line(&error.to_string()))
        };
        self.compiled.get_or_init(build).as_ref().map_err(Clone::clone)
    }

    /// Of a labelset that was compiled: see [`Labelset::compile`](super::Labelset::compile).
    pub fn regex(&self) -> &Regex {
        self.compile().expect("who uses a labelset's patterns compiles it first, which says what does not")
    }
}

/// The regex crate draws the pattern with a mark under the fault; expanded patterns are too long for that.
fn last_line(error: &str) -> String {
    error.lines().last().unwrap_or("the pattern does not compile").trim().to_owned()
}
