//! `dgx-agent ground`: the grounding alone, JSON lines in and out.
//!
//! In: `{"id", "text", "mentions": [{"label", "text", "before"?}]}`. Out, one answer a line and in order:
//! `{"id", "spans": [{"mention", "label", "start", "end", "text", "match", "similarity"}], "ungrounded": [{"mention",
//! "reason"}]}`. A bad line gives `{"id", "error"}` in its place; `id` is any JSON value, null where it is not known.
//! A good line is read once.

use std::io::{self, BufRead, BufReader, Read, Write};

use proto::labelset::{Labelset, Mention};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ground::{GroundedSpan, Reason, ground},
    parse::with_whole_characters,
};

/// Longest line, in bytes: a page of many megabytes and its mentions.
const MAX_LINE: u64 = 64 << 20;

/// How many lines were answered, and how many of them could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    pub lines: u64,
    pub bad: u64,
}

#[derive(Deserialize)]
struct Question {
    #[serde(default)]
    id: Value,
    text: String,
    mentions: Vec<Mention>,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a Value,
    spans: Vec<Span>,
    ungrounded: Vec<Left>,
}

#[derive(Serialize)]
struct Span {
    mention: usize,
    label: String,
    start: usize,
    end: usize,
    text: String,
    r#match: &'static str,
    similarity: f64,
}

#[derive(Serialize)]
struct Left {
    mention: usize,
    reason: Reason,
}

#[derive(Serialize)]
struct Refusal<'a> {
    id: &'a Value,
    error: String,
}

/// Answers line by line, holding one at a time; what was answered is written out before it waits for more.
///
/// # Errors
/// When reading or writing fails. Bad lines are no error; the summary counts them.
pub fn run(input: impl Read, output: impl Write, labelset: &Labelset) -> io::Result<Summary> {
    let mut input = BufReader::new(input);
    let mut output = io::BufWriter::new(output);
    let mut summary = Summary::default();
    let mut line = Vec::new();
    loop {
        if input.buffer().is_empty() {
            output.flush()?;
        }
        line.clear();
        if input.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line)? == 0 {
            output.flush()?;
            return Ok(summary);
        }
        let (id, answer) = if line.last() != Some(&b'\n') && line.len() as u64 > MAX_LINE {
            skip_line(&mut input)?;
            (Value::Null, Err(format!("the line is longer than {MAX_LINE} bytes")))
        } else {
            answer(&line, labelset)
        };
        summary.lines += 1;
        match answer {
            Ok((spans, ungrounded)) => write_line(&mut output, &Answer { id: &id, spans, ungrounded })?,
            Err(error) => {
                summary.bad += 1;
                write_line(&mut output, &Refusal { id: &id, error })?;
            }
        }
    }
}

type Found = (Vec<Span>, Vec<Left>);

fn answer(line: &[u8], labelset: &Labelset) -> (Value, Result<Found, String>) {
    let question: Question = match read(line) {
        Ok(question) => question,
        Err(error) => return (id_of(line), Err(error)),
    };
    let grounded = ground(&question.text, &question.mentions, labelset);
    let left =
        grounded.ungrounded.into_iter().map(|left| Left { mention: left.mention, reason: left.reason });
    (question.id, Ok((grounded.spans.into_iter().map(Span::from).collect(), left.collect())))
}

/// A half of a surrogate pair, which other languages' strings may hold, becomes U+FFFD: one code point, as they count.
fn read(line: &[u8]) -> Result<Question, String> {
    let error = match serde_json::from_slice(line) {
        Ok(question) => return Ok(question),
        Err(error) => error,
    };
    if let Some(whole) = str::from_utf8(line).ok().and_then(with_whole_characters)
        && let Ok(question) = serde_json::from_str(&whole)
    {
        return Ok(question);
    }
    Err(if error.is_data() {
        // Its message names fields and types; what it quotes of the line is left out.
        let known = ["missing field `text`", "missing field `mentions`", "missing field `label`"];
        let said = error.to_string();
        let what = known
            .iter()
            .find(|known| said.starts_with(**known))
            .copied()
            .unwrap_or("a value of another type");
        format!(
            "the line is not {{id, text, mentions: [{{label, text, before?}}]}}: {what} at column {}",
            error.column()
        )
    } else {
        not_json(&error)
    })
}

/// What a bad line says of itself.
fn id_of(line: &[u8]) -> Value {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        id: Value,
    }
    serde_json::from_slice(line).map_or(Value::Null, |Named { id }| id)
}

/// Without what serde_json quotes of the line: no page text in messages.
fn not_json(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "ends too early",
        _ => "is broken",
    };
    format!("the line is not JSON: it {what} at column {}", error.column())
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (skipped, done) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(skipped);
        if done {
            return Ok(());
        }
    }
}

fn write_line(output: &mut impl Write, answer: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *output, answer)?;
    output.write_all(b"\n")
}

impl From<GroundedSpan> for Span {
    fn from(span: GroundedSpan) -> Self {
        Self {
            mention: span.mention,
            label: span.label,
            start: span.start,
            end: span.end,
            text: span.text,
            r#match: span.match_kind.as_str(),
            similarity: span.similarity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(input: &[u8]) -> (Vec<Value>, Summary) {
        let mut output = Vec::new();
        let summary = run(input, &mut output, &Labelset::embedded()).expect("memory");
        let lines = String::from_utf8(output).expect("UTF-8");
        (lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect(), summary)
    }

    #[test]
    fn one_answer_a_line_in_order() {
        let input = r#"{"id": 1, "text": "flag: Panamá, sign: HPAB", "mentions": [{"label": "FLAG", "text": "Panamá", "before": "flag:"}, {"label": "PORT", "text": "Suva"}], "more": 0}
not JSON
{"id": ["x"], "text": 3, "mentions": []}

{"id": "last", "text": "", "mentions": []}"#;
        let (answers, summary) = answers(input.as_bytes());
        assert_eq!(
            answers[0],
            serde_json::json!({
                "id": 1,
                "spans": [{"mention": 0, "label": "FLAG", "start": 6, "end": 12, "text": "Panamá", "match": "exact", "similarity": 1.0}],
                "ungrounded": [{"mention": 1, "reason": "not_found"}],
            })
        );
        assert_eq!(answers[1]["id"], Value::Null);
        assert_eq!(answers[1]["error"], "the line is not JSON: it is broken at column 2");
        assert_eq!(answers[2]["id"], serde_json::json!(["x"]));
        assert!(answers[3]["error"].is_string());
        assert_eq!(answers[4], serde_json::json!({"id": "last", "spans": [], "ungrounded": []}));
        assert_eq!(summary, Summary { lines: 5, bad: 3 });
    }

    #[test]
    fn odd_bytes_are_bad_lines() {
        let (answers, summary) = answers(b"\xff\xfe\n{\"id\": \"\\ud800\"}\n[]\n{}\n");
        assert_eq!(summary, Summary { lines: 4, bad: 4 });
        assert!(answers.iter().all(|answer| answer["error"].is_string()));
    }

    #[test]
    fn a_bad_line_keeps_its_id_and_tells_no_text() {
        let (answers, _) = answers(
            br#"{"text": "secret", "mentions": "secret", "id": 7}
{"id": "x", "mentions": []}"#,
        );
        assert_eq!((&answers[0]["id"], &answers[1]["id"]), (&serde_json::json!(7), &serde_json::json!("x")));
        assert!(!answers[0]["error"].to_string().contains("secret"), "{}", answers[0]);
        assert!(answers[1]["error"].to_string().contains("missing field `text`"), "{}", answers[1]);
    }

    #[test]
    fn half_a_surrogate_pair_is_one_character() {
        let line = br#"{"id": "s", "text": "a\ud800 flag: Panama \ud83d\ude00", "mentions": [{"label": "FLAG", "text": "Panama"}, {"label": "OWNER", "text": "\udc00"}]}"#;
        let (answers, summary) = answers(line);
        assert_eq!(summary.bad, 0, "{}", answers[0]);
        assert_eq!((&answers[0]["spans"][0]["start"], &answers[0]["id"]), (&9.into(), &"s".into()));
        assert_eq!(answers[0]["ungrounded"][0]["mention"], 1);
    }
}
