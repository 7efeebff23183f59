//! Who makes the suggestions of a page: rules, a model on Ollama, or both.
//!
//! ```text
//! text ─► rules ───────────────────────────────────────────────► spans ─┐
//!   └───► ollama: chunk ─► prompt ─► infer ─► answer ──────────► spans ─┴─► unite ─► calibrate ─► PageResult
//! ```
//!
//! A page that cannot be done is a result with a reason; an error means that no page of the batch can.

mod alike;
mod answer;
mod asker;
mod calibrate;
mod ollama;
mod piece;
mod rules;
mod server;
mod unite;
mod work;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, str::FromStr, sync::Arc, time::Duration};

use clap::ValueEnum;
use proto::{
    docs::{Calibration, Provenance},
    hash::sha256_of_fields,
    labelset::Labelset,
};
use serde_json::json;

pub use asker::DEFAULT_WEIGHT;
pub use ollama::ModelServer;
pub use server::Server;
pub(crate) use work::{near, on_rayon};

use crate::{
    batch::{BatchError, Meter},
    config::EngineConfig,
    ground::GroundedSpan,
    infer::InferError,
};
use calibrate::Calibrate;
use ollama::OllamaEngine;
use rules::RulesEngine;

/// The reason of a page whose work panicked.
const INTERNAL_ERROR: &str = "internal_error";

/// Who makes the suggestions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Patterns and validators of the labelset, no model
    Rules,
    /// A model on the Ollama server
    Ollama,
    /// Both, merged
    Hybrid,
}

impl Engine {
    /// As `_batch.json` and provenance have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Ollama => "ollama",
            Self::Hybrid => "hybrid",
        }
    }

    pub fn has_model(self) -> bool {
        self != Self::Rules
    }
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "rules" => Ok(Self::Rules),
            "ollama" => Ok(Self::Ollama),
            "hybrid" => Ok(Self::Hybrid),
            other => Err(format!("{other:?} is no engine: rules, ollama or hybrid")),
        }
    }
}

/// Which of the engines found a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Rules,
    Ollama,
    /// Both, at the same place with the same label.
    Both,
    /// The rules, where the model said otherwise; and the other way round. See [`unite`].
    RulesOverOllama,
    OllamaOverRules,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Ollama => "ollama",
            Self::Both => "ollama+rules",
            Self::RulesOverOllama => "rules>ollama",
            Self::OllamaOverRules => "ollama>rules",
        }
    }

    /// Whether a model said so: then the span carries the model's name.
    pub fn has_model(self) -> bool {
        !matches!(self, Self::Rules | Self::RulesOverOllama)
    }
}

/// What a suggestion says of where it comes from.
#[derive(Debug, Clone)]
pub struct Stamp {
    pub model: String,
    pub digest: String,
    pub prompt_sha256: String,
}

/// A span of a page. `start` and `end` count the page's code points.
#[derive(Debug, Clone, PartialEq)]
pub struct PageSpan {
    pub span: GroundedSpan,
    pub source: Source,
    /// 0 to 1; None: not known. Raw, or calibrated where a calibration applies to the batch.
    pub confidence: Option<f64>,
}

/// What became of a page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PageResult {
    /// In the order of the page, none overlapping another; none when the page failed.
    pub spans: Vec<PageSpan>,
    /// Mentions that were not found on the page, and dropped.
    pub ungrounded: usize,
    /// Pieces that the page was asked about in.
    pub chunks: usize,
    /// Requests to the model server.
    pub attempts: u32,
    pub prompt_tokens: u64,
    pub output_tokens: u64,
    /// Spent at the model server, summed over its requests: the rules take none.
    pub latency: Duration,
    /// Why the page failed.
    pub failed: Option<&'static str>,
}

impl PageResult {
    fn failed(reason: &'static str) -> Self {
        Self { failed: Some(reason), ..Self::default() }
    }

    /// Adds what became of a piece of the page.
    fn add(&mut self, piece: Self) {
        self.spans.extend(piece.spans);
        self.ungrounded += piece.ungrounded;
        self.chunks += piece.chunks;
        self.attempts += piece.attempts;
        self.prompt_tokens += piece.prompt_tokens;
        self.output_tokens += piece.output_tokens;
        self.latency += piece.latency;
        self.failed = self.failed.or(piece.failed);
    }
}

/// An engine made ready for one labelset, with what it stamps on its suggestions.
#[derive(Debug, Clone)]
pub struct Annotator {
    labelset: Arc<Labelset>,
    rules: Option<Arc<RulesEngine>>,
    ollama: Option<Arc<OllamaEngine>>,
    calibrate: Option<Arc<Calibrate>>,
    provenance: Provenance,
}

impl Annotator {
    /// Asks the model server when the engine has one.
    pub async fn prepare(
        engine: Engine,
        model: Option<&str>,
        labelset: Arc<Labelset>,
        config: &EngineConfig,
        server: &Server,
    ) -> Result<Self, BatchError> {
        let ollama = match engine.has_model() {
            true => Some(OllamaEngine::prepare(model, labelset.clone(), config, server.clone()).await?),
            false => None,
        };
        let provenance = provenance(engine, &labelset, ollama.as_ref().map(|ollama| ollama.identity()));
        let rules = match engine {
            Engine::Ollama => None,
            Engine::Rules | Engine::Hybrid => {
                let rules = RulesEngine::new(&labelset);
                Some(Arc::new(rules.map_err(|error| BatchError::BadData(error.to_string()))?))
            }
        };
        Ok(Self { labelset, rules, ollama: ollama.map(Arc::new), calibrate: None, provenance })
    }

    /// The same with calibrated confidences, which its provenance says.
    #[must_use]
    pub fn calibrated(mut self, calibration: Calibration) -> Self {
        let calibrate = Calibrate::new(calibration);
        self.provenance.options.insert(Calibration::OPTION.to_owned(), json!(calibrate.sha256));
        self.calibrate = Some(Arc::new(calibrate));
        self
    }

    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibrate.as_ref().map(|calibrate| &calibrate.calibration)
    }

    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Of spans that the rules found, and of those that the model did.
    pub fn stamps(&self) -> [Stamp; 2] {
        let rules = rules_stamp(&self.labelset);
        let model = self.ollama.as_ref().map(|ollama| ollama.identity().stamp);
        [rules.clone(), model.unwrap_or(rules)]
    }

    /// The spans of a page. Where the model fails, the page does, with both engines too: a page that only the rules
    /// have seen would pass for one that the model has.
    ///
    /// # Errors
    /// When no page of the batch can be done: the model is gone, a proxy refuses every request.
    pub async fn annotate(&self, text: Arc<str>, meter: &Meter) -> Result<PageResult, InferError> {
        let mut result = match &self.rules {
            Some(rules) => rules.annotate(text.clone()).await,
            None => PageResult::default(),
        };
        if let Some(ollama) = &self.ollama {
            result.add(ollama.annotate(text, meter).await?);
        }
        if result.failed.is_some() {
            result.spans.clear();
        } else if self.ollama.is_some() {
            result.spans = unite::unite(result.spans, &self.labelset);
            if let Some(calibrate) = &self.calibrate {
                calibrate.apply(&mut result.spans);
            }
        }
        Ok(result)
    }

    /// Its claim on the model server among all batches.
    pub fn weigh(&self, weight: u32) {
        if let Some(ollama) = &self.ollama {
            ollama.lane().weigh(weight);
        }
    }

    /// Sends nothing any more to the model server, and waits for what is there.
    pub async fn drain(&self) {
        if let Some(ollama) = &self.ollama {
            ollama.lane().drain().await;
        }
    }

    /// How many pages to have under way: enough that neither the processors nor the model server wait for one.
    pub fn pages_at_once(&self) -> usize {
        match &self.ollama {
            // As many again as may be at the server: some are read or grounded, and others must wait for its slots, or
            // a job gets less than its share.
            Some(ollama) => 2 * ollama.concurrency() + 8,
            None => rayon::current_num_threads() * 2,
        }
    }

    /// Fails when the model server now has another model under the name than the batch began with.
    pub async fn check_unchanged(&self, meter: &Meter) -> Result<(), BatchError> {
        match &self.ollama {
            Some(ollama) => ollama.check_unchanged(meter).await,
            None => Ok(()),
        }
    }
}

/// What identifies a model and how it is asked.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub stamp: Stamp,
    pub options: BTreeMap<String, serde_json::Value>,
}

/// The rules have no prompt: what they are stands for it.
fn rules_stamp(labelset: &Labelset) -> Stamp {
    let digest = sha256_of_fields([crate::rules::VERSION, labelset.sha256()]);
    Stamp { model: Engine::Rules.as_str().to_owned(), prompt_sha256: digest.clone(), digest }
}

fn provenance(engine: Engine, labelset: &Labelset, model: Option<Identity>) -> Provenance {
    let rules = rules_stamp(labelset);
    let (stamp, mut options) = match model {
        Some(identity) => (identity.stamp, identity.options),
        None => (rules.clone(), BTreeMap::new()),
    };
    if engine == Engine::Hybrid {
        options.insert("rules_digest".to_owned(), json!(rules.digest));
    }
    Provenance {
        engine: engine.as_str().to_owned(),
        model: stamp.model,
        model_digest: stamp.digest,
        prompt_sha256: stamp.prompt_sha256,
        labelset_sha256: labelset.sha256().to_owned(),
        options,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// What `describe` tells: the provenance that a batch would get, and how the model server stands. A server that
/// cannot be asked is a fact to tell, not an error; the digest is empty then.
pub(crate) async fn describe(
    engine: Engine,
    model: Option<&str>,
    labelset: &Labelset,
    config: &EngineConfig,
) -> Result<(Provenance, Option<ModelServer>), BatchError> {
    if !engine.has_model() {
        return Ok((provenance(engine, labelset, None), None));
    }
    let (identity, server) = ollama::describe(model, labelset, config).await?;
    Ok((provenance(engine, labelset, Some(identity)), Some(server)))
}
