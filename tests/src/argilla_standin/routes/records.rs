//! Records: the atomic bulk upsert, listing, search as a reviewer, and single records with their suggestions.

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
};
use serde_json::{Value, json};

use crate::argilla_standin::{
    App,
    auth::Caller,
    errors::ApiError,
    faults::Fault,
    input::{Body, Id, RecordUpdate, RecordUpsert, RecordsBulk, Search, SuggestionCreate},
    state::{Dataset, Record, Suggestion, new_id, now},
    validate,
    values::check_fields,
    views::{self, Include},
};

type Answer = Result<Json<Value>, ApiError>;

/// All items or none; suggestions that an item leaves out, or gives as `[]` or null, stay as they are.
pub async fn upsert(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<RecordsBulk>,
) -> Answer {
    let fault = app.faults.next();
    match fault {
        Some(Fault::Unavailable) => return Err(ApiError::Unavailable),
        Some(Fault::TooManyRequests { retry_after }) => {
            return Err(ApiError::TooManyRequests { retry_after });
        }
        Some(Fault::ErrorAfterCommit) | None => {}
    }
    body.check()?;
    let view = app.store.write(|state| {
        let dataset = caller.manages(state, &id)?;
        for (position, item) in body.items.iter().enumerate() {
            let stored = find(dataset, item).map(|at| &dataset.records[at]);
            validate::record(item, dataset, stored).map_err(|why| {
                ApiError::Unprocessable(format!("Record at position {position} is not valid because {why}"))
            })?;
        }
        let min_submitted = dataset.min_submitted;
        let mut touched = Vec::with_capacity(body.items.len());
        for item in body.items {
            let at = match find(state.dataset(&id)?, &item) {
                Some(at) => at,
                None => state.insert_record(&id, new_record(&item))?,
            };
            let record = &mut state.dataset_mut(&id)?.records[at];
            apply(item, record);
            record.refresh_status(min_submitted);
            touched.push(at);
        }
        let records = &state.dataset(&id)?.records;
        Ok(views::items(touched.iter().map(|&at| views::record(&records[at], &id, Include::ALL))))
    })?;
    if fault == Some(Fault::ErrorAfterCommit) {
        return Err(ApiError::Internal("the search engine did not answer".to_owned()));
    }
    Ok(Json(view))
}

fn find(dataset: &Dataset, item: &RecordUpsert) -> Option<usize> {
    dataset.find(item.id.as_deref(), item.external_id.as_deref())
}

fn new_record(item: &RecordUpsert) -> Record {
    let at = now();
    Record {
        id: new_id(),
        external_id: item.external_id.clone(),
        fields: serde_json::Map::new(),
        metadata: None,
        completed: false,
        suggestions: Vec::new(),
        responses: Vec::new(),
        inserted_at: at.clone(),
        updated_at: at,
    }
}

fn apply(item: RecordUpsert, record: &mut Record) {
    let is_new = record.fields.is_empty();
    let fields = item.fields.map(Option::unwrap_or_default);
    let changed = fields.as_ref().is_some_and(|f| *f != record.fields)
        || item.metadata.as_ref().is_some_and(|m| *m != record.metadata);
    if changed && !is_new {
        record.updated_at = now();
    }
    record.fields = fields.unwrap_or_else(|| std::mem::take(&mut record.fields));
    record.metadata = item.metadata.unwrap_or_else(|| record.metadata.take());
    for suggestion in item.suggestions.unwrap_or_default() {
        put_suggestion(record, suggestion);
    }
}

/// One suggestion a question: a second one replaces the first. Gives whether it is new, and its position.
fn put_suggestion(record: &mut Record, create: SuggestionCreate) -> (bool, usize) {
    let at = record.suggestions.iter().position(|s| s.question_id == create.question_id);
    let stored = at.map(|at| &record.suggestions[at]);
    let suggestion = Suggestion {
        id: stored.map_or_else(new_id, |s| s.id.clone()),
        question_id: create.question_id,
        value: create.value,
        score: create.score,
        agent: create.agent,
        r#type: create.r#type,
        inserted_at: stored.map_or_else(now, |s| s.inserted_at.clone()),
        updated_at: now(),
    };
    match at {
        Some(at) => {
            record.suggestions[at] = suggestion;
            (false, at)
        }
        None => {
            record.suggestions.push(suggestion);
            (true, record.suggestions.len() - 1)
        }
    }
}

/// `include`, `offset` and `limit` of a listing; `include` may repeat or hold a list with commas.
struct Page {
    suggestions: bool,
    responses: bool,
    offset: usize,
    limit: usize,
}

impl Page {
    fn parse(pairs: &[(String, String)]) -> Result<Self, ApiError> {
        let mut page = Self { suggestions: false, responses: false, offset: 0, limit: 50 };
        for (name, value) in pairs {
            let number =
                || value.parse().map_err(|_| ApiError::query(name, "Input should be a valid integer"));
            match name.as_str() {
                "offset" => page.offset = number()?,
                "limit" => page.limit = number()?,
                "include" => {
                    for relation in value.split(',') {
                        match relation {
                            "suggestions" => page.suggestions = true,
                            "responses" => page.responses = true,
                            _ => {
                                return Err(ApiError::query(
                                    name,
                                    "STAND-IN: only suggestions and responses",
                                ));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        if (1..=1000).contains(&page.limit) {
            Ok(page)
        } else {
            Err(ApiError::query("limit", "Input should be at least 1 and at most 1000"))
        }
    }
}

/// Everybody's responses: owners and admins only.
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer {
    let page = Page::parse(&pairs)?;
    let include =
        Include { suggestions: page.suggestions, responses: page.responses, of_user: None, vectors: false };
    app.store.read(|state| {
        let dataset = caller.manages(state, &id)?;
        let items: Vec<_> = dataset
            .records
            .iter()
            .skip(page.offset)
            .take(page.limit)
            .map(|r| views::record(r, &id, include))
            .collect();
        Ok(Json(json!({"items": items, "total": dataset.records.len()})))
    })
}

/// The listing that a reviewer may have: with their own responses only.
pub async fn search_as_me(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Query(pairs): Query<Vec<(String, String)>>,
    Body(query): Body<Search>,
) -> Answer {
    app.store.read(|state| search(caller.sees(state, &id)?, &pairs, query, Some(&caller.0.id)))
}

/// With everybody's responses: owners and admins only.
pub async fn search_all(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Query(pairs): Query<Vec<(String, String)>>,
    Body(query): Body<Search>,
) -> Answer {
    app.store.read(|state| search(caller.manages(state, &id)?, &pairs, query, None))
}

fn search(dataset: &Dataset, pairs: &[(String, String)], query: Search, of_user: Option<&str>) -> Answer {
    let page = Page::parse(pairs)?;
    let include =
        Include { suggestions: page.suggestions, responses: page.responses, of_user, vectors: false };
    let wanted = query.external_ids()?;
    let is_wanted = |record: &&Record| match (&wanted, &record.external_id) {
        (Some(wanted), Some(external_id)) => wanted.contains(external_id),
        (Some(_), None) => false,
        (None, _) => true,
    };
    let hits: Vec<_> = dataset.records.iter().filter(is_wanted).collect();
    let hit = |r: &&Record| json!({"record": views::record(r, &dataset.id, include), "query_score": null});
    let items: Vec<_> = hits.iter().skip(page.offset).take(page.limit).map(hit).collect();
    Ok(Json(json!({"items": items, "total": hits.len()})))
}

pub async fn get(State(app): State<App>, caller: Caller, Id(id): Id) -> Answer {
    app.store.read(|state| {
        let (dataset, record) = state.record(&id)?;
        caller.member(state, &dataset.workspace_id)?;
        Ok(Json(views::record(record, &dataset.id, Include::ALL)))
    })
}

/// Replaces what the body names; `suggestions: []` clears them, which no upsert does.
pub async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<RecordUpdate>,
) -> Answer {
    body.fields.iter().flatten().try_for_each(|fields| check_fields(fields, &[]))?;
    let suggestions = body.suggestions.map(Option::unwrap_or_default);
    for suggestion in suggestions.iter().flatten() {
        suggestion.check(&[json!("suggestions")])?;
    }
    app.store.write(|state| {
        let (dataset, record) = state.record(&id)?;
        caller.manager(state, &dataset.workspace_id)?;
        let fields = body.fields.map(Option::unwrap_or_default);
        let checked = || {
            fields.as_ref().map_or(Ok(()), |fields| validate::fields(fields, dataset))?;
            validate::metadata(body.metadata.as_ref().and_then(Option::as_ref), dataset)?;
            validate::suggestions(suggestions.as_deref().unwrap_or_default(), dataset, &record.fields)
        };
        checked().map_err(ApiError::Unprocessable)?;
        let dataset_id = dataset.id.clone();
        let record = state.record_mut(&id)?;
        record.fields = fields.unwrap_or_else(|| std::mem::take(&mut record.fields));
        record.metadata = body.metadata.unwrap_or_else(|| record.metadata.take());
        if let Some(suggestions) = suggestions {
            record.suggestions.clear();
            for suggestion in suggestions {
                put_suggestion(record, suggestion);
            }
        }
        record.updated_at = now();
        Ok(Json(views::record(record, &dataset_id, Include::ALL)))
    })
}

/// 201 for a new suggestion, 200 for one replaced.
pub async fn upsert_suggestion(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<SuggestionCreate>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    body.check(&[])?;
    app.store.write(|state| {
        let (dataset, record) = state.record(&id)?;
        caller.manager(state, &dataset.workspace_id)?;
        validate::suggestion(&body, dataset, &record.fields).map_err(ApiError::Unprocessable)?;
        let record = state.record_mut(&id)?;
        let (is_new, at) = put_suggestion(record, body);
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        Ok((status, Json(views::suggestion(&record.suggestions[at]))))
    })
}
