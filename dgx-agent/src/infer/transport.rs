//! One completion: sends a body, reads the stream to its `done: true`.

use std::borrow::Cow;
use std::time::Duration;

use reqwest::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;

use super::client::Client;
use super::controller::Timing;
use super::error::{InferError, Partial};
use super::logprobs::{self, Logprobs, Token, tokens};
use super::ndjson::LineSplitter;
use super::request::ModelParams;
use super::runaway::Watch;

/// Longest line of a stream: a chunk holds a token or a few, a whole answer at most.
const MAX_LINE: usize = 4 << 20;
/// Bytes an answer may have for each token of `num_predict`; beyond it the server ignores `num_predict`.
const MAX_BYTES_PER_TOKEN: usize = 64;

/// A finished answer with the server's own counts, as far as it gave them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    pub content: String,
    pub prompt_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    /// Not kept in the journal.
    #[serde(skip)]
    pub timing: Option<Timing>,
    /// Of `content`, as far as the server sent them.
    #[serde(default, skip_serializing_if = "Logprobs::is_empty")]
    pub logprobs: Logprobs,
}

/// One line of the stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Chunk<'a> {
    #[serde(borrow)]
    message: Message<'a>,
    #[serde(borrow, deserialize_with = "tokens")]
    logprobs: Vec<Token<'a>>,
    done: bool,
    done_reason: Option<String>,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
    /// In nanoseconds.
    total_duration: Option<u64>,
    load_duration: Option<u64>,
    prompt_eval_duration: Option<u64>,
    eval_duration: Option<u64>,
    error: Option<Value>,
}

/// What the last line tells.
#[derive(Debug, Default)]
struct Last {
    done_reason: Option<String>,
    prompt_tokens: Option<u64>,
    output_tokens: Option<u64>,
    timing: Option<Timing>,
}

impl Chunk<'_> {
    /// A prompt that was in the cache took no time, and its duration may be left out.
    fn timing(&self) -> Option<Timing> {
        let of = |nanoseconds: Option<u64>| Duration::from_nanos(nanoseconds.unwrap_or(0));
        Some(Timing {
            total: Duration::from_nanos(self.total_duration?),
            load: of(self.load_duration),
            served: of(self.prompt_eval_duration) + Duration::from_nanos(self.eval_duration?),
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    content: Cow<'a, str>,
}

impl Client {
    /// Sends `body` to `/api/chat` and waits for the whole answer as long as the client's time-outs allow.
    pub async fn chat(&self, body: Vec<u8>, params: &ModelParams) -> Result<Completion, InferError> {
        self.chat_within(self.timeouts.total, body, params).await
    }

    /// The same within `total`, where that is known better.
    ///
    /// Cancel-safe: dropping the future closes the connection, and the server stops generating.
    pub async fn chat_within(
        &self,
        total: Duration,
        body: Vec<u8>,
        params: &ModelParams,
    ) -> Result<Completion, InferError> {
        timeout(total, self.chat_untimed(body, params))
            .await
            .unwrap_or(Err(InferError::TimedOut { what: "finished answer", seconds: total.as_secs() }))
    }

    async fn chat_untimed(&self, body: Vec<u8>, params: &ModelParams) -> Result<Completion, InferError> {
        let mut response = self.stream("api/chat", body, &params.model).await?;
        let mut lines = LineSplitter::new(MAX_LINE);
        let mut answer = Answer::new(params);
        while let Some(frame) = self.next_frame(&mut response).await? {
            lines.push(&frame);
            loop {
                let line = lines.next_line().map_err(|error| InferError::Garbage {
                    detail: format!("a line above {} bytes", error.max_line),
                })?;
                match line {
                    Some(line) if answer.take(line)? => return answer.finish(),
                    Some(_) => {}
                    None => break,
                }
            }
        }
        match lines.rest() {
            Some(line) if answer.take(line)? => answer.finish(),
            _ => Err(InferError::NoDone),
        }
    }

    async fn next_frame(&self, response: &mut Response) -> Result<Option<bytes::Bytes>, InferError> {
        let idle: Duration = self.timeouts.idle;
        match timeout(idle, response.chunk()).await {
            Ok(frame) => frame.map_err(|error| self.transport_error(&error)),
            Err(_) => Err(InferError::TimedOut { what: "next chunk", seconds: idle.as_secs() }),
        }
    }
}

/// An answer that is coming in. Pure: lines in, a completion or an error out.
struct Answer<'a> {
    params: &'a ModelParams,
    content: String,
    logprobs: Logprobs,
    watch: Watch,
    last: Last,
}

impl<'a> Answer<'a> {
    fn new(params: &'a ModelParams) -> Self {
        Self {
            params,
            content: String::with_capacity(4096),
            logprobs: Logprobs::default(),
            watch: Watch::default(),
            last: Last::default(),
        }
    }

    /// Takes a line; true when it was the last.
    fn take(&mut self, line: &[u8]) -> Result<bool, InferError> {
        let garbage =
            |column| InferError::Garbage { detail: format!("a line that is not JSON, column {column}") };
        // Looked at once: of bytes each string would be, and a line holds dozens of short ones.
        let line = str::from_utf8(line).map_err(|error| garbage(error.valid_up_to() + 1))?;
        let (quick, mut short) = (logprobs::quick(line), String::new());
        let read = match &quick {
            Some(quick) => {
                short.push_str(&line[..quick.at]);
                short.push('}');
                &short
            }
            None => line,
        };
        let chunk: Chunk<'_> = serde_json::from_str(read).map_err(|error| garbage(error.column()))?;
        if let Some(error) = &chunk.error {
            return Err(InferError::from_line(error));
        }
        let words = chunk.message.content.as_ref();
        self.content.push_str(words);
        let told = quick.map_or_else(|| logprobs::told(&chunk.logprobs, words), |quick| quick.told);
        self.logprobs.take(words, self.content.len(), told);
        self.stop_runaway(words)?;
        if chunk.done {
            self.last = Last {
                timing: chunk.timing(),
                done_reason: chunk.done_reason,
                prompt_tokens: chunk.prompt_eval_count,
                output_tokens: chunk.eval_count,
            };
        }
        Ok(chunk.done)
    }

    fn stop_runaway(&mut self, added: &str) -> Result<(), InferError> {
        if let Some(what) = self.watch.look(&self.content, added.len()) {
            return Err(InferError::Runaway { what });
        }
        if self.content.len() > self.params.num_predict as usize * MAX_BYTES_PER_TOKEN {
            return Err(InferError::Runaway { what: "far more text than num_predict allows" });
        }
        Ok(())
    }

    fn finish(self) -> Result<Completion, InferError> {
        let num_ctx = u64::from(self.params.num_ctx);
        if let Some(prompt_tokens) = self.last.prompt_tokens.filter(|tokens| *tokens + 1 >= num_ctx) {
            return Err(InferError::PromptCut { prompt_tokens, num_ctx });
        }
        let completion = Completion {
            content: self.content,
            prompt_tokens: self.last.prompt_tokens,
            output_tokens: self.last.output_tokens,
            timing: self.last.timing,
            logprobs: self.logprobs,
        };
        match self.last.done_reason.as_deref() {
            Some("length") => Err(InferError::AnswerCut { partial: Partial::new(completion) }),
            None | Some("stop") => Ok(completion),
            Some(_) => {
                let detail = "the server loaded or unloaded the model instead of answering".to_owned();
                Err(InferError::Garbage { detail })
            }
        }
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
