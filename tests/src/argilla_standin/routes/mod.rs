//! The API under `/api/v1`, a file a resource.

mod datasets;
mod records;
mod responses;
mod workspaces;

use axum::{
    Json, Router,
    routing::{get, patch, post, put},
};
use serde_json::{Value, json};

use super::{App, auth::Caller, views};

pub fn api() -> Router<App> {
    Router::new()
        .route("/version", get(version))
        .route("/me", get(me))
        .route("/users", get(workspaces::users))
        .route("/me/workspaces", get(workspaces::mine))
        .route("/workspaces", post(workspaces::create))
        .route("/workspaces/{id}/users", get(workspaces::members).post(workspaces::add_member))
        .route("/me/datasets", get(datasets::find))
        .route("/datasets", post(datasets::create))
        .route("/datasets/{id}", get(datasets::get))
        .route("/datasets/{id}/fields", get(datasets::fields).post(datasets::create_field))
        .route("/datasets/{id}/questions", get(datasets::questions).post(datasets::create_question))
        .route("/me/datasets/{id}/metadata-properties", get(datasets::metadata_properties))
        .route("/datasets/{id}/metadata-properties", post(datasets::create_metadata_property))
        .route("/datasets/{id}/publish", put(datasets::publish))
        .route("/datasets/{id}/progress", get(datasets::progress))
        .route("/datasets/{id}/users/progress", get(datasets::users_progress))
        .route("/datasets/{id}/records/bulk", put(records::upsert))
        .route("/datasets/{id}/records", get(records::list))
        .route("/datasets/{id}/records/search", post(records::search_all))
        .route("/me/datasets/{id}/records/search", post(records::search_as_me))
        .route("/records/{id}", get(records::get).merge(patch(records::update)))
        .route("/records/{id}/suggestions", put(records::upsert_suggestion))
        .route("/records/{id}/responses", post(responses::create))
        .route("/me/responses/bulk", post(responses::upsert))
}

/// Needs no key: the health check.
async fn version() -> Json<Value> {
    Json(json!({"version": "2.8.0"}))
}

async fn me(Caller(user): Caller) -> Json<Value> {
    Json(views::user(&user))
}
