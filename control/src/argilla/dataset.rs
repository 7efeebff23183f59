//! The dataset of a batch: made once, in an order that can be taken up again after any interruption.
//!
//! ```text
//! workspace ─► dataset (draft) ─► field ─► question ─► metadata properties ─► publish ─► records
//! ```
//! Every step first looks whether it is done. Publishing comes before any record: a bulk on a draft works and
//! breaks the publishing after it.

use std::collections::BTreeSet;

use super::{
    client::{ArgillaError, Client},
    model::{Dataset, DatasetCreate, DatasetStatus, Distribution, LabelOption, Question, Workspace},
};

/// The text field that holds the display text.
pub const FIELD: &str = "text";
/// The span question.
pub const QUESTION: &str = "entities";

/// Name, title and type of what reviewers can filter by.
const METADATA: [(&str, &str, &str); 5] = [
    ("doc_id", "Document", "terms"),
    ("page_num", "Page", "integer"),
    ("run_id", "OCR run", "integer"),
    ("text_sha256", "SHA-256 of the original text", "terms"),
    ("outcome", "Outcome of the pre-annotation", "terms"),
];

/// What a batch's dataset is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetSpec {
    pub name: String,
    /// 1 to 10,000 code points.
    pub guidelines: String,
    /// The labels, in the order of the labelset.
    pub options: Vec<LabelOption>,
}

/// A published dataset with our field and question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyDataset {
    pub id: String,
    pub name: String,
    pub question_id: String,
}

#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error(transparent)]
    Argilla(#[from] ArgillaError),
    #[error(
        "there is no Argilla workspace {workspace:?}, and {user:?} may not make one: ask an owner to create it, or set ARGILLA_WORKSPACE"
    )]
    NoWorkspace { workspace: String, user: String },
    #[error("the Argilla dataset {dataset} does not fit the batch: {what}")]
    Differs { dataset: String, what: String },
}

/// Finds or makes the dataset, and leaves it published.
pub async fn ensure(
    client: &Client,
    workspace: &str,
    spec: &DatasetSpec,
) -> Result<ReadyDataset, DatasetError> {
    let workspace = ensure_workspace(client, workspace).await?;
    let dataset = ensure_dataset(client, &workspace, spec).await?;
    if dataset.status == DatasetStatus::Draft {
        complete(client, &dataset, spec).await?;
    }
    ensure_metadata(client, &dataset).await?;
    let question = checked_question(client, &dataset, Some(&spec.options)).await?;
    Ok(ReadyDataset { id: dataset.id, name: dataset.name, question_id: question.id })
}

/// The dataset if it is there and published; makes nothing.
pub async fn find(
    client: &Client,
    workspace: &str,
    name: &str,
) -> Result<Option<ReadyDataset>, DatasetError> {
    let Some(workspace) = find_workspace(client, workspace).await? else { return Ok(None) };
    let dataset = client.find_dataset(name, &workspace.id).await?;
    let Some(dataset) = dataset.filter(|dataset| dataset.status == DatasetStatus::Ready) else {
        return Ok(None);
    };
    let question = checked_question(client, &dataset, None).await?;
    Ok(Some(ReadyDataset { id: dataset.id, name: dataset.name, question_id: question.id }))
}

async fn find_workspace(client: &Client, name: &str) -> Result<Option<Workspace>, ArgillaError> {
    Ok(client.workspaces().await?.into_iter().find(|workspace| workspace.name == name))
}

async fn ensure_workspace(client: &Client, name: &str) -> Result<Workspace, DatasetError> {
    if let Some(workspace) = find_workspace(client, name).await? {
        return Ok(workspace);
    }
    let user = client.me().await?;
    let missing = DatasetError::NoWorkspace { workspace: name.to_owned(), user: user.username };
    if user.role != "owner" {
        return Err(missing);
    }
    match client.create_workspace(name).await? {
        Some(made) => Ok(made),
        None => find_workspace(client, name).await?.ok_or(missing),
    }
}

async fn ensure_dataset(
    client: &Client,
    workspace: &Workspace,
    spec: &DatasetSpec,
) -> Result<Dataset, DatasetError> {
    if let Some(dataset) = client.find_dataset(&spec.name, &workspace.id).await? {
        return Ok(dataset);
    }
    let create = DatasetCreate {
        name: &spec.name,
        workspace_id: &workspace.id,
        guidelines: &spec.guidelines,
        allow_extra_metadata: false,
        distribution: Distribution::Overlap { min_submitted: 1 },
    };
    if let Some(made) = client.create_dataset(&create).await? {
        return Ok(made);
    }
    let made = client.find_dataset(&spec.name, &workspace.id).await?;
    made.ok_or_else(|| differs(&spec.name, "it exists, and this user does not see it"))
}

/// From any half-made draft to a published dataset.
async fn complete(client: &Client, dataset: &Dataset, spec: &DatasetSpec) -> Result<(), DatasetError> {
    if client.records(&dataset.id, 0, 1).await?.total > 0 {
        return Err(differs(
            &dataset.name,
            "it got records before it was published; delete it in Argilla and push again",
        ));
    }
    if !client.fields(&dataset.id).await?.iter().any(|field| field.name == FIELD) {
        client.create_text_field(&dataset.id, FIELD, "OCR text of the page").await?;
    }
    if !client.questions(&dataset.id).await?.iter().any(|question| question.name == QUESTION) {
        let title = "Mark every entity on the page";
        client.create_span_question(&dataset.id, QUESTION, title, FIELD, &spec.options).await?;
    }
    ensure_metadata(client, dataset).await?;
    checked_question(client, dataset, Some(&spec.options)).await?;
    match client.publish(&dataset.id).await {
        Ok(_) => Ok(()),
        // Somebody else, or our own repeated request, was first.
        Err(error) if error.rejects_content() && is_published(client, dataset).await? => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn is_published(client: &Client, dataset: &Dataset) -> Result<bool, ArgillaError> {
    Ok(client.dataset(&dataset.id).await?.status == DatasetStatus::Ready)
}

/// Also after publishing.
async fn ensure_metadata(client: &Client, dataset: &Dataset) -> Result<(), ArgillaError> {
    let there = client.metadata_properties(&dataset.id).await?;
    for (name, title, kind) in METADATA {
        if !there.iter().any(|property| property.name == name) {
            client.create_metadata_property(&dataset.id, name, title, kind).await?;
        }
    }
    Ok(())
}

/// Our question; with `options`, its labels must be those.
async fn checked_question(
    client: &Client,
    dataset: &Dataset,
    options: Option<&[LabelOption]>,
) -> Result<Question, DatasetError> {
    let questions = client.questions(&dataset.id).await?;
    let question = questions.into_iter().find(|question| question.name == QUESTION);
    let question =
        question.ok_or_else(|| differs(&dataset.name, format!("it has no question {QUESTION:?}")))?;
    if question.settings.r#type != "span" || question.settings.field.as_deref() != Some(FIELD) {
        return Err(differs(
            &dataset.name,
            format!("its question {QUESTION:?} is no span question on {FIELD:?}"),
        ));
    }
    if !question.required {
        return Err(differs(&dataset.name, format!("its question {QUESTION:?} is not required")));
    }
    match options {
        Some(options) => same_labels(&question.settings.options, options)
            .map_err(|what| differs(&dataset.name, what))
            .map(|()| question),
        None => Ok(question),
    }
}

fn same_labels(found: &[LabelOption], wanted: &[LabelOption]) -> Result<(), String> {
    let values = |options: &[LabelOption]| options.iter().map(|o| o.value.clone()).collect::<BTreeSet<_>>();
    let (found, wanted) = (values(found), values(wanted));
    let list = |labels: BTreeSet<&String>| labels.into_iter().cloned().collect::<Vec<_>>().join(", ");
    let (lacks, has) = (list(wanted.difference(&found).collect()), list(found.difference(&wanted).collect()));
    if lacks.is_empty() && has.is_empty() {
        return Ok(());
    }
    Err(format!("its labels are of another labelset (it lacks [{lacks}] and has [{has}] besides)"))
}

fn differs(dataset: &str, what: impl Into<String>) -> DatasetError {
    DatasetError::Differs { dataset: dataset.to_owned(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_differ_are_named() {
        let options = |labels: &[&str]| -> Vec<_> {
            let option = |l: &&str| LabelOption { value: (*l).into(), text: (*l).into(), description: None };
            labels.iter().map(option).collect()
        };
        assert_eq!(same_labels(&options(&["A", "B"]), &options(&["B", "A"])), Ok(()));
        let error = same_labels(&options(&["A", "C"]), &options(&["A", "B"])).expect_err("they differ");
        assert!(error.contains("lacks [B] and has [C]"), "{error}");
    }
}
