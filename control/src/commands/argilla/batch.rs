//! A merged batch, as Argilla is to get it: its records, and the dataset that its labelset asks for.
//!
//! The labelset is the batch's own (`_batch.json`), so that agent and Argilla cannot differ. A batch of a foreign
//! producer has none; the agent then worked with a labelset that the commit records name by hash, and only the
//! embedded one can be told from that.

use futures::StreamExt;
use proto::{
    ids::BatchId,
    keys::BatchKeys,
    labelset::{Label, Labelset},
    store::Object,
};

use crate::{
    argilla::{dataset::DatasetSpec, model::LabelOption},
    batch,
    ctx::Ctx,
    failure::Failure,
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
    pub async fn open(ctx: &Ctx, id: &BatchId) -> Result<Self, Failure> {
        let (records, labelset) = (records(ctx, id).await?, labelset(ctx, id).await?);
        Ok(Self { id: id.clone(), records, dataset: dataset_of(id, &labelset) })
    }
}

async fn records(ctx: &Ctx, id: &BatchId) -> Result<Object, Failure> {
    let (store, keys) = (ctx.store()?, BatchKeys::new(id));
    if let Some(records) = store.head_opt(&keys.records()).await? {
        return Ok(records);
    }
    if store.list(keys.folder()).next().await.transpose()?.is_none() {
        return Err(batch::unknown(ctx, id));
    }
    let uri = store.uri_of(&keys.records());
    Err(Failure::data(format!("batch {id} is not merged, {uri} is not there: run `control merge {id}`")))
}

async fn labelset(ctx: &Ctx, id: &BatchId) -> Result<Labelset, Failure> {
    if let Some(spec) = batch::spec(ctx, id).await? {
        let uri = ctx.store()?.uri_of(&BatchKeys::new(id).spec());
        let labelset = Labelset::parse(&spec.labelset.toml).map_err(|e| Failure::from(e).context(&uri))?;
        if labelset.sha256() != spec.labelset.sha256 {
            return Err(Failure::data(format!(
                "{uri}: its labelset does not have the hash that it gives: the file was changed by hand; create \
                 the batch again under another id"
            )));
        }
        return Ok(labelset);
    }
    let made_with = batch::manifest(ctx, id).await?.map(|manifest| manifest.provenance.labelset_sha256);
    let embedded = Labelset::embedded();
    match made_with {
        Some(sha256) if sha256 == embedded.sha256() => Ok(embedded),
        other => Err(Failure::data(format!(
            "batch {id} has no _batch.json, and its labelset ({}) is not the embedded one: create the batch with \
             `control batch create` so that it carries its labelset",
            other.as_deref().unwrap_or("unknown, as there is no _manifest.json")
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
