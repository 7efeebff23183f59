//! What happens in the middle of an answer, each on a server of the case's own.

use anyhow::{Context, Result, ensure};
use dgx_agent::infer::{Class, InferError};
use serde_json::{Value, json};

use super::{Instance, Target, client};
use crate::conformance::{Case, Seen, cases};

pub(super) fn cases() -> Vec<Case<Target>> {
    cases![
        cancelled => "a request whose caller has gone frees its slot",
        killed => "killed in mid-stream, and back",
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

/// One slot, and an answer in it that would take minutes: the next request gets it at once or not in time.
async fn cancelled(target: &Target) -> Result<Seen> {
    let instance = Instance::start(target, &["--stall-midway", "1"]).await?;
    drop(begin(target, &instance).await?);
    let mut short = target.short();
    short["model"] = json!(target.slow_model);
    let next = target.call(&instance.url, reqwest::Method::POST, "/api/chat", &short.to_string()).await?;
    ensure!(next.json(200)?["done"] == true, "the next one is served");
    Ok(Seen::default())
}

async fn killed(target: &Target) -> Result<Seen> {
    let instance = Instance::start(target, &["--stall-midway"]).await?;
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

    let away = agent.chat(target.template(params.clone()).body("page".into(), 1), &params).await;
    let away = away.err().context("nobody is there")?;
    ensure!(matches!(away, InferError::Unreachable { .. }), "{away:?}");
    let _back = Instance::back(target, port).await?;
    let template = target.template(params.clone());
    let answer = agent.chat(template.body("page".into(), 1), &params).await.context("it is back")?;
    ensure!(answer.content.contains("ok"), "an answer");
    Ok(Seen::default())
}

/// The last line that came, if the connection ended well.
async fn read_to_end(answer: reqwest::Response) -> Option<Value> {
    let text = answer.text().await.ok()?;
    serde_json::from_str(text.lines().last()?).ok()
}

/// The grammar of large repetitions is more than the runner bears.
async fn runner(target: &Target) -> Result<Seen> {
    let instance = Instance::start(target, &["--fail-first", "1"]).await?;
    let item = json!({"type": "string", "maxLength": 1900});
    let format = json!({"type": "array", "items": item, "minItems": 1, "maxItems": 5000});
    let body = target.chat(&format, 64).to_string();
    let answer = target.call(&instance.url, reqwest::Method::POST, "/api/chat", &body).await?;
    let told = target.refused(&answer, 500)?;
    ensure!(told.contains("model runner has unexpectedly stopped"), "{told}");
    let params = target.params();
    let template = target.template(params.clone());
    let next = client(&instance.url)?.chat(template.body("page".into(), 1), &params).await;
    next.context("the next request gets a new runner")?;
    Ok(Seen::default())
}
