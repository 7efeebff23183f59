//! A regular expression that is compiled when it is first used: all those of a labelset take megabytes and tens of
//! milliseconds, and a model needs none of them.

use std::sync::{Arc, OnceLock};

use regex_automata::{PatternID, meta::Regex, util::syntax};
use regex_syntax::{ParserBuilder, hir::Hir};

use super::VALUE;

/// Largest compiled one, in bytes.
const MAX_COMPILED: usize = 64 << 20;

/// Clones share what is compiled.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    source: String,
    compiled: Arc<OnceLock<Result<Compiled, String>>>,
}

#[derive(Debug)]
struct Compiled {
    regex: Regex,
    /// The number of the group that holds a value; 0 where there is none.
    group: usize,
}

impl Pattern {
    /// Refuses what is no regular expression. `^` and `$` are borders of lines.
    pub fn new(source: String) -> Result<Self, String> {
        parse(&source)?;
        Ok(Self { source, compiled: Arc::default() })
    }

    /// Refuses what would be too large.
    pub fn compile(&self) -> Result<(), String> {
        self.compiled().map(|_| ())
    }

    fn compiled(&self) -> Result<&Compiled, String> {
        let build = || {
            let config = Regex::config().nfa_size_limit(Some(MAX_COMPILED));
            let syntax = syntax::Config::new().multi_line(true);
            let regex = Regex::builder().configure(config).syntax(syntax).build(&self.source);
            let regex = regex.map_err(|error| match error.size_limit() {
                Some(limit) => format!("compiled, it exceeds the size limit of {limit} bytes"),
                None => last_line(&error.to_string()),
            })?;
            let group = regex.group_info().to_index(PatternID::ZERO, VALUE).unwrap_or(0);
            Ok(Compiled { regex, group })
        };
        self.compiled.get_or_init(build).as_ref().map_err(Clone::clone)
    }

    /// What it matches; None where it is no regular expression, which it was when it was made.
    pub fn hir(&self) -> Option<Hir> {
        parse(&self.source).ok()
    }

    /// Of a labelset that was compiled: see [`Labelset::compile`](super::Labelset::compile).
    pub fn regex(&self) -> &Regex {
        &self.known().regex
    }

    pub fn group(&self) -> usize {
        self.known().group
    }

    fn known(&self) -> &Compiled {
        self.compiled().expect("who uses a labelset's patterns compiles it first, which says what does not")
    }
}

fn parse(source: &str) -> Result<Hir, String> {
    let parsed = ParserBuilder::new().multi_line(true).build().parse(source);
    parsed.map_err(|error| last_line(&error.to_string()))
}

/// The regex crate draws the pattern with a mark under the fault; expanded patterns are too long for that.
fn last_line(error: &str) -> String {
    let line = error.lines().last().unwrap_or("the pattern does not compile").trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
