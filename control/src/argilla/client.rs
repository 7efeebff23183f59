//! The HTTP client of Argilla 2.8: typed calls, repeated where a failure may pass, with both shapes of its errors.
//!
//! Constraints: uvicorn drops idle connections after 5 s, so the pool forgets them earlier; no compression is asked
//! for (it slows listings on a LAN); redirects are not followed, because they would carry the key elsewhere; the key
//! is a sensitive header and stands in no error.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub use super::error::ArgillaError;
use super::{
    model::{
        Dataset, DatasetCreate, Items, LabelOption, Named, Progress, Question, Record, RecordUpsert,
        RecordsPage, SearchPage, User, UsersProgress, Workspace,
    },
    retry::{self, Verdict},
};
use crate::redact;

/// Below the 5 s after which uvicorn closes an idle connection.
const IDLE: Duration = Duration::from_secs(4);
const CONNECT: Duration = Duration::from_secs(10);
/// A bulk of 500 pages takes a few seconds on a small server; a listing of 1,000 less.
const ANSWER: Duration = Duration::from_secs(120);
/// The most records of one listing.
pub const PAGE: usize = 1000;
/// The most external ids of one look-up.
pub const LOOKUP: usize = 250;

/// Where Argilla is and who we are there.
#[derive(Clone)]
pub struct Endpoint {
    /// The base URL; a path prefix is kept.
    pub url: String,
    pub api_key: String,
    /// Client id and secret of Cloudflare Access, where it stands in front.
    pub access: Option<(String, String)>,
}

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// Without a slash at the end.
    base: String,
    /// The base as people see it: without a user or a password.
    shown: String,
    attempts: u32,
}

/// What a server says of itself to whoever asks.
#[derive(Debug)]
pub struct Greeting {
    pub version: String,
    /// Its clock, in whole seconds.
    pub date: Option<DateTime<Utc>>,
}

impl Client {
    pub fn new(endpoint: &Endpoint) -> Result<Self, ArgillaError> {
        let base = endpoint.url.trim_end_matches('/').to_owned();
        let shown = redact::url(&base).trim_end_matches('/').to_owned();
        let parsed = reqwest::Url::parse(&base).map_err(|error| {
            ArgillaError::Config(format!(
                "ARGILLA_API_URL {shown:?} is not a URL ({error}); write e.g. http://127.0.0.1:6900"
            ))
        })?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.cannot_be_a_base() {
            return Err(ArgillaError::Config(format!(
                "ARGILLA_API_URL {shown:?} is neither http:// nor https://"
            )));
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-argilla-api-key", secret("ARGILLA_API_KEY", &endpoint.api_key)?);
        if let Some((id, key)) = &endpoint.access {
            headers
                .insert(HeaderName::from_static("cf-access-client-id"), secret("CF_ACCESS_CLIENT_ID", id)?);
            headers.insert(
                HeaderName::from_static("cf-access-client-secret"),
                secret("CF_ACCESS_CLIENT_SECRET", key)?,
            );
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("preannotate-control/", env!("CARGO_PKG_VERSION")))
            .pool_idle_timeout(IDLE)
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ArgillaError::Config(format!("the HTTP client cannot be made: {error}")))?;
        Ok(Self { http, base, shown, attempts: retry::ATTEMPTS })
    }

    /// Tries nothing twice: for who looks whether it answers, and wants to know at once.
    #[must_use]
    pub fn once(self) -> Self {
        Self { attempts: 1, ..self }
    }

    /// The base URL, for people.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// Needs no key: whether Argilla is there, and which.
    pub async fn greet(&self) -> Result<Greeting, ArgillaError> {
        let (headers, answer): (_, Value) =
            self.exchange("ask for the version", Method::GET, "/version", &[], None::<&()>).await?;
        let date = headers.get(reqwest::header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        Ok(Greeting {
            version: answer["version"].as_str().unwrap_or("unknown").to_owned(),
            date: date.map(|date| date.to_utc()),
        })
    }

    pub async fn me(&self) -> Result<User, ArgillaError> {
        self.get("tell who we are", "/me", &[]).await
    }

    pub async fn workspaces(&self) -> Result<Vec<Workspace>, ArgillaError> {
        let answer: Items<Workspace> = self.get("list workspaces", "/me/workspaces", &[]).await?;
        Ok(answer.items)
    }

    /// None when somebody else made it in the meantime.
    pub async fn create_workspace(&self, name: &str) -> Result<Option<Workspace>, ArgillaError> {
        unless_there(
            self.send(
                &format!("create workspace {name:?}"),
                Method::POST,
                "/workspaces",
                &json!({"name": name}),
            )
            .await,
        )
    }

    pub async fn find_dataset(
        &self,
        name: &str,
        workspace_id: &str,
    ) -> Result<Option<Dataset>, ArgillaError> {
        let query = [("name", name), ("workspace_id", workspace_id)];
        let found: Items<Dataset> = self.get(&format!("find dataset {name}"), "/me/datasets", &query).await?;
        Ok(found.items.into_iter().find(|dataset| dataset.name == name))
    }

    /// None when somebody else made it in the meantime.
    pub async fn create_dataset(&self, dataset: &DatasetCreate<'_>) -> Result<Option<Dataset>, ArgillaError> {
        unless_there(
            self.send(&format!("create dataset {}", dataset.name), Method::POST, "/datasets", dataset).await,
        )
    }

    pub async fn dataset(&self, dataset_id: &str) -> Result<Dataset, ArgillaError> {
        self.get("show a dataset", &format!("/datasets/{dataset_id}"), &[]).await
    }

    pub async fn fields(&self, dataset_id: &str) -> Result<Vec<Named>, ArgillaError> {
        let answer: Items<Named> =
            self.get("list fields", &format!("/datasets/{dataset_id}/fields"), &[]).await?;
        Ok(answer.items)
    }

    pub async fn create_text_field(
        &self,
        dataset_id: &str,
        name: &str,
        title: &str,
    ) -> Result<(), ArgillaError> {
        let field = json!({"name": name, "title": title, "required": true,
                           "settings": {"type": "text", "use_markdown": false}});
        let path = format!("/datasets/{dataset_id}/fields");
        let made: Result<Named, _> =
            self.send(&format!("create field {name:?}"), Method::POST, &path, &field).await;
        unless_there(made).map(drop)
    }

    pub async fn questions(&self, dataset_id: &str) -> Result<Vec<Question>, ArgillaError> {
        let path = format!("/datasets/{dataset_id}/questions");
        let answer: Items<Question> = self.get("list questions", &path, &[]).await?;
        Ok(answer.items)
    }

    /// A required question; only with one can a dataset be published.
    pub async fn create_span_question(
        &self,
        dataset_id: &str,
        name: &str,
        title: &str,
        field: &str,
        options: &[LabelOption],
    ) -> Result<(), ArgillaError> {
        let question = json!({"name": name, "title": title, "required": true,
            "settings": {"type": "span", "field": field, "options": options, "allow_overlapping": false}});
        let path = format!("/datasets/{dataset_id}/questions");
        let made: Result<Question, _> =
            self.send(&format!("create question {name:?}"), Method::POST, &path, &question).await;
        unless_there(made).map(drop)
    }

    pub async fn metadata_properties(&self, dataset_id: &str) -> Result<Vec<Named>, ArgillaError> {
        let path = format!("/me/datasets/{dataset_id}/metadata-properties");
        let answer: Items<Named> = self.get("list metadata properties", &path, &[]).await?;
        Ok(answer.items)
    }

    /// `kind`: `terms`, `integer` or `float`.
    pub async fn create_metadata_property(
        &self,
        dataset_id: &str,
        name: &str,
        title: &str,
        kind: &str,
    ) -> Result<(), ArgillaError> {
        let property = json!({"name": name, "title": title, "settings": {"type": kind}});
        let path = format!("/datasets/{dataset_id}/metadata-properties");
        let action = format!("create metadata property {name:?}");
        let made: Result<Named, _> = self.send(&action, Method::POST, &path, &property).await;
        unless_there(made).map(drop)
    }

    pub async fn publish(&self, dataset_id: &str) -> Result<Dataset, ArgillaError> {
        let path = format!("/datasets/{dataset_id}/publish");
        self.request("publish the dataset", Method::PUT, &path, &[], None::<&()>).await
    }

    /// Stores 1 to 500 records, all or none, and gives them as they are now stored, with their responses.
    pub async fn upsert(
        &self,
        dataset_id: &str,
        items: &[RecordUpsert<'_>],
    ) -> Result<Vec<Record>, ArgillaError> {
        let path = format!("/datasets/{dataset_id}/records/bulk");
        let action = format!("store {} records", items.len());
        let answer: Items<Record> = self.send(&action, Method::PUT, &path, &json!({"items": items})).await?;
        Ok(answer.items)
    }

    /// At most [`LOOKUP`] records by external id, with their suggestions and responses; those that are not there
    /// are left out. The search engine finds them, the database tells what they hold: a record that was stored but
    /// not indexed (a bulk that ended with 500) is not found, and its upsert indexes it again.
    pub async fn lookup(&self, dataset_id: &str, external_ids: &[&str]) -> Result<Vec<Record>, ArgillaError> {
        if external_ids.is_empty() {
            return Ok(Vec::new());
        }
        let body = json!({"filters": {"and": [{"type": "terms", "values": external_ids,
            "scope": {"entity": "record", "property": "external_id"}}]}});
        let path = format!("/datasets/{dataset_id}/records/search");
        let limit = LOOKUP.to_string();
        let query = [("include", "suggestions"), ("include", "responses"), ("limit", limit.as_str())];
        let action = format!("look up {} records", external_ids.len());
        let found: SearchPage = self.request(&action, Method::POST, &path, &query, Some(&body)).await?;
        Ok(found.items.into_iter().map(|hit| hit.record).collect())
    }

    /// A page of the listing, ordered by time of insertion alone: records may repeat or be missed between pages.
    pub async fn records(
        &self,
        dataset_id: &str,
        offset: usize,
        limit: usize,
    ) -> Result<RecordsPage, ArgillaError> {
        let (offset, limit) = (offset.to_string(), limit.to_string());
        let query = [
            ("include", "responses"),
            ("include", "suggestions"),
            ("offset", offset.as_str()),
            ("limit", limit.as_str()),
        ];
        self.get(&format!("list records from {offset}"), &format!("/datasets/{dataset_id}/records"), &query)
            .await
    }

    /// No upsert takes a suggestion away; this does.
    pub async fn clear_suggestions(&self, record_id: &str) -> Result<(), ArgillaError> {
        let path = format!("/records/{record_id}");
        let _: Record = self
            .send("clear a record's suggestions", Method::PATCH, &path, &json!({"suggestions": []}))
            .await?;
        Ok(())
    }

    pub async fn progress(&self, dataset_id: &str) -> Result<Progress, ArgillaError> {
        self.get("tell the progress", &format!("/datasets/{dataset_id}/progress"), &[]).await
    }

    pub async fn users_progress(&self, dataset_id: &str) -> Result<UsersProgress, ArgillaError> {
        self.get("tell the users' progress", &format!("/datasets/{dataset_id}/users/progress"), &[]).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        action: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, ArgillaError> {
        self.request(action, Method::GET, path, query, None::<&()>).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        action: &str,
        method: Method,
        path: &str,
        body: &(impl Serialize + ?Sized),
    ) -> Result<T, ArgillaError> {
        self.request(action, method, path, &[], Some(body)).await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        action: &str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> Result<T, ArgillaError> {
        Ok(self.exchange(action, method, path, query, body).await?.1)
    }

    /// One call, repeated while its failure may pass; the last failure is the one told.
    async fn exchange<T: DeserializeOwned>(
        &self,
        action: &str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> Result<(HeaderMap, T), ArgillaError> {
        let url = format!("{}/api/v1{path}", self.base);
        let mut attempt = 1;
        loop {
            let mut request = self.http.request(method.clone(), &url).query(query);
            if let Some(body) = body {
                request = request.json(body);
            }
            let (verdict, failure) = match exchange(request).await {
                Ok((status, headers, body)) if status.is_success() => {
                    let read = serde_json::from_slice(&body).map_err(|error| ArgillaError::Unreadable {
                        action: action.to_owned(),
                        reason: error.to_string(),
                    });
                    return Ok((headers, read?));
                }
                Ok((status, headers, body)) => (
                    retry::of_status(status, &headers),
                    ArgillaError::of(&self.shown, action, status, &headers, &body),
                ),
                Err(error) => {
                    let verdict = retry::of_error(&error);
                    let reason = chain(&error.without_url());
                    (verdict, ArgillaError::Unreachable { base: self.shown.clone(), reason })
                }
            };
            let Verdict::Transient(asked) = verdict else { return Err(failure) };
            attempt += 1;
            let wait = retry::wait(attempt, asked, &mut rand::rng());
            let Some(wait) = wait.filter(|_| attempt <= self.attempts) else { return Err(failure) };
            tracing::debug!(action, attempt, ?wait, %failure, "Argilla: trying again");
            tokio::time::sleep(wait).await;
        }
    }
}

async fn exchange(
    request: reqwest::RequestBuilder,
) -> reqwest::Result<(StatusCode, HeaderMap, bytes::Bytes)> {
    let answer = request.send().await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    Ok((status, headers, answer.bytes().await?))
}

/// 409 to a creation: it is there already.
fn unless_there<T>(made: Result<T, ArgillaError>) -> Result<Option<T>, ArgillaError> {
    match made {
        Ok(made) => Ok(Some(made)),
        Err(error) if error.is(StatusCode::CONFLICT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn secret(name: &str, value: &str) -> Result<HeaderValue, ArgillaError> {
    let mut header = HeaderValue::from_str(value.trim()).map_err(|_| {
        ArgillaError::Config(format!("{name} holds characters that no header may hold; copy it again"))
    })?;
    header.set_sensitive(true);
    Ok(header)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_must_be_one_and_keys_must_fit_a_header() {
        let endpoint = |url: &str, key: &str| Endpoint { url: url.into(), api_key: key.into(), access: None };
        assert!(
            Client::new(&endpoint("https://argilla.example/base/", "k"))
                .is_ok_and(|c| c.base.ends_with("/base"))
        );
        for bad in [endpoint("argilla.example", "k"), endpoint("ftp://x", "k"), endpoint("http://x", "a\nb")]
        {
            let error = Client::new(&bad).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with("ARGILLA_API_"), "{error}");
            assert!(!error.contains("a\nb"));
        }
    }
}
