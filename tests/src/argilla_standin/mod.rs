//! A STAND-IN for Argilla 2.8: an in-memory server that obeys `contracts/argilla.md` as far as `control`
//! and a reviewer use it.
//!
//! It is a test double. It says so on its root page, in the header [`HEADER`] of every answer and in its log.
//! Messages and orders of validation follow the source of `argilla-server` 2.8.0; what it does not do
//! (vectors, webhooks, question types other than `span`, search terms, users' passwords) it refuses by name.
//!
//! ```text
//! request ─► auth (API key → user) ─► input (schema: 422 with code and params)
//!         ─► validate (domain: 422 with a sentence) ─► state (one lock) ─► snapshot file ─► views (JSON)
//! ```

pub mod auth;
pub mod errors;
pub mod faults;
pub mod input;
pub mod routes;
pub mod state;
pub mod validate;
pub mod values;
pub mod views;

use std::{future::Future, path::Path, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::HeaderValue,
    middleware,
    response::{Html, Response},
    routing::get,
};
use tokio::net::TcpListener;

use faults::Faults;
use state::Store;

/// Set to `1` on every answer, so that nobody takes this for Argilla.
pub const HEADER: &str = "x-argilla-stand-in";

/// The seeded users' API keys. `argilla.apikey` is also what a real `create_default` makes.
pub const OWNER_KEY: &str = "argilla.apikey";
pub const ADMIN_KEY: &str = "admin.apikey";
pub const ANNOTATOR_KEY: &str = "annotator.apikey";
pub const SECOND_ANNOTATOR_KEY: &str = "annotator-2.apikey";

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    pub store: Arc<Store>,
    pub faults: Arc<Faults>,
}

impl App {
    /// With `state_file`, takes up the state found there and writes it back after every change.
    pub fn open(state_file: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self { store: Arc::new(Store::open(state_file)?), faults: Arc::default() })
    }
}

pub fn router(app: App) -> Router {
    Router::new()
        .route("/", get(root))
        .nest("/api/v1", routes::api())
        .fallback(|| async { errors::ApiError::NotFound("Not Found".to_owned()) })
        // A bulk of 500 pages has no bound of its own in Argilla either.
        .layer(DefaultBodyLimit::disable())
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
        "<!doctype html><title>STAND-IN for Argilla</title><h1>STAND-IN for Argilla 2.8</h1>\
         <p>A test double: no person reviews here, and nothing of it is Argilla.</p>",
    )
}

async fn mark(mut response: Response) -> Response {
    response.headers_mut().insert(HEADER, HeaderValue::from_static("1"));
    response
}
