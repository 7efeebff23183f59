//! A merged batch, as Argilla is to get it: its records, and the dataset that its labelset asks for.
//!
//! The labelset is the batch's own (`_batch.json`), so that agent and Argilla cannot differ. A batch of a foreign
//! producer has none; the agent then worked with a labelset that the commit records name by hash, and only the
//! embedded one can be told from that.

use proto::{
    docs::{BatchSpec, Manifest},
    ids::BatchId,
    keys::BatchKeys,
    labelset::{Label, Labelset},
    store::{Object, Store},
};

use crate::{
    argilla::{dataset::DatasetSpec, model::LabelOption},
    failure::Failure,
    stored::document,
};

/// Argilla takes no longer guidelines and descriptions, in code points.
const GUIDELINES_MAX: usize = 10_000;
const DESCRIPTION_MAX: usize = 1_000;
const TITLE_MAX: usize = 500;

#[derive(Debug)]
pub(super) struct MergedBatch {
    pub id: BatchId,
    /// `argilla_records.parquet`
    pub records: Object,
    pub dataset: DatasetSpec,
}

impl MergedBatch {
    pub async fn open(store: &Store, id: &BatchId) -> Result<Self, Failure> {
        let keys = BatchKeys::new(id);
        let (records, labelset) = (records(store, id, &keys).await?, labelset(store, id, &keys).await?);
        Ok(Self { id: id.clone(), records, dataset: dataset_of(id, &labelset) })
    }
}

async fn records(store: &Store, id: &BatchId, keys: &BatchKeys) -> Result<Object, Failure> {
    if let Some(records) = store.head_opt(&keys.records()).await? {
        return Ok(records);
    }
    let root = store.root();
    Err(Failure::data(if store.list_sorted(keys.folder()).await?.is_empty() {
        format!("there is no batch {id} under {root}: `control batch list` shows what is there")
    } else {
        let uri = store.uri_of(&keys.records());
        format!("batch {id} is not merged, {uri} is not there: run `control merge {id}`")
    }))
}

async fn labelset(store: &Store, id: &BatchId, keys: &BatchKeys) -> Result<Labelset, Failure> {
    if let Some(spec) = document::<BatchSpec>(store, &keys.spec()).await? {
        let uri = store.uri_of(&keys.spec());
        let labelset = Labelset::parse(&spec.labelset.toml).map_err(|e| Failure::from(e).context(&uri))?;
        if labelset.sha256() != spec.labelset.sha256 {
            return Err(Failure::data(format!(
                "{uri}: its labelset does not have the hash that it gives: the file was changed by hand; create \
                 the batch again under another id"
            )));
        }
        return Ok(labelset);
    }
    let manifest = document::<Manifest>(store, &keys.manifest()).await?;
    let embedded = Labelset::embedded();
    match manifest.map(|manifest| manifest.provenance.labelset_sha256) {
        Some(sha256) if sha256 == embedded.sha256() => Ok(embedded),
        found => Err(Failure::data(format!(
            "batch {id} has no _batch.json, and its labelset ({}) is not the embedded one: create the batch with \
             `control batch create` so that it carries its labelset",
            found.as_deref().unwrap_or("unknown, as there is no _manifest.json")
        ))),
    }
}

fn dataset_of(id: &BatchId, labelset: &Labelset) -> DatasetSpec {
    let option = |label: &Label| LabelOption {
        value: label.name.clone(),
        text: cut(&label.title, TITLE_MAX),
        description: Some(cut(&label.description, DESCRIPTION_MAX)).filter(|text| !text.is_empty()),
    };
    DatasetSpec {
        name: id.dataset(),
        guidelines: guidelines(labelset),
        options: labelset.labels.iter().map(option).collect(),
    }
}

/// In Markdown: the labelset's own words, then each label with its examples.
fn guidelines(labelset: &Labelset) -> String {
    let mut text = labelset.guidelines.trim().to_owned();
    text.push_str("\n\n## Labels\n");
    for label in &labelset.labels {
        let examples: Vec<_> = label.examples.iter().take(3).map(|example| format!("`{example}`")).collect();
        text.push_str(&format!(
            "- **{}**: {} E.g. {}\n",
            label.title,
            label.description,
            examples.join(", ")
        ));
    }
    text.push_str(&format!("\nLabelset {} version {}.\n", labelset.name, labelset.version));
    cut(&text, GUIDELINES_MAX)
}

fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dataset_says_what_the_labelset_says() {
        let (id, labelset) = ("p".parse().expect("an id"), Labelset::embedded());
        let spec = dataset_of(&id, &labelset);
        assert_eq!(spec.name, "vessels_ocr_p");
        assert_eq!(spec.options.len(), labelset.labels.len());
        for (option, label) in spec.options.iter().zip(&labelset.labels) {
            assert_eq!((&option.value, &option.text), (&label.name, &label.title));
            assert!(spec.guidelines.contains(&format!("**{}**", label.title)));
        }
        assert!(spec.guidelines.chars().count() <= GUIDELINES_MAX);
    }

    #[test]
    fn long_texts_are_cut_at_a_code_point() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
