//! From a record's responses to rows of the annotated tables: pure functions.
//!
//! Invariants: spans come from submitted responses alone (a discarded one carries the spans it was opened with);
//! a span's text is taken from the *original* page by offset, never from what Argilla shows; the record must still
//! show that very page.

use proto::{
    hash::sha256_hex,
    ids::{CharSpan, DocId, PageKey},
    rows::{AnnotatedPage, AnnotatedSpan, ArgillaRecord},
};
use serde_json::{Value, json};

use super::{
    display::display_text,
    model::{Record, Response, ResponseStatus, Span},
};

/// What people said about one record: all that an export keeps of it until its page comes by.
#[derive(Debug, Clone)]
pub struct Answered {
    /// What the record shows, as a hash: its text, and the hash of the original that its metadata holds.
    shown: String,
    json: Value,
    /// Submitted and discarded, by user.
    responses: Vec<Response>,
}

impl Answered {
    /// None when nobody submitted or discarded the record.
    pub fn of(record: Record) -> Option<Self> {
        let mut responses = record.responses;
        responses.retain(|response| response.status != ResponseStatus::Draft);
        responses.sort_by(|a, b| a.user_id.cmp(&b.user_id));
        if responses.is_empty() {
            return None;
        }
        let metadata = record.metadata.unwrap_or_default();
        let original = metadata.get("text_sha256").and_then(Value::as_str).unwrap_or_default();
        let shown = shown(record.fields.text.as_deref().unwrap_or_default(), original);
        let json = json!({"id": record.id, "external_id": record.external_id, "metadata": metadata,
                          "suggestions": record.suggestions});
        Some(Self { shown, json, responses })
    }

    pub fn submitted(&self) -> bool {
        self.responses.iter().any(|response| response.status == ResponseStatus::Submitted)
    }
}

fn shown(display: &str, original_sha256: &str) -> String {
    format!("{}:{original_sha256}", sha256_hex(display))
}

/// The rows of one record: a page row for each answer, and the spans of the submitted ones. Fails with the reason
/// when the answers cannot be those to this page.
pub fn rows(
    page: &ArgillaRecord,
    answered: &Answered,
    question: &str,
) -> Result<(Vec<AnnotatedPage>, Vec<AnnotatedSpan>), String> {
    if sha256_hex(&page.text) != page.text_sha256 {
        return Err("argilla_records.parquet has a text_sha256 that is not of its text".to_owned());
    }
    if answered.shown != shown(&display_text(&page.text), &page.text_sha256) {
        return Err("the reviewers saw another text than the batch has now".to_owned());
    }
    let key = PageKey::new(DocId::new(page.doc_id.clone()).map_err(|e| e.to_string())?, page.page_num);
    let (mut pages, mut spans) = (Vec::new(), Vec::new());
    for response in &answered.responses {
        pages.push(page_row(page, answered, response));
        if response.status == ResponseStatus::Submitted {
            let mut given = response.spans(question).map_err(|e| format!("its spans cannot be read: {e}"))?;
            given.sort();
            for span in given {
                spans.push(span_row(page, &key, response, &span)?);
            }
        }
    }
    Ok((pages, spans))
}

fn page_row(page: &ArgillaRecord, answered: &Answered, response: &Response) -> AnnotatedPage {
    let mut record = answered.json.clone();
    record["response"] = json!(response);
    let record_json = record.to_string();
    AnnotatedPage {
        argilla_record_id: page.id.clone(),
        doc_id: page.doc_id.clone(),
        page_num: page.page_num,
        status: response.status.as_str().to_owned(),
        annotator_id: response.user_id.clone(),
        reviewer_id: None,
        record_sha256: sha256_hex(&record_json),
        record_json,
        run_id: page.run_id,
        page_sha256: page.text_sha256.clone(),
    }
}

fn span_row(
    page: &ArgillaRecord,
    key: &PageKey,
    response: &Response,
    span: &Span,
) -> Result<AnnotatedSpan, String> {
    let outside = || format!("a {} span from {} to {} is not on the page", span.label, span.start, span.end);
    let place = CharSpan::new(span.start, span.end).ok_or_else(outside)?;
    let text = place.slice(&page.text).ok_or_else(outside)?;
    let offset = |at: u32| i32::try_from(at).map_err(|_| outside());
    Ok(AnnotatedSpan {
        argilla_record_id: page.id.clone(),
        span_id: key.span_id(&span.label, place),
        doc_id: page.doc_id.clone(),
        page_num: page.page_num,
        label: span.label.clone(),
        start: offset(span.start)?,
        end: offset(span.end)?,
        text: text.to_owned(),
        text_sha256: sha256_hex(text),
        norm_value: None,
        annotator_id: response.user_id.clone(),
        run_id: page.run_id,
        page_sha256: page.text_sha256.clone(),
    })
}

#[cfg(test)]
mod tests {
    use proto::rows::Outcome;

    use super::*;

    const TEXT: &str = "<b>𝕏 IMO 9074729\r\n";

    fn page() -> ArgillaRecord {
        ArgillaRecord {
            id: "d:1".into(),
            text: TEXT.into(),
            doc_id: "d".into(),
            page_num: 1,
            text_sha256: sha256_hex(TEXT),
            suggestions_entities: Vec::new(),
            suggestions_score: None,
            suggestions_agent: None,
            suggestions_type: None,
            suggestions_json: None,
            outcome: Outcome::Suggested,
            run_id: Some(7),
            source_uri: None,
        }
    }

    fn response(user: &str, status: &str, spans: &[(u32, u32)]) -> Value {
        let spans: Vec<_> =
            spans.iter().map(|(s, e)| json!({"start": s, "end": e, "label": "IMO"})).collect();
        json!({"id": user, "user_id": user, "status": status, "values": {"entities": {"value": spans}},
               "inserted_at": "a", "updated_at": "b"})
    }

    fn record(text: &str, responses: &Value) -> Record {
        serde_json::from_value(json!({"id": "uuid", "external_id": "d:1", "fields": {"text": text},
            "metadata": {"text_sha256": sha256_hex(TEXT)}, "responses": responses}))
        .expect("a record")
    }

    fn answered(responses: &Value) -> Answered {
        Answered::of(record(&display_text(TEXT), responses)).expect("answered")
    }

    #[test]
    fn span_texts_come_from_the_original_by_offset() {
        let answers = answered(&json!([response("zoe", "submitted", &[(9, 16), (0, 4)])]));
        let (pages, spans) = rows(&page(), &answers, "entities").expect("rows");
        assert_eq!(pages.len(), 1);
        assert_eq!(spans.iter().map(|s| s.text.as_str()).collect::<Vec<_>>(), ["<b>𝕏", "9074729"]);
        assert_eq!(spans[1].text_sha256, sha256_hex("9074729"));
        assert_eq!((spans[1].run_id, spans[1].page_sha256.as_str()), (Some(7), sha256_hex(TEXT).as_str()));
        assert_eq!(pages[0].record_sha256, sha256_hex(&pages[0].record_json));
        assert!(!pages[0].record_json.contains("<b>"), "no page text in it");
    }

    #[test]
    fn discarded_answers_give_a_page_and_no_spans_and_drafts_nothing() {
        let answers = answered(&json!([
            response("zoe", "discarded", &[(9, 16)]),
            response("abe", "submitted", &[(9, 16)]),
            response("eve", "draft", &[(9, 16)]),
        ]));
        let (pages, spans) = rows(&page(), &answers, "entities").expect("rows");
        let told: Vec<_> = pages.iter().map(|p| (p.annotator_id.as_str(), p.status.as_str())).collect();
        assert_eq!(told, [("abe", "submitted"), ("zoe", "discarded")]);
        assert_eq!(spans.len(), 1);
        assert!(Answered::of(record("x", &json!([response("eve", "draft", &[])]))).is_none());
        let no_values = json!([{"id": "r", "user_id": "u", "status": "discarded", "values": null,
                                "inserted_at": "", "updated_at": ""}]);
        assert!(!answered(&no_values).submitted());
    }

    #[test]
    fn answers_to_another_text_are_refused() {
        let other =
            Answered::of(record("another", &json!([response("zoe", "submitted", &[])]))).expect("answered");
        assert!(rows(&page(), &other, "entities").is_err_and(|why| why.contains("another text")));
        let outside = answered(&json!([response("zoe", "submitted", &[(9, 60)])]));
        assert!(rows(&page(), &outside, "entities").is_err_and(|why| why.contains("from 9 to 60")));
    }
}
