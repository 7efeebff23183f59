//! A server that does what it is asked, and says no where it must.

use anyhow::{Context, Result, ensure};
use dgx_agent::{
    infer::{Class, InferError, ModelParams, RequestTemplate, preflight},
    parse::parse_answer,
    prompt::Prompt,
};
use futures::future::join_all;
use proto::labelset::Labelset;
use reqwest::Method;
use serde_json::{Value, json};

use super::{NUM_CTX, Target, client, keys};
use crate::conformance::{Case, Seen, cases};

pub(super) fn cases() -> Vec<Case<Target>> {
    cases![
        version => "GET /api/version",
        tags => "GET /api/tags with the digest",
        show => "POST /api/show: architecture and context length",
        ps => "GET /api/ps once loaded",
        preflight_reads => "the agent's preflight",
        whole => "chat, whole",
        streamed => "chat, streamed: NDJSON to done",
        same => "whole and streamed say the same",
        logprobs => "logprobs: the tokens of a line are its words",
        obeys => "format: a JSON schema is obeyed",
        agent => "the agent's prompt and schema",
        length => "done_reason length at num_predict",
        load => "no message: done_reason load",
        overflow => "too long with truncate false: 400",
        cut => "trap: too long by default is cut in silence",
        unknown_model => "an unknown model: 404",
        schema => "trap: an invalid schema is a 500 for ever",
        think => "think true on a model without it: 400",
        bad_bodies => "bodies that are no request: 400",
        foreign_host => "a foreign Host: 403, empty",
        queue => "five requests at once are all answered",
    ]
}

async fn version(target: &Target) -> Result<Seen> {
    let answer = target.get("/api/version").await?;
    ensure!(answer["version"].is_string(), "{answer}");
    Ok(Seen::default())
}

/// The model's line in `tags` or `ps`.
async fn listed(target: &Target, path: &str) -> Result<Value> {
    let answer = target.get(path).await?;
    let models = answer["models"].as_array().context("models")?;
    let found = models.iter().find(|model| model["name"] == target.model.as_str());
    found.cloned().with_context(|| format!("{path} does not list the model"))
}

fn digest(model: &Value) -> Result<String> {
    let digest = model["digest"].as_str().context("a digest")?;
    let plain = digest.len() == 64 && digest.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    ensure!(plain, "the digest is no plain SHA-256: {digest}");
    Ok(digest.to_owned())
}

async fn tags(target: &Target) -> Result<Seen> {
    let model = listed(target, "/api/tags").await?;
    ensure!(digest(&model)? == digest(&listed(target, "/api/tags").await?)?, "it stays the same");
    ensure!(model["size"].as_u64().is_some_and(|size| size > 0), "{model}");
    let mut seen = Seen::default();
    seen.note(keys(&model));
    Ok(seen)
}

async fn show(target: &Target) -> Result<Seen> {
    let shown = target.post("/api/show", &json!({"model": target.model})).await?.json(200)?;
    let info = &shown["model_info"];
    let architecture = info["general.architecture"].as_str().context("an architecture")?;
    ensure!(
        info[format!("{architecture}.context_length")].as_u64().is_some_and(|length| length >= 2048),
        "{info}"
    );
    ensure!(shown.get("digest").is_none(), "the digest is not in show");
    let mut seen = Seen::default();
    seen.note(format!("{} capabilities: {}", keys(&shown["details"]), shown["capabilities"]));
    Ok(seen)
}

async fn ps(target: &Target) -> Result<Seen> {
    target.post("/api/chat", &target.short()).await?.json(200)?;
    let loaded = listed(target, "/api/ps").await?;
    ensure!(digest(&loaded)? == digest(&listed(target, "/api/tags").await?)?, "the same digest as in tags");
    let number = |key: &str| loaded[key].as_u64().with_context(|| format!("{key} in {loaded}"));
    ensure!(number("size")? >= number("size_vram")?, "{loaded}");
    let mut seen = Seen::default();
    seen.note(format!("{} context_length {}", keys(&loaded), number("context_length")?));
    Ok(seen)
}

async fn preflight_reads(target: &Target) -> Result<Seen> {
    target.post("/api/chat", &target.short()).await?.json(200)?;
    let client = client(&target.url)?;
    let found = preflight(&client, &target.params()).await?;
    ensure!(found.digest == digest(&listed(target, "/api/tags").await?)?, "{found:?}");
    ensure!(found.loaded.is_some_and(|loaded| loaded.size_bytes > 0), "{found:?}");
    let longest = found.context_length.context("a context length")?;
    let mut params = target.params();
    params.num_ctx = u32::try_from(longest + 1)?;
    let error = preflight(&client, &params).await.err().context("more than the model has is let through")?;
    ensure!(matches!(error, InferError::NumCtxTooLarge { .. }), "{error:?}");
    params = ModelParams { model: "no-such-model".into(), ..target.params() };
    let error = preflight(&client, &params).await.err().context("an unknown model is let through")?;
    ensure!(matches!(error, InferError::ModelMissing { .. }), "{error:?}");
    Ok(Seen::default())
}

/// Counts and durations of a last line are whole numbers.
fn metrics(last: &Value) -> Result<()> {
    for key in [
        "total_duration",
        "load_duration",
        "prompt_eval_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
    ] {
        ensure!(last[key].as_u64().is_some(), "{key} is no whole number in {last}");
    }
    Ok(())
}

async fn whole(target: &Target) -> Result<Seen> {
    let answer = target.post("/api/chat", &target.short()).await?;
    let body = answer.json(200)?;
    metrics(&body)?;
    ensure!(body["done"] == true && body["done_reason"] == "stop", "{body}");
    let mut seen = Seen::default();
    seen.note(&answer.content_type);
    seen.note(format!("{} / {} {}", keys(&body), keys(&body["message"]), body["message"]["role"]));
    seen.note(target.plain(&body["model"].to_string()));
    Ok(seen)
}

fn streaming(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

async fn streamed(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut by_default = target.short();
    by_default.as_object_mut().context("an object")?.shift_remove("stream");
    for body in [streaming(target.short()), by_default] {
        let answer = target.post("/api/chat", &body).await?;
        let lines = answer.lines()?;
        let (last, before) = lines.split_last().context("no line")?;
        ensure!(
            !before.is_empty() && before.iter().all(|line| line["done"] == false),
            "done only at the end"
        );
        ensure!(last["done"] == true && last["message"]["content"] == "", "{last}");
        metrics(last)?;
        seen.note(&answer.content_type);
        seen.note(format!("{} / {}", keys(&before[0]), keys(&before[0]["message"])));
        seen.note(format!("{} / {} {}", keys(last), keys(&last["message"]), last["done_reason"]));
    }
    Ok(seen)
}

async fn same(target: &Target) -> Result<Seen> {
    let whole = target.post("/api/chat", &target.short()).await?.json(200)?;
    let lines = target.post("/api/chat", &streaming(target.short())).await?.lines()?;
    let joined: String = lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    ensure!(whole["message"]["content"] == joined.as_str(), "{whole} and {joined}");
    let last = lines.last().context("a last line")?;
    ensure!(whole["prompt_eval_count"] == last["prompt_eval_count"], "the prompt is counted alike");
    Ok(Seen::default())
}

/// Asked for, each line has the tokens of its words; where a character is made of several, each stands as U+FFFD.
async fn logprobs(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let properties = json!({"list": {"type": "array", "items": {"enum": ["Côte", "9074729"]}, "minItems": 3, "maxItems": 3}});
    let mut body =
        target.chat(&json!({"type": "object", "properties": properties, "required": ["list"]}), 256);
    body["logprobs"] = json!(true);
    let whole = target.post("/api/chat", &body).await?.json(200)?;
    let tokens = whole["logprobs"].as_array().context("a list beside the message")?;
    for token in tokens {
        ensure!(token["token"].is_string() && token["bytes"].is_array(), "{token}");
        ensure!(token["logprob"].as_f64().is_some_and(|logprob| logprob <= 1e-6), "{token}");
    }
    seen.note(format!("whole: {} / {}", keys(&whole), keys(&tokens[0])));
    let lines = target.post("/api/chat", &streaming(body.clone())).await?.lines()?;
    let (last, before) = lines.split_last().context("no line")?;
    ensure!(before.iter().any(|line| line["logprobs"].is_array()), "{}", before[0]);
    seen.note(format!("last: {}", keys(last)));
    // The agent's client takes every one of them.
    let params = target.params();
    let answer = client(&target.url)?.chat(streaming(body.clone()).to_string().into_bytes(), &params).await?;
    let probability = answer.logprobs.probability(&(0..answer.content.len()));
    ensure!(probability.is_some_and(|p| p > 0.0 && p <= 1.0), "{probability:?} of {:?}", answer.content);
    body.as_object_mut().context("an object")?.shift_remove("logprobs");
    let without = target.post("/api/chat", &streaming(body)).await?.lines()?;
    ensure!(without.iter().all(|line| line.get("logprobs").is_none()), "sent unasked");
    Ok(seen)
}

/// The content of a finished answer, as JSON.
async fn content(target: &Target, format: Value) -> Result<Value> {
    let body = target.post("/api/chat", &target.chat(&format, 512)).await?.json(200)?;
    ensure!(body["done_reason"] == "stop", "not finished: {}", body["done_reason"]);
    serde_json::from_str(body["message"]["content"].as_str().unwrap_or_default())
        .context("content is no JSON")
}

async fn obeys(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let properties = json!({"sure": {"type": "boolean"}, "label": {"type": "string", "enum": ["IMO"]},
        "list": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2}});
    let object = json!({"type": "object", "properties": properties, "required": ["sure", "label", "list"]});
    let answer = content(target, object).await?;
    ensure!(answer["sure"].is_boolean() && answer["label"] == "IMO", "{answer}");
    ensure!(answer["list"].as_array().is_some_and(|list| list.len() == 2), "{answer}");
    seen.note(keys(&answer));
    let array =
        content(target, json!({"type": "array", "items": {"enum": ["a"]}, "minItems": 1, "maxItems": 1}));
    seen.note(array.await?);
    Ok(seen)
}

/// Whatever the model is worth, the agent ends with an answer or with the class of a cut one.
async fn agent(target: &Target) -> Result<Seen> {
    let prompt = Prompt::new(&Labelset::embedded());
    let params = ModelParams { model: target.model.clone(), num_ctx: 8192, num_predict: 256 };
    let template = RequestTemplate::new(params.clone(), prompt.system.clone(), &prompt.schema);
    let body = template.body(&prompt.user("Vessel: MV Test\nIMO No.: 9074729\nFlag State: France"), 1);
    match client(&target.url)?.chat(body, &params).await {
        Ok(completion) => {
            parse_answer(&completion.content).context("an answer the agent cannot read")?;
            ensure!(
                completion.prompt_tokens.is_some_and(|tokens| tokens > 100),
                "{:?}",
                completion.prompt_tokens
            );
        }
        Err(error @ (InferError::AnswerCut { .. } | InferError::Runaway { .. })) => {
            ensure!(matches!(error.class(), Class::TooLarge | Class::BadAnswer), "{error}");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Seen::default())
}

async fn length(target: &Target) -> Result<Seen> {
    let list = json!({"type": "array", "items": {"type": "boolean"}, "minItems": 200});
    let body = target.post("/api/chat", &target.chat(&list, 16)).await?.json(200)?;
    ensure!(body["done"] == true && body["done_reason"] == "length", "{body}");
    let mut seen = Seen::default();
    seen.note(format!("eval_count {}", body["eval_count"]));
    Ok(seen)
}

async fn load(target: &Target) -> Result<Seen> {
    let mut body = target.short();
    body["messages"] = json!([]);
    let answer = target.post("/api/chat", &body).await?.json(200)?;
    ensure!(answer["done_reason"] == "load" && answer["message"]["content"] == "", "{answer}");
    let mut seen = Seen::default();
    seen.note(keys(&answer));
    Ok(seen)
}

/// Far above `num_ctx` however tokens are counted.
fn too_long(body: &mut Value) {
    body["messages"][1]["content"] = json!("IMO 9074729 of Panama, ".repeat(NUM_CTX as usize / 2));
}

async fn overflow(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut body = target.short();
    too_long(&mut body);
    seen.note(target.refused(&target.post("/api/chat", &body).await?, 400)?);
    seen.note(target.refused(&target.post("/api/chat", &streaming(body)).await?, 400)?);
    let params = target.params();
    let sent = target.template(params.clone()).body(&"page ".repeat(2 * NUM_CTX as usize), 1);
    let error = client(&target.url)?.chat(sent, &params).await.err().context("it fits")?;
    ensure!(matches!(error, InferError::PromptTooLong { .. }), "{error:?}");
    Ok(seen)
}

async fn cut(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut body = target.short();
    too_long(&mut body);
    body.as_object_mut().context("an object")?.shift_remove("truncate");
    for truncate in [None, Some(true)] {
        if let Some(truncate) = truncate {
            body["truncate"] = json!(truncate);
        }
        let answer = target.post("/api/chat", &body).await?.json(200)?;
        seen.note(format!("prompt_eval_count {} of num_ctx {NUM_CTX}", answer["prompt_eval_count"]));
    }
    // The agent's client sees it.
    let params = target.params();
    let error = client(&target.url)?.chat(streaming(body).to_string().into_bytes(), &params).await;
    let error = error.err().context("a prompt that was cut passes for whole")?;
    ensure!(matches!(error, InferError::PromptCut { .. }), "{error:?}");
    Ok(seen)
}

async fn unknown_model(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut body = target.short();
    body["model"] = json!("no-such-model");
    seen.note(target.refused(&target.post("/api/chat", &body).await?, 404)?);
    seen.note(target.refused(&target.post("/api/show", &body).await?, 404)?);
    let params = ModelParams { model: "no-such-model".into(), ..target.params() };
    let sent = target.template(params.clone()).body("page", 1);
    let error = client(&target.url)?.chat(sent, &params).await.err().context("it is there")?;
    ensure!(matches!(error, InferError::ModelMissing { .. }) && error.class() == Class::Fatal, "{error:?}");
    Ok(seen)
}

async fn schema(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let broken = json!({"type": "object", "properties": {"a": {"type": "nonsense"}}});
    for format in [broken.clone(), json!("nonsense"), json!([1])] {
        let answer = target.post("/api/chat", &target.chat(&format, 16)).await?;
        seen.note(format!("{format}: {}", target.refused(&answer, 500)?));
    }
    let params = target.params();
    let template = RequestTemplate::new(params.clone(), "Answer.".into(), &broken);
    let error = client(&target.url)?.chat(template.body("page", 1), &params).await;
    let error = error.err().context("it is taken")?;
    ensure!(error.class() == Class::Fatal, "no repetition heals it: {error:?}");
    for format in [json!(null), json!("")] {
        target.post("/api/chat", &target.chat(&format, 1)).await?.json(200).context("no format")?;
    }
    Ok(seen)
}

async fn think(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut body = target.short();
    body["think"] = json!(true);
    seen.note(target.refused(&target.post("/api/chat", &body).await?, 400)?);
    Ok(seen)
}

async fn bad_bodies(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    for body in ["", "{", "[]", "{\"model\": 7}"] {
        let answer = target.call(&target.url, Method::POST, "/api/chat", body).await?;
        let told = answer.json(400)?;
        ensure!(told["error"].is_string(), "{told}");
        seen.note(format!("{body}: {}", answer.status));
    }
    Ok(seen)
}

async fn foreign_host(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    for host in ["ollama.example.org", "localhost", "localhost:11434", "127.0.0.1"] {
        let request = target.http.get(format!("{}/api/version", target.url)).header("host", host);
        let answer = request.send().await?;
        let status = answer.status();
        seen.note(format!("{host}: {status}, empty: {}", answer.text().await?.is_empty()));
    }
    ensure!(seen.lines[0] == "ollama.example.org: 403 Forbidden, empty: true", "{:?}", seen.lines);
    Ok(seen)
}

/// With two slots: the rest wait, and nobody is turned away.
async fn queue(target: &Target) -> Result<Seen> {
    let list = json!({"type": "array", "items": {"type": "boolean"}, "minItems": 20, "maxItems": 20});
    let body = target.chat(&list, 512);
    for answer in join_all((0..5).map(|_| target.post("/api/chat", &body))).await {
        ensure!(answer?.json(200)?["done_reason"] == "stop", "every one is answered whole");
    }
    Ok(Seen::default())
}
