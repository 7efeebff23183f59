//! A model on an Ollama server as an engine.
//!
//! Constraints: a permit is held before a prompt is formed; a server that is away makes a page wait, without end,
//! and costs it nothing; what was cut is asked again in halves, and only then is saved what can be.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use futures::{StreamExt, stream};
use proto::labelset::{Labelset, Mention};
use serde_json::json;

use super::{INTERNAL_ERROR, Identity, PageResult, PageSpan, Source, Stamp, on_rayon};
use crate::{
    batch::{BatchError, Meter},
    chunk::{Chunk, ChunkBudget, chunks, estimated_tokens},
    config::EngineConfig,
    ground::{Grounded, ground},
    infer::{
        Class, Client, Decision, InferError, Limiter, ModelParams, Partial, Preflight, RequestTemplate,
        RetryPolicy, Tries, preflight,
    },
    parse::{parse_answer, salvage},
    prompt::Prompt,
    validate::validate,
};

/// How often a piece that is too large is halved: by then it is an eighth.
const MAX_HALVINGS: u32 = 3;

/// How the model server stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelServer {
    pub url: String,
    pub reachable: bool,
    pub version: String,
    pub model_present: bool,
    /// In tokens; 0: unknown.
    pub context_length: u64,
    /// 0: the model is not loaded.
    pub size_bytes: u64,
    /// 0 while loaded: it runs on the CPU.
    pub size_vram_bytes: u64,
    /// Why it could not be asked, with the way out; empty when it could.
    pub error: String,
}

#[derive(Debug)]
pub(super) struct OllamaEngine {
    client: Client,
    limiter: Limiter,
    retry: RetryPolicy,
    template: RequestTemplate,
    prompt: Prompt,
    budget: ChunkBudget,
    labelset: Arc<Labelset>,
    concurrency: usize,
    identity: Identity,
}

/// The mentions of an answer at their places.
struct Answered {
    grounded: Grounded,
    /// Mentions that a cut or broken answer began.
    lost: usize,
}

/// What came of asking about a piece.
enum Asked {
    Answered(Answered),
    /// The prompt or the answer did not fit; with the answer as far as it came.
    TooLarge {
        reason: &'static str,
        partial: String,
    },
    Failed(&'static str),
}

/// What an answer was worth.
enum Read {
    Whole(Answered),
    /// Not what was asked for, with what could be saved of it.
    Broken(String),
}

impl OllamaEngine {
    pub async fn prepare(
        model: Option<&str>,
        labelset: Arc<Labelset>,
        config: &EngineConfig,
    ) -> Result<Self, BatchError> {
        let (client, params) = (client(config)?, params(model, config)?);
        let found =
            preflight(&client, &params).await.map_err(|error| BatchError::from_model_server(&error))?;
        let prompt = Prompt::new(&labelset);
        Ok(Self {
            limiter: Limiter::new(config.concurrency, config.requests_per_minute),
            retry: config.retry,
            budget: ChunkBudget::new(params.num_ctx, params.num_predict, &prompt),
            concurrency: config.concurrency.get() as usize,
            identity: identity(&params, &prompt, found.digest),
            template: RequestTemplate::new(params, prompt.system.clone(), prompt.schema.clone()),
            client,
            prompt,
            labelset,
        })
    }

    pub fn identity(&self) -> Identity {
        self.identity.clone()
    }

    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Waits for a server that is away: the pages are done, and must not be lost for this.
    pub async fn check_unchanged(&self, meter: &Meter<'_>) -> Result<(), BatchError> {
        let mut tries = Tries::default();
        let now = loop {
            let error = match preflight(&self.client, self.template.params()).await {
                Ok(found) => break found.digest,
                Err(error) => error,
            };
            match self.retry.decide(&error, &mut tries, rand::random) {
                Decision::GiveUp => return Err(BatchError::from_model_server(&error)),
                Decision::RetryAfter(pause) => {
                    meter.waiting(&error);
                    tokio::time::sleep(pause).await;
                }
            }
        };
        meter.answered();
        let Stamp { model, digest, .. } = &self.identity.stamp;
        if now == *digest {
            return Ok(());
        }
        Err(BatchError::Differs(format!(
            "the model {model} at {} changed during the batch (digest {digest} before, {now} now): pull the old one \
             again, or make a new batch with this one as its parent",
            self.client.url()
        )))
    }

    pub async fn annotate(&self, text: Arc<str>, meter: &Meter<'_>) -> Result<PageResult, InferError> {
        let pieces = chunks(&text, self.budget);
        let mut answers =
            stream::iter(pieces).map(|piece| self.piece(piece, meter)).buffered(self.concurrency).boxed();
        let mut page = PageResult::default();
        while let Some(piece) = answers.next().await {
            page.add(piece?);
            if page.failed.is_some() {
                break;
            }
        }
        Ok(page)
    }

    /// A piece, in halves where it is too large.
    async fn piece(&self, piece: Chunk, meter: &Meter<'_>) -> Result<PageResult, InferError> {
        let mut result = PageResult::default();
        let mut left = vec![(piece, 0)];
        while let Some((piece, halved)) = left.pop() {
            match self.ask(&piece.text, meter, &mut result).await? {
                Asked::Answered(answered) => result.take(&piece, answered),
                Asked::TooLarge { reason, partial } => {
                    let halves = if halved < MAX_HALVINGS { halves(&piece) } else { Vec::new() };
                    if halves.len() > 1 {
                        left.extend(halves.into_iter().rev().map(|half| (half, halved + 1)));
                        continue;
                    }
                    match self.save(partial, &piece.text).await {
                        Some(answered) => result.take(&piece, answered),
                        None => return Ok(PageResult { failed: Some(reason), ..result }),
                    }
                }
                Asked::Failed(reason) => return Ok(PageResult { failed: Some(reason), ..result }),
            }
        }
        Ok(result)
    }

    /// Asks until there is an answer, or none is to be had.
    async fn ask(&self, text: &str, meter: &Meter<'_>, spent: &mut PageResult) -> Result<Asked, InferError> {
        let _permit = self.limiter.permit().await;
        let mut tries = Tries::default();
        loop {
            self.limiter.pace().await;
            let body = self.template.body(self.prompt.user(text), tries.bad_answers());
            tries.sent += 1;
            spent.attempts += 1;
            let in_flight = meter.request();
            let begun = Instant::now();
            let answer = self.client.chat(body, self.template.params()).await;
            spent.latency += begun.elapsed();
            drop(in_flight);

            let mut broken = String::new();
            let error = match answer {
                Ok(completion) => {
                    meter.answered();
                    spent.prompt_tokens += completion.prompt_tokens.unwrap_or(0);
                    spent.output_tokens += completion.output_tokens.unwrap_or(0);
                    match self.read(completion.content, text).await {
                        Some(Read::Whole(answered)) => return Ok(Asked::Answered(answered)),
                        Some(Read::Broken(content)) => broken = content,
                        None => return Ok(Asked::Failed(INTERNAL_ERROR)),
                    }
                    InferError::Garbage {
                        detail: "its content is not the JSON that was asked for".to_owned(),
                    }
                }
                Err(error) => error,
            };
            match error.class() {
                Class::Fatal => return Err(error),
                Class::Away { .. } => meter.waiting(&error),
                _ => meter.answered(),
            }
            match self.retry.decide(&error, &mut tries, rand::random) {
                Decision::RetryAfter(pause) => tokio::time::sleep(pause).await,
                Decision::GiveUp => return Ok(self.given_up(error, broken, text).await),
            }
        }
    }

    async fn given_up(&self, error: InferError, broken: String, text: &str) -> Asked {
        let reason = error.reason();
        match (error.class(), error) {
            (_, InferError::AnswerCut { partial: Partial(partial) }) => Asked::TooLarge { reason, partial },
            (Class::TooLarge, _) => Asked::TooLarge { reason, partial: String::new() },
            _ => self.save(broken, text).await.map_or(Asked::Failed(reason), Asked::Answered),
        }
    }

    /// None when the work panicked.
    async fn read(&self, content: String, text: &str) -> Option<Read> {
        let (labelset, text) = (self.labelset.clone(), text.to_owned());
        let read = move || match parse_answer(&content) {
            Ok(mentions) => Read::Whole(placed(&text, &mentions, 0, &labelset)),
            Err(_) => Read::Broken(content),
        };
        on_rayon(read).await.ok()
    }

    /// The whole mentions of a cut or broken answer; None when there are none. What was lost counts as ungrounded.
    async fn save(&self, content: String, text: &str) -> Option<Answered> {
        let (labelset, text) = (self.labelset.clone(), text.to_owned());
        let saved = on_rayon(move || {
            let saved = salvage(&content);
            (!saved.mentions.is_empty()).then(|| placed(&text, &saved.mentions, saved.lost, &labelset))
        });
        saved.await.ok().flatten()
    }
}

impl PageResult {
    /// Adds the spans of a piece, moved to where they stand on the page.
    fn take(&mut self, piece: &Chunk, answered: Answered) {
        self.chunks += 1;
        self.ungrounded += answered.grounded.ungrounded.len() + answered.lost;
        self.spans.extend(answered.grounded.spans.into_iter().map(|mut span| {
            span.start += piece.start;
            span.end += piece.start;
            PageSpan { span, source: Source::Ollama }
        }));
    }
}

fn placed(text: &str, mentions: &[Mention], lost: usize, labelset: &Labelset) -> Answered {
    Answered { grounded: validate(ground(text, mentions, labelset), mentions, labelset), lost }
}

/// A piece in two; one when it is too small for that.
fn halves(piece: &Chunk) -> Vec<Chunk> {
    let half = ChunkBudget::of_tokens(estimated_tokens(&piece.text) / 2 + 1);
    let halves = chunks(&piece.text, half).into_iter();
    halves.map(|half| Chunk { start: piece.start + half.start, ..half }).collect()
}

/// For `describe`: with an empty digest where the server cannot be asked.
pub(super) async fn describe(
    model: Option<&str>,
    labelset: &Labelset,
    config: &EngineConfig,
) -> Result<(Identity, ModelServer), BatchError> {
    let (client, params) = (client(config)?, params(model, config)?);
    let found = preflight(&client, &params).await;
    let server = server(client.url(), &found);
    let digest = found.map(|found| found.digest).unwrap_or_default();
    Ok((identity(&params, &Prompt::new(labelset), digest), server))
}

fn server(url: &str, found: &Result<Preflight, InferError>) -> ModelServer {
    let url = url.to_owned();
    match found {
        Ok(found) => ModelServer {
            url,
            reachable: true,
            version: found.version.clone(),
            model_present: true,
            context_length: found.context_length.unwrap_or(0),
            size_bytes: found.loaded.map_or(0, |loaded| loaded.size_bytes),
            size_vram_bytes: found.loaded.map_or(0, |loaded| loaded.size_vram_bytes),
            error: String::new(),
        },
        Err(error) => ModelServer {
            url,
            // What no batch can succeed with was answered by somebody: a login page, a server without the model.
            reachable: error.class() == Class::Fatal,
            model_present: matches!(error, InferError::NumCtxTooLarge { .. }),
            error: error.to_string(),
            ..ModelServer::default()
        },
    }
}

fn client(config: &EngineConfig) -> Result<Client, BatchError> {
    Client::new(config.ollama.clone(), config.timeouts).map_err(BatchError::Config)
}

fn params(model: Option<&str>, config: &EngineConfig) -> Result<ModelParams, BatchError> {
    let model = model.or(config.model.as_deref()).ok_or_else(|| {
        BatchError::Config(
            "the engine needs a model, and neither the batch nor the agent names one: pass --model, or set \
             OLLAMA_MODEL"
                .to_owned(),
        )
    })?;
    Ok(ModelParams { model: model.to_owned(), num_ctx: config.num_ctx, num_predict: config.num_predict })
}

fn identity(params: &ModelParams, prompt: &Prompt, digest: String) -> Identity {
    let options = [
        ("num_ctx", json!(params.num_ctx)),
        ("num_predict", json!(params.num_predict)),
        ("temperature", json!(0)),
    ];
    Identity {
        stamp: Stamp { model: params.model.clone(), digest, prompt_sha256: prompt.sha256.clone() },
        options: options
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<BTreeMap<_, _>>(),
    }
}
