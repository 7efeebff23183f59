//! A model's answer as mentions.
//!
//! [`parse_answer`] takes what is whole: the object of the schema, its list alone or a single mention, with prose,
//! thoughts or a code fence around it, and with keys that nobody asked for. [`salvage`] takes what can be saved of
//! one that is not: every complete mention of a cut or broken answer. [`parse`] does the one, then the other, and
//! counts what it had to mend, by kind.
//!
//! ```text
//! answer ─► without thoughts ─► strict ─► mended (commas, surrogates, control characters) ─► strict ─► salvage
//! ```

use std::collections::BTreeMap;

pub use proto::labelset::Mention;
use serde::Deserialize;
use serde_json::Deserializer;

/// Places where JSON may begin that are tried before the answer is given up: prose may hold brackets.
const MAX_STARTS: usize = 16;

/// Ends the thoughts of a model that thinks aloud.
const END_OF_THOUGHT: &str = "</think>";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("the answer holds no JSON")]
    NoJson,
    #[error("the answer's JSON is cut or broken")]
    Broken,
    #[error("the answer's JSON is not a list of mentions with label and text")]
    OtherShape,
}

/// What was saved of a broken answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Salvaged {
    pub mentions: Vec<Mention>,
    /// Mentions begun that are cut or lack label or text.
    pub lost: usize,
}

/// What was wrong with an answer whose mentions were taken all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Repair {
    /// Thoughts before the answer.
    Thoughts,
    /// A code fence or prose around it.
    Wrapped,
    /// One mention where a list was asked for, or a list without its object.
    OtherShape,
    /// A comma before a closing bracket.
    TrailingComma,
    /// Half of a surrogate pair: it became U+FFFD.
    LoneSurrogate,
    /// A control character in a string as it is, without its escape.
    ControlCharacter,
    /// It ends, or breaks, in the middle: its whole mentions were saved.
    Cut,
}

impl Repair {
    /// As metrics and logs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Thoughts => "thoughts",
            Self::Wrapped => "wrapped",
            Self::OtherShape => "other_shape",
            Self::TrailingComma => "trailing_comma",
            Self::LoneSurrogate => "lone_surrogate",
            Self::ControlCharacter => "control_character",
            Self::Cut => "cut",
        }
    }
}

/// How often what had to be mended.
pub type Repairs = BTreeMap<Repair, usize>;

/// An answer's mentions, and how they were come by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    pub mentions: Vec<Mention>,
    pub repairs: Repairs,
    /// Mentions begun that are cut or lack label or text.
    pub lost: usize,
}

/// Strictly, then leniently.
///
/// # Errors
/// When there is no mention to be had, and the answer does not say that there are none.
pub fn parse(answer: &str) -> Result<Parsed, ParseError> {
    let mut parsed = Parsed::default();
    let mut note = |repair, times: usize| {
        if times > 0 {
            *parsed.repairs.entry(repair).or_default() += times;
        }
    };
    let thoughtless = answer.rsplit_once(END_OF_THOUGHT).map_or(answer, |(_, after)| after);
    note(Repair::Thoughts, usize::from(thoughtless.len() < answer.len()));
    let error = match parse_answer(thoughtless) {
        Ok(mentions) => {
            shape(thoughtless, &mut note);
            parsed.mentions = mentions;
            return Ok(parsed);
        }
        Err(error) => error,
    };
    let mended = mend(thoughtless, &mut note);
    if let Ok(mentions) = parse_answer(&mended) {
        shape(&mended, &mut note);
        parsed.mentions = mentions;
        return Ok(parsed);
    }
    let saved = salvage(&mended);
    if saved.mentions.is_empty() {
        return Err(error);
    }
    note(Repair::Cut, 1);
    Ok(Parsed { mentions: saved.mentions, lost: saved.lost, ..parsed })
}

/// What stands around the mentions of an answer that could be read.
fn shape(answer: &str, note: &mut impl FnMut(Repair, usize)) {
    let bare = answer.trim();
    note(Repair::OtherShape, usize::from(!bare.contains("\"mentions\"")));
    note(Repair::Wrapped, usize::from(!(bare.starts_with(['{', '[']) && bare.ends_with(['}', ']']))));
}

/// Without what keeps JSON from being read though it is plain what was meant. One pass.
fn mend(answer: &str, note: &mut impl FnMut(Repair, usize)) -> String {
    let mut mended = String::with_capacity(answer.len());
    let (mut in_string, mut commas, mut surrogates, mut controls) = (false, 0, 0, 0);
    let mut chars = answer.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => in_string = !in_string,
            '\\' if in_string => {
                let (escape, lone) = escape(&answer[at..]);
                if lone {
                    surrogates += 1;
                    mended.push_str("\\ufffd");
                } else {
                    mended.push_str(escape);
                }
                // An escape is ASCII but for a stray character behind a backslash.
                let skip = escape.chars().count();
                if skip > 1 {
                    chars.nth(skip - 2);
                }
                continue;
            }
            c if in_string && c < ' ' => {
                controls += 1;
                mended.push_str(&format!("\\u{:04x}", u32::from(c)));
                continue;
            }
            ',' if !in_string && answer[at + 1..].trim_start().starts_with([']', '}']) => {
                commas += 1;
                continue;
            }
            _ => {}
        }
        mended.push(c);
    }
    note(Repair::TrailingComma, commas);
    note(Repair::LoneSurrogate, surrogates);
    note(Repair::ControlCharacter, controls);
    mended
}

/// JSON in which each half of a surrogate pair that stands alone became U+FFFD; None where there is none.
pub fn with_whole_characters(json: &str) -> Option<String> {
    let mut mended = String::with_capacity(json.len());
    let (mut rest, mut found) = (json, false);
    while let Some(at) = rest.find('\\') {
        let (escape, lone) = escape(&rest[at..]);
        mended.push_str(&rest[..at]);
        mended.push_str(if lone { "\\ufffd" } else { escape });
        found |= lone;
        rest = &rest[at + escape.len()..];
    }
    mended.push_str(rest);
    found.then_some(mended)
}

/// The escape that begins a text, with both halves of a pair; and whether it is a half alone.
fn escape(text: &str) -> (&str, bool) {
    let unit = |text: &str| {
        let hex = text.strip_prefix("\\u")?.get(..4)?;
        u32::from_str_radix(hex, 16).ok()
    };
    match unit(text) {
        Some(0xD800..=0xDBFF) => match text.get(6..).and_then(unit) {
            Some(0xDC00..=0xDFFF) => (&text[..12], false),
            _ => (&text[..6], true),
        },
        Some(0xDC00..=0xDFFF) => (&text[..6], true),
        Some(_) => (&text[..6], false),
        None => {
            let length = text.chars().take(2).map(char::len_utf8).sum();
            (&text[..length], false)
        }
    }
}

/// The shape that was asked for.
#[derive(Deserialize)]
struct AsAsked {
    mentions: Vec<Mention>,
}

/// The shapes in which models answer.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Asked { mentions: Vec<Mention> },
    List(Vec<Mention>),
    Single(Mention),
}

pub fn parse_answer(answer: &str) -> Result<Vec<Mention>, ParseError> {
    let answer = answer.rsplit_once(END_OF_THOUGHT).map_or(answer, |(_, after)| after);
    if let Ok(AsAsked { mentions }) = serde_json::from_str(answer) {
        return Ok(mentions);
    }
    let mut failed = None;
    let mut from = 0;
    for _ in 0..MAX_STARTS {
        let Some(start) = answer[from..].find(['{', '[']).map(|at| from + at) else { break };
        let mut values = Deserializer::from_str(&answer[start..]).into_iter::<serde_json::Value>();
        match values.next() {
            Some(Ok(value)) => match Answer::deserialize(value) {
                Ok(Answer::Asked { mentions } | Answer::List(mentions)) => return Ok(mentions),
                // After a list that broke, a single mention is one of its items, not the answer.
                Ok(Answer::Single(mention)) if failed.is_none() => return Ok(vec![mention]),
                Ok(Answer::Single(_)) | Err(_) => {
                    failed.get_or_insert(ParseError::OtherShape);
                    from = start + values.byte_offset();
                }
            },
            Some(Err(error)) if error.is_eof() => return Err(ParseError::Broken),
            Some(Err(_)) | None => {
                failed.get_or_insert(ParseError::Broken);
                from = start + 1;
            }
        }
    }
    Err(failed.unwrap_or(ParseError::NoJson))
}

/// Every complete mention, in one pass: an object within another is taken, the outer one is not.
pub fn salvage(answer: &str) -> Salvaged {
    let mut salvaged = Salvaged::default();
    let mut open = None;
    let (mut in_string, mut escaped) = (false, false);
    for (at, byte) in answer.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' if open.is_some() => in_string = !in_string,
            b'{' if !in_string => open = Some(at),
            b'}' if !in_string => {
                if let Some(start) = open.take() {
                    match serde_json::from_str(&answer[start..=at]) {
                        Ok(mention) => salvaged.mentions.push(mention),
                        Err(_) => salvaged.lost += 1,
                    }
                }
            }
            _ => {}
        }
    }
    salvaged.lost += usize::from(open.is_some());
    salvaged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mention(label: &str, text: &str, before: Option<&str>) -> Mention {
        Mention { label: label.to_owned(), text: text.to_owned(), before: before.map(str::to_owned) }
    }

    #[test]
    fn answers_in_many_shapes() {
        let expected = Ok(vec![mention("IMO", "9074729", Some("IMO")), mention("FLAG", "Panama", None)]);
        let list = r#"[{"label": "IMO", "text": "9074729", "before": "IMO"}, {"label": "FLAG", "text": "Panama", "score": 1}]"#;
        let asked = format!(r#"{{"mentions": {list}, "note": "done"}}"#);
        for answer in [
            asked.clone(),
            list.to_owned(),
            format!("```json\n{asked}\n```"),
            format!("<think>a {{b}} and [c]</think>\n{asked}"),
            format!("Of page [1] {{sic}} I found: {asked} That is all."),
        ] {
            assert_eq!(parse_answer(&answer), expected, "{answer}");
        }
        assert_eq!(parse_answer(r#"{"mentions": []}"#), Ok(vec![]));
        assert_eq!(parse_answer("[]"), Ok(vec![]));
        assert_eq!(
            parse_answer(r#"{"label": "A", "text": "é\u00e9", "before": null}"#),
            Ok(vec![mention("A", "éé", None)])
        );
    }

    #[test]
    fn what_is_no_answer_says_why() {
        assert_eq!(parse_answer(""), Err(ParseError::NoJson));
        assert_eq!(parse_answer("Nothing found."), Err(ParseError::NoJson));
        assert_eq!(parse_answer(r#"{"mentions": [{"label": "A"#), Err(ParseError::Broken));
        assert_eq!(parse_answer(r#"{"mentions": [{"label": "A"}]}"#), Err(ParseError::OtherShape));
        let broken = r#"{"mentions": [{"label": "A", "text": "x"} {"label": "B", "text": "y"}]}"#;
        assert_eq!(parse_answer(broken), Err(ParseError::Broken));
        let cut = r#"{"mentions": [{"label": "A", "text": "x"}, {"label": "B", "te"#;
        assert_eq!(parse_answer(cut), Err(ParseError::Broken));
        assert_eq!(parse_answer(r#"{"error": 3}"#), Err(ParseError::OtherShape));
        assert_eq!(parse_answer(r#"[{"label": "A", "text": "\ud800"}]"#), Err(ParseError::Broken));
        assert_eq!(parse_answer(&"[".repeat(100_000)), Err(ParseError::Broken));
    }

    #[test]
    fn a_cut_answer_gives_its_whole_mentions() {
        let cut = r#"{"mentions": [{"label": "A", "text": "x}\"{"}, {"label": "B"}, {"label": "C", "text": "y"}, {"label": "D", "te"#;
        let saved = salvage(cut);
        assert_eq!(saved.mentions, [mention("A", "x}\"{", None), mention("C", "y", None)]);
        assert_eq!(saved.lost, 2);
        assert_eq!(salvage("no JSON"), Salvaged::default());
    }

    #[test]
    fn what_is_mended_is_counted() {
        let a = || mention("A", "x", None);
        let repairs = |answer: &str| {
            parse(answer).map(|parsed| (parsed.mentions, parsed.repairs.into_iter().collect()))
        };
        let one = |repair, mentions: Vec<Mention>| Ok((mentions, vec![(repair, 1)]));
        let whole = r#"{"mentions": [{"label": "A", "text": "x"}]}"#;
        assert_eq!(repairs(whole), Ok((vec![a()], vec![])));
        assert_eq!(repairs(&format!("<think>hm</think>{whole}")), one(Repair::Thoughts, vec![a()]));
        assert_eq!(repairs(&format!("```json\n{whole}\n```")), one(Repair::Wrapped, vec![a()]));
        assert_eq!(repairs(r#"{"label": "A", "text": "x"}"#), one(Repair::OtherShape, vec![a()]));
        assert_eq!(
            repairs(r#"{"mentions": [{"label": "A", "text": "x"},]}"#),
            one(Repair::TrailingComma, vec![a()])
        );
        let lone = mention("A", "\u{FFFD}x😀", None);
        assert_eq!(
            repairs(r#"{"mentions": [{"label": "A", "text": "\ud800x\ud83d\ude00"}]}"#),
            one(Repair::LoneSurrogate, vec![lone])
        );
        let broken = "{\"mentions\": [{\"label\": \"A\", \"text\": \"a\nb\"}]}";
        assert_eq!(repairs(broken), one(Repair::ControlCharacter, vec![mention("A", "a\nb", None)]));
        let cut = parse(r#"{"mentions": [{"label": "A", "text": "x"}, {"label": "B", "te"#);
        assert_eq!(cut.map(|cut| (cut.mentions, cut.lost)), Ok((vec![a()], 1)));
        assert_eq!(parse("nothing"), Err(ParseError::NoJson));
        let long = format!(r#"{{"mentions": [{{"label": "A", "text": "{}\u0000"}}]}}"#, "é".repeat(50_000));
        assert_eq!(parse(&long).map(|parsed| parsed.mentions.len()), Ok(1));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_whole_answers_lose_nothing(
            garbage in "(?s).{0,60}",
            texts in proptest::collection::vec("(?s).{0,12}", 0..6),
            cut in 0usize..400,
        ) {
            let _ = parse_answer(&garbage);
            let _ = salvage(&garbage);
            let _ = parse(&garbage);
            let _ = parse(&format!(r#"{{"mentions": [{{"label": "A", "text": "{garbage}"}},]}}"#));
            let mentions: Vec<Mention> = texts.iter().map(|text| mention("A", text, None)).collect();
            let answer = serde_json::json!({"mentions": mentions}).to_string();
            prop_assert_eq!(parse_answer(&answer), Ok(mentions.clone()));
            let cut = answer.floor_char_boundary(cut.min(answer.len()));
            let saved = salvage(&answer[..cut]).mentions;
            prop_assert_eq!(&saved[..], &mentions[..saved.len()]);
        }
    }
}
