//! A model's answer as mentions.
//!
//! [`parse_answer`] takes what is whole: the object of the schema, its list alone or a single mention, with prose,
//! thoughts or a code fence around it, and with keys that nobody asked for. [`salvage`] takes what can be saved of
//! one that is not: every complete mention of a cut or broken answer.

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

    proptest! {
        #[test]
        fn nothing_panics_and_whole_answers_lose_nothing(
            garbage in "(?s).{0,60}",
            texts in proptest::collection::vec("(?s).{0,12}", 0..6),
            cut in 0usize..400,
        ) {
            let _ = parse_answer(&garbage);
            let _ = salvage(&garbage);
            let mentions: Vec<Mention> = texts.iter().map(|text| mention("A", text, None)).collect();
            let answer = serde_json::json!({"mentions": mentions}).to_string();
            prop_assert_eq!(parse_answer(&answer), Ok(mentions.clone()));
            let cut = answer.floor_char_boundary(cut.min(answer.len()));
            let saved = salvage(&answer[..cut]).mentions;
            prop_assert_eq!(&saved[..], &mentions[..saved.len()]);
        }
    }
}
