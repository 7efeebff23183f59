//! What reviewers answer: one response a record and user.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};

use crate::argilla_standin::{
    App,
    auth::Caller,
    errors::ApiError,
    input::{Body, Id, ResponseCreate, ResponsesBulk},
    state::{Response, State as Everything, new_id, now},
    validate, views,
};

pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<ResponseCreate>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    body.check()?;
    let broken = body.values.is_none();
    let created = app.store.write(|state| {
        let (dataset, record) = state.record(&id)?;
        caller.member(state, &dataset.workspace_id)?;
        if record.responses.iter().any(|r| r.user_id == caller.0.id) {
            return Err(ApiError::Conflict(format!(
                "Response already exists for record with id `{id}` and by user with id `{}`",
                caller.0.id
            )));
        }
        put_response(state, &caller, &id, body)
    })?;
    if broken { Err(not_indexed()) } else { Ok((StatusCode::CREATED, Json(created))) }
}

/// Item by item: each gives `{item, error}`, and a bad one stops none of the others.
pub async fn upsert(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<ResponsesBulk>,
) -> Result<Json<Value>, ApiError> {
    body.check()?;
    app.store.write(|state| {
        let answers = body.items.into_iter().map(|item| {
            let broken = item.response.values.is_none();
            let answered = state
                .record(&item.record_id)
                .and_then(|(dataset, _)| caller.member(state, &dataset.workspace_id))
                .and_then(|()| put_response(state, &caller, &item.record_id, item.response))
                .and_then(|view| if broken { Err(not_indexed()) } else { Ok(view) });
            match answered {
                Ok(view) => json!({"item": view, "error": null}),
                Err(error) => json!({"item": null, "error": {"detail": sentence(error)}}),
            }
        });
        Ok(Json(views::items(answers.collect::<Vec<_>>())))
    })
}

/// A response without values is stored, and then the search engine's side of Argilla stumbles over it.
fn not_indexed() -> ApiError {
    ApiError::Internal("'NoneType' object has no attribute 'items'".to_owned())
}

fn sentence(error: ApiError) -> String {
    match error {
        ApiError::NotFound(message)
        | ApiError::Conflict(message)
        | ApiError::Unprocessable(message)
        | ApiError::Internal(message) => message,
        ApiError::Schema { msg, .. } => msg,
        other => format!("{other:?}"),
    }
}

/// Validates, then inserts or replaces the caller's response, and brings the record's status up to date.
fn put_response(
    state: &mut Everything,
    caller: &Caller,
    record_id: &str,
    body: ResponseCreate,
) -> Result<Value, ApiError> {
    let (dataset, record) = state.record(record_id)?;
    validate::response(&body, dataset, &record.fields)?;
    let (dataset_id, min_submitted) = (dataset.id.clone(), dataset.min_submitted);

    let record = state.record_mut(record_id)?;
    let at = record.responses.iter().position(|r| r.user_id == caller.0.id);
    let at = at.unwrap_or(record.responses.len());
    let stored = record.responses.get(at);
    let inserted_at = stored.map_or_else(now, |r| r.inserted_at.clone());
    let response = Response {
        id: stored.map_or_else(new_id, |r| r.id.clone()),
        user_id: caller.0.id.clone(),
        status: body.status,
        values: body.values,
        updated_at: if stored.is_some() { now() } else { inserted_at.clone() },
        inserted_at,
    };
    let view = views::response(&response, record_id);
    if at == record.responses.len() {
        record.responses.push(response);
    } else {
        record.responses[at] = response;
    }
    record.refresh_status(min_submitted);

    let dataset = state.dataset_mut(&dataset_id)?;
    dataset.last_activity_at = now();
    if !dataset.respondents.contains(&caller.0.id) {
        dataset.respondents.push(caller.0.id.clone());
    }
    Ok(view)
}
