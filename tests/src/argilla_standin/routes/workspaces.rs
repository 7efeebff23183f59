//! Workspaces and their members.

use std::collections::BTreeSet;

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};

use crate::argilla_standin::{
    App,
    auth::{Caller, Role},
    errors::ApiError,
    input::{Body, Id, WorkspaceCreate, WorkspaceUserCreate},
    state::{Workspace, new_id, now},
    views,
};

pub async fn users(State(app): State<App>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.owner()?;
    Ok(Json(app.store.read(|state| views::items(state.users.iter().map(views::user)))))
}

pub async fn mine(State(app): State<App>, Caller(user): Caller) -> Json<Value> {
    Json(app.store.read(|state| {
        let mine = |w: &&Workspace| user.role == Role::Owner || w.members.contains(&user.id);
        views::items(state.workspaces.iter().filter(mine).map(views::workspace))
    }))
}

pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<WorkspaceCreate>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    caller.owner()?;
    if body.name.is_empty() {
        return Err(ApiError::body([json!("name")], "String should have at least 1 character"));
    }
    let created = app.store.write(|state| {
        if state.workspaces.iter().any(|w| w.name == body.name) {
            return Err(ApiError::Conflict(format!("Workspace name `{}` is not unique", body.name)));
        }
        let workspace =
            Workspace { id: new_id(), name: body.name, members: BTreeSet::new(), inserted_at: now() };
        let view = views::workspace(&workspace);
        state.workspaces.push(workspace);
        Ok(view)
    })?;
    Ok((StatusCode::CREATED, Json(created)))
}

pub async fn members(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<Json<Value>, ApiError> {
    app.store.read(|state| {
        caller.manager(state, &id)?;
        let workspace = state.workspaces.iter().find(|w| w.id == id);
        let workspace = workspace.ok_or_else(|| ApiError::no_such("Workspace", &id))?;
        let members = state.users.iter().filter(|u| workspace.members.contains(&u.id));
        Ok(Json(views::items(members.map(views::user))))
    })
}

pub async fn add_member(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<WorkspaceUserCreate>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    caller.owner()?;
    let added = app.store.write(|state| {
        let workspace = state.workspaces.iter_mut().find(|w| w.id == id);
        let workspace = workspace.ok_or_else(|| ApiError::no_such("Workspace", &id))?;
        let user = state.users.iter().find(|u| u.id == body.user_id);
        let user = user
            .ok_or_else(|| ApiError::Unprocessable(format!("User with id `{}` not found", body.user_id)))?;
        if !workspace.members.insert(user.id.clone()) {
            return Err(ApiError::Conflict(format!(
                "Workspace user with workspace_id `{id}` and user_id `{}` is not unique",
                user.id
            )));
        }
        Ok(views::user(user))
    })?;
    Ok((StatusCode::CREATED, Json(added)))
}
