//! Argilla's two shapes of error: `detail` is a sentence (404, 409, domain 422) or `{code, params}`
//! (401, 403, schema 422, 5xx).

use axum::{
    Json,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq)]
pub enum ApiError {
    Unauthorized,
    Forbidden,
    NotFound(String),
    Conflict(String),
    /// A domain rule refused it.
    Unprocessable(String),
    /// The body or a parameter is not what the schema says; `loc` as FastAPI gives it.
    Schema {
        loc: Vec<Value>,
        msg: String,
    },
    Internal(String),
    Unavailable,
    TooManyRequests {
        retry_after: u64,
    },
}

impl ApiError {
    pub fn body(loc: impl IntoIterator<Item = Value>, msg: impl Into<String>) -> Self {
        Self::Schema { loc: std::iter::once(json!("body")).chain(loc).collect(), msg: msg.into() }
    }

    pub fn query(name: &str, msg: impl Into<String>) -> Self {
        Self::Schema { loc: vec![json!("query"), json!(name)], msg: msg.into() }
    }

    pub fn no_such(kind: &str, id: &str) -> Self {
        Self::NotFound(format!("{kind} with id `{id}` not found"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let coded = |class: &str, params: Value| json!({"code": format!("argilla.api.errors::{class}"), "params": params});
        let (status, detail) = match self {
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                coded("UnauthorizedError", json!({"detail": "Could not validate credentials"})),
            ),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                coded("ForbiddenOperationError", json!({"detail": "Operation not allowed"})),
            ),
            Self::NotFound(message) => (StatusCode::NOT_FOUND, json!(message)),
            Self::Conflict(message) => (StatusCode::CONFLICT, json!(message)),
            Self::Unprocessable(message) => (StatusCode::UNPROCESSABLE_ENTITY, json!(message)),
            Self::Schema { loc, msg } => (
                StatusCode::UNPROCESSABLE_ENTITY,
                coded(
                    "ValidationError",
                    json!({"errors": [{"type": "value_error", "loc": loc, "msg": msg}]}),
                ),
            ),
            Self::Internal(message) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                coded("GenericServerError", json!({"type": "builtins.Exception", "message": message})),
            ),
            Self::Unavailable => {
                return (StatusCode::SERVICE_UNAVAILABLE, "upstream connect error").into_response();
            }
            Self::TooManyRequests { retry_after } => {
                return (
                    StatusCode::TOO_MANY_REQUESTS,
                    [(RETRY_AFTER, retry_after.to_string())],
                    "slow down",
                )
                    .into_response();
            }
        };
        (status, Json(json!({"detail": detail}))).into_response()
    }
}
