//! A STAND-IN for Ollama: a server that obeys `contracts/ollama.md` as far as `dgx-agent` uses it.
//!
//! It is a test double without a model: it answers with what the rules find in the piece of page it is asked about,
//! or with a smallest answer to a schema that is not the agent's. Tokens are taken for four bytes.
//! It says so on its root page, in the header [`HEADER`] of every answer, in its version and in its log.
//!
//! ```text
//! request ─► faults (planned by flags) ─► model, format, length (status and error as Ollama's) ─► rules ─► NDJSON
//! ```

pub(crate) mod answer;
pub(crate) mod chat;
mod faults;
mod schema;
pub(crate) mod stream;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use proto::hash::sha256_hex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore};

use answer::Answerer;
pub(crate) use chat::{Durations, Reply};
pub use faults::{Faults, Next};
use stream::{Delivery, End};

/// Set to `1` on every answer, so that nobody takes this for Ollama.
pub const HEADER: &str = "x-ollama-stand-in";

/// The only model, where none is named.
pub const MODEL: &str = "stand-in";

/// What the model was trained for, in tokens.
const CONTEXT_LENGTH: u64 = 131_072;

/// Of the model, in bytes.
const SIZE: u64 = 1_000_000;

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    /// Of the last chat.
    num_ctx: Arc<AtomicUsize>,
    /// With its tag.
    model: String,
    pub(crate) faults: Arc<Faults>,
    /// A chat holds one from its beginning to its end, or until its caller has gone.
    slots: Arc<Semaphore>,
    pub(crate) answerer: Arc<Answerer>,
}

impl App {
    pub fn new(model: &str, faults: Faults) -> Self {
        let model = if model.contains(':') { model.to_owned() } else { format!("{model}:latest") };
        Self {
            num_ctx: Arc::new(AtomicUsize::new(4096)),
            model,
            slots: Arc::new(Semaphore::new(faults.parallel.unwrap_or(Semaphore::MAX_PERMITS))),
            faults: Arc::new(faults),
            answerer: Arc::default(),
        }
    }

    fn has(&self, model: &str) -> bool {
        !self.faults.has_no_model() && (model == self.model || format!("{model}:latest") == self.model)
    }

    /// Another one after the model was pulled again.
    fn digest(&self) -> String {
        sha256_hex(format!("{} {}", self.model, u8::from(self.faults.is_pulled_again())))
    }
}

#[derive(Debug, Deserialize)]
struct ShowRequest {
    model: String,
}

pub fn router(app: &App) -> Router {
    let chat = Router::new().route("/api/chat", post(chat)).with_state(app.clone());
    around(app, router_without_chat(app.clone()).merge(chat))
}

pub(crate) fn router_without_chat(app: App) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/api/version", get(|| async { Json(json!({"version": "0.17.4-stand-in"})) }))
        .route("/api/tags", get(tags))
        .route("/api/ps", get(ps))
        .route("/api/show", post(show))
        .with_state(app)
}

/// What stands before every route of a double.
pub(crate) fn around(app: &App, router: Router) -> Router {
    router
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(app.clone(), faults::login_page))
        .layer(middleware::from_fn(own_host))
        .layer(middleware::map_response(mark))
}

/// Serves until `shutdown` completes.
pub async fn serve(
    listener: TcpListener,
    app: App,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(&app)).with_graceful_shutdown(shutdown).await
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

/// A server on loopback answers to its own names alone: a web page elsewhere must not reach it by DNS.
async fn own_host(request: Request, handler: middleware::Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let own = name.parse::<std::net::IpAddr>().is_ok() || name == "localhost" || name.starts_with('[');
    if own { handler.run(request).await } else { StatusCode::FORBIDDEN.into_response() }
}

fn details() -> Value {
    json!({"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
           "parameter_size": "0", "quantization_level": "unknown"})
}

/// One model, or none, with what `tags` or `ps` says of it besides.
fn models(app: &App, more: &Value) -> Json<Value> {
    if app.faults.has_no_model() {
        return Json(json!({"models": []}));
    }
    let mut model = json!({"name": app.model, "model": app.model, "size": SIZE, "digest": app.digest(),
                           "details": details()});
    for (key, value) in more.as_object().into_iter().flatten() {
        model[key] = value.clone();
    }
    Json(json!({"models": [model]}))
}

async fn tags(State(app): State<App>) -> Json<Value> {
    models(&app, &json!({"modified_at": now()}))
}

/// With the context of the last chat.
async fn ps(State(app): State<App>) -> Json<Value> {
    let context_length = app.num_ctx.load(Ordering::Relaxed);
    let size_vram = if app.faults.on_cpu { 0 } else { SIZE };
    models(&app, &json!({"expires_at": now(), "size_vram": size_vram, "context_length": context_length}))
}

async fn show(State(app): State<App>, body: Bytes) -> Response {
    let request: ShowRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why.to_string()),
    };
    if !app.has(&request.model) {
        return not_found(&request.model);
    }
    let info = json!({"general.architecture": "llama", "llama.context_length": CONTEXT_LENGTH});
    Json(json!({"details": details(), "model_info": info, "capabilities": ["completion"]})).into_response()
}

async fn chat(State(app): State<App>, body: Bytes) -> Response {
    let request = match chat::Request::parse(&body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    let next = app.faults.next();
    if next == Next::Stall {
        std::future::pending::<()>().await;
    }
    let reply = match Reply::to(&app, request, next).await {
        Ok(reply) => reply,
        Err(refusal) => return *refusal,
    };
    let Ok(slot) = app.slots.clone().acquire_owned().await else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "the stand-in is going down");
    };
    let mut end = reply.end(&Durations { total: 2, load: 0, prompt_eval: 1, eval: 1 });
    if reply.stream {
        let end = match next {
            Next::SilentEnd => End::Silent,
            Next::StallMidway => End::Never,
            _ => End::Done(end),
        };
        let delivery = Delivery { pace: Duration::from_millis(app.faults.pace), slot };
        return stream::ndjson(&reply, &end, delivery);
    }
    end["message"]["content"] = json!(reply.content);
    if reply.logprobs {
        end["logprobs"] = stream::tokens(&reply.content);
    }
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], end.to_string()).into_response()
}

/// As Ollama writes times.
pub(crate) fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
}

fn not_found(model: &str) -> Response {
    error(StatusCode::NOT_FOUND, &format!("model '{model}' not found"))
}

pub(crate) fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": message}))).into_response()
}
