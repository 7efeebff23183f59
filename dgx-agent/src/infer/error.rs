//! What can go wrong with a request, named for what the caller does next. The policy is in `retry`.
//!
//! No message holds page text: the server's own words are kept short, and only its `error` field is taken.

use std::time::Duration;

use serde_json::Value;

use super::transport::Completion;

/// Longest part of a server's message that is kept, in characters.
const MESSAGE_CHARS: usize = 300;

/// What a caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// No request of this batch can succeed: stop the job and say why.
    Fatal,
    /// This request can never succeed: its page fails.
    Rejected,
    /// The prompt or the answer did not fit: split the chunk.
    TooLarge,
    /// The server answered, but not usefully: once more with another seed, then in smaller chunks.
    BadAnswer,
    /// The server failed on this request: again after a pause, a few times.
    Transient,
    /// The server is away or turns everybody off: wait for it; it says nothing about the page.
    Away { retry_after: Option<Duration> },
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    #[error("cannot reach Ollama at {url}: {reason}; start it, or pass another --ollama-url")]
    Unreachable { url: String, reason: String },
    #[error("Ollama at {url} answered HTTP {status}: {message}")]
    Busy { url: String, status: u16, message: String, retry_after: Option<Duration> },
    #[error("Ollama has no model {model}: run `ollama pull {model}`, or pass another --model")]
    ModelMissing { model: String },
    #[error(
        "{url} answers with a web page or a redirect ({detail}), not with Ollama's JSON: an access proxy \
         refused the request; set CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET, or correct --ollama-url"
    )]
    LoginPage { url: String, detail: String },
    #[error("{url} is no Ollama ({detail}): correct --ollama-url, or OLLAMA_HOST")]
    NotOllama { url: String, detail: String },
    #[error(
        "Ollama at {url} does not take the labelset's JSON schema ({message}): update Ollama, or correct the labelset"
    )]
    SchemaRefused { url: String, message: String },
    #[error(
        "Ollama at {url} refuses every request of this batch (HTTP {status}): {message}; correct --ollama-url, or what \
         stands before it"
    )]
    Refused { url: String, status: u16, message: String },
    #[error(
        "--num-ctx {num_ctx} is above the context length {context_length} of {model}; \
         pass --num-ctx {context_length} or less"
    )]
    NumCtxTooLarge { model: String, num_ctx: u32, context_length: u64 },
    #[error("Ollama rejected the request (HTTP {status}): {message}")]
    Rejected { status: u16, message: String },
    #[error("the prompt does not fit into num_ctx: {message}")]
    PromptTooLong { message: String },
    #[error(
        "the server read {prompt_tokens} prompt tokens with num_ctx {num_ctx}: it cut the prompt in silence"
    )]
    PromptCut { prompt_tokens: u64, num_ctx: u64 },
    #[error("the answer was cut at num_predict")]
    AnswerCut { partial: Partial },
    #[error("the answer ran away: {what}")]
    Runaway { what: &'static str },
    #[error("the stream ended without done: true")]
    NoDone,
    #[error("the answer is no completion: {detail}")]
    Garbage { detail: String },
    #[error("Ollama failed (HTTP {status}): {message}; its log says more")]
    Server { status: u16, message: String },
    #[error("Ollama failed in mid-stream: {message}")]
    MidStream { message: String },
    #[error("the connection broke in mid-answer: {reason}")]
    Broken { reason: String },
    #[error("Ollama gave no {what} within {seconds} s")]
    TimedOut { what: &'static str, seconds: u64 },
}

/// The answer as far as it came, with the server's counts: it holds words of the page, so it does not show.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Partial(Box<Completion>);

impl Partial {
    pub fn new(completion: Completion) -> Self {
        Self(completion.into())
    }

    pub fn completion(&self) -> &Completion {
        &self.0
    }

    pub fn into_completion(self) -> Completion {
        *self.0
    }
}

impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.content.len())
    }
}

impl InferError {
    /// The table of `contracts/ollama.md`.
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } => Class::Away { retry_after: None },
            Self::Busy { retry_after, .. } => Class::Away { retry_after: *retry_after },
            Self::ModelMissing { .. }
            | Self::LoginPage { .. }
            | Self::NotOllama { .. }
            | Self::SchemaRefused { .. }
            | Self::Refused { .. }
            | Self::NumCtxTooLarge { .. } => Class::Fatal,
            Self::Rejected { .. } => Class::Rejected,
            Self::PromptTooLong { .. } | Self::PromptCut { .. } | Self::AnswerCut { .. } => Class::TooLarge,
            Self::Runaway { .. } | Self::NoDone | Self::Garbage { .. } => Class::BadAnswer,
            Self::Server { .. } | Self::MidStream { .. } | Self::Broken { .. } | Self::TimedOut { .. } => {
                Class::Transient
            }
        }
    }

    /// The same once the server has answered well: an access proxy whose token ran out, and whatever before the server
    /// turns requests off for a while, is a server that is away, and the work that is done is kept.
    pub fn class_in_batch(&self) -> Class {
        match self {
            Self::LoginPage { .. } | Self::Refused { status: 401 | 403 | 404 | 405, .. } => {
                Class::Away { retry_after: None }
            }
            _ => self.class(),
        }
    }

    /// The ledger's `reason` for a page that fails with this error: short and stable.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } => "service_unavailable",
            Self::ModelMissing { .. }
            | Self::LoginPage { .. }
            | Self::NotOllama { .. }
            | Self::SchemaRefused { .. }
            | Self::Refused { .. }
            | Self::NumCtxTooLarge { .. } => "service_refused",
            Self::Rejected { .. } => "request_rejected",
            Self::PromptTooLong { .. } | Self::PromptCut { .. } => "prompt_too_long",
            Self::AnswerCut { .. } => "output_truncated",
            Self::Runaway { .. } => "model_output_runaway",
            Self::NoDone => "model_output_unfinished",
            Self::Garbage { .. } => "model_output_invalid",
            Self::Server { .. } | Self::MidStream { .. } => "service_error",
            Self::Broken { .. } => "connection_broken",
            Self::TimedOut { .. } => "timed_out",
        }
    }

    /// The error of an answer whose status is not 200 and which is neither a redirect nor a web page.
    pub fn from_status(
        url: &str,
        model: Option<&str>,
        status: u16,
        retry_after: Option<Duration>,
        body: &str,
    ) -> Self {
        let message = server_message(body);
        let url = url.to_owned();
        match status {
            429 | 502 | 503 => Self::Busy { url, status, message, retry_after },
            404 => match model {
                Some(model) if message.contains("not found") && message.contains("model") => {
                    Self::ModelMissing { model: model.to_owned() }
                }
                _ => Self::Refused { url, status, message },
            },
            401 | 403 | 405 => Self::Refused { url, status, message },
            400 if is_overflow(&message) => Self::PromptTooLong { message },
            // Before 0.5 `format` was a word.
            400 if message.contains("ChatRequest.format") => Self::SchemaRefused { url, message },
            400 if message.contains("does not support") => Self::Refused { url, status, message },
            // A 500 that no repetition heals: seen on 0.17.4.
            500 if message.contains("invalid JSON schema") => Self::SchemaRefused { url, message },
            500 if is_overflow(&message) => Self::PromptTooLong { message },
            499 | 500.. => Self::Server { status, message },
            _ => Self::Rejected { status, message },
        }
    }

    /// The error of an `{"error": …}` line under HTTP 200.
    pub fn from_line(error: &Value) -> Self {
        let message = error_text(error);
        if is_overflow(&message) { Self::PromptTooLong { message } } else { Self::MidStream { message } }
    }
}

fn is_overflow(message: &str) -> bool {
    ["exceeds the context length", "exceed_context_size", "exceeds the available context size"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// The server's message out of an error body: its `error` field, or a word about what came instead.
fn server_message(body: &str) -> String {
    match serde_json::from_str::<Value>(body) {
        Ok(value) => value.get("error").map_or_else(|| "no error field".to_owned(), error_text),
        Err(_) if body.trim().is_empty() => "empty body".to_owned(),
        Err(_) => "a body that is not JSON".to_owned(),
    }
}

/// Reads `error`, which may be a string, an object, or a string that holds JSON once more.
fn error_text(error: &Value) -> String {
    match error {
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(inner @ Value::Object(_)) => error_text(inner.get("error").unwrap_or(&inner)),
            _ => shorten(text),
        },
        Value::Object(fields) => {
            let known = ["type", "message", "code", "n_prompt_tokens", "n_ctx"];
            let parts = known.iter().filter_map(|key| fields.get(*key).map(|value| format!("{key} {value}")));
            shorten(&parts.collect::<Vec<_>>().join(", "))
        }
        _ => "an error of unknown shape".to_owned(),
    }
}

fn shorten(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match clean.char_indices().nth(MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn class(status: u16, body: &str) -> Class {
        InferError::from_status("http://x", Some("m"), status, None, body).class()
    }

    #[test]
    fn the_table_of_the_contract() {
        let away = Class::Away { retry_after: None };
        for (status, error, want) in [
            (400, "the input length exceeds the context length", Class::TooLarge),
            (400, "\"m\" does not support thinking", Class::Fatal),
            (400, "invalid character 'x'", Class::Rejected),
            (
                400,
                "json: cannot unmarshal object into Go struct field ChatRequest.format of type string",
                Class::Fatal,
            ),
            (404, "model 'm' not found", Class::Fatal),
            (499, "load cancelled", Class::Transient),
            (
                500,
                "model runner has unexpectedly stopped, this may be due to resource limits",
                Class::Transient,
            ),
            (500, "invalid JSON schema in format", Class::Fatal),
            (502, "", away),
            (503, "server busy, please try again. maximum pending requests exceeded", away),
            (504, "", Class::Transient),
            (524, "", Class::Transient),
            (429, "slow down", away),
        ] {
            let body = json!({ "error": error }).to_string();
            assert_eq!(class(status, &body), want, "{status} {error}");
        }
        assert_eq!(class(403, ""), Class::Fatal, "a foreign Host: empty body");
    }

    #[test]
    fn what_turns_requests_off_in_mid_batch_is_waited_for_and_a_model_that_is_gone_is_not() {
        let in_batch = |status, error: &str| {
            let body = json!({ "error": error }).to_string();
            InferError::from_status("http://x", Some("m"), status, None, &body).class_in_batch()
        };
        for status in [401, 403, 404, 405] {
            assert_eq!(in_batch(status, "default backend"), Class::Away { retry_after: None }, "{status}");
        }
        assert_eq!(in_batch(404, "model 'm' not found"), Class::Fatal);
        assert_eq!(in_batch(400, "\"m\" does not support thinking"), Class::Fatal);
    }

    #[test]
    fn json_inside_the_error_string_is_read_too() {
        let inner = json!({"error": {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 4096}});
        let outer = json!({ "error": inner.to_string() });
        let error = InferError::from_status("http://x", None, 400, None, &outer.to_string());
        assert_eq!(error.class(), Class::TooLarge);
        assert!(error.to_string().contains("n_prompt_tokens 9000"), "{error}");
        assert_eq!(InferError::from_line(&outer["error"]).class(), Class::TooLarge);
        assert_eq!(InferError::from_line(&json!("unexpected EOF")).class(), Class::Transient);
    }

    #[test]
    fn a_long_message_is_cut_on_a_character() {
        let body = json!({ "error": "船".repeat(1000) }).to_string();
        let InferError::Server { message, .. } = InferError::from_status("u", None, 500, None, &body) else {
            panic!("not a server error")
        };
        assert_eq!(message.chars().count(), MESSAGE_CHARS + 1);
    }
}
