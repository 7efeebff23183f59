//! How sure a suggestion is, from 0 to 1, or unknown: never made up. Pure.
//!
//! ```text
//! raw = probability of the mention's words in the answer  (geometric mean over their tokens; needs `logprobs`)
//!       × similarity of the place on the page              (1 unless the match is fuzzy)
//!       × trust of the label's validator                   (see `validate`)
//! ```
//! Where one factor is unknown, the confidence is: rules have none, nor has a server that sends no `logprobs`, nor an
//! answer in which the words of a mention cannot be told from others. Raw confidences order suggestions; what they are
//! worth is for a [`Calibration`](proto::docs::Calibration) to say.

use std::ops::Range;

use proto::labelset::Mention;

use crate::infer::Logprobs;

/// What is left of the doubt when model and rules found the same independently.
const DOUBT_LEFT: f64 = 0.5;

/// The probability of each mention's words in the answer that they were read from.
pub fn of_words(answer: &str, mentions: &[Mention], logprobs: &Logprobs) -> Vec<Option<f64>> {
    let places = places_of_texts(answer);
    if places.len() != mentions.len() {
        return vec![None; mentions.len()];
    }
    let probability = |(mention, place): (&Mention, &Range<usize>)| {
        // What was mended has other words than the model gave a probability to.
        let quoted = answer.get(place.start.checked_sub(1)?..place.end + 1)?;
        let said: String = serde_json::from_str(quoted).ok()?;
        (said == mention.text).then(|| logprobs.probability(place)).flatten()
    };
    mentions.iter().zip(&places).map(probability).collect()
}

/// The factors of a suggestion, multiplied.
pub fn raw(words: Option<f64>, similarity: f64, trust: f64) -> Option<f64> {
    words.map(|words| (words * similarity * trust).clamp(0.0, 1.0))
}

/// Of a span that rules found, too.
pub fn agreed(confidence: Option<f64>) -> Option<f64> {
    confidence.map(|confidence| 1.0 - (1.0 - confidence) * DOUBT_LEFT)
}

/// The values of the key `text` in an answer, without their quotes, in bytes, in order. Linear.
fn places_of_texts(answer: &str) -> Vec<Range<usize>> {
    let bytes = answer.as_bytes();
    let mut places = Vec::new();
    let mut key: &[u8] = &[];
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(|byte| *byte == b'"').map(|found| at + found + 1) {
        let Some(end) = end_of_string(bytes, start) else { break };
        at = end + 1;
        let next = bytes[at..].iter().find(|byte| !byte.is_ascii_whitespace());
        if next == Some(&b':') {
            key = &bytes[start..end];
        } else {
            if key == b"text" {
                places.push(start..end);
            }
            key = &[];
        }
    }
    places
}

/// Where the closing quote of a string stands, whose first byte is at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mention(text: &str) -> Mention {
        Mention { label: "A".into(), text: text.into(), before: None }
    }

    #[test]
    fn texts_are_found_whatever_stands_around_them() {
        let found = |answer: &str| -> Vec<String> {
            places_of_texts(answer).into_iter().map(|place| answer[place].to_owned()).collect()
        };
        let answer = r#"{"mentions": [{"label": "text", "text" : "a\"b", "before": "the \"text\": "}, {"text":"船","x":{"text":""}}]}"#;
        assert_eq!(found(answer), [r#"a\"b"#, "船", ""]);
        assert_eq!(found(r#"{"text": "cut"#), [""; 0]);
        assert_eq!(found("\"\\"), [""; 0]);
    }

    #[test]
    fn an_unknown_factor_is_an_unknown_confidence() {
        assert_eq!(raw(None, 1.0, 1.0), None);
        assert_eq!(raw(Some(0.8), 0.5, 0.5), Some(0.2));
        assert_eq!((agreed(None), agreed(Some(0.5)), agreed(Some(1.0))), (None, Some(0.75), Some(1.0)));
        let none = Logprobs::default();
        assert_eq!(of_words(r#"[{"text": "a"}]"#, &[mention("a")], &none), [None]);
        assert_eq!(of_words("", &[mention("a"), mention("b")], &none), [None, None]);
    }

    proptest! {
        #[test]
        fn every_text_of_an_answer_is_found(texts in proptest::collection::vec("(?s).{0,9}", 0..6), noise in "(?s).{0,40}") {
            let mentions: Vec<Mention> = texts.iter().map(|text| mention(text)).collect();
            let answer = serde_json::json!({"mentions": mentions}).to_string();
            let places = places_of_texts(&answer);
            prop_assert_eq!(places.len(), texts.len());
            for (place, text) in places.iter().zip(&texts) {
                let said: String = serde_json::from_str(&answer[place.start - 1..=place.end]).expect("a string");
                prop_assert_eq!(&said, text);
            }
            let _ = places_of_texts(&noise);
        }
    }
}
