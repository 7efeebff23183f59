//! Who calls, and what they may do: the header `X-Argilla-Api-Key`, the three roles, workspace membership.

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, request::Parts},
};
use serde::{Deserialize, Serialize};

use super::{
    App,
    errors::ApiError,
    state::{Dataset, State, User},
};

pub const API_KEY: HeaderName = HeaderName::from_static("x-argilla-api-key");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Owner,
    Admin,
    Annotator,
}

/// The user whose key came with the request; without one, 401.
pub struct Caller(pub User);

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let key = parts.headers.get(API_KEY).and_then(|value| value.to_str().ok());
        let user =
            app.store.read(|state| state.users.iter().find(|u| Some(u.api_key.as_str()) == key).cloned());
        user.map(Self).ok_or(ApiError::Unauthorized)
    }
}

impl Caller {
    /// Only owners.
    pub fn owner(&self) -> Result<(), ApiError> {
        allow(self.0.role == Role::Owner)
    }

    /// Owners, and any member of the workspace.
    pub fn member(&self, state: &State, workspace_id: &str) -> Result<(), ApiError> {
        allow(self.0.role == Role::Owner || self.belongs(state, workspace_id))
    }

    /// Owners, and admins who are members of the workspace.
    pub fn manager(&self, state: &State, workspace_id: &str) -> Result<(), ApiError> {
        allow(match self.0.role {
            Role::Owner => true,
            Role::Admin => self.belongs(state, workspace_id),
            Role::Annotator => false,
        })
    }

    pub fn manages<'a>(&self, state: &'a State, dataset_id: &str) -> Result<&'a Dataset, ApiError> {
        let dataset = state.dataset(dataset_id)?;
        self.manager(state, &dataset.workspace_id)?;
        Ok(dataset)
    }

    pub fn sees<'a>(&self, state: &'a State, dataset_id: &str) -> Result<&'a Dataset, ApiError> {
        let dataset = state.dataset(dataset_id)?;
        self.member(state, &dataset.workspace_id)?;
        Ok(dataset)
    }

    fn belongs(&self, state: &State, workspace_id: &str) -> bool {
        state.workspaces.iter().any(|w| w.id == workspace_id && w.members.contains(&self.0.id))
    }
}

fn allow(allowed: bool) -> Result<(), ApiError> {
    if allowed { Ok(()) } else { Err(ApiError::Forbidden) }
}
