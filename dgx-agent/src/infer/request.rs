//! The body of `POST /api/chat`, made of `ollama-rs`'s types plus what they leave out: `truncate`, a schema as
//! it is, and `stream: true`.

use ollama_rs::generation::chat::ChatMessage;
use ollama_rs::generation::parameters::{KeepAlive, ThinkType, TimeUnit};
use ollama_rs::models::ModelOptions;
use serde::Serialize;
use serde_json::Value;

/// The options that shape an answer, part of a batch's provenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelParams {
    pub model: String,
    /// Context window in tokens: prompt and answer. A load-time option: the same in every request.
    pub num_ctx: u32,
    /// Most tokens of an answer; below `num_ctx`.
    pub num_predict: u32,
}

/// Everything of a request but the page: made once a batch, so that load-time options cannot differ, and with
/// the constant part of the prompt first, so that the server reuses its cache.
#[derive(Debug, Clone)]
pub struct RequestTemplate {
    params: ModelParams,
    system: ChatMessage,
    schema: Value,
}

#[derive(Debug, Serialize)]
pub(super) struct ChatRequest<'a> {
    model: &'a str,
    messages: [&'a ChatMessage; 2],
    stream: bool,
    format: &'a Value,
    options: ModelOptions,
    think: ThinkType,
    truncate: bool,
    keep_alive: KeepAlive,
}

impl RequestTemplate {
    /// `schema`: the JSON schema the answer has to obey.
    pub fn new(params: ModelParams, system: String, schema: Value) -> Self {
        Self { params, system: ChatMessage::system(system), schema }
    }

    pub fn params(&self) -> &ModelParams {
        &self.params
    }

    /// The JSON body for one prompt. `seed` is the only option that varies within a batch.
    pub fn body(&self, user: String, seed: u32) -> Vec<u8> {
        let user = ChatMessage::user(user);
        let request = ChatRequest {
            model: &self.params.model,
            messages: [&self.system, &user],
            stream: true,
            format: &self.schema,
            options: ModelOptions::default()
                .num_ctx(u64::from(self.params.num_ctx))
                .num_predict(i32::try_from(self.params.num_predict).unwrap_or(i32::MAX))
                .temperature(0.0)
                .seed(i32::try_from(seed).unwrap_or(i32::MAX)),
            think: ThinkType::False,
            truncate: false,
            keep_alive: KeepAlive::Until { time: 30, unit: TimeUnit::Minutes },
        };
        serde_json::to_vec(&request).expect("strings, numbers and a JSON value always serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_body_says_everything_that_must_not_be_left_to_defaults() {
        let params = ModelParams { model: "m".into(), num_ctx: 4096, num_predict: 512 };
        let template = RequestTemplate::new(params, "rules".into(), json!({"type": "object"}));
        let body: Value = serde_json::from_slice(&template.body("page".into(), 3)).unwrap();
        for (pointer, want) in [
            ("/stream", json!(true)),
            ("/truncate", json!(false)),
            ("/think", json!(false)),
            ("/format", json!({"type": "object"})),
            ("/options/num_ctx", json!(4096)),
            ("/options/num_predict", json!(512)),
            ("/options/temperature", json!(0.0)),
            ("/options/seed", json!(3)),
            ("/keep_alive", json!("30m")),
            ("/messages/0/role", json!("system")),
            ("/messages/1/content", json!("page")),
        ] {
            assert_eq!(body.pointer(pointer), Some(&want), "{pointer}");
        }
    }

    #[test]
    fn requests_of_a_batch_differ_in_page_and_seed_alone() {
        let params = ModelParams { model: "m".into(), num_ctx: 4096, num_predict: 512 };
        let template = RequestTemplate::new(params, "rules".into(), json!({}));
        let mut bodies: Vec<Value> = [("a", 0), ("b", 1)]
            .map(|(page, seed)| serde_json::from_slice(&template.body(page.into(), seed)).unwrap())
            .into();
        for body in &mut bodies {
            body["messages"][1]["content"] = Value::Null;
            body["options"]["seed"] = Value::Null;
        }
        assert_eq!(bodies[0], bodies[1]);
    }
}
