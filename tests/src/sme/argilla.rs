//! The reviewer at a server: lists a dataset's records, decides each, and answers in bulk. Public API only: an
//! annotator lists as the web page does, by searching; owners and admins by the plain listing.

use std::{collections::HashSet, time::Duration};

use reqwest::{Client, RequestBuilder, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Span, Tally, decide, discards, truth::Truth};

/// The span question and the field that every dataset of the pipeline has.
const QUESTION: &str = "entities";
const FIELD: &str = "text";

const LISTED_AT_ONCE: usize = 500;
/// The server takes 100 responses a call at most.
const ANSWERED_AT_ONCE: usize = 100;
/// Paging may skip or repeat a record while others write: as often is the listing done again.
const SCANS: usize = 3;

/// Why a review ended early; what was answered until then stands.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    #[error("Argilla cannot be reached; is it running at the --api-url?")]
    Unreachable(#[source] reqwest::Error),
    #[error("Argilla answered {status} to {action}: try again later")]
    Failing { action: &'static str, status: StatusCode },
    #[error("Argilla refused to {action} with {status} ({detail})")]
    Refused { action: &'static str, status: StatusCode, detail: String },
    #[error("Argilla's answer to {action} is not as its API promises")]
    Answer { action: &'static str, source: reqwest::Error },
    #[error("there is no {what} {name:?} that this API key may see")]
    Missing { what: &'static str, name: String },
    #[error(
        "{seen} of {total} records could be listed, {SCANS} times over: someone is writing to the dataset"
    )]
    Unstable { seen: usize, total: usize },
    #[error("record {0}: the truth ends beyond its text, so it is the truth of another corpus")]
    OtherCorpus(String),
}

/// What to review, and how to choose what is discarded.
#[derive(Debug)]
pub struct Task<'a> {
    pub workspace: &'a str,
    pub dataset: &'a str,
    pub truth: &'a Truth,
    pub seed: u64,
}

/// The counts of a run. `records` = submitted + discarded + already reviewed.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub records: usize,
    pub already_reviewed: usize,
    pub submitted: usize,
    pub discarded: usize,
    /// Submitted, though the truth does not know the page: their suggestions stay as they are.
    pub without_truth: usize,
    #[serde(flatten)]
    pub tally: Tally,
}

/// A server, and who asks.
#[derive(Debug)]
pub struct Argilla {
    http: Client,
    base: String,
    api_key: String,
}

#[derive(Deserialize)]
struct Me {
    id: String,
    role: String,
}

#[derive(Deserialize)]
struct Named {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Items<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Listing {
    items: Vec<Record>,
    total: usize,
}

#[derive(Deserialize)]
struct Found {
    items: Vec<Hit>,
    total: usize,
}

#[derive(Deserialize)]
struct Hit {
    record: Record,
}

#[derive(Deserialize)]
struct Question {
    id: String,
    name: String,
    settings: QuestionSettings,
}

#[derive(Deserialize)]
struct QuestionSettings {
    #[serde(default)]
    options: Vec<LabelOption>,
}

#[derive(Deserialize)]
struct LabelOption {
    value: String,
}

#[derive(Deserialize)]
struct Record {
    id: String,
    external_id: Option<String>,
    fields: serde_json::Map<String, Value>,
    #[serde(default)]
    metadata: Option<PageMetadata>,
    #[serde(default)]
    suggestions: Vec<Suggestion>,
    #[serde(default)]
    responses: Vec<Response>,
}

#[derive(Deserialize)]
struct PageMetadata {
    doc_id: Option<String>,
    page_num: Option<i64>,
    run_id: Option<i64>,
}

#[derive(Deserialize)]
struct Suggestion {
    question_id: String,
    value: Vec<Span>,
}

#[derive(Deserialize)]
struct Response {
    user_id: Option<String>,
    status: String,
}

#[derive(Deserialize)]
struct Answered {
    error: Option<Value>,
}

impl Argilla {
    pub fn new(api_url: &str, api_key: &str) -> Result<Self, ReviewError> {
        let http = Client::builder()
            .timeout(Duration::from_secs(60))
            // The server drops idle connections after 5 s.
            .pool_idle_timeout(Duration::from_secs(4))
            .build()
            .map_err(ReviewError::Unreachable)?;
        let base = format!("{}/api/v1", api_url.trim_end_matches('/'));
        Ok(Self { http, base, api_key: api_key.to_owned() })
    }

    /// Reviews every record of the dataset that this user has not submitted or discarded yet.
    pub async fn review(&self, task: &Task<'_>) -> Result<Summary, ReviewError> {
        let me: Me = self.get("ask who this is", "/me", &[]).await?;
        let dataset = self.dataset(task).await?;
        let question = self.question(&dataset).await?;
        let records = self.records(&dataset, &me).await?;
        let mut summary = Summary { records: records.len(), ..Summary::default() };
        for some in records.chunks(ANSWERED_AT_ONCE) {
            let mut answers = Vec::new();
            for record in some {
                if record.is_reviewed_by(&me.id) {
                    summary.already_reviewed += 1;
                } else {
                    answers.push(answer(record, &question, task, &mut summary)?);
                }
            }
            self.respond(&answers).await?;
        }
        Ok(summary)
    }

    async fn dataset(&self, task: &Task<'_>) -> Result<String, ReviewError> {
        let workspaces: Items<Named> = self.get("list workspaces", "/me/workspaces", &[]).await?;
        let workspace = workspaces.items.into_iter().find(|w| w.name == task.workspace);
        let workspace = workspace.ok_or_else(|| missing("workspace", task.workspace))?;
        let query = [("name", task.dataset), ("workspace_id", workspace.id.as_str())];
        let datasets: Items<Named> = self.get("find the dataset", "/me/datasets", &query).await?;
        let dataset = datasets.items.into_iter().find(|d| d.name == task.dataset);
        dataset.map(|d| d.id).ok_or_else(|| missing("dataset", task.dataset))
    }

    async fn question(&self, dataset: &str) -> Result<Question, ReviewError> {
        let path = format!("/datasets/{dataset}/questions");
        let questions: Items<Question> = self.get("list questions", &path, &[]).await?;
        questions.items.into_iter().find(|q| q.name == QUESTION).ok_or_else(|| missing("question", QUESTION))
    }

    async fn records(&self, dataset: &str, me: &Me) -> Result<Vec<Record>, ReviewError> {
        let (mut seen, mut total) = (0, 0);
        for _ in 0..SCANS {
            let records;
            (records, total) = self.scan(dataset, me).await?;
            seen = records.len();
            if seen == total {
                return Ok(records);
            }
        }
        Err(ReviewError::Unstable { seen, total })
    }

    /// One pass over the listing, without repeats, and the total that the server gave last.
    async fn scan(&self, dataset: &str, me: &Me) -> Result<(Vec<Record>, usize), ReviewError> {
        let limit = LISTED_AT_ONCE.to_string();
        let (mut records, mut known) = (Vec::new(), HashSet::new());
        let mut offset = 0;
        loop {
            let at = offset.to_string();
            let query =
                [("include", "responses"), ("include", "suggestions"), ("offset", &at), ("limit", &limit)];
            let page: Listing = if me.role == "annotator" {
                let path = format!("{}/me/datasets/{dataset}/records/search", self.base);
                let search = self.http.post(path).query(&query).json(&json!({}));
                let found: Found = self.send("search records", search).await?;
                Listing { items: found.items.into_iter().map(|hit| hit.record).collect(), total: found.total }
            } else {
                self.get("list records", &format!("/datasets/{dataset}/records"), &query).await?
            };
            offset += page.items.len();
            let is_last = page.items.is_empty() || offset >= page.total;
            records.extend(page.items.into_iter().filter(|record| known.insert(record.id.clone())));
            if is_last {
                return Ok((records, page.total));
            }
        }
    }

    async fn respond(&self, answers: &[Value]) -> Result<(), ReviewError> {
        if answers.is_empty() {
            return Ok(());
        }
        let action = "take responses";
        let request =
            self.http.post(format!("{}/me/responses/bulk", self.base)).json(&json!({"items": answers}));
        let answered: Items<Answered> = self.send(action, request).await?;
        match answered.items.into_iter().find_map(|item| item.error) {
            None => Ok(()),
            Some(error) => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Err(ReviewError::Refused { action, status, detail: error.to_string() })
            }
        }
    }

    async fn get<T: DeserializeOwned>(
        &self,
        action: &'static str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, ReviewError> {
        self.send(action, self.http.get(format!("{}{path}", self.base)).query(query)).await
    }

    /// A connection that breaks is tried once more: the calls here may all be repeated.
    async fn send<T: DeserializeOwned>(
        &self,
        action: &'static str,
        request: RequestBuilder,
    ) -> Result<T, ReviewError> {
        let request = request.header("X-Argilla-Api-Key", &self.api_key);
        let first = request.try_clone().expect("no request here streams its body").send().await;
        let answer = match first {
            Ok(answer) => answer,
            Err(_) => request.send().await.map_err(ReviewError::Unreachable)?,
        };
        let status = answer.status();
        if status.is_server_error() {
            return Err(ReviewError::Failing { action, status });
        }
        if !status.is_success() {
            let detail = answer.json::<Value>().await.map(|body| body["detail"].to_string());
            return Err(ReviewError::Refused { action, status, detail: detail.unwrap_or_default() });
        }
        answer.json().await.map_err(|source| ReviewError::Answer { action, source })
    }
}

fn missing(what: &'static str, name: &str) -> ReviewError {
    ReviewError::Missing { what, name: name.to_owned() }
}

impl Record {
    fn is_reviewed_by(&self, user: &str) -> bool {
        self.responses.iter().any(|r| r.user_id.as_deref() == Some(user) && r.status != "draft")
    }

    fn text_length(&self) -> usize {
        self.fields.get(FIELD).and_then(Value::as_str).map_or(0, |text| text.chars().count())
    }

    fn truth<'a>(&self, truth: &'a Truth) -> Option<&'a [Span]> {
        let page = self.metadata.as_ref()?;
        truth.page(page.doc_id.as_deref()?, page.run_id?, page.page_num?)
    }
}

/// The response to one record, as the bulk call takes it. A true span whose label the question does not offer is
/// left out: nobody could mark it. A discarded response carries the suggestions, as the web page's does.
fn answer(
    record: &Record,
    question: &Question,
    task: &Task<'_>,
    summary: &mut Summary,
) -> Result<Value, ReviewError> {
    let name = record.external_id.as_deref().unwrap_or(&record.id);
    let suggested = record.suggestions.iter().find(|s| s.question_id == question.id);
    let suggested = suggested.map_or(&[][..], |s| &s.value);
    let truth = record.truth(task.truth);
    if truth.into_iter().flatten().any(|span| span.end as usize > record.text_length()) {
        return Err(ReviewError::OtherCorpus(name.to_owned()));
    }
    let (status, spans) = if discards(task.seed, name) {
        summary.discarded += 1;
        ("discarded", suggested.to_vec())
    } else {
        let offered =
            |span: &&Span| question.settings.options.iter().any(|option| option.value == span.label);
        let truth: Option<Vec<Span>> = truth.map(|spans| spans.iter().filter(offered).cloned().collect());
        let review = decide(suggested, truth.as_deref());
        summary.submitted += 1;
        summary.without_truth += usize::from(truth.is_none());
        summary.tally.add(review.tally);
        ("submitted", review.spans)
    };
    Ok(json!({"record_id": record.id, "status": status, "values": {QUESTION: {"value": spans}}}))
}
