//! What a batch is, before any of its pages is read: its parts, labelset, engine and fingerprint.
//!
//! With a `_batch.json` that document says it all, and the hash of each part is checked when the part is read.
//! Without one (a foreign producer) every `pages/*.parquet` is a part, and its hash is taken now.

use std::{fmt, str::FromStr, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use proto::{
    docs::{self, BatchSpec, Calibration, FileRef, PilotPin, Provenance},
    hash::sha256_of_json,
    ids::BatchId,
    keys::{BatchKeys, Key, PartKind},
    labelset::Labelset,
    parquet_io::{ParquetIoError, TableFile},
    schema::Table,
    store::{Object, RootUri, Store},
};
use serde_json::json;

use super::{BatchError, Pipeline, calibration, files, repeats::Repeats};
use crate::engine::{Annotator, Engine};

/// A batch above this many pages needs a signed pilot, or a stated reason for none.
const PAGES_WITHOUT_PILOT: u64 = 1000;

/// Files looked at together.
const LOOKS: usize = 8;

/// A batch made ready to run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Plan {
    pub batch: BatchId,
    /// Of pages, labelset, prompt, model digest and options.
    pub fingerprint: String,
    pub provenance: Provenance,
    /// By number.
    pub parts: Arc<[PartPlan]>,
    /// Rows of all parts, as far as they could be told.
    pub pages: u64,
    pub labelset: Arc<Labelset>,
    pub(super) repeats: Arc<Repeats>,
    pub(super) annotator: Arc<Annotator>,
}

/// A part: one file of pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPlan {
    pub number: u32,
    pub key: Key,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
}

/// Every part whose number is `index` modulo `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    of: u32,
}

impl PartPlan {
    /// Its pages, as a record and a manifest have them.
    pub(super) fn file(&self) -> FileRef {
        FileRef {
            key: self.key.as_str().to_owned(),
            rows: self.rows,
            bytes: self.bytes,
            sha256: self.sha256.clone(),
        }
    }
}

impl Plan {
    /// Its claim on the model server, among all batches that run.
    pub fn weigh(&self, weight: u32) {
        self.annotator.weigh(weight);
    }
}

impl Pipeline {
    /// The same with another labelset for batches that carry none.
    #[must_use]
    pub fn with_labelset(&self, labelset: Labelset) -> Self {
        Self { labelset: Arc::new(labelset), ..self.clone() }
    }

    /// The agent's own.
    pub fn labelset(&self) -> &Labelset {
        &self.labelset
    }

    /// The labelset that a plan has from the agent, because its batch carries none.
    pub fn lent<'a>(&self, plan: &'a Plan) -> Option<&'a Labelset> {
        Arc::ptr_eq(&self.labelset, &plan.labelset).then_some(&*plan.labelset)
    }
}

impl Shard {
    pub fn has(self, part: u32) -> bool {
        part % self.of == self.index
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shard = text
            .split_once('/')
            .and_then(|(index, of)| Some(Self { index: index.parse().ok()?, of: of.parse().ok()? }));
        shard
            .filter(|shard| shard.index < shard.of)
            .ok_or_else(|| format!("{text:?} is no shard: I/N with I from 0 to N-1, e.g. 0/4"))
    }
}

pub(super) async fn plan(
    pipeline: &Pipeline,
    batch: &BatchId,
    engine: Option<Engine>,
    model: Option<&str>,
) -> Result<Plan, BatchError> {
    let keys = BatchKeys::new(batch);
    check_root(&pipeline.store)?;
    let spec = read_spec(&pipeline.store, &keys, batch).await?;
    let (labelset, parts) = match &spec {
        Some(spec) => (batch_labelset(pipeline, &keys, spec)?, spec_parts(spec)),
        None => (pipeline.labelset.clone(), foreign_parts(&pipeline.store, &keys).await?),
    };
    if parts.is_empty() {
        return Err(BatchError::NotFound(format!(
            "batch {batch} has no pages: {}/{}*.parquet is not there; make it with `control batch create {batch}`, or \
             correct the root",
            pipeline.store.root(),
            keys.parts(PartKind::Pages),
        )));
    }
    let repeats = match &spec {
        // `batch create` keeps the rows of a key in one part.
        Some(_) => Repeats::default(),
        None => Repeats::find(&pipeline.store, &parts).await?,
    };
    let asked = spec.as_ref().and_then(|spec| spec.engine.as_deref());
    let asked =
        asked.map(|name| name.parse::<Engine>().map_err(|problem| bad_spec(pipeline, &keys, &problem)));
    let engine = engine.or(asked.transpose()?).unwrap_or(pipeline.config.engine);
    let model = model.or(spec.as_ref().and_then(|spec| spec.model.as_deref()));
    let annotator =
        Annotator::prepare(engine, model, labelset.clone(), &pipeline.config, &pipeline.server).await?;
    let annotator = match calibration::find(&pipeline.store, &keys, annotator.provenance()).await? {
        Some(calibration) => annotator.calibrated(calibration),
        None => annotator,
    };
    let provenance = annotator.provenance().clone();
    if let Some(spec) = &spec {
        check_pilot(spec, &provenance)?;
    }
    Ok(Plan {
        batch: batch.clone(),
        fingerprint: fingerprint(&parts, &provenance),
        provenance,
        pages: parts.iter().map(|part| part.rows).sum(),
        parts: parts.into(),
        labelset,
        repeats: Arc::new(repeats),
        annotator: annotator.into(),
    })
}

/// A wrong folder would look like an empty one.
fn check_root(store: &Store) -> Result<(), BatchError> {
    match store.root() {
        RootUri::Folder(path) if !path.is_dir() => Err(BatchError::Config(format!(
            "the root {} is not a folder: correct --root, or make it",
            path.display()
        ))),
        _ => Ok(()),
    }
}

async fn read_spec(
    store: &Store,
    keys: &BatchKeys,
    batch: &BatchId,
) -> Result<Option<BatchSpec>, BatchError> {
    let Some(bytes) = store.get_opt(&keys.spec()).await? else { return Ok(None) };
    let uri = store.uri_of(&keys.spec());
    let spec: BatchSpec = serde_json::from_slice(&bytes).map_err(|error| {
        BatchError::BadData(format!(
            "{uri} is no batch description ({error}): make the batch again under another id"
        ))
    })?;
    if spec.version != docs::VERSION {
        let (found, known) = (spec.version, docs::VERSION);
        return Err(BatchError::BadData(format!(
            "{uri} has version {found}, and this agent knows version {known}: use the agent that belongs to `control`"
        )));
    }
    if spec.batch_id != *batch {
        return Err(BatchError::BadData(format!(
            "{uri} describes batch {}, not {batch}: it was copied; make the batch with `control batch create`",
            spec.batch_id
        )));
    }
    if spec.pages > PAGES_WITHOUT_PILOT && spec.pilot.is_none() && spec.no_pilot.is_none() {
        return Err(BatchError::Config(format!(
            "batch {batch} has {} pages and no signed pilot: sign a pilot off and make the batch again, or make it \
             with --no-pilot \"why\"",
            spec.pages
        )));
    }
    Ok(Some(spec))
}

fn bad_spec(pipeline: &Pipeline, keys: &BatchKeys, problem: &str) -> BatchError {
    BatchError::BadData(format!("{}: {problem}", pipeline.store.uri_of(&keys.spec())))
}

fn batch_labelset(
    pipeline: &Pipeline,
    keys: &BatchKeys,
    spec: &BatchSpec,
) -> Result<Arc<Labelset>, BatchError> {
    let ours = &*pipeline.labelset;
    if ours.sha256() == spec.labelset.sha256 && ours.toml() == spec.labelset.toml {
        return Ok(Arc::new(ours.clone()));
    }
    let store = &pipeline.store;
    let uri = store.uri_of(&keys.spec());
    let labelset = Labelset::known(&spec.labelset.toml)
        .map_err(|error| BatchError::BadData(format!("{uri}: {error}")))?;
    if labelset.sha256() != spec.labelset.sha256 {
        return Err(BatchError::BadData(format!(
            "{uri}: its labelset has not the hash that stands beside it; the file was changed: make the batch again"
        )));
    }
    Ok(Arc::new(labelset))
}

fn spec_parts(spec: &BatchSpec) -> Vec<PartPlan> {
    let mut parts: Vec<PartPlan> = spec
        .parts
        .iter()
        .map(|part| PartPlan {
            number: part.number,
            key: Key::from_listing(&part.key),
            rows: part.rows,
            bytes: part.bytes,
            sha256: part.sha256.clone(),
        })
        .collect();
    parts.sort_by_key(|part| part.number);
    parts
}

/// A producer may name its files as it likes: if any name gives no number, their order does.
async fn foreign_parts(store: &Store, keys: &BatchKeys) -> Result<Vec<PartPlan>, BatchError> {
    let folder = keys.parts(PartKind::Pages);
    let mut objects = store.list_sorted(&folder).await?;
    objects.retain(|object| is_pages_file(object.key.as_str().strip_prefix(&folder).unwrap_or_default()));
    let named: Option<Vec<u32>> =
        objects.iter().map(|object| keys.part_number(PartKind::Pages, &object.key)).collect();
    let numbers = named.unwrap_or_else(|| (0..).take(objects.len()).collect());
    let parts = numbers.into_iter().zip(objects).map(|(number, object)| look(store, number, object));
    let mut parts: Vec<PartPlan> = stream::iter(parts).buffered(LOOKS).boxed().try_collect().await?;
    parts.sort_by_key(|part| part.number);
    Ok(parts)
}

/// Spark and its like leave `_temporary/…` and hidden files behind.
fn is_pages_file(name: &str) -> bool {
    name.ends_with(".parquet") && !name.contains('/') && !name.starts_with(['_', '.'])
}

async fn look(store: &Store, number: u32, object: Object) -> Result<PartPlan, BatchError> {
    let (sha256, bytes) = files::sha256(store, &object.key).await?;
    let rows = match TableFile::open_sized(store, &object.key, bytes, Table::BatchPages).await {
        Ok(file) => file.rows(),
        Err(ParquetIoError::Store(error)) => return Err(error.into()),
        // A file that cannot be read is told when its turn comes: the others are done first.
        Err(_) => 0,
    };
    Ok(PartPlan { number, rows, bytes, sha256, key: object.key })
}

fn check_pilot(spec: &BatchSpec, provenance: &Provenance) -> Result<(), BatchError> {
    let Some(PilotPin { batch_id, labelset_sha256, prompt_sha256, model, model_digest }) = &spec.pilot else {
        return Ok(());
    };
    let signed = [
        ("labelset", labelset_sha256, &provenance.labelset_sha256),
        ("prompt", prompt_sha256, &provenance.prompt_sha256),
        ("model", model, &provenance.model),
        ("model digest", model_digest, &provenance.model_digest),
    ];
    match signed.into_iter().find(|(_, signed, now)| signed != now) {
        None => Ok(()),
        Some((what, signed, now)) => Err(BatchError::Config(format!(
            "batch {} rests on the pilot {batch_id}, which was signed with another {what} ({signed}, now {now}): run \
             it as the pilot was run, or sign a new pilot and make the batch again",
            spec.batch_id
        ))),
    }
}

fn fingerprint(parts: &[PartPlan], provenance: &Provenance) -> String {
    let parts: Vec<_> =
        parts.iter().map(|part| json!([part.number, part.key.as_str(), part.sha256])).collect();
    let mut options = provenance.options.clone();
    // It may be fitted while a batch waits; see `calibration`.
    options.remove(Calibration::OPTION);
    sha256_of_json(&json!({
        "parts": parts,
        "engine": provenance.engine,
        "model": provenance.model,
        "model_digest": provenance.model_digest,
        "prompt_sha256": provenance.prompt_sha256,
        "labelset_sha256": provenance.labelset_sha256,
        "options": options,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_take_every_part_once() {
        let shards: Vec<Shard> =
            ["0/3", "1/3", "2/3"].iter().map(|text| text.parse().expect("a shard")).collect();
        for part in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.has(part)).count(), 1);
        }
        for bad in ["", "1", "3/3", "0/0", "-1/2", "a/b", "1/2/3"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }

    #[test]
    fn leftovers_are_no_pages() {
        assert!(is_pages_file("part-00000.parquet") && is_pages_file("part-0-uuid.snappy.parquet"));
        for other in ["_SUCCESS", "_temporary/0/x.parquet", ".x.parquet", "_x.parquet", "x.parquet.tmp"] {
            assert!(!is_pages_file(other), "{other}");
        }
    }

    #[test]
    fn the_fingerprint_hangs_on_pages_and_provenance_but_not_on_the_version() {
        let part = PartPlan { number: 0, key: Key::from_listing("k"), rows: 1, bytes: 1, sha256: "a".into() };
        let provenance = Provenance {
            engine: "rules".into(),
            model: "rules".into(),
            model_digest: "d".into(),
            prompt_sha256: "d".into(),
            labelset_sha256: "l".into(),
            options: std::collections::BTreeMap::new(),
            agent_version: "1".into(),
        };
        let of =
            |part: &PartPlan, provenance: &Provenance| fingerprint(std::slice::from_ref(part), provenance);
        let first = of(&part, &provenance);
        assert_eq!(first, of(&part, &Provenance { agent_version: "2".into(), ..provenance.clone() }));
        let options = [(Calibration::OPTION.to_owned(), json!("c"))].into();
        assert_eq!(first, of(&part, &Provenance { options, ..provenance.clone() }));
        let options = [("num_ctx".to_owned(), json!(1))].into();
        assert_ne!(first, of(&part, &Provenance { options, ..provenance.clone() }));
        assert_ne!(first, of(&part, &Provenance { model_digest: "e".into(), ..provenance.clone() }));
        assert_ne!(first, of(&PartPlan { sha256: "b".into(), ..part }, &provenance));
    }
}
