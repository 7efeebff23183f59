//! Who may do what, and how each kind of refusal reads.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Case, Target, field, keys};
use crate::conformance::{Seen, cases};

/// No dataset, record or workspace has it.
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

pub(super) fn cases() -> Vec<Case<Target>> {
    cases![
        version => "GET /version without a key",
        unauthorized => "no key and a wrong key: 401",
        me => "GET /me and /me/workspaces",
        annotator => "what an annotator may not: 403",
        not_found => "nothing there: 404",
        schema => "bodies that are not what the schema says: 422",
        workspace_twice => "a workspace twice: 409",
    ]
}

async fn version(target: &Target) -> Result<Seen> {
    let answer = target.call("", Method::GET, "/version", None).await?.is(200)?;
    let mut seen = Seen::default();
    seen.note(answer["version"].as_str().unwrap_or("none"));
    Ok(seen)
}

async fn unauthorized(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    for key in ["", "wrong"] {
        for (method, path) in
            [(Method::GET, "/me"), (Method::POST, "/workspaces"), (Method::GET, "/me/datasets")]
        {
            let body = (method == Method::POST).then(|| json!({"name": "w"}));
            let answer = target.call(key, method, path, body).await?;
            seen.note(answer.refused_for(401, "UnauthorizedError Could not validate credentials")?);
        }
    }
    Ok(seen)
}

async fn me(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    for key in [&target.owner, &target.annotator] {
        let me = target.call(key, Method::GET, "/me", None).await?.is(200)?;
        seen.note(format!("{} {}", me["role"], keys(&me)));
        let mine = target.call(key, Method::GET, "/me/workspaces", None).await?.is(200)?;
        let ours =
            mine["items"].as_array().into_iter().flatten().find(|w| w["id"] == target.workspace.as_str());
        ensure!(ours.is_some_and(|w| w["name"] == target.name("conformance")), "our workspace is among mine");
        seen.note(keys(&ours.cloned().unwrap_or_default()));
    }
    ensure!(
        seen.lines[0].starts_with("\"owner\"") && seen.lines[2].starts_with("\"annotator\""),
        "the roles"
    );
    Ok(seen)
}

async fn annotator(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("forbidden", json!({})).await?;
    let path = &dataset.path;
    let record = target.stored(&dataset, dataset.item("d:1", "IMO", &[])).await?;
    let record = format!("/records/{}", record["id"].as_str().unwrap_or_default());
    let forbidden = [
        (Method::POST, "/workspaces".to_owned(), json!({"name": target.name("theirs")})),
        (Method::POST, "/datasets".to_owned(), target.dataset_body("theirs", json!({}))),
        (Method::POST, format!("{path}/fields"), field("more")),
        (Method::PUT, format!("{path}/publish"), Value::Null),
        (Method::PUT, format!("{path}/records/bulk"), json!({"items": [dataset.item("d:2", "x", &[])]})),
        (Method::GET, format!("{path}/records"), Value::Null),
        (Method::POST, format!("{path}/records/search"), json!({})),
        (Method::PATCH, record, json!({"suggestions": []})),
    ];
    let mut seen = Seen::default();
    for (method, path, body) in forbidden {
        let answer = target.sme(method, &path, (!body.is_null()).then_some(body)).await?;
        seen.note(answer.refused_for(403, "ForbiddenOperationError Operation not allowed")?);
    }
    // What a reviewer needs is theirs.
    for path in
        [path.clone(), format!("{path}/fields"), format!("{path}/questions"), format!("{path}/progress")]
    {
        target.sme(Method::GET, &path, None).await?.is(200)?;
    }
    Ok(seen)
}

async fn not_found(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    for path in ["", "/fields", "/questions", "/records", "/progress", "/users/progress"] {
        let answer = target.get(&format!("/datasets/{NOBODY}{path}")).await?;
        seen.note(answer.refused_for(404, "Dataset with id `<id>` not found")?);
    }
    let bulk = json!({"items": [{"fields": {"text": "x"}}]});
    seen.note(target.put(&format!("/datasets/{NOBODY}/records/bulk"), bulk).await?.refused(404)?);
    let put = target.put(&format!("/datasets/{NOBODY}/publish"), Value::Null).await?;
    seen.note(put.refused(404)?);
    seen.note(target.patch(&format!("/records/{NOBODY}"), json!({"suggestions": []})).await?.refused(404)?);
    let response = json!({"status": "discarded", "values": {}});
    seen.note(target.post(&format!("/records/{NOBODY}/responses"), response).await?.refused(404)?);
    let missing = target.get(&format!("/me/datasets?name={}", target.name("no-such"))).await?.is(200)?;
    ensure!(missing["items"] == json!([]), "a name nobody has gives no item");
    Ok(seen)
}

async fn schema(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("schema", json!({})).await?;
    let bulk = format!("{}/records/bulk", dataset.path);
    let mut seen = Seen::default();
    for (path, body) in [
        (bulk.as_str(), json!([])),
        (&bulk, json!({})),
        (&bulk, json!({"items": {}})),
        (&bulk, json!({"items": [{"external_id": true, "fields": {"text": "x"}}]})),
        (&bulk, json!({"items": [{"external_id": ["d"], "fields": {"text": "x"}}]})),
        (&bulk, json!({"items": [{"external_id": "d:1", "fields": "x"}]})),
    ] {
        seen.note(target.put(path, body).await?.refused_for(422, "ValidationError at body")?);
    }
    for body in [json!({}), json!({"name": 3}), json!({"name": ""})] {
        seen.note(target.post("/workspaces", body).await?.refused_for(422, "ValidationError at body")?);
    }
    for query in ["limit=0", "limit=1001", "limit=x"] {
        let answer = target.get(&format!("{}/records?{query}", dataset.path)).await?;
        seen.note(answer.refused_for(422, "ValidationError at query")?);
    }
    // As a sentence, which is pydantic's.
    target.get(&format!("{}/records?include=nonsense", dataset.path)).await?.refused(422)?;
    seen.note(target.get("/datasets/no-uuid").await?.refused_for(422, "ValidationError at path")?);
    let ignored = json!([{"external_id": "d:1", "fields": {"text": "x"}, "nonsense": 1}]);
    target.bulk(&dataset, ignored).await?.is(200)?;
    // Only numbers are taken for text, and only there.
    let number =
        target.bulk(&dataset, json!([{"external_id": 7, "fields": {"text": "x"}}])).await?.is(200)?;
    seen.note(format!("external id 7 became {}", number["items"][0]["external_id"]));
    Ok(seen)
}

async fn workspace_twice(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let again = target.post("/workspaces", json!({"name": target.name("conformance")})).await?;
    seen.note(again.refused_for(409, "is not unique")?);
    let members = format!("/workspaces/{}/users", target.workspace);
    let again = target.post(&members, json!({"user_id": target.annotator_id})).await?;
    seen.note(again.refused(409)?);
    Ok(seen)
}
