//! NDJSON as Ollama sends it: an object a line, lines cut anywhere, also within a character.

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::{Value, json};

/// Characters of the answer in one line.
const DELTA: usize = 40;

/// Bytes in one write: no divisor of a line's length.
const WRITE: usize = 61;

/// `end`: the last line; without it the stream just ends.
pub(super) fn ndjson(model: &str, content: &str, end: Option<Value>) -> Response {
    let chars: Vec<char> = content.chars().collect();
    let mut lines = String::new();
    for delta in chars.chunks(DELTA) {
        let delta: String = delta.iter().collect();
        let line = json!({"model": model, "message": {"role": "assistant", "content": delta}, "done": false});
        lines.push_str(&format!("{line}\n"));
    }
    if let Some(end) = end {
        lines.push_str(&format!("{end}\n"));
    }
    let writes: Vec<Bytes> = lines.as_bytes().chunks(WRITE).map(Bytes::copy_from_slice).collect();
    let body = stream::iter(writes).then(|write| async {
        tokio::task::yield_now().await;
        Ok::<_, std::io::Error>(write)
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response()
}
