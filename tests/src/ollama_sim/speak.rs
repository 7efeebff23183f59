//! An answer on its way: through the gate, with what goes wrong, as NDJSON.

use std::{future::pending, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use serde_json::json;

use super::{Prepared, Sim, Visit, gate::Seat, plan::Fault};
use crate::ollama_double::{
    Durations, Next, Reply,
    answer::{cut, tokens},
    chat::{queue_full, runner_stopped},
    error,
    stream::{line, tokens as tokens_of},
};

/// Of the work, until the prompt is read: then the first words come.
const PROMPT_SHARE: f64 = 0.2;

/// Tokens of white space in a line, and lines in a write.
const BLANKS: &str = "\n\n\n\n\n\n\n\n";
const BLANK_LINES: usize = 16;

/// The first line of an answer, and the others but the last.
pub(super) fn lines(reply: &Reply, content: &str, delta: usize) -> (Bytes, Bytes) {
    let chars: Vec<char> = content.chars().collect();
    let mut deltas =
        chars.chunks(delta.max(1)).map(|delta| line(&reply.model, &String::from_iter(delta), reply.logprobs));
    let first = deltas.next().unwrap_or_default();
    (first.into(), deltas.collect::<String>().into())
}

/// Slices of `lines`, one a line.
fn each_line(mut lines: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', &lines)? + 1;
        Some(lines.split_to(end))
    })
}

pub(super) async fn speak(visit: Visit, prepared: Arc<Prepared>) -> Response {
    let sim = visit.sim.clone();
    let fault = match sim.fault(&prepared.page) {
        Ok(fault) => fault,
        Err(Next::Fail) => Some(Fault::Status500),
        Err(Next::Busy) => Some(Fault::Status503),
        Err(Next::Cut) => Some(Fault::CutJson),
        Err(Next::SilentEnd) => Some(Fault::NoDone),
        Err(Next::Stall) => Some(Fault::Hang),
        Err(Next::StallMidway) => return stall_midway(visit, prepared).await,
        Err(Next::Overflow | Next::Answer) => {
            visit.answered(0);
            return error(StatusCode::BAD_REQUEST, "the input length exceeds the context length");
        }
    };
    let refusal = match fault {
        Some(Fault::Status500) => Some(runner_stopped()),
        Some(Fault::Status503) => Some(queue_full()),
        Some(Fault::Html) => {
            let page = Html("<!doctype html><title>502 Bad Gateway</title><h1>Bad gateway</h1>");
            Some((StatusCode::BAD_GATEWAY, page).into_response())
        }
        _ => None,
    };
    if let Some(refusal) = refusal {
        visit.answered(0);
        return refusal;
    }
    if sim.plan.service_ms <= 0.0 && fault.is_none() {
        return at_once(visit, &prepared);
    }
    let endless = matches!(fault, Some(Fault::Hang | Fault::Whitespace));
    let work = if endless { f64::INFINITY } else { work(&sim) };
    let asked_at = sim.gate.now();
    let mut seat = sim.gate.take(work);
    let started_at = seat.started().await;
    match fault {
        Some(Fault::Hang) => hang(&sim).await,
        Some(Fault::Whitespace) => return whitespace(visit, &prepared, seat),
        _ => {}
    }
    if fault == Some(Fault::Hang) {
        drop(seat);
        visit.answered(0);
        // The body breaks before it begins.
        return ndjson(stream::iter([Err(std::io::Error::other("the simulator's hang is over"))]));
    }
    let told = Told { visit, seat, prepared, fault, asked_at, started_at };
    if told.prepared.reply.stream { told.streamed() } else { told.whole().await }
}

/// Nanoseconds that the next request needs.
pub(super) fn work(sim: &Sim) -> f64 {
    sim.plan.work(sim.worked.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}

async fn hang(sim: &Sim) {
    match sim.plan.hang() {
        Some(time) => tokio::time::sleep(time).await,
        None => pending().await,
    }
}

/// No time, no queue; but each line in a write of its own, as Ollama flushes each token.
fn at_once(visit: Visit, prepared: &Prepared) -> Response {
    let reply = &prepared.reply;
    let durations = Durations { total: 3000, load: 0, prompt_eval: 1000, eval: 1000 };
    let answer = if reply.stream {
        let end = Bytes::from(reply.last_line(&durations));
        let lines = [prepared.first.clone()].into_iter().chain(each_line(prepared.rest.clone())).chain([end]);
        // The writer flushes when there is nothing to write for a moment.
        let flushed = stream::iter(lines.filter(|line| !line.is_empty())).then(|line| async {
            tokio::task::yield_now().await;
            Ok(line)
        });
        ndjson(flushed)
    } else {
        json_answer(reply, &reply.content, &durations)
    };
    visit.answered(tokens(&reply.content));
    answer
}

/// An answer whose work has begun.
struct Told {
    visit: Visit,
    seat: Seat,
    prepared: Arc<Prepared>,
    fault: Option<Fault>,
    asked_at: u64,
    started_at: u64,
}

/// What is left to say when the work is done.
struct Last {
    content: String,
    whole: bool,
}

impl Told {
    fn last(&self) -> Last {
        let reply = &self.prepared.reply;
        match self.fault {
            Some(Fault::CutJson) => Last { content: cut(&reply.content, reply.num_predict), whole: false },
            Some(Fault::Garbage) => {
                Last { content: "Certainly! {\"mentions\": [ {label: IMO, text ]]".to_owned(), whole: true }
            }
            _ => Last { content: reply.content.clone(), whole: reply.whole },
        }
    }

    /// The wait in the queue is in the total alone.
    async fn durations(&mut self) -> Durations {
        let ended_at = self.seat.finished().await;
        let work = ended_at.saturating_sub(self.started_at);
        let prompt_eval = (work as f64 * PROMPT_SHARE) as u64;
        let total = ended_at.saturating_sub(self.asked_at);
        Durations { total, load: 0, prompt_eval, eval: work - prompt_eval }
    }

    async fn whole(mut self) -> Response {
        let durations = self.durations().await;
        let Last { content, whole } = self.last();
        let reply = Reply { content, whole, ..self.prepared.reply.clone() };
        let answer = json_answer(&reply, &reply.content, &durations);
        self.visit.answered(tokens(&reply.content));
        answer
    }

    /// The first words when the work begins, the rest when it ends.
    fn streamed(mut self) -> Response {
        let sim = self.visit.sim.clone();
        let own = self.fault.map(|_| self.last());
        let (first, rest) = match &own {
            Some(last) => lines(&self.prepared.reply, &last.content, sim.plan.delta),
            None => (self.prepared.first.clone(), self.prepared.rest.clone()),
        };
        let end = async move {
            let durations = self.durations().await;
            let reply = &self.prepared.reply;
            let mut body = Vec::new();
            match self.fault {
                Some(Fault::MidStream) => {
                    let error =
                        json!({"error": "an error was encountered while running the model: unexpected EOF"});
                    body.extend_from_slice(format!("{error}\n").as_bytes());
                }
                Some(Fault::NoDone) => body.extend_from_slice(&rest),
                _ => {
                    body.extend_from_slice(&rest);
                    let end = match own {
                        Some(Last { content, whole }) => {
                            Reply { content, whole, ..reply.clone() }.last_line(&durations)
                        }
                        None => reply.last_line(&durations),
                    };
                    body.extend_from_slice(end.as_bytes());
                }
            }
            let counted = if self.fault.is_none() { tokens(&reply.content) } else { 0 };
            self.visit.answered(counted);
            Ok(Bytes::from(body))
        };
        let begin = stream::iter((!first.is_empty()).then_some(Ok(first)));
        ndjson(begin.chain(stream::once(end)))
    }
}

/// White space until `num_predict`, unless the caller has had enough.
fn whitespace(visit: Visit, prepared: &Prepared, seat: Seat) -> Response {
    let reply = &prepared.reply;
    let write: Bytes = line(&reply.model, BLANKS, reply.logprobs).repeat(BLANK_LINES).into();
    let writes = reply.num_predict.min(1 << 20) / BLANK_LINES + 1;
    let mut end = reply.clone();
    end.whole = false;
    let blanks = stream::repeat(write).take(writes).then(|write| async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok::<_, std::io::Error>(write)
    });
    let last = async move {
        drop(seat);
        visit.answered(0);
        Ok(Bytes::from(end.last_line(&Durations { total: 3000, load: 0, prompt_eval: 1000, eval: 1000 })))
    };
    ndjson(blanks.chain(stream::once(last)))
}

/// The first words, and a slot that is held while the caller stays.
async fn stall_midway(visit: Visit, prepared: Arc<Prepared>) -> Response {
    let mut seat = visit.sim.gate.take(f64::INFINITY);
    seat.started().await;
    let first = prepared.first.clone();
    let never = async move {
        let _held = (visit, seat);
        pending().await
    };
    ndjson(stream::iter([Ok(first)]).chain(stream::once(never)))
}

fn json_answer(reply: &Reply, content: &str, durations: &Durations) -> Response {
    let mut body = reply.end(durations);
    body["message"]["content"] = json!(content);
    if reply.logprobs {
        body["logprobs"] = tokens_of(content);
    }
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string()).into_response()
}

/// In chunks, as of unknown length.
fn ndjson(lines: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(lines));
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
