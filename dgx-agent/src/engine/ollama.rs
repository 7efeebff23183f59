//! A model on an Ollama server as an engine.
//!
//! Constraints: a permit is held before a prompt is formed; a server that is away makes a page wait, without end,
//! and costs it nothing; what was cut is asked again in halves, and only then is saved what can be. Pieces overlap:
//! what two of them found is one span in the end.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, stream};
use proto::labelset::Labelset;
use serde_json::json;

use super::{Identity, PageResult, Server, Stamp, asker::Asker};
use crate::{
    batch::{BatchError, Meter},
    chunk::{ChunkBudget, OVERLAP, overlapping},
    config::EngineConfig,
    infer::{Class, Client, InferError, Lane, ModelParams, Preflight, RequestTemplate, preflight},
    prompt::Prompt,
};

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
    asker: Asker,
    chunks: ChunkBudget,
    labelset: Arc<Labelset>,
    identity: Identity,
}

impl OllamaEngine {
    pub async fn prepare(
        model: Option<&str>,
        labelset: Arc<Labelset>,
        config: &EngineConfig,
        server: Server,
    ) -> Result<Self, BatchError> {
        let (client, params) = (client(config)?, params(model, config)?);
        let found =
            preflight(&client, &params).await.map_err(|error| BatchError::from_model_server(&error))?;
        let prompt = Prompt::new(&labelset);
        let least = ChunkBudget::least_window(params.num_predict, &prompt);
        if least > params.num_ctx as usize {
            return Err(BatchError::Config(format!(
                "--num-ctx {} has no room for a page beside the labelset's prompt and --num-predict {}: pass --num-ctx \
                 {least} or more, or a smaller --num-predict",
                params.num_ctx, params.num_predict
            )));
        }
        let template = RequestTemplate::new(params.clone(), prompt.system.clone(), &prompt.schema)
            .with_digest(&found.digest);
        Ok(Self {
            chunks: ChunkBudget::new(params.num_ctx, params.num_predict, &prompt),
            identity: identity(&params, &prompt, found.digest.clone()),
            asker: Asker::new(client, template, prompt, config, server, &found.digest),
            labelset,
        })
    }

    pub fn identity(&self) -> Identity {
        self.identity.clone()
    }

    pub fn concurrency(&self) -> usize {
        self.asker.most_at_once()
    }

    pub(super) fn asker(&self) -> &Asker {
        &self.asker
    }

    pub(super) fn labelset(&self) -> &Arc<Labelset> {
        &self.labelset
    }

    pub fn lane(&self) -> &Lane {
        &self.asker.lane
    }

    pub async fn check_unchanged(&self, meter: &Meter) -> Result<(), BatchError> {
        let now = self.asker.digest(meter).await.map_err(|error| BatchError::from_model_server(&error))?;
        let Stamp { model, digest, .. } = &self.identity.stamp;
        if now == *digest {
            return Ok(());
        }
        Err(BatchError::Differs(format!(
            "the model {model} at {} changed during the batch (digest {digest} before, {now} now): pull the old one \
             again, or make a new batch with this one as its parent",
            self.asker.client.url()
        )))
    }

    pub async fn annotate(&self, text: Arc<str>, meter: &Meter) -> Result<PageResult, InferError> {
        let pieces = overlapping(&text, self.chunks, OVERLAP);
        let mut answers = stream::iter(pieces)
            .map(|piece| self.piece(piece, 0, meter))
            .buffered(self.concurrency())
            .boxed();
        let mut page = PageResult::default();
        while let Some(piece) = answers.next().await {
            page.add(piece?);
            if page.failed.is_some() {
                break;
            }
        }
        Ok(page)
    }
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
