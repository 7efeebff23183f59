//! The JSON that Argilla answers with.

use serde_json::{Value, json};

use super::state::{
    Dataset, Field, MetadataProperty, Question, Record, Response, Suggestion, User, Workspace,
};

pub fn items(items: impl IntoIterator<Item = Value>) -> Value {
    json!({"items": items.into_iter().collect::<Vec<_>>()})
}

/// With the API key, as Argilla does.
pub fn user(u: &User) -> Value {
    json!({"id": u.id, "first_name": u.username, "last_name": null, "username": u.username, "role": u.role,
           "api_key": u.api_key, "inserted_at": u.inserted_at, "updated_at": u.inserted_at})
}

pub fn workspace(w: &Workspace) -> Value {
    json!({"id": w.id, "name": w.name, "inserted_at": w.inserted_at, "updated_at": w.inserted_at})
}

pub fn dataset(d: &Dataset) -> Value {
    json!({"id": d.id, "name": d.name, "guidelines": d.guidelines,
           "allow_extra_metadata": d.allow_extra_metadata,
           "status": if d.published { "ready" } else { "draft" },
           "distribution": {"strategy": "overlap", "min_submitted": d.min_submitted},
           "metadata": d.metadata, "workspace_id": d.workspace_id, "last_activity_at": d.last_activity_at,
           "inserted_at": d.inserted_at, "updated_at": d.updated_at})
}

pub fn field(f: &Field, dataset_id: &str) -> Value {
    json!({"id": f.id, "name": f.name, "title": f.title, "required": f.required,
           "settings": {"type": "text", "use_markdown": f.use_markdown},
           "dataset_id": dataset_id, "inserted_at": f.inserted_at, "updated_at": f.inserted_at})
}

pub fn question(q: &Question, dataset_id: &str) -> Value {
    json!({"id": q.id, "name": q.name, "title": q.title, "description": q.description, "required": q.required,
           "settings": {"type": "span", "field": q.field, "options": q.options,
                        "visible_options": q.visible_options, "allow_overlapping": q.allow_overlapping,
                        "allow_character_annotation": true},
           "dataset_id": dataset_id, "inserted_at": q.inserted_at, "updated_at": q.inserted_at})
}

pub fn metadata_property(p: &MetadataProperty, dataset_id: &str) -> Value {
    json!({"id": p.id, "name": p.name, "title": p.title, "settings": p.settings,
           "visible_for_annotators": p.visible_for_annotators,
           "dataset_id": dataset_id, "inserted_at": p.inserted_at, "updated_at": p.inserted_at})
}

/// What of a record's relations an answer carries.
#[derive(Clone, Copy)]
pub struct Include<'a> {
    pub suggestions: bool,
    pub responses: bool,
    /// Only this user's responses.
    pub of_user: Option<&'a str>,
    /// There are none ever; a record on its own shows that.
    pub vectors: bool,
}

impl Include<'_> {
    pub const ALL: Include<'static> =
        Include { suggestions: true, responses: true, of_user: None, vectors: true };
}

pub fn record(r: &Record, dataset_id: &str, include: Include<'_>) -> Value {
    let mut view = json!({"id": r.id, "status": if r.completed { "completed" } else { "pending" },
           "fields": r.fields, "metadata": r.metadata, "external_id": r.external_id,
           "dataset_id": dataset_id, "inserted_at": r.inserted_at, "updated_at": r.updated_at});
    if include.responses {
        let shown = r.responses.iter().filter(|one| include.of_user.is_none_or(|user| one.user_id == user));
        view["responses"] = shown.map(|one| response(one, &r.id)).collect();
    }
    if include.suggestions {
        view["suggestions"] = r.suggestions.iter().map(suggestion).collect();
    }
    if include.vectors {
        view["vectors"] = json!({});
    }
    view
}

pub fn suggestion(s: &Suggestion) -> Value {
    json!({"id": s.id, "question_id": s.question_id, "type": s.r#type, "value": s.value, "agent": s.agent,
           "score": s.score, "inserted_at": s.inserted_at, "updated_at": s.updated_at})
}

pub fn response(r: &Response, record_id: &str) -> Value {
    json!({"id": r.id, "values": r.values, "status": r.status, "record_id": record_id, "user_id": r.user_id,
           "inserted_at": r.inserted_at, "updated_at": r.updated_at})
}
