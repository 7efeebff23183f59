//! The body of `POST /api/chat`, made of `ollama-rs`'s types plus what they leave out: `truncate`,
//! `logprobs`, a schema as it is, and `stream: true`.

use ollama_rs::generation::chat::ChatMessage;
use ollama_rs::generation::parameters::{KeepAlive, ThinkType, TimeUnit};
use ollama_rs::models::ModelOptions;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

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
    /// The body as far as the page, as between page and seed, and as after the seed: written once.
    pieces: [String; 3],
    /// The hash of the model's digest and of the first piece.
    hashed: Sha256,
}

#[derive(Debug, Serialize)]
struct ChatRequest<'a> {
    model: &'a str,
    messages: [ChatMessage; 2],
    stream: bool,
    format: &'a Value,
    options: ModelOptions,
    think: ThinkType,
    truncate: bool,
    /// For confidences. Servers before 0.12.11 do not know it, and ignore it.
    logprobs: bool,
    keep_alive: KeepAlive,
}

/// Stand for the page and the seed while the pieces are cut; no prompt of ours holds either.
const PAGE: &str = "\u{e000}page\u{e000}";
const SEED: i32 = 1_470_258_369;

impl RequestTemplate {
    /// `schema`: the JSON schema the answer has to obey.
    pub fn new(params: ModelParams, system: String, schema: &Value) -> Self {
        let request = ChatRequest {
            model: &params.model,
            messages: [ChatMessage::system(system), ChatMessage::user(PAGE.to_owned())],
            stream: true,
            format: schema,
            options: ModelOptions::default()
                .num_ctx(u64::from(params.num_ctx))
                .num_predict(i32::try_from(params.num_predict).unwrap_or(i32::MAX))
                .temperature(0.0)
                .seed(SEED),
            think: ThinkType::False,
            truncate: false,
            logprobs: true,
            keep_alive: KeepAlive::Until { time: 30, unit: TimeUnit::Minutes },
        };
        let body =
            serde_json::to_string(&request).expect("strings, numbers and a JSON value always serialise");
        // From the end: what a labelset's author wrote stands before both.
        let (before, rest) = body.rsplit_once(&format!("\"{PAGE}\"")).expect("the page is the last message");
        let (between, after) = rest.rsplit_once(&SEED.to_string()).expect("the seed is an option");
        let pieces = [before, between, after].map(str::to_owned);
        Self { params, pieces, hashed: Sha256::new() }.with_digest("")
    }

    /// `digest`: of the model, for its keys.
    #[must_use]
    pub fn with_digest(self, digest: &str) -> Self {
        let hashed = Sha256::new_with_prefix(digest).chain_update(&self.pieces[0]);
        Self { hashed, ..self }
    }

    pub fn params(&self) -> &ModelParams {
        &self.params
    }

    /// SHA-256 of the model's digest and the canonical body for a prompt: the one with seed 0, whatever seed it takes.
    pub fn key(&self, user: &str) -> [u8; 32] {
        let [_, between, after] = &self.pieces;
        let user = serde_json::to_vec(user).expect("a string always serialises into memory");
        let rest = [user.as_slice(), between.as_bytes(), b"0", after.as_bytes()];
        rest.into_iter().fold(self.hashed.clone(), Sha256::chain_update).finalize().into()
    }

    /// The JSON body for one prompt. `seed` is the only option that varies within a batch.
    pub fn body(&self, user: &str, seed: u32) -> Vec<u8> {
        let [before, between, after] = &self.pieces;
        let mut body =
            Vec::with_capacity(before.len() + between.len() + after.len() + user.len() * 9 / 8 + 16);
        body.extend_from_slice(before.as_bytes());
        serde_json::to_writer(&mut body, user).expect("a string always serialises into memory");
        body.extend_from_slice(between.as_bytes());
        body.extend_from_slice(i32::try_from(seed).unwrap_or(i32::MAX).to_string().as_bytes());
        body.extend_from_slice(after.as_bytes());
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_body_says_everything_that_must_not_be_left_to_defaults() {
        let params = ModelParams { model: "m".into(), num_ctx: 4096, num_predict: 512 };
        let template = RequestTemplate::new(params, "rules".into(), &json!({"type": "object"}));
        let body: Value = serde_json::from_slice(&template.body("a \"page\"\0", 3)).unwrap();
        for (pointer, want) in [
            ("/stream", json!(true)),
            ("/truncate", json!(false)),
            ("/logprobs", json!(true)),
            ("/think", json!(false)),
            ("/format", json!({"type": "object"})),
            ("/options/num_ctx", json!(4096)),
            ("/options/num_predict", json!(512)),
            ("/options/temperature", json!(0.0)),
            ("/options/seed", json!(3)),
            ("/keep_alive", json!("30m")),
            ("/messages/0/role", json!("system")),
            ("/messages/1/content", json!("a \"page\"\0")),
        ] {
            assert_eq!(body.pointer(pointer), Some(&want), "{pointer}");
        }
    }

    #[test]
    fn requests_of_a_batch_differ_in_page_and_seed_alone() {
        let params = ModelParams { model: "m".into(), num_ctx: 4096, num_predict: 512 };
        let template = RequestTemplate::new(params, "rules".into(), &json!({}));
        let mut bodies: Vec<Value> = [("a", 0), ("b", 1)]
            .map(|(page, seed)| serde_json::from_slice(&template.body(page, seed)).unwrap())
            .into();
        for body in &mut bodies {
            body["messages"][1]["content"] = Value::Null;
            body["options"]["seed"] = Value::Null;
        }
        assert_eq!(bodies[0], bodies[1]);
    }

    #[test]
    fn a_key_is_the_hash_of_model_and_canonical_body() {
        let params = ModelParams { model: "m".into(), num_ctx: 4096, num_predict: 512 };
        let of =
            |digest| RequestTemplate::new(params.clone(), "rules".into(), &json!({})).with_digest(digest);
        let template = of("d1");
        let body = Sha256::digest([b"d1", template.body("a \"page\"", 0).as_slice()].concat());
        assert_eq!(template.key("a \"page\""), <[u8; 32]>::from(body));
        assert_ne!(template.key("a"), template.key("b"));
        assert_ne!(template.key("a"), of("d2").key("a"));
    }
}
