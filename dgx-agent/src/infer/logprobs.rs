//! How likely the model held each stretch of its answer.
//!
//! The server sends `logprobs` beside the words of a line, one a token. They are believed only where their tokens are
//! that line's words; a character that several tokens make stands in them as U+FFFD each, and is believed, too. What
//! a server left out is unknown, never guessed.

use std::{borrow::Cow, fmt, iter, ops::Range};

use memchr::{memchr, memmem};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// A token, as a line of the stream has it. Its `bytes` are those of `token`, so they tell nothing more.
#[derive(Debug, Deserialize)]
pub(super) struct Token<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
    logprob: f64,
}

/// The `logprobs` of a line: Ollama's list, or nothing, for a proxy may have another shape.
pub(super) fn tokens<'de, D: Deserializer<'de>>(line: D) -> Result<Vec<Token<'de>>, D::Error> {
    struct Tokens;
    impl<'de> Visitor<'de> for Tokens {
        type Value = Vec<Token<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of tokens")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            // Mostly it is one; to grow step by step costs more than the room.
            let mut tokens = Vec::with_capacity(16);
            while let Some(token) = list.next_element()? {
                tokens.push(token);
            }
            Ok(tokens)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Vec::new())
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }
    }
    line.deserialize_any(Tokens)
}

/// The words of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
struct Stretch {
    /// Where they end in the answer, in bytes.
    end: usize,
    tokens: u32,
    /// Minus the sum over its tokens, in ten-thousandths; None: not known.
    surprise: Option<u64>,
}

/// As the journal has it, which holds one for each token of every answer.
type Written = (usize, u32, Option<u64>);

impl From<Written> for Stretch {
    fn from((end, tokens, surprise): Written) -> Self {
        Self { end, tokens, surprise }
    }
}

impl From<Stretch> for Written {
    fn from(stretch: Stretch) -> Self {
        (stretch.end, stretch.tokens, stretch.surprise)
    }
}

/// Of a whole answer, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logprobs(Vec<Stretch>);

/// What a line tells of its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    tokens: u32,
    surprise: Option<u64>,
}

/// Of a line's tokens and its words.
pub(super) fn told(tokens: &[Token<'_>], words: &str) -> Told {
    let known = !tokens.is_empty() && are_words(tokens, words);
    let surprise = known.then(|| in_units(tokens.iter().map(|token| token.logprob).sum())).flatten();
    Told { tokens: u32::try_from(tokens.len()).unwrap_or(u32::MAX), surprise }
}

/// What [`quick`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Quick {
    /// Where `,"logprobs":` begins; a closing brace is all that is missing there.
    pub at: usize,
    pub told: Told,
}

/// Reads the `logprobs` of a line as Ollama writes it: they come last, and their tokens are the line's words, letter
/// for letter, in JSON as they stand there. They are nine tenths of a stream, and so it takes a quarter of the time. None
/// where anything is otherwise: then the line is for serde.
///
/// No string holds what is looked for, since its quotes would be escaped there.
pub(super) fn quick(line: &str) -> Option<Quick> {
    let at = memmem::find(line.as_bytes(), b",\"logprobs\":[")?;
    let (head, mut rest) = line.split_at(at);
    let content = memmem::find(head.as_bytes(), b"\"content\":\"")?;
    let mut words = head[content..].strip_prefix("\"content\":\"")?;
    let (mut tokens, mut sum) = (0, 0.0);
    for before in iter::once(",\"logprobs\":[").chain(iter::repeat(",")) {
        rest = rest.strip_prefix(before)?.strip_prefix("{\"token\":\"")?;
        let end = end_of_string(rest.as_bytes())?;
        words = words.strip_prefix(&rest[..end])?;
        rest = rest[end..].strip_prefix("\",\"logprob\":")?;
        let end = rest.bytes().position(|byte| matches!(byte, b',' | b'}'))?;
        sum += rest[..end].parse::<f64>().ok()?;
        rest = &rest[end..];
        if let Some(bytes) = rest.strip_prefix(",\"bytes\":[") {
            rest = &bytes[memchr(b']', bytes.as_bytes())? + 1..];
        }
        rest = rest.strip_prefix('}')?;
        tokens += 1;
        if rest == "]}" {
            break;
        }
    }
    let told = Told { tokens, surprise: in_units(sum) };
    words.starts_with('"').then_some(Quick { at, told })
}

/// Where the closing quote of a string stands that begins at once.
fn end_of_string(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

impl Logprobs {
    /// Takes a line: its words, which end at `end`, and what it tells of them.
    pub(super) fn take(&mut self, words: &str, end: usize, Told { tokens, surprise }: Told) {
        if words.is_empty() {
            return;
        }
        match self.0.last_mut() {
            // Of a server that sends none, none are kept.
            None if surprise.is_none() => return,
            Some(last) if last.surprise.is_none() && surprise.is_none() => {
                last.end = end;
                return;
            }
            None if end > words.len() => {
                self.0.push(Stretch { end: end - words.len(), tokens: 0, surprise: None });
            }
            _ => {}
        }
        self.0.push(Stretch { end, tokens, surprise });
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The geometric mean of the probabilities of the tokens that a place of the answer touches, in bytes; None where
    /// one of them is not known.
    pub fn probability(&self, place: &Range<usize>) -> Option<f64> {
        let first = self.0.partition_point(|stretch| stretch.end <= place.start);
        let (mut surprise, mut tokens, mut reached) = (0u64, 0u32, place.start);
        for stretch in &self.0[first..] {
            if reached >= place.end {
                break;
            }
            surprise = surprise.saturating_add(stretch.surprise?);
            tokens = tokens.saturating_add(stretch.tokens);
            reached = stretch.end;
        }
        #[allow(
            clippy::cast_precision_loss,
            reason = "a sum of some tokens' logarithms is far below 2^52 units"
        )]
        let mean = surprise as f64 / UNIT / f64::from(tokens);
        (reached >= place.end && tokens > 0).then(|| (-mean).exp())
    }
}

const UNIT: f64 = 1e4;

/// None for what is no logarithm of a probability.
fn in_units(logprob: f64) -> Option<u64> {
    let surprise = (-logprob * UNIT).round();
    // Rounding may lift a certain token a little above 1.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 0 and 1e15")]
    (surprise > -1.0 && surprise < 1e15).then_some(surprise.max(0.0) as u64)
}

/// Whether the tokens, one after the other, are these words.
fn are_words(tokens: &[Token<'_>], words: &str) -> bool {
    let mut rest = words;
    let mut parts = false;
    for token in tokens {
        for c in token.token.chars() {
            if c == char::REPLACEMENT_CHARACTER && !rest.starts_with(c) {
                parts = true;
                continue;
            }
            if std::mem::take(&mut parts) {
                // What the parts made is one or more characters, up to the next that is whole.
                let Some(at) = rest.find(c).filter(|at| *at > 0) else { return false };
                rest = &rest[at..];
            }
            let Some(after) = rest.strip_prefix(c) else { return false };
            rest = after;
        }
    }
    parts != rest.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn tokens(given: &[(&'static str, f64)]) -> Vec<Token<'static>> {
        given.iter().map(|(token, logprob)| Token { token: (*token).into(), logprob: *logprob }).collect()
    }

    fn of(lines: &[(&str, &[(&'static str, f64)])]) -> Logprobs {
        let (mut found, mut end) = (Logprobs::default(), 0);
        for (words, given) in lines {
            end += words.len();
            found.take(words, end, told(&tokens(given), words));
        }
        found
    }

    #[test]
    fn a_place_has_the_mean_of_the_tokens_it_touches() {
        let found =
            of(&[("{\"", &[("{\"", -9.0)]), ("IM", &[("IM", -1.0)]), ("O 9", &[("O", -2.0), (" 9", -3.0)])]);
        let probability = |place| found.probability(&place).expect("known");
        assert!((probability(2..4) - (-1.0f64).exp()).abs() < 1e-4);
        assert!((probability(3..5) - (-2.0f64).exp()).abs() < 1e-4, "both lines");
        assert!((probability(0..7) - (-3.75f64).exp()).abs() < 1e-4);
        assert_eq!(found.probability(&(6..8)), None, "past the end");
        assert_eq!(found.probability(&(3..3)), None, "nothing");
    }

    #[test]
    fn what_does_not_line_up_is_unknown() {
        let found =
            of(&[("ab", &[("ab", -1.0)]), ("cd", &[]), ("ef", &[("xy", -1.0)]), ("gh", &[("gh", -1.0)])]);
        assert!(found.probability(&(0..2)).is_some() && found.probability(&(6..8)).is_some());
        for unknown in [1..3, 2..4, 4..6, 5..7] {
            assert_eq!(found.probability(&unknown), None);
        }
        let late = of(&[("ab", &[]), ("cd", &[("cd", -1.0)])]);
        assert!(late.probability(&(2..4)).is_some() && late.probability(&(1..3)).is_none());
        assert_eq!(of(&[("ab", &[]), ("cd", &[])]), Logprobs::default());
        assert_eq!(of(&[("a", &[("a", f64::NAN)])]).probability(&(0..1)), None);
        assert_eq!(of(&[("a", &[("a", 0.5)])]).probability(&(0..1)), None, "no probability is above 1");
    }

    #[test]
    fn characters_made_of_several_tokens_are_taken() {
        let half = "\u{fffd}";
        for (words, given) in [
            ("船", vec![(half, -1.0), (half, -1.0), (half, -1.0)]),
            ("a船b", vec![("a\u{fffd}", -1.0), (half, -1.0), ("\u{fffd}b", -1.0)]),
            ("\u{fffd}x", vec![(half, -1.0), ("x", -1.0)]),
        ] {
            assert!(of(&[(words, &given)]).probability(&(0..words.len())).is_some(), "{words}");
        }
        for (words, given) in [("a", vec![("a\u{fffd}", -1.0)]), ("船x", vec![(half, -1.0), ("y", -1.0)])] {
            assert_eq!(of(&[(words, &given)]).probability(&(0..1)), None, "{words}");
        }
    }

    /// A line as serde reads it.
    fn slowly(line: &str) -> Option<(String, Told)> {
        #[derive(Deserialize)]
        struct Line<'a> {
            #[serde(borrow, default, deserialize_with = "super::tokens")]
            logprobs: Vec<Token<'a>>,
            message: Message<'a>,
        }
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(borrow)]
            content: Cow<'a, str>,
        }
        let line: Line<'_> = serde_json::from_str(line).ok()?;
        let told = super::told(&line.logprobs, &line.message.content);
        Some((line.message.content.into_owned(), told))
    }

    fn line(words: &[String], doubts: &[f64], bytes: bool) -> String {
        let tokens = words.iter().zip(doubts).map(|(token, logprob)| match bytes {
            true => json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()}),
            false => json!({"token": token, "logprob": logprob}),
        });
        let message = json!({"role": "assistant", "content": words.concat()});
        json!({"model": "m", "message": message, "done": false, "logprobs": tokens.collect::<Vec<_>>()})
            .to_string()
    }

    #[test]
    fn what_is_not_as_ollama_writes_it_is_for_serde() {
        let words = ["{\"text\":", "\"é\\船\""].map(str::to_owned);
        let plain = line(&words, &[-0.5, -1e-7], true);
        let found = quick(&plain).expect("as it is written");
        assert!(plain[..found.at].ends_with("\"done\":false"));
        assert_eq!(Some(found.told), slowly(&plain).map(|(_, told)| told));
        for other in [
            format!("{},\"done\":false}}", plain.trim_end_matches('}')),
            plain.replace("\"bytes\"", "\"top_logprobs\""),
            plain.replace("\"token\":", "\"token\": "),
            plain.replacen("船", "船船", 1),
            plain.replacen("船", "\\u8239", 1),
            plain.replace("-0.5", "null"),
            plain.replace("-0.5", "[-0.5]"),
            plain.replace("]}", "]"),
            plain.replace(",\"logprobs\":[", ",\"logprobs\":[]}"),
            line(&[], &[], true),
            "{\"done\":true}".to_owned(),
            ",\"logprobs\":[".to_owned(),
        ] {
            assert_eq!(quick(&other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn quickly_and_slowly_read_the_same(
            words in prop::collection::vec("(?s)[a\"\\\\\u{0}é船𝄞, \\[\\]}]{0,5}", 1..6),
            doubts in prop::collection::vec(-1e3f64..0.0, 6),
            bytes in any::<bool>(),
        ) {
            let line = line(&words, &doubts, bytes);
            let found = quick(&line).expect("as Ollama writes it");
            let (content, told) = slowly(&line).expect("JSON");
            prop_assert_eq!(content, words.concat());
            prop_assert_eq!(found.told, told);
        }

        #[test]
        fn any_line_is_read_as_serde_reads_it(
            cut in any::<prop::sample::Index>(), other in "[\",:\\[\\]{}0-9a-z-]{0,3}", by in 0usize..4,
        ) {
            let plain = line(&["a\"".to_owned(), "b".to_owned()], &[-0.25, -2.0], true);
            let at = cut.index(plain.len());
            let line = format!("{}{other}{}", &plain[..at], &plain[plain.len().min(at + by)..]);
            if let Some(found) = quick(&line) && let Some((content, told)) = slowly(&line) {
                prop_assert_eq!(found.told, told, "{}", content);
            }
        }
    }
}
