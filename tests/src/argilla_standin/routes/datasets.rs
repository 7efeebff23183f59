//! Datasets and what they are made of: fields, questions, metadata properties; publishing; progress.

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::argilla_standin::{
    App,
    auth::{Caller, Role},
    errors::ApiError,
    input::{
        Body, DatasetCreate, FieldCreate, FieldSettings, Id, MetadataPropertyCreate, QuestionCreate,
        QuestionSettings,
    },
    state::{Dataset, Field, MetadataProperty, Question, new_id, now},
    views,
};

type Answer = Result<Json<Value>, ApiError>;
type Created = Result<(StatusCode, Json<Value>), ApiError>;

#[derive(Deserialize)]
pub struct Filter {
    name: Option<String>,
    workspace_id: Option<String>,
}

pub async fn find(State(app): State<App>, caller: Caller, Query(filter): Query<Filter>) -> Answer {
    app.store.read(|state| {
        if let Some(workspace_id) = &filter.workspace_id {
            caller.member(state, workspace_id)?;
        }
        let found = state.datasets.iter().filter(|d| {
            caller.member(state, &d.workspace_id).is_ok()
                && filter.name.as_ref().is_none_or(|name| *name == d.name)
                && filter.workspace_id.as_ref().is_none_or(|id| *id == d.workspace_id)
        });
        Ok(Json(views::items(found.map(views::dataset))))
    })
}

pub async fn create(State(app): State<App>, caller: Caller, Body(body): Body<DatasetCreate>) -> Created {
    body.check()?;
    let created = app.store.write(|state| {
        caller.manager(state, &body.workspace_id)?;
        let workspace_id = body.workspace_id;
        if !state.workspaces.iter().any(|w| w.id == workspace_id) {
            return Err(ApiError::Unprocessable(format!("Workspace with id `{workspace_id}` not found")));
        }
        if state.datasets.iter().any(|d| d.name == body.name && d.workspace_id == workspace_id) {
            return Err(ApiError::Conflict(format!(
                "Dataset with name `{}` already exists for workspace with id `{workspace_id}`",
                body.name
            )));
        }
        let mut dataset = Dataset::new(body.name, workspace_id);
        dataset.guidelines = body.guidelines;
        dataset.allow_extra_metadata = body.allow_extra_metadata;
        dataset.min_submitted = body.distribution.min_submitted;
        dataset.metadata = body.metadata;
        let view = views::dataset(&dataset);
        state.datasets.push(dataset);
        Ok(view)
    })?;
    Ok((StatusCode::CREATED, Json(created)))
}

pub async fn get(State(app): State<App>, caller: Caller, Id(id): Id) -> Answer {
    app.store.read(|state| Ok(Json(views::dataset(caller.sees(state, &id)?))))
}

pub async fn fields(State(app): State<App>, caller: Caller, Id(id): Id) -> Answer {
    app.store.read(|state| {
        let dataset = caller.sees(state, &id)?;
        Ok(Json(views::items(dataset.fields.iter().map(|f| views::field(f, &id)))))
    })
}

pub async fn create_field(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<FieldCreate>,
) -> Created {
    body.check()?;
    let created = app.store.write(|state| {
        let dataset = caller.manages(state, &id)?;
        if dataset.published {
            return Err(ApiError::Unprocessable(
                "Field cannot be created for a published dataset".to_owned(),
            ));
        }
        if dataset.fields.iter().any(|f| f.name == body.name) {
            return Err(already("Field", &body.name, &id));
        }
        let FieldSettings::Text { use_markdown } = body.settings;
        let field = Field {
            id: new_id(),
            name: body.name,
            title: body.title,
            required: body.required.unwrap_or(false),
            use_markdown,
            inserted_at: now(),
        };
        let view = views::field(&field, &id);
        state.dataset_mut(&id)?.fields.push(field);
        Ok(view)
    })?;
    Ok((StatusCode::CREATED, Json(created)))
}

pub async fn questions(State(app): State<App>, caller: Caller, Id(id): Id) -> Answer {
    app.store.read(|state| {
        let dataset = caller.sees(state, &id)?;
        Ok(Json(views::items(dataset.questions.iter().map(|q| views::question(q, &id)))))
    })
}

pub async fn create_question(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<QuestionCreate>,
) -> Created {
    body.check()?;
    let created = app.store.write(|state| {
        let dataset = caller.manages(state, &id)?;
        if dataset.questions.iter().any(|q| q.name == body.name) {
            return Err(already("Question", &body.name, &id));
        }
        if dataset.published {
            return Err(ApiError::Unprocessable(
                "questions cannot be created for a published dataset".to_owned(),
            ));
        }
        let QuestionSettings::Span { field, options, visible_options, allow_overlapping } = body.settings;
        if !dataset.fields.iter().any(|f| f.name == field) {
            let names: Vec<_> = dataset.fields.iter().map(|f| &f.name).collect();
            return Err(ApiError::Unprocessable(format!(
                "'{field}' is not a valid field name.\nValid field names are {names:?}"
            )));
        }
        if let Some(other) = dataset.questions.iter().find(|q| q.field == field) {
            return Err(ApiError::Unprocessable(format!(
                "'{field}' is already used by span question with id '{}'",
                other.id
            )));
        }
        let question = Question {
            id: new_id(),
            name: body.name,
            title: body.title,
            description: body.description,
            required: body.required.unwrap_or(false),
            field,
            options,
            visible_options,
            allow_overlapping,
            inserted_at: now(),
        };
        let view = views::question(&question, &id);
        state.dataset_mut(&id)?.questions.push(question);
        Ok(view)
    })?;
    Ok((StatusCode::CREATED, Json(created)))
}

pub async fn metadata_properties(State(app): State<App>, caller: Caller, Id(id): Id) -> Answer {
    app.store.read(|state| {
        let dataset = caller.sees(state, &id)?;
        let all = caller.0.role != Role::Annotator;
        let shown = dataset.metadata_properties.iter().filter(|p| all || p.visible_for_annotators);
        Ok(Json(views::items(shown.map(|p| views::metadata_property(p, &id)))))
    })
}

/// Also after publishing.
pub async fn create_metadata_property(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<MetadataPropertyCreate>,
) -> Created {
    body.check()?;
    let created = app.store.write(|state| {
        let dataset = caller.manages(state, &id)?;
        if dataset.metadata_properties.iter().any(|p| p.name == body.name) {
            return Err(already("Metadata property", &body.name, &id));
        }
        let property = MetadataProperty {
            id: new_id(),
            name: body.name,
            title: body.title,
            visible_for_annotators: body.visible_for_annotators,
            settings: body.settings,
            inserted_at: now(),
        };
        let view = views::metadata_property(&property, &id);
        state.dataset_mut(&id)?.metadata_properties.push(property);
        Ok(view)
    })?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Publishing a draft that already has records answers 500 and leaves it `ready`: seen on the real server.
pub async fn publish(State(app): State<App>, caller: Caller, Id(id): Id) -> Answer {
    let (view, broken) = app.store.write(|state| {
        let dataset = caller.manages(state, &id)?;
        let refused = |why: &str| Err(ApiError::Unprocessable(why.to_owned()));
        if dataset.published {
            return refused("Dataset has already been published");
        }
        if dataset.fields.is_empty() {
            return refused("Dataset cannot be published without fields");
        }
        if !dataset.questions.iter().any(|q| q.required) {
            return refused("Dataset cannot be published without required questions");
        }
        let dataset = state.dataset_mut(&id)?;
        dataset.published = true;
        dataset.updated_at = now();
        Ok((views::dataset(dataset), !dataset.records.is_empty()))
    })?;
    if broken {
        return Err(ApiError::Internal("resource_already_exists_exception".to_owned()));
    }
    Ok(Json(view))
}

pub async fn progress(State(app): State<App>, caller: Caller, Id(id): Id) -> Answer {
    app.store.read(|state| {
        let dataset = caller.sees(state, &id)?;
        let total = if dataset.published { dataset.records.len() } else { 0 };
        let completed = dataset.records.iter().filter(|r| r.completed).count().min(total);
        let users: Vec<_> =
            dataset.respondents.iter().map(|user| json!({"username": state.username(user)})).collect();
        Ok(Json(
            json!({"total": total, "completed": completed, "pending": total - completed, "users": users}),
        ))
    })
}

/// Responses of each user, by the status of their record and their own.
pub async fn users_progress(State(app): State<App>, caller: Caller, Id(id): Id) -> Answer {
    app.store.read(|state| {
        let dataset = caller.sees(state, &id)?;
        let mut users = Vec::new();
        for user in &dataset.respondents {
            let none = json!({"submitted": 0, "discarded": 0, "draft": 0});
            let mut progress = json!({"username": state.username(user), "completed": none, "pending": none});
            for record in &dataset.records {
                for response in record.responses.iter().filter(|r| r.user_id == *user) {
                    let status = if record.completed { "completed" } else { "pending" };
                    let count = &mut progress[status][response.status.as_str()];
                    *count = json!(count.as_u64().unwrap_or(0) + 1);
                }
            }
            users.push(progress);
        }
        Ok(Json(json!({"users": users})))
    })
}

fn already(kind: &str, name: &str, dataset_id: &str) -> ApiError {
    ApiError::Conflict(format!("{kind} with name `{name}` already exists for dataset with id `{dataset_id}`"))
}
