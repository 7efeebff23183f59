//! What happens in the middle of an answer, each on a server of the case's own.

use anyhow::{Context, Result, bail, ensure};
use dgx_agent::infer::{Class, InferError};
use serde_json::{Value, json};

use super::{Instance, Target, client};
use crate::conformance::{Case, Seen, cases};

pub(super) fn cases() -> Vec<Case<Target>> {
    cases![
        cancelled => "one slot: the next waits until its caller has gone",
        queue => "OLLAMA_NUM_PARALLEL=2: the third waits for a slot",
        killed => "killed in mid-stream, and back",
        full => "trap: OLLAMA_MAX_QUEUE=1 while the model is loaded: 503, and soon well",
        runner => "trap: a schema that kills the runner: 500, then well",
    ]
}

/// Starts a long answer and waits for its first words.
async fn begin(target: &Target, instance: &Instance) -> Result<reqwest::Response> {
    let request = target.http.post(format!("{}/api/chat", instance.url)).body(target.long().to_string());
    let mut answer = request.send().await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    let chunk = answer.chunk().await?.context("it ended before it began")?;
    ensure!(!chunk.windows(11).any(|part| part == b"\"done\":true"), "it ended at once");
    Ok(answer)
}

/// Reads on: whether it goes on for so many pieces.
async fn goes_on(answer: &mut reqwest::Response, pieces: usize) -> Result<()> {
    for _ in 0..pieces {
        let chunk = answer.chunk().await?.context("a long answer ends early")?;
        ensure!(!chunk.windows(11).any(|part| part == b"\"done\":true"), "a long answer is done early");
    }
    Ok(())
}

/// Every slot is taken by an answer of minutes. One more request waits as long as they go on, and is answered once
/// the caller of one of them has gone.
async fn one_more(target: &Target, slots: usize) -> Result<Seen> {
    if !target.launch.has_long_answers() {
        return Ok(Seen::absent());
    }
    let instance = Instance::start(target, slots, &["--pace", "10"]).await?;
    let mut running = Vec::new();
    for _ in 0..slots {
        running.push(begin(target, &instance).await.context("begin an answer in a free slot")?);
    }
    let mut short = target.short();
    short["model"] = json!(target.slow_model);
    let body = short.to_string();
    let next = target.call(&instance.url, reqwest::Method::POST, "/api/chat", &body);
    tokio::pin!(next);
    for answer in &mut running {
        tokio::select! {
            biased;
            early = &mut next => bail!("it did not wait for a slot: {}", early?.status),
            on = goes_on(answer, 24) => on?,
        }
    }
    drop(running.pop());
    let answer = next.await?.json(200).context("the one that waited")?;
    ensure!(answer["done"] == true, "{answer}");
    for answer in &mut running {
        goes_on(answer, 1).await.context("the other caller's answer")?;
    }
    Ok(Seen::default())
}

async fn cancelled(target: &Target) -> Result<Seen> {
    one_more(target, 1).await
}

async fn queue(target: &Target) -> Result<Seen> {
    one_more(target, 2).await
}

async fn killed(target: &Target) -> Result<Seen> {
    let instance = Instance::start(target, 1, &["--stall-midway"]).await?;
    let url = instance.url.clone();
    let mut params = target.params();
    params.model.clone_from(&target.slow_model);
    let begun = begin(target, &instance).await?;
    let agent = client(&url)?;
    // In the same place a moment later: it waits in the queue, or has begun.
    let sent = target.long().to_string().into_bytes();
    let (tell, told) = tokio::sync::oneshot::channel();
    let (port, error) = tokio::join!(
        async {
            let _ = told.await;
            instance.kill()
        },
        async {
            let chat = agent.chat(sent, &params);
            tokio::pin!(chat);
            // One poll sends it on its way.
            let early = futures::poll!(&mut chat);
            let _ = tell.send(());
            match early {
                std::task::Poll::Ready(done) => done,
                std::task::Poll::Pending => chat.await,
            }
        }
    );
    let error = error.err().context("a killed server answers")?;
    let class = error.class();
    ensure!(matches!(class, Class::Transient | Class::Away { .. } | Class::BadAnswer), "{error:?}");
    ensure!(read_to_end(begun).await.is_none_or(|last| last["done"] != true), "it is not taken for finished");

    let away = agent.chat(target.template(params.clone()).body("page", 1), &params).await;
    let away = away.err().context("nobody is there")?;
    ensure!(matches!(away, InferError::Unreachable { .. }), "{away:?}");
    let _back = Instance::back(target, port).await?;
    let template = target.template(params.clone());
    let answer = agent.chat(template.body("page", 1), &params).await.context("it is back")?;
    ensure!(answer.content.contains("ok"), "an answer");
    Ok(Seen::default())
}

/// The last line that came, if the connection ended well.
async fn read_to_end(answer: reqwest::Response) -> Option<Value> {
    let text = answer.text().await.ok()?;
    serde_json::from_str(text.lines().last()?).ok()
}

/// Only while a model is loaded does the queue have an end.
async fn full(target: &Target) -> Result<Seen> {
    let instance = Instance::with_short_queue(target, &["--busy-first", "2"]).await?;
    let (agent, params) = (client(&instance.url)?, target.params());
    let template = target.template(params.clone());
    let asked = (0..6).map(|seed| agent.chat(template.body("page", seed), &params));
    let (answered, refused): (Vec<_>, Vec<_>) =
        futures::future::join_all(asked).await.into_iter().partition(Result::is_ok);
    ensure!(!answered.is_empty() && !refused.is_empty(), "{} answered", answered.len());
    for error in refused.into_iter().filter_map(Result::err) {
        ensure!(matches!(&error, InferError::Busy { status: 503, .. }), "{error:?}");
        ensure!(error.to_string().contains("maximum pending requests exceeded"), "{error}");
        ensure!(matches!(error.class(), Class::Away { retry_after: None }), "{error:?}");
    }
    agent.chat(template.body("page", 7), &params).await.context("the model is loaded")?;
    Ok(Seen::default())
}

/// The grammar of large repetitions is more than the runner bears.
async fn runner(target: &Target) -> Result<Seen> {
    let instance = Instance::start(target, 1, &["--fail-first", "1"]).await?;
    let item = json!({"type": "string", "maxLength": 1900});
    let format = json!({"type": "array", "items": item, "minItems": 1, "maxItems": 5000});
    let body = target.chat(&format, 64).to_string();
    let answer = target.call(&instance.url, reqwest::Method::POST, "/api/chat", &body).await?;
    let told = target.refused(&answer, 500)?;
    ensure!(told.contains("model runner has unexpectedly stopped"), "{told}");
    let params = target.params();
    let template = target.template(params.clone());
    let next = client(&instance.url)?.chat(template.body("page", 1), &params).await;
    next.context("the next request gets a new runner")?;
    Ok(Seen::default())
}
