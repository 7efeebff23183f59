//! A STAND-IN for Ollama: a server that obeys `contracts/ollama.md` as far as `dgx-agent` uses it.
//!
//! It is a test double without a model: it answers with what the rules find in the piece of page it is asked about.
//! It says so on its root page, in the header [`HEADER`] of every answer, in its version and in its log.
//!
//! ```text
//! request ─► faults (planned by flags) ─► model, options, length (status and error as Ollama's) ─► rules ─► NDJSON
//! ```

mod answer;
mod faults;
mod stream;

use std::{future::Future, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use proto::hash::sha256_hex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use answer::Answerer;
pub use faults::{Faults, Next};

/// Set to `1` on every answer, so that nobody takes this for Ollama.
pub const HEADER: &str = "x-ollama-stand-in";

/// The only model, where none is named.
pub const MODEL: &str = "stand-in";

/// What the model was trained for, in tokens.
const CONTEXT_LENGTH: u64 = 131_072;

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    /// With its tag.
    model: String,
    faults: Arc<Faults>,
    answerer: Arc<Answerer>,
}

impl App {
    pub fn new(model: &str, faults: Faults) -> Self {
        let model = if model.contains(':') { model.to_owned() } else { format!("{model}:latest") };
        Self { model, faults: Arc::new(faults), answerer: Arc::default() }
    }

    fn has(&self, model: &str) -> bool {
        !self.faults.missing_model && (model == self.model || format!("{model}:latest") == self.model)
    }

    /// Another one after the model was pulled again.
    fn digest(&self) -> String {
        sha256_hex(format!("{} {}", self.model, u8::from(self.faults.is_pulled_again())))
    }
}

#[derive(Debug, Deserialize)]
struct ChatRequest {
    model: String,
    messages: Vec<Message>,
    #[serde(default = "yes")]
    stream: bool,
    #[serde(default = "yes")]
    truncate: bool,
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

#[derive(Debug, Deserialize)]
struct ShowRequest {
    model: String,
}

pub fn router(app: App) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/api/version", get(|| async { Json(json!({"version": "0.17.4-stand-in"})) }))
        .route("/api/tags", get(tags))
        .route("/api/ps", get(ps))
        .route("/api/show", post(show))
        .route("/api/chat", post(chat))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(app.clone(), faults::login_page))
        .layer(middleware::map_response(mark))
        .with_state(app)
}

/// Serves until `shutdown` completes.
pub async fn serve(
    listener: TcpListener,
    app: App,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(app)).with_graceful_shutdown(shutdown).await
}

async fn root() -> Html<&'static str> {
    Html(
        "<!doctype html><title>STAND-IN for Ollama</title><h1>STAND-IN for Ollama</h1>\
         <p>A test double: there is no model, and nothing of it is Ollama.</p>",
    )
}

async fn mark(mut response: Response) -> Response {
    response.headers_mut().insert(HEADER, HeaderValue::from_static("1"));
    response
}

fn models(app: &App) -> Value {
    let model = json!({
        "name": app.model, "model": app.model, "digest": app.digest(),
        "size": 1_000_000, "size_vram": 1_000_000, "context_length": CONTEXT_LENGTH,
    });
    json!({"models": if app.faults.missing_model { json!([]) } else { json!([model]) }})
}

async fn tags(State(app): State<App>) -> Json<Value> {
    Json(models(&app))
}

async fn ps(State(app): State<App>) -> Json<Value> {
    Json(models(&app))
}

async fn show(State(app): State<App>, Json(request): Json<ShowRequest>) -> Response {
    if !app.has(&request.model) {
        return not_found(&request.model);
    }
    let info = json!({"general.architecture": "llama", "llama.context_length": CONTEXT_LENGTH});
    Json(json!({"details": {"family": "stand-in"}, "model_info": info})).into_response()
}

async fn chat(State(app): State<App>, Json(request): Json<ChatRequest>) -> Response {
    let next = app.faults.next();
    if next == Next::Stall {
        std::future::pending::<()>().await;
    }
    if !app.has(&request.model) {
        return not_found(&request.model);
    }
    if request.think == Some(true) {
        return error(StatusCode::BAD_REQUEST, &format!("\"{}\" does not support thinking", app.model));
    }
    let prompt_tokens =
        request.messages.iter().map(|message| answer::tokens(&message.content)).sum::<usize>();
    let too_long = prompt_tokens > request.options.num_ctx && !request.truncate;
    match next {
        Next::Fail => {
            let message = "model runner has unexpectedly stopped, this may be due to resource limitations";
            return error(StatusCode::INTERNAL_SERVER_ERROR, message);
        }
        Next::Overflow => {
            return error(StatusCode::BAD_REQUEST, "the input length exceeds the context length");
        }
        _ if too_long => {
            return error(StatusCode::BAD_REQUEST, "the input length exceeds the context length");
        }
        _ => {}
    }
    let page = request.messages.last().map_or("", |message| answer::page(&message.content)).to_owned();
    let answerer = app.answerer.clone();
    let content = tokio::task::spawn_blocking(move || answerer.answer(&page)).await.unwrap_or_default();
    let num_predict = usize::try_from(request.options.num_predict).unwrap_or(usize::MAX);
    let whole = answer::tokens(&content) <= num_predict && next != Next::Cut;
    let content = if whole { content } else { answer::cut(&content, num_predict) };
    let end = (next != Next::SilentEnd).then(|| {
        json!({
            "model": request.model, "message": {"role": "assistant", "content": ""}, "done": true,
            "done_reason": if whole { "stop" } else { "length" },
            "total_duration": 2, "load_duration": 0, "prompt_eval_count": prompt_tokens, "prompt_eval_duration": 1,
            "eval_count": answer::tokens(&content), "eval_duration": 1,
        })
    });
    if request.stream {
        return stream::ndjson(&request.model, &content, end);
    }
    let mut whole = end.unwrap_or_else(|| json!({}));
    whole["message"] = json!({"role": "assistant", "content": content});
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], whole.to_string()).into_response()
}

fn not_found(model: &str) -> Response {
    error(StatusCode::NOT_FOUND, &format!("model '{model}' not found"))
}

fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": message}))).into_response()
}
