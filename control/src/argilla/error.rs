//! What Argilla's refusals mean to a caller. Its errors have two shapes; the sentence of either is shown.
//!
//! Constraint: the body of an answer may hold what was sent, so no more of it than that sentence is kept.

use reqwest::{
    StatusCode,
    header::{HeaderMap, LOCATION},
};
use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum ArgillaError {
    #[error("{0}")]
    Config(String),
    #[error("Argilla at {base} does not answer: {reason}; is ARGILLA_API_URL right, and is the server up?")]
    Unreachable { base: String, reason: String },
    #[error(
        "Argilla at {base} refuses to {action}: {reason} (HTTP {status}); check ARGILLA_API_KEY and the user's role"
    )]
    Denied { base: String, action: String, status: StatusCode, reason: String },
    #[error("Argilla refuses to {action}: {reason} (HTTP {status})")]
    Refused { action: String, status: StatusCode, reason: String },
    #[error("Argilla's answer to the request to {action} cannot be read: {reason}")]
    Unreadable { action: String, reason: String },
}

impl ArgillaError {
    /// The server looked at the content and did not take it: 422, or 413 by something in front of it.
    pub fn rejects_content(&self) -> bool {
        matches!(
            self,
            Self::Refused { status: StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE, .. }
        )
    }

    pub(super) fn is(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == wanted)
    }
    /// Of an answer that is no success. `base`: as it may be shown.
    pub(super) fn of(base: &str, action: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let (base, action, reason) = (base.to_owned(), action.to_owned(), reason(body));
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Denied { base, action, status, reason },
            status if status.is_redirection() => {
                let to = headers.get(LOCATION).and_then(|to| to.to_str().ok());
                let to = to.and_then(|to| to.split(['?', '#']).next()).unwrap_or("another place");
                let reason = format!(
                    "it redirects to {to} (a login in front of it? set CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET)"
                );
                Self::Denied { base, action, status, reason }
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Self::Unreachable { base, reason: format!("{reason} (HTTP {status})") }
            }
            _ => Self::Refused { action, status, reason },
        }
    }
}

/// The sentence in an error's body: `detail` is one, or an object `{code, params}`.
fn reason(body: &[u8]) -> String {
    let Ok(parsed) = serde_json::from_slice::<Value>(body) else {
        return "an answer that is not Argilla's".to_owned();
    };
    let detail = &parsed["detail"];
    let text = match (detail.as_str(), detail["params"]["errors"].as_array()) {
        (Some(sentence), _) => sentence.to_owned(),
        (None, Some(errors)) => errors.iter().map(schema_error).collect::<Vec<_>>().join("; "),
        (None, None) => {
            let params = &detail["params"];
            let told = [&params["detail"], &params["message"], &detail["code"], &parsed["message"]];
            told.iter().find_map(|value| value.as_str()).unwrap_or("no reason given").to_owned()
        }
    };
    text.chars().take(500).collect()
}

fn schema_error(error: &Value) -> String {
    let place: Vec<String> = error["loc"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
        .collect();
    format!("{}: {}", place.join("."), error["msg"].as_str().unwrap_or("not valid"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_shapes_of_error_are_read() {
        let says = |body: Value| reason(body.to_string().as_bytes());
        assert_eq!(
            says(json!({"detail": "Dataset has already been published"})),
            "Dataset has already been published"
        );
        assert_eq!(
            says(json!({"detail": {"code": "argilla.api.errors::UnauthorizedError",
                                   "params": {"detail": "Could not validate credentials"}}})),
            "Could not validate credentials"
        );
        assert_eq!(
            says(json!({"detail": {"code": "argilla.api.errors::ValidationError", "params": {"errors":
                [{"type": "x", "loc": ["body", "items", 3, "suggestions"], "msg": "Field required"}]}}})),
            "body.items.3.suggestions: Field required"
        );
        assert_eq!(says(json!({"code": "missing_vector", "message": "none"})), "none");
        assert_eq!(reason(b"<html>"), "an answer that is not Argilla's");
    }
}
