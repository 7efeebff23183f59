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

use super::{Reply, now};

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

/// Characters of a token, where tokens are told.
const TOKEN: usize = 4;

/// A line with words of the answer, and its end.
pub(crate) fn line(model: &str, delta: &str, logprobs: bool) -> String {
    let message = json!({"role": "assistant", "content": delta});
    let mut line = json!({"model": model, "created_at": now(), "message": message, "done": false});
    if logprobs {
        line["logprobs"] = tokens(delta);
    }
    format!("{line}\n")
}

/// Its tokens, each as likely as its letters have it: another text has other ones, the same the same.
pub(crate) fn tokens(words: &str) -> Value {
    let chars: Vec<char> = words.chars().collect();
    let told = chars.chunks(TOKEN).map(|token| {
        let token = String::from_iter(token);
        let doubt: u32 = token.bytes().map(u32::from).sum::<u32>() % 50;
        json!({"token": token, "logprob": -f64::from(doubt) / 100.0, "bytes": token.as_bytes()})
    });
    told.collect()
}

/// How it goes out.
pub(super) struct Delivery {
    /// Before each write.
    pub pace: Duration,
    /// Given back when the stream is dropped, at its end or because its reader has gone.
    pub slot: OwnedSemaphorePermit,
}

pub(super) fn ndjson(reply: &Reply, end: &End, delivery: Delivery) -> Response {
    let chars: Vec<char> = reply.content.chars().collect();
    let mut lines = String::new();
    let deltas = chars.chunks(DELTA).take(if matches!(end, End::Never) { 1 } else { usize::MAX });
    for delta in deltas {
        let delta: String = delta.iter().collect();
        lines.push_str(&line(&reply.model, &delta, reply.logprobs));
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
