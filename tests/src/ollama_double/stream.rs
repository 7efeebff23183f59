//! NDJSON as Ollama sends it: an object a line, lines cut anywhere, also within a character.

use std::time::Duration;

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::now;

/// Characters of the answer in one line.
pub(crate) const DELTA: usize = 40;

/// Bytes in one write: no divisor of a line's length.
const WRITE: usize = 61;

/// How a stream ends after its words.
pub(super) enum End {
    /// With this line.
    Done(Value),
    /// Without a last line.
    Silent,
    /// Not at all, after the first words.
    Never,
}

/// A line with words of the answer, and its end.
pub(crate) fn line(model: &str, delta: &str) -> String {
    let message = json!({"role": "assistant", "content": delta});
    format!("{}\n", json!({"model": model, "created_at": now(), "message": message, "done": false}))
}

/// How it goes out.
pub(super) struct Delivery {
    /// Before each write.
    pub pace: Duration,
    /// Given back when the stream is dropped, at its end or because its reader has gone.
    pub slot: OwnedSemaphorePermit,
}

pub(super) fn ndjson(model: &str, content: &str, end: &End, delivery: Delivery) -> Response {
    let chars: Vec<char> = content.chars().collect();
    let mut lines = String::new();
    let deltas = chars.chunks(DELTA).take(if matches!(end, End::Never) { 1 } else { usize::MAX });
    for delta in deltas {
        let delta: String = delta.iter().collect();
        lines.push_str(&line(model, &delta));
    }
    if let End::Done(end) = end {
        lines.push_str(&format!("{end}\n"));
    }
    let writes: Vec<Bytes> = lines.as_bytes().chunks(WRITE).map(Bytes::copy_from_slice).collect();
    let pace = delivery.pace;
    let body = stream::iter(writes).then(move |write| async move {
        if pace.is_zero() {
            tokio::task::yield_now().await
        } else {
            tokio::time::sleep(pace).await
        }
        Ok::<_, std::io::Error>(write)
    });
    let body = match end {
        End::Never => body.chain(stream::pending()).boxed(),
        End::Done(_) | End::Silent => body.boxed(),
    };
    let body = body.inspect(move |_| {
        let _held = &delivery.slot;
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response()
}
