//! What a merged page becomes in Argilla, and what has to happen for that: pure functions.
//!
//! Argilla's upsert has traps that decide the steps: it validates new spans against the *stored* text, it never
//! takes a suggestion away, and it asks nobody before it replaces the text under a finished review.

use proto::rows::ArgillaRecord;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    display::display_text,
    model::{Record, Span, Suggestion},
};

/// The most code points of an agent's name.
const AGENT_MAX: usize = 200;

/// A record as it should stand in Argilla.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// `<doc_id>:<page_num>`
    pub external_id: String,
    /// The display text.
    pub text: String,
    pub metadata: Map<String, Value>,
    /// One at most: there is one question.
    pub suggestions: Vec<Suggestion>,
}

/// `suggestions_json`: what Argilla takes, less the question.
#[derive(Deserialize)]
struct Merged {
    value: Vec<Span>,
    score: Option<Vec<f64>>,
    agent: Option<String>,
    r#type: Option<String>,
}

impl Item {
    /// Fails with the reason when the row's suggestions cannot be read.
    pub fn of(row: &ArgillaRecord, question_id: &str) -> Result<Self, String> {
        let merged: Vec<Merged> = match row.suggestions_json.as_deref() {
            None | Some("") => Vec::new(),
            Some(json) => {
                serde_json::from_str(json).map_err(|e| format!("suggestions_json cannot be read: {e}"))?
            }
        };
        let suggestions = merged
            .into_iter()
            .filter(|merged| !merged.value.is_empty())
            .map(|merged| Suggestion {
                question_id: question_id.to_owned(),
                value: merged.value,
                score: merged.score,
                agent: merged.agent.map(|agent| agent_name(&agent)),
                r#type: merged.r#type,
            })
            .collect();
        let mut metadata = Map::new();
        metadata.insert("doc_id".into(), json!(row.doc_id));
        metadata.insert("page_num".into(), json!(row.page_num));
        if let Some(run_id) = row.run_id {
            metadata.insert("run_id".into(), json!(run_id));
        }
        metadata.insert("text_sha256".into(), json!(row.text_sha256));
        metadata.insert("outcome".into(), json!(row.outcome));
        Ok(Self { external_id: row.id.clone(), text: display_text(&row.text), metadata, suggestions })
    }

    /// About what it weighs in a request.
    pub fn bytes(&self) -> usize {
        let spans: usize = self.suggestions.iter().map(|s| s.value.len()).sum();
        self.text.len() + 64 * spans + 512
    }

    pub fn equals(&self, stored: &Record) -> bool {
        self.same_text(stored)
            && self.same_suggestions(stored)
            && stored.metadata.as_ref() == Some(&self.metadata)
    }

    fn same_text(&self, stored: &Record) -> bool {
        stored.fields.text.as_ref() == Some(&self.text)
            && stored.metadata.as_ref().and_then(|m| m.get("text_sha256")) == self.metadata.get("text_sha256")
    }

    fn same_suggestions(&self, stored: &Record) -> bool {
        stored.suggestions == self.suggestions
    }
}

/// Argilla takes letters, digits and `-_:./` and blanks in an agent's name; anything else becomes `-`.
fn agent_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_:./ ".contains(c);
    name.chars().map(|c| if allowed(c) { c } else { '-' }).take(AGENT_MAX).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Create,
    Unchanged,
    Update {
        /// The stored suggestions have to go first: they are of another text, or there are to be none.
        clear: bool,
        /// The text goes first, in an upsert of its own: spans are validated against the stored one.
        text_first: bool,
    },
    /// Somebody answered, or began to: it stays as that person saw it.
    KeepReviewed {
        text_changed: bool,
    },
}

pub fn step(item: &Item, stored: Option<&Record>) -> Step {
    let Some(stored) = stored else { return Step::Create };
    if item.equals(stored) {
        return Step::Unchanged;
    }
    let text_changed = !item.same_text(stored);
    if !stored.responses.is_empty() {
        return Step::KeepReviewed { text_changed };
    }
    let clear = !stored.suggestions.is_empty() && (text_changed || item.suggestions.is_empty());
    Step::Update { clear, text_first: text_changed && !item.suggestions.is_empty() }
}

#[cfg(test)]
mod tests {
    use proto::rows::Outcome;

    use super::*;

    fn row(text: &str, spans: &[(u32, u32)]) -> ArgillaRecord {
        let value: Vec<_> =
            spans.iter().map(|(s, e)| json!({"start": s, "end": e, "label": "IMO"})).collect();
        let score = vec![0.25; spans.len()];
        ArgillaRecord {
            id: "d:1".into(),
            text: text.into(),
            doc_id: "d".into(),
            page_num: 1,
            text_sha256: proto::hash::sha256_hex(text),
            suggestions_entities: Vec::new(),
            suggestions_score: None,
            suggestions_agent: None,
            suggestions_type: None,
            suggestions_json: Some(
                json!([{"value": value, "score": score, "agent": "rules@v1", "type": "model"}]).to_string(),
            ),
            outcome: Outcome::Suggested,
            run_id: Some(3),
            source_uri: None,
        }
    }

    fn item(text: &str, spans: &[(u32, u32)]) -> Item {
        Item::of(&row(text, spans), "q").expect("an item")
    }

    fn stored(item: &Item) -> Record {
        serde_json::from_value(
            json!({"id": "u", "external_id": item.external_id, "fields": {"text": item.text},
            "metadata": item.metadata, "suggestions": item.suggestions, "responses": []}),
        )
        .expect("a record")
    }

    fn answered(mut record: Record) -> Record {
        let response = json!({"id": "r", "user_id": "u", "status": "draft", "values": null,
                              "inserted_at": "", "updated_at": ""});
        record.responses.push(serde_json::from_value(response).expect("a response"));
        record
    }

    #[test]
    fn an_item_shows_the_display_text_and_keeps_the_original_hash() {
        let item = item("a<b\r\n", &[(0, 1)]);
        assert_eq!(item.text, "a‹b \n");
        assert_eq!(item.metadata["text_sha256"], proto::hash::sha256_hex("a<b\r\n"));
        assert_eq!(item.metadata["page_num"], 1);
        assert_eq!(item.suggestions[0].agent.as_deref(), Some("rules-v1"));
        assert!(super::Item::of(&row("x", &[]), "q").is_ok_and(|item| item.suggestions.is_empty()));
        let broken = ArgillaRecord { suggestions_json: Some("{".into()), ..row("x", &[]) };
        assert!(Item::of(&broken, "q").is_err());
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let item = item("IMO 1", &[(4, 5)]);
        assert_eq!(step(&item, None), Step::Create);
        assert_eq!(step(&item, Some(&stored(&item))), Step::Unchanged);
        assert_eq!(step(&item, Some(&answered(stored(&item)))), Step::Unchanged);
    }

    #[test]
    fn changes_go_in_the_order_that_the_upsert_needs() {
        let old = stored(&item("IMO 1", &[(4, 5)]));
        let update = |text, spans: &[_]| step(&item(text, spans), Some(&old));
        assert_eq!(update("IMO 1", &[(0, 3)]), Step::Update { clear: false, text_first: false });
        assert_eq!(update("IMO 1", &[]), Step::Update { clear: true, text_first: false });
        assert_eq!(update("IMO 12", &[(4, 6)]), Step::Update { clear: true, text_first: true });
        assert_eq!(update("IMO 12", &[]), Step::Update { clear: true, text_first: false });
        // The display text is the same, the original is not.
        assert_eq!(update("IMO\u{b}1", &[(4, 5)]), Step::Update { clear: true, text_first: true });
    }

    #[test]
    fn an_answer_protects_its_record() {
        let old = answered(stored(&item("IMO 1", &[(4, 5)])));
        assert_eq!(step(&item("IMO 2", &[(4, 5)]), Some(&old)), Step::KeepReviewed { text_changed: true });
        assert_eq!(step(&item("IMO 1", &[]), Some(&old)), Step::KeepReviewed { text_changed: false });
    }
}
