//! A regular expression that is compiled when it is first used: all those of a labelset take megabytes and tens of
//! milliseconds, and a model needs none of them.

use std::sync::{Arc, OnceLock};

use regex_automata::{PatternID, meta::Regex, util::syntax};
use regex_syntax::{ParserBuilder, hir::Hir};

use super::VALUE;

/// Largest compiled one, in bytes.
const MAX_COMPILED: usize = 64 << 20;

/// What a thread may keep of the states of one, in bytes, unless it is large. As the regex crate has it.
const MAX_KEPT: usize = 2 << 20;

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
        let compile = || {
            let mut regex = build(&self.source, MAX_KEPT)?;
            let least = least_kept(&regex);
            if least > MAX_KEPT {
                drop(regex);
                regex = build(&self.source, least)?;
            }
            let group = regex.group_info().to_index(PatternID::ZERO, VALUE).unwrap_or(0);
            Ok(Compiled { regex, group })
        };
        self.compiled.get_or_init(compile).as_ref().map_err(Clone::clone)
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

/// What a thread must be allowed to keep of the states of a pattern, in bytes. With less than a few of its largest
/// states, the regex crate silently goes without its lazy automaton, and takes a hundred times as long for a match.
/// All of what is compiled, forwards and backwards, is more than those need.
fn least_kept(regex: &Regex) -> usize {
    regex.memory_usage()
}

fn build(source: &str, kept: usize) -> Result<Regex, String> {
    let config = Regex::config().nfa_size_limit(Some(MAX_COMPILED)).hybrid_cache_capacity(kept);
    let syntax = syntax::Config::new().multi_line(true);
    Regex::builder().configure(config).syntax(syntax).build(source).map_err(|error| {
        match error.size_limit() {
            Some(limit) => format!("compiled, it exceeds the size limit of {limit} bytes"),
            None => last_line(&error.to_string()),
        }
    })
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

#[cfg(test)]
mod tests {
    use regex_automata::{hybrid::dfa::DFA, nfa::thompson};

    use super::*;

    /// A list of names in two scripts, and classes of all of Unicode, which are largest when they are read backwards.
    #[test]
    fn a_large_pattern_keeps_its_lazy_automaton() {
        let names = (0..3_000).map(|n| format!("(?i:имя{n}|[\\s-]{{1,3}}name{n})"));
        let names = names.collect::<Vec<_>>().join("|");
        let classes = (0..60).map(|n| format!(r"{n}\w{{2}}\S")).collect::<Vec<_>>().join("|");
        for source in [names, classes] {
            let regex = build(&source, MAX_KEPT).unwrap();
            let kept = least_kept(&regex);
            assert!(kept > MAX_KEPT, "{kept} bytes are not large");
            for backwards in [false, true] {
                let nfa = thompson::Config::new().reverse(backwards);
                let config = DFA::config().cache_capacity(kept);
                DFA::builder().configure(config).thompson(nfa).build(&source).unwrap();
            }
        }
    }
}
