//! What is asked of a server before a batch: is it there, which model is it exactly, will the prompt fit.

use ollama_rs::models::ModelInfo;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Client;
use super::error::InferError;
use super::request::ModelParams;

/// A model in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    pub size_bytes: u64,
    /// Below `size_bytes`: it runs at least partly on the CPU, many times slower.
    pub size_vram_bytes: u64,
}

/// What the server said about itself and the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preflight {
    pub version: String,
    /// SHA-256 of the model's manifest in lower hex: the model's identity in provenance.
    pub digest: String,
    /// The longest context the model was trained for, in tokens, if the server says.
    pub context_length: Option<u64>,
    /// None before the first request.
    pub loaded: Option<Loaded>,
}

#[derive(Debug, Deserialize)]
struct Version {
    version: String,
}

/// The answer of both `/api/tags` and `/api/ps`, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Models {
    #[serde(default)]
    models: Vec<Model>,
}

#[derive(Debug, Deserialize)]
struct Model {
    name: String,
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    size_vram: u64,
    #[serde(default)]
    context_length: Option<u64>,
}

/// Asks `version`, `tags`, `show` and `ps`.
///
/// # Errors
/// [`InferError::ModelMissing`] when the model is not there, [`InferError::NumCtxTooLarge`] when `num_ctx` is above the
/// model's context length, [`InferError::NotOllama`] when something else answers, and whatever the transport meets.
pub async fn preflight(client: &Client, params: &ModelParams) -> Result<Preflight, InferError> {
    ask(client, params).await.map_err(|error| match error {
        // Some other server, before anything was asked of it.
        InferError::Garbage { detail } => InferError::NotOllama { url: client.url().to_owned(), detail },
        error => error,
    })
}

/// Which Ollama is there.
pub async fn version(client: &Client) -> Result<String, InferError> {
    let Version { version } = read(client.get("api/version").await?)?;
    Ok(version)
}

async fn ask(client: &Client, params: &ModelParams) -> Result<Preflight, InferError> {
    let version = version(client).await?;
    let tags: Models = read(client.get("api/tags").await?)?;
    let missing = || InferError::ModelMissing { model: params.model.clone() };
    let model = find(&tags, &params.model).ok_or_else(missing)?;
    let show = client.post("api/show", &json!({ "model": params.model }), &params.model).await?;
    let context_length = context_length(&read(show)?);
    if let Some(context_length) = context_length.filter(|length| u64::from(params.num_ctx) > *length) {
        let (model, num_ctx) = (params.model.clone(), params.num_ctx);
        return Err(InferError::NumCtxTooLarge { model, num_ctx, context_length });
    }
    let loaded: Models = read(client.get("api/ps").await?)?;
    let loaded = find(&loaded, &params.model)
        .map(|model| Loaded { size_bytes: model.size, size_vram_bytes: model.size_vram });
    Ok(Preflight { version, digest: model.digest.clone(), context_length, loaded })
}

/// The model's digest now.
pub async fn digest(client: &Client, model: &str) -> Result<String, InferError> {
    let tags: Models = read(client.get("api/tags").await?)?;
    let found = find(&tags, model).map(|model| model.digest.clone());
    found.ok_or_else(|| InferError::ModelMissing { model: model.to_owned() })
}

/// The model in memory, and the context it was loaded with, if the server says.
pub async fn loaded_context(
    client: &Client,
    model: &str,
) -> Result<Option<(Loaded, Option<u64>)>, InferError> {
    let loaded: Models = read(client.get("api/ps").await?)?;
    Ok(find(&loaded, model).map(|model| {
        let loaded = Loaded { size_bytes: model.size, size_vram_bytes: model.size_vram };
        (loaded, model.context_length)
    }))
}

fn read<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T, InferError> {
    serde_json::from_value(value)
        .map_err(|error| InferError::Garbage { detail: format!("not what Ollama answers: {error}") })
}

/// A name without a tag means `:latest`.
fn find<'a>(models: &'a Models, name: &str) -> Option<&'a Model> {
    let tagged = if name.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    };
    models.models.iter().find(|model| model.name == tagged)
}

impl Loaded {
    pub fn on_gpu(&self) -> bool {
        self.size_vram_bytes >= self.size_bytes
    }
}

/// `<architecture>.context_length` of `show`.
fn context_length(info: &ModelInfo) -> Option<u64> {
    let architecture = info.model_info.get("general.architecture")?.as_str()?;
    info.model_info.get(&format!("{architecture}.context_length"))?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(name: &str) -> Models {
        Models {
            models: vec![Model {
                name: name.into(),
                digest: "d".into(),
                size: 1,
                size_vram: 1,
                context_length: None,
            }],
        }
    }

    #[test]
    fn a_bare_name_means_latest() {
        assert!(find(&models("qwen3:latest"), "qwen3").is_some());
        assert!(find(&models("qwen3:8b"), "qwen3").is_none());
        assert!(find(&models("host:5000/a/qwen3:latest"), "host:5000/a/qwen3").is_some());
    }

    #[test]
    fn the_context_length_hangs_on_the_architecture() {
        let show = json!({"model_info": {"general.architecture": "llama", "llama.context_length": 8192}});
        assert_eq!(context_length(&read(show).unwrap()), Some(8192));
        assert_eq!(context_length(&read(json!({})).unwrap()), None);
    }
}
