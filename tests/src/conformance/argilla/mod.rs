//! Argilla: the calls that `control` and a reviewer make, and the traps of `contracts/argilla.md`.
//!
//! What is noted of a refusal: its status, and the sentence, or the code and where in the request it points.
//! The words of a schema error are pydantic's and nobody relies on them.

mod access;
mod datasets;
mod records;
mod responses;
mod suggestions;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use super::{Case, token};
use crate::argilla_standin::faults::{Fault, Faults};

pub fn cases() -> Vec<Case<Target>> {
    [access::cases(), datasets::cases(), records::cases(), suggestions::cases(), responses::cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// The search engine behind a server, which a case breaks for one dataset.
pub enum Search {
    /// The stand-in plays it.
    Planned(Arc<Faults>),
    /// OpenSearch's URL.
    At(String),
}

/// A server, its owner and an annotator, and a workspace of this run that both are in.
pub struct Target {
    search: Search,
    http: Client,
    base: String,
    owner: String,
    annotator: String,
    annotator_name: String,
    annotator_id: String,
    workspace: String,
    /// In every name that this run makes.
    token: String,
}

/// An answer, whatever its status.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    body: Value,
    token: String,
}

impl Target {
    pub async fn open(url: &str, owner: &str, annotator: &str, search: Search) -> Result<Self> {
        // A connection a call: the server closes one after a 500 and after 5 idle seconds, whoever is about to use it,
        // and a POST that is sent again is another call.
        let http = Client::builder().pool_max_idle_per_host(0).build()?;
        let mut target = Self {
            search,
            http,
            base: format!("{}/api/v1", url.trim_end_matches('/')),
            owner: owner.to_owned(),
            annotator: annotator.to_owned(),
            annotator_name: String::new(),
            annotator_id: String::new(),
            workspace: String::new(),
            token: token(),
        };
        let workspace = json!({"name": format!("conformance-{}", target.token)});
        target.workspace = id(&target.post("/workspaces", workspace).await?.is(201)?)?;
        let me = target.call(annotator, Method::GET, "/me", None).await?.is(200)?;
        target.annotator_id = id(&me)?;
        target.annotator_name = me["username"].as_str().context("a username")?.to_owned();
        let member = json!({"user_id": target.annotator_id});
        target.post(&format!("/workspaces/{}/users", target.workspace), member).await?.is(201)?;
        Ok(target)
    }

    async fn call(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
        if !key.is_empty() {
            request = request.header("X-Argilla-Api-Key", key);
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| format!("{method} {path}"))?;
        let status = answer.status();
        let body = serde_json::from_slice(&answer.bytes().await?).unwrap_or_default();
        Ok(Answer { status, body, token: self.token.clone() })
    }

    async fn get(&self, path: &str) -> Result<Answer> {
        self.call(&self.owner, Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Result<Answer> {
        self.call(&self.owner, Method::POST, path, Some(body)).await
    }

    async fn put(&self, path: &str, body: Value) -> Result<Answer> {
        self.call(&self.owner, Method::PUT, path, Some(body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> Result<Answer> {
        self.call(&self.owner, Method::PATCH, path, Some(body)).await
    }

    /// As the annotator.
    async fn sme(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        self.call(&self.annotator, method, path, body).await
    }

    fn name(&self, of: &str) -> String {
        format!("{of}-{}", self.token)
    }

    /// A dataset without field or question; `more` is merged over the usual body.
    async fn draft(&self, name: &str, more: Value) -> Result<Dataset> {
        let id = id(&self.post("/datasets", self.dataset_body(name, more)).await?.is(201)?)?;
        Ok(Dataset { path: format!("/datasets/{id}"), question: String::new() })
    }

    fn dataset_body(&self, name: &str, more: Value) -> Value {
        let mut body = json!({"name": self.name(name), "workspace_id": self.workspace, "guidelines": "Mark.",
            "allow_extra_metadata": false, "distribution": {"strategy": "overlap", "min_submitted": 1}});
        merge(&mut body, more);
        body
    }

    /// As `control` makes one: the text field, the span question, metadata properties, published.
    async fn dataset(&self, name: &str, more: Value) -> Result<Dataset> {
        let mut dataset = self.draft(name, more).await?;
        self.post(&format!("{}/fields", dataset.path), field("text")).await?.is(201)?;
        let question = self.post(&format!("{}/questions", dataset.path), question("entities")).await?;
        dataset.question = id(&question.is(201)?)?;
        for (name, kind) in [("doc_id", "terms"), ("page_num", "integer"), ("ratio", "float")] {
            let property = json!({"name": name, "title": name, "settings": {"type": kind}});
            self.post(&format!("{}/metadata-properties", dataset.path), property).await?.is(201)?;
        }
        self.put(&format!("{}/publish", dataset.path), Value::Null).await?.is(200)?;
        Ok(dataset)
    }

    /// From now on nothing of the dataset can be indexed, until it is mended; of the stand-in: at the next bulk.
    async fn break_index(&self, dataset: &Dataset) -> Result<()> {
        match &self.search {
            Search::Planned(faults) => faults.plan([Fault::ErrorAfterCommit]),
            Search::At(url) => self.index(url, dataset, "_close").await?,
        }
        Ok(())
    }

    async fn mend_index(&self, dataset: &Dataset) -> Result<()> {
        match &self.search {
            Search::Planned(_) => Ok(()),
            Search::At(url) => self.index(url, dataset, "_open").await,
        }
    }

    async fn index(&self, url: &str, dataset: &Dataset, action: &str) -> Result<()> {
        let id = dataset.path.rsplit('/').next().context("a dataset's id")?;
        let answer = self.http.post(format!("{url}/rg.{id}/{action}")).send().await?;
        ensure!(answer.status() == 200, "{action}: {}", answer.text().await?);
        Ok(())
    }

    async fn bulk(&self, dataset: &Dataset, items: Value) -> Result<Answer> {
        self.put(&format!("{}/records/bulk", dataset.path), json!({"items": items})).await
    }

    /// One record, stored; gives it as the answer shows it.
    async fn stored(&self, dataset: &Dataset, item: Value) -> Result<Value> {
        Ok(self.bulk(dataset, json!([item])).await?.is(200)?["items"][0].clone())
    }

    /// As `control` lists them.
    async fn listed(&self, dataset: &Dataset) -> Result<Value> {
        let path = format!("{}/records?include=responses&include=suggestions&limit=1000", dataset.path);
        self.get(&path).await?.is(200)
    }

    /// The record with this external id, from the listing.
    async fn record(&self, dataset: &Dataset, external_id: &str) -> Result<Value> {
        let listed = self.listed(dataset).await?;
        let items = listed["items"].as_array().context("items")?;
        let found = items.iter().find(|record| record["external_id"] == external_id);
        found.cloned().with_context(|| format!("record {external_id} is not listed"))
    }
}

impl Answer {
    fn is(self, status: u16) -> Result<Value> {
        ensure!(self.status == status, "{} instead of {status}: {}", self.status, self.body);
        Ok(self.body)
    }

    /// A refusal as it is noted: `422 Dataset has …`, or `422 ValidationError at body`.
    fn refused(self, status: u16) -> Result<String> {
        ensure!(self.status == status, "{} instead of {status}: {}", self.status, self.body);
        let detail = &self.body["detail"];
        if let Some(sentence) = detail.as_str() {
            return Ok(format!("{status} {}", plain(sentence, &self.token)));
        }
        let code =
            detail["code"].as_str().with_context(|| format!("no refusal of Argilla's: {}", self.body))?;
        let code = code.strip_prefix("argilla.api.errors::").context("the code's namespace")?;
        let params = &detail["params"];
        let place = match (params["errors"].as_array(), params["detail"].as_str()) {
            (Some(errors), _) => format!("at {}", errors[0]["loc"][0].as_str().unwrap_or("nowhere")),
            (None, Some(sentence)) => plain(sentence, &self.token),
            (None, None) => String::new(),
        };
        Ok(format!("{status} {code} {place}"))
    }

    /// A refusal whose reason has these words.
    fn refused_for(self, status: u16, words: &str) -> Result<String> {
        let told = self.refused(status)?;
        ensure!(told.contains(words), "{told:?} instead of {words:?}");
        Ok(told)
    }
}

struct Dataset {
    path: String,
    /// The id of `entities`.
    question: String,
}

impl Dataset {
    fn item(&self, external_id: &str, text: &str, spans: &[(&str, i64, i64)]) -> Value {
        let mut item =
            json!({"external_id": external_id, "fields": {"text": text}, "metadata": {"page_num": 1}});
        if !spans.is_empty() {
            item["suggestions"] = json!([self.suggestion(spans)]);
        }
        item
    }

    fn suggestion(&self, spans: &[(&str, i64, i64)]) -> Value {
        json!({"question_id": self.question, "value": values(spans), "score": vec![0.5; spans.len()],
               "agent": "rules", "type": "model"})
    }
}

fn values(spans: &[(&str, i64, i64)]) -> Value {
    spans.iter().map(|(label, start, end)| json!({"label": label, "start": start, "end": end})).collect()
}

fn field(name: &str) -> Value {
    json!({"name": name, "title": "Text", "required": true, "settings": {"type": "text", "use_markdown": false}})
}

fn question(name: &str) -> Value {
    json!({"name": name, "title": "Mark", "required": true,
        "settings": {"type": "span", "field": "text", "allow_overlapping": false, "options": [
            {"value": "IMO", "text": "IMO number", "description": null},
            {"value": "FLAG", "text": "Flag", "description": "The flag state"}]}})
}

fn merge(body: &mut Value, more: Value) {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
}

fn id(body: &Value) -> Result<String> {
    Ok(body["id"].as_str().context("an answer with an id")?.to_owned())
}

/// The names of an object's keys, sorted.
fn keys(object: &Value) -> String {
    let mut keys: Vec<_> = object.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.join(" ")
}

/// A sentence without ids and without this run's token.
fn plain(sentence: &str, token: &str) -> String {
    let chars: Vec<char> = sentence.chars().collect();
    let (mut text, mut at) = (String::new(), 0);
    while at < chars.len() {
        if chars.get(at..at + 36).is_some_and(is_uuid) {
            text.push_str("<id>");
            at += 36;
        } else {
            text.push(chars[at]);
            at += 1;
        }
    }
    text.replace(token, "<run>")
}

fn is_uuid(chars: &[char]) -> bool {
    let dashed = |at| matches!(at, 8 | 13 | 18 | 23);
    chars.iter().enumerate().all(|(at, c)| if dashed(at) { *c == '-' } else { c.is_ascii_hexdigit() })
}
