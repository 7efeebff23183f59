//! `POST /api/chat` as both doubles read it, refuse it and end it.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

use super::{App, Next, answer, error, not_found, now, schema};

/// What is asked. Boxed refusals keep the good way small.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    model: String,
    messages: Vec<Message>,
    #[serde(default = "yes")]
    stream: bool,
    #[serde(default = "yes")]
    truncate: bool,
    #[serde(default)]
    logprobs: bool,
    #[serde(default)]
    format: Option<Value>,
    #[serde(default)]
    think: Option<bool>,
    #[serde(default)]
    options: Options,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
struct Message {
    content: String,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    num_ctx: usize,
    num_predict: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self { num_ctx: 4096, num_predict: -1 }
    }
}

impl Request {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Box<Response>> {
        serde_json::from_slice(body).map_err(|why| error(StatusCode::BAD_REQUEST, &why.to_string()).into())
    }

    /// The piece of page that it is about.
    pub(crate) fn page(&self) -> &str {
        self.messages.last().map_or("", |message| answer::page(&message.content))
    }
}

/// In nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Durations {
    /// With the wait in the queue, which no other holds.
    pub total: u64,
    pub load: u64,
    pub prompt_eval: u64,
    pub eval: u64,
}

/// What is said to a request that can be answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub model: String,
    pub stream: bool,
    /// With the probability of each token.
    pub logprobs: bool,
    pub content: String,
    pub whole: bool,
    /// As Ollama counts them: of what it read, not of what it was sent.
    pub prompt_tokens: usize,
    /// Of the answer at most.
    pub num_predict: usize,
}

impl Reply {
    /// Err: a refusal, or the answer to a request without messages.
    pub(crate) async fn to(app: &App, request: Request, next: Next) -> Result<Self, Box<Response>> {
        if !app.has(&request.model) {
            return Err(not_found(&request.model).into());
        }
        if request.think == Some(true) {
            let message = format!("\"{}\" does not support thinking", app.model);
            return Err(error(StatusCode::BAD_REQUEST, &message).into());
        }
        let num_ctx = request.options.num_ctx;
        app.num_ctx.store(num_ctx, Ordering::Relaxed);
        if request.messages.is_empty() {
            let loaded = json!({"model": request.model, "created_at": now(), "done": true, "done_reason": "load",
                "message": {"role": "assistant", "content": ""}});
            return Err(Json(loaded).into_response().into());
        }
        let schema = match app.faults.refuse_schema {
            true => Err(schema::INVALID.to_owned()),
            false => schema::schema(request.format.as_ref()),
        };
        let schema = schema.map_err(|why| error(StatusCode::INTERNAL_SERVER_ERROR, &why))?;
        let prompt_tokens =
            request.messages.iter().map(|message| answer::tokens(&message.content)).sum::<usize>();
        let too_long = prompt_tokens > num_ctx && !request.truncate;
        match next {
            Next::Fail => return Err(runner_stopped().into()),
            Next::Busy => return Err(queue_full().into()),
            _ if too_long || next == Next::Overflow => {
                let message = "the input length exceeds the context length";
                return Err(error(StatusCode::BAD_REQUEST, message).into());
            }
            _ => {}
        }
        let most = schema.and_then(|schema| schema["properties"]["mentions"]["maxItems"].as_u64());
        let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let content = match schema.filter(|schema| schema["properties"].get("mentions").is_none()) {
            Some(schema) => schema::smallest(schema).to_string(),
            None => {
                let (page, answerer) = (request.page().to_owned(), app.answerer.clone());
                tokio::task::spawn_blocking(move || answerer.answer(&page, most)).await.unwrap_or_default()
            }
        };
        let content = if app.faults.untidy { answer::untidy(&content) } else { content };
        let num_predict = usize::try_from(request.options.num_predict).unwrap_or(usize::MAX);
        let whole = answer::tokens(&content) <= num_predict && next != Next::Cut;
        Ok(Self {
            model: request.model,
            stream: request.stream,
            logprobs: request.logprobs,
            content: if whole { content } else { answer::cut(&content, num_predict) },
            whole,
            // What is longer than the context was cut, in silence.
            prompt_tokens: prompt_tokens.min(num_ctx),
            num_predict,
        })
    }

    /// The last line.
    pub(crate) fn end(&self, durations: &Durations) -> Value {
        json!({
            "model": self.model, "created_at": now(), "message": {"role": "assistant", "content": ""},
            "done": true, "done_reason": if self.whole { "stop" } else { "length" },
            "total_duration": durations.total, "load_duration": durations.load,
            "prompt_eval_count": self.prompt_tokens, "prompt_eval_duration": durations.prompt_eval,
            "eval_count": answer::tokens(&self.content), "eval_duration": durations.eval,
        })
    }

    /// The same as a line, without a detour.
    pub(crate) fn last_line(&self, durations: &Durations) -> String {
        let Durations { total, load, prompt_eval, eval } = durations;
        let Self { model, prompt_tokens, .. } = self;
        let (reason, eval_count) =
            (if self.whole { "stop" } else { "length" }, answer::tokens(&self.content));
        format!(
            "{{\"model\":{},\"created_at\":\"{}\",\"message\":{{\"role\":\"assistant\",\"content\":\"\"}},\
             \"done\":true,\"done_reason\":\"{reason}\",\"total_duration\":{total},\"load_duration\":{load},\
             \"prompt_eval_count\":{prompt_tokens},\"prompt_eval_duration\":{prompt_eval},\
             \"eval_count\":{eval_count},\"eval_duration\":{eval}}}\n",
            Value::from(model.as_str()),
            now()
        )
    }
}

/// Ollama's queue has an end while a model is loaded.
pub(crate) fn queue_full() -> Response {
    let message = "server busy, please try again.  maximum pending requests exceeded";
    error(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// A 500 that another try heals.
pub(crate) fn runner_stopped() -> Response {
    let message = "model runner has unexpectedly stopped, this may be due to resource limitations";
    error(StatusCode::INTERNAL_SERVER_ERROR, message)
}
