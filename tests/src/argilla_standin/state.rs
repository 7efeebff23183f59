//! The server's whole state behind one lock, and its snapshot file.
//!
//! Invariants: records are never removed, so a record's position in its dataset is stable; a closure given to
//! [`Store::write`] validates before it changes anything, so that a refused call changes nothing.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{auth::Role, errors::ApiError};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct User {
    pub id: String,
    pub username: String,
    pub role: Role,
    pub api_key: String,
    pub inserted_at: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Workspace {
    pub id: String,
    pub name: String,
    /// Ids of users.
    pub members: BTreeSet<String>,
    pub inserted_at: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dataset {
    pub id: String,
    pub name: String,
    pub guidelines: Option<String>,
    pub allow_extra_metadata: bool,
    pub min_submitted: usize,
    pub metadata: Option<Map<String, Value>>,
    pub workspace_id: String,
    pub published: bool,
    pub inserted_at: String,
    pub updated_at: String,
    pub last_activity_at: String,
    pub fields: Vec<Field>,
    pub questions: Vec<Question>,
    pub metadata_properties: Vec<MetadataProperty>,
    /// In order of insertion.
    pub records: Vec<Record>,
    /// Ids of the users who answered, in order of their first answer.
    pub respondents: Vec<String>,
    #[serde(skip)]
    by_external_id: HashMap<String, usize>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Field {
    pub id: String,
    pub name: String,
    pub title: String,
    pub required: bool,
    pub use_markdown: bool,
    pub inserted_at: String,
}

/// A span question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Question {
    pub id: String,
    pub name: String,
    pub title: String,
    pub description: Option<String>,
    pub required: bool,
    pub field: String,
    pub options: Vec<LabelOption>,
    pub visible_options: Option<usize>,
    pub allow_overlapping: bool,
    pub inserted_at: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LabelOption {
    pub value: String,
    pub text: String,
    pub description: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MetadataProperty {
    pub id: String,
    pub name: String,
    pub title: String,
    pub visible_for_annotators: bool,
    pub settings: MetadataSettings,
    pub inserted_at: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum MetadataSettings {
    Terms { values: Option<Vec<Value>> },
    Integer { min: Option<i64>, max: Option<i64> },
    Float { min: Option<f64>, max: Option<f64> },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    pub external_id: Option<String>,
    pub fields: Map<String, Value>,
    pub metadata: Option<Map<String, Value>>,
    pub completed: bool,
    pub suggestions: Vec<Suggestion>,
    pub responses: Vec<Response>,
    pub inserted_at: String,
    pub updated_at: String,
}

/// `start` and `end` count code points of the field, `end` exclusive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub label: String,
    pub start: i64,
    pub end: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Suggestion {
    pub id: String,
    pub question_id: String,
    pub value: Vec<Span>,
    pub score: Option<Value>,
    pub agent: Option<String>,
    pub r#type: Option<SuggestionType>,
    pub inserted_at: String,
    pub updated_at: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SuggestionType {
    Model,
    Human,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResponseStatus {
    Draft,
    Submitted,
    Discarded,
}

impl ResponseStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Submitted => "submitted",
            Self::Discarded => "discarded",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Response {
    pub id: String,
    pub user_id: String,
    pub status: ResponseStatus,
    /// Question name to spans.
    pub values: Option<Map<String, Value>>,
    pub inserted_at: String,
    pub updated_at: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    pub users: Vec<User>,
    pub workspaces: Vec<Workspace>,
    pub datasets: Vec<Dataset>,
    /// Record id to (dataset, record).
    #[serde(skip)]
    by_record_id: HashMap<String, (usize, usize)>,
}

impl State {
    fn seeded() -> Self {
        let user = |username: &str, role, key: &str| User {
            id: new_id(),
            username: username.to_owned(),
            role,
            api_key: key.to_owned(),
            inserted_at: now(),
        };
        let users = vec![
            user("argilla", Role::Owner, super::OWNER_KEY),
            user("admin", Role::Admin, super::ADMIN_KEY),
            user("annotator", Role::Annotator, super::ANNOTATOR_KEY),
            user("annotator-2", Role::Annotator, super::SECOND_ANNOTATOR_KEY),
        ];
        Self { users, ..Self::default() }
    }

    fn reindex(&mut self) {
        self.by_record_id.clear();
        for (d, dataset) in self.datasets.iter_mut().enumerate() {
            dataset.by_external_id.clear();
            for (r, record) in dataset.records.iter().enumerate() {
                self.by_record_id.insert(record.id.clone(), (d, r));
                if let Some(external_id) = &record.external_id {
                    dataset.by_external_id.insert(external_id.clone(), r);
                }
            }
        }
    }

    pub fn dataset(&self, id: &str) -> Result<&Dataset, ApiError> {
        self.datasets.iter().find(|d| d.id == id).ok_or_else(|| ApiError::no_such("Dataset", id))
    }

    pub fn dataset_mut(&mut self, id: &str) -> Result<&mut Dataset, ApiError> {
        self.datasets.iter_mut().find(|d| d.id == id).ok_or_else(|| ApiError::no_such("Dataset", id))
    }

    pub fn record(&self, id: &str) -> Result<(&Dataset, &Record), ApiError> {
        let &(d, r) = self.by_record_id.get(id).ok_or_else(|| ApiError::no_such("Record", id))?;
        Ok((&self.datasets[d], &self.datasets[d].records[r]))
    }

    pub fn record_mut(&mut self, id: &str) -> Result<&mut Record, ApiError> {
        let &(d, r) = self.by_record_id.get(id).ok_or_else(|| ApiError::no_such("Record", id))?;
        Ok(&mut self.datasets[d].records[r])
    }

    /// Appends a record to the dataset and gives its position there.
    pub fn insert_record(&mut self, dataset_id: &str, record: Record) -> Result<usize, ApiError> {
        let d = self.datasets.iter().position(|d| d.id == dataset_id);
        let d = d.ok_or_else(|| ApiError::no_such("Dataset", dataset_id))?;
        let dataset = &mut self.datasets[d];
        let position = dataset.records.len();
        self.by_record_id.insert(record.id.clone(), (d, position));
        if let Some(external_id) = &record.external_id {
            dataset.by_external_id.insert(external_id.clone(), position);
        }
        dataset.records.push(record);
        Ok(position)
    }

    pub fn username(&self, id: &str) -> &str {
        self.users.iter().find(|u| u.id == id).map_or("", |u| &u.username)
    }
}

impl Dataset {
    pub fn new(name: String, workspace_id: String) -> Self {
        let at = now();
        Self {
            id: new_id(),
            name,
            guidelines: None,
            allow_extra_metadata: true,
            min_submitted: 1,
            metadata: None,
            workspace_id,
            published: false,
            inserted_at: at.clone(),
            updated_at: at.clone(),
            last_activity_at: at,
            fields: Vec::new(),
            questions: Vec::new(),
            metadata_properties: Vec::new(),
            records: Vec::new(),
            respondents: Vec::new(),
            by_external_id: HashMap::new(),
        }
    }

    /// The position of the record that an upsert with this id or external id means.
    pub fn find(&self, id: Option<&str>, external_id: Option<&str>) -> Option<usize> {
        let by_id = id.and_then(|id| self.records.iter().position(|r| r.id == id));
        by_id.or_else(|| external_id.and_then(|e| self.by_external_id.get(e).copied()))
    }
}

impl Record {
    /// Complete as soon as enough responses are submitted.
    pub fn refresh_status(&mut self, min_submitted: usize) {
        let submitted = self.responses.iter().filter(|r| r.status == ResponseStatus::Submitted).count();
        self.completed = submitted >= min_submitted;
    }
}

/// The state, shared, and written to a file after each change when there is one.
pub struct Store {
    state: Mutex<State>,
    file: Option<PathBuf>,
}

impl Store {
    pub fn open(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut state = match file.map(fs::read) {
            None => State::seeded(),
            Some(Ok(bytes)) => serde_json::from_slice(&bytes).with_context(|| {
                format!("the state file {} is not one of the stand-in's", file_name(file))
            })?,
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => State::seeded(),
            Some(Err(error)) => {
                return Err(error).with_context(|| format!("read the state file {}", file_name(file)));
            }
        };
        state.reindex();
        Ok(Self { state: Mutex::new(state), file: file.map(Path::to_path_buf) })
    }

    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Applies a change; once it succeeded, the snapshot is on disk before the caller gets its answer.
    pub fn write<T>(&self, change: impl FnOnce(&mut State) -> Result<T, ApiError>) -> Result<T, ApiError> {
        let mut state = self.lock();
        let answer = change(&mut state)?;
        if let Some(file) = &self.file {
            snapshot(&state, file)
                .map_err(|e| ApiError::Internal(format!("write {}: {e}", file.display())))?;
        }
        Ok(answer)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn snapshot(state: &State, file: &Path) -> io::Result<()> {
    let unfinished = file.with_extension("tmp");
    fs::write(&unfinished, serde_json::to_vec(state)?)?;
    fs::rename(unfinished, file)
}

fn file_name(file: Option<&Path>) -> String {
    file.map(|f| f.display().to_string()).unwrap_or_default()
}

/// A random UUID (version 4).
pub fn new_id() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// UTC without a zone, as Argilla writes it.
pub fn now() -> String {
    Utc::now().format("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}
