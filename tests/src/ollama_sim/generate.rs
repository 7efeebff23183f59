//! `POST /api/generate`, whole answers alone: what langextract asks. The mentions are those of `chat`, in its shape.

use std::sync::Arc;

use axum::{Json, body::Bytes, extract::State, http::StatusCode, response::IntoResponse, response::Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Sim, Visit, lock, plan, speak};
use crate::ollama_double::{answer::tokens, error, now};

#[derive(Debug, Deserialize)]
struct Request {
    model: String,
    prompt: String,
}

pub(super) async fn generate(State(sim): State<Arc<Sim>>, body: Bytes) -> Response {
    let visit = Visit::begin(&sim);
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(why) => {
            visit.answered(0);
            return error(StatusCode::BAD_REQUEST, &why.to_string());
        }
    };
    let content = content(&sim, &body, &request.prompt).await;
    let asked_at = sim.gate.now();
    let work = speak::work(&sim);
    let (mut started_at, mut ended_at) = (asked_at, asked_at);
    if work > 0.0 {
        let mut seat = sim.gate.take(work);
        started_at = seat.started().await;
        ended_at = seat.finished().await;
    }
    visit.answered(tokens(&content));
    Json(json!({
        "model": request.model, "created_at": now(), "response": content, "done": true, "done_reason": "stop",
        "total_duration": ended_at - asked_at, "load_duration": 0,
        "prompt_eval_count": tokens(&request.prompt), "prompt_eval_duration": 0,
        "eval_count": tokens(&content), "eval_duration": ended_at - started_at,
    }))
    .into_response()
}

/// Made once a body.
async fn content(sim: &Arc<Sim>, body: &[u8], prompt: &str) -> String {
    let digest = plan::digest(body);
    if let Some(known) = lock(&sim.generated).get(&digest) {
        return known.clone();
    }
    let (page, answerer) = (page(prompt).to_owned(), sim.app.answerer.clone());
    let content = tokio::task::spawn_blocking(move || extractions(&answerer.answer(&page, usize::MAX))).await;
    let content = content.unwrap_or_default();
    lock(&sim.generated).insert(digest, content.clone());
    content
}

/// The last question of a prompt with worked examples.
fn page(prompt: &str) -> &str {
    let question = prompt.rfind("Q: ").map_or(prompt, |at| &prompt[at + 3..]);
    question.rsplit_once("\nA:").map_or(question, |(page, _)| page)
}

fn extractions(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let mentions = answer["mentions"].as_array().into_iter().flatten();
    let extractions = mentions.map(|mention| {
        let label = mention["label"].as_str().unwrap_or_default();
        let pairs = [(label.to_owned(), mention["text"].clone()), (format!("{label}_attributes"), json!({}))];
        Value::Object(Map::from_iter(pairs))
    });
    json!({"extractions": extractions.collect::<Vec<_>>()}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_question_is_the_page() {
        assert_eq!(
            page("Find.\n\nExamples\nQ: IMO 1\nA: {}\n\nQ: IMO 2\nof two lines\nA: "),
            "IMO 2\nof two lines"
        );
        assert_eq!(page("no questions"), "no questions");
        let asked = extractions(r#"{"mentions": [{"label": "IMO", "text": "9074729", "before": ""}]}"#);
        assert_eq!(asked, r#"{"extractions":[{"IMO":"9074729","IMO_attributes":{}}]}"#);
    }
}
