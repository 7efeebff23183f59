//! Ollama: what `dgx_agent::infer` asks of it, and what of its answers is relied on.
//!
//! Raw requests where the bytes matter, the agent's own client where its reading of them does. What the model says
//! is never noted: only that it obeys. Faults that only a dying server makes are played on an instance of the case's
//! own, so that the shared one stays up.

mod answers;
mod faults;
mod instance;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use dgx_agent::infer::{Client, Endpoint, ModelParams, RequestTemplate, Timeouts};
use reqwest::{Method, StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};

use super::Case;

pub use instance::{Instance, Launch};

/// Of every request, so that no case makes the server load the model anew.
const NUM_CTX: u32 = 2048;

pub fn cases() -> Vec<Case<Target>> {
    [answers::cases(), faults::cases()].into_iter().flatten().collect()
}

/// A running server, and how to start another like it.
pub struct Target {
    http: reqwest::Client,
    url: String,
    /// Answers in milliseconds: for everything but long answers.
    model: String,
    /// Needs minutes for a long answer: for what happens in the middle of one.
    slow_model: String,
    launch: Launch,
    /// For logs of instances.
    work: PathBuf,
}

/// An answer, whatever its status.
struct Answer {
    status: StatusCode,
    content_type: String,
    text: String,
}

impl Target {
    pub fn new(url: &str, model: &str, slow_model: &str, launch: Launch, work: PathBuf) -> Result<Self> {
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let http = reqwest::Client::builder().no_proxy().build()?;
        let tagged =
            |model: &str| if model.contains(':') { model.to_owned() } else { format!("{model}:latest") };
        Ok(Self { http, url, model: tagged(model), slow_model: tagged(slow_model), launch, work })
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.call(&self.url, Method::GET, path, "").await?.json(200)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.call(&self.url, Method::POST, path, &body.to_string()).await
    }

    async fn call(&self, url: &str, method: Method, path: &str, body: &str) -> Result<Answer> {
        let request = self.http.request(method, format!("{url}{path}")).body(body.to_owned());
        let answer = request.send().await.with_context(|| path.to_owned())?;
        let status = answer.status();
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        Ok(Answer { status, content_type, text: answer.text().await? })
    }

    /// A request that is answered at once: `true` or `false`.
    fn short(&self) -> Value {
        self.chat(
            &json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}),
            64,
        )
    }

    /// As the agent's requests are, but whole.
    fn chat(&self, format: &Value, num_predict: i32) -> Value {
        json!({"model": self.model, "stream": false, "think": false, "truncate": false, "format": format,
            "messages": [{"role": "system", "content": "Answer."}, {"role": "user", "content": "Is it so?"}],
            "options": {"num_ctx": NUM_CTX, "num_predict": num_predict, "temperature": 0.0, "seed": 1}})
    }

    /// An answer of at least ten thousand tokens, streamed, from the slow model: no case outlasts it.
    fn long(&self) -> Value {
        let list = json!({"type": "array", "items": {"type": "boolean"}, "minItems": 1000});
        let names: Vec<String> = (0..10).map(|n| format!("list{n}")).collect();
        let properties: serde_json::Map<_, _> =
            names.iter().map(|name| (name.clone(), list.clone())).collect();
        let mut body = self.chat(&json!({"type": "object", "properties": properties, "required": names}), -1);
        body["model"] = json!(self.slow_model);
        body["stream"] = json!(true);
        body
    }

    fn params(&self) -> ModelParams {
        ModelParams { model: self.model.clone(), num_ctx: NUM_CTX, num_predict: 64 }
    }

    /// What the agent sends, with a short answer.
    fn template(&self, params: ModelParams) -> RequestTemplate {
        RequestTemplate::new(params, "Answer.".to_owned(), &self.short()["format"])
    }

    /// As it is noted: without the model's name.
    fn plain(&self, text: &str) -> String {
        text.replace(&self.model, "<model>").replace(&self.slow_model, "<model>")
    }

    /// A refusal as it is noted: `404 model 'x' not found`.
    fn refused(&self, answer: &Answer, status: u16) -> Result<String> {
        let body = answer.json(status)?;
        let error = body["error"].as_str().with_context(|| format!("no error in {body}"))?;
        Ok(format!("{status} {}", self.plain(error)))
    }
}

/// The agent's client of a server.
fn client(url: &str) -> Result<Client> {
    let endpoint = Endpoint::parse(url, None).map_err(anyhow::Error::msg)?;
    Client::new(endpoint, Timeouts::default()).map_err(anyhow::Error::msg)
}

impl Answer {
    fn json(&self, status: u16) -> Result<Value> {
        ensure!(self.status == status, "{} instead of {status}: {}", self.status, self.text);
        serde_json::from_str(&self.text).with_context(|| format!("{} is not JSON", self.content_type))
    }

    /// The lines of a stream.
    fn lines(&self) -> Result<Vec<Value>> {
        ensure!(self.status == 200, "{}: {}", self.status, self.text);
        self.text.lines().map(|line| serde_json::from_str(line).context("a line that is not JSON")).collect()
    }
}

/// The names of an object's keys, sorted.
fn keys(object: &Value) -> String {
    let mut keys: Vec<_> = object.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.join(" ")
}
