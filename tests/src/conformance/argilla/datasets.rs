//! A dataset's way from nothing to published.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Case, Target, field, keys, merge, question};
use crate::conformance::{Seen, cases};

pub(super) fn cases() -> Vec<Case<Target>> {
    cases![
        dataset => "POST /datasets, find it by its exact name",
        dataset_twice => "a dataset twice: 409",
        dataset_bounds => "names of 1 to 200, min_submitted from 1",
        fields => "POST fields: once, before publishing",
        questions => "POST questions: one span question a field",
        options => "1 to 500 options, visible_options from 3",
        not_required => "a question is not required by default",
        metadata_properties => "POST metadata properties, also once published",
        publish => "publishing: what it needs, and only once",
        records_first => "trap: a draft with records cannot be published",
    ]
}

async fn dataset(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let body = target.dataset_body("found", json!({}));
    let made = target.post("/datasets", body).await?.is(201)?;
    ensure!(made["status"] == "draft" && made["guidelines"] == "Mark.", "{made}");
    ensure!(made["distribution"] == json!({"strategy": "overlap", "min_submitted": 1}), "{made}");
    seen.note(keys(&made));
    let find = |name: &str, workspace: &str| format!("/me/datasets?name={name}&workspace_id={workspace}");
    let (name, workspace) = (target.name("found"), &target.workspace);
    for key in [&target.owner, &target.annotator] {
        let found = target.call(key, Method::GET, &find(&name, workspace), None).await?.is(200)?;
        let [only] = found["items"].as_array().map_or(&[][..], Vec::as_slice) else {
            anyhow::bail!("not one item: {found}")
        };
        ensure!(only["id"] == made["id"], "{found}");
        seen.note(keys(only));
    }
    let part = target.get(&find(&name[..name.len() - 1], workspace)).await?.is(200)?;
    ensure!(part["items"] == json!([]), "part of a name finds nothing: {part}");
    Ok(seen)
}

async fn dataset_twice(target: &Target) -> Result<Seen> {
    target.draft("twice", json!({})).await?;
    let mut seen = Seen::default();
    let again = target.post("/datasets", target.dataset_body("twice", json!({}))).await?;
    seen.note(again.refused_for(409, "already exists for workspace")?);
    let nowhere = json!({"workspace_id": "00000000-0000-4000-8000-000000000000"});
    seen.note(target.post("/datasets", target.dataset_body("nowhere", nowhere)).await?.refused(422)?);
    Ok(seen)
}

async fn dataset_bounds(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let name = |length: usize| target.token.clone() + &"n".repeat(length - target.token.len());
    for more in [
        json!({"name": ""}),
        json!({"name": name(201)}),
        json!({"guidelines": ""}),
        json!({"guidelines": "g".repeat(10_001)}),
        json!({"distribution": {"strategy": "overlap", "min_submitted": 0}}),
        json!({"distribution": {"strategy": "none", "min_submitted": 1}}),
    ] {
        let answer = target.post("/datasets", target.dataset_body("bounds", more)).await?;
        seen.note(answer.refused_for(422, "ValidationError at body")?);
    }
    let most = json!({"name": name(200), "guidelines": "g".repeat(10_000)});
    target.post("/datasets", target.dataset_body("bounds", most)).await?.is(201)?;
    Ok(seen)
}

async fn fields(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let dataset = target.draft("fields", json!({})).await?;
    let path = format!("{}/fields", dataset.path);
    let made = target.post(&path, field("text")).await?.is(201)?;
    ensure!(made["settings"] == json!({"type": "text", "use_markdown": false}), "{made}");
    seen.note(keys(&made));
    seen.note(target.post(&path, field("text")).await?.refused_for(409, "already exists for dataset")?);
    let listed = target.get(&path).await?.is(200)?;
    ensure!(listed["items"].as_array().is_some_and(|items| items.len() == 1), "{listed}");
    let published = target.dataset("fields-late", json!({})).await?;
    let late = target.post(&format!("{}/fields", published.path), field("late")).await?;
    seen.note(late.refused_for(422, "published dataset")?);
    Ok(seen)
}

async fn questions(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let dataset = target.draft("questions", json!({})).await?;
    let path = format!("{}/questions", dataset.path);
    seen.note(target.post(&path, question("early")).await?.refused_for(422, "not a valid field name")?);
    target.post(&format!("{}/fields", dataset.path), field("text")).await?.is(201)?;
    let made = target.post(&path, question("entities")).await?.is(201)?;
    seen.note(keys(&made));
    seen.note(keys(&made["settings"]));
    ensure!(made["settings"]["options"] == question("entities")["settings"]["options"], "{made}");
    seen.note(
        target.post(&path, question("entities")).await?.refused_for(409, "already exists for dataset")?,
    );
    seen.note(
        target.post(&path, question("second")).await?.refused_for(422, "already used by span question")?,
    );
    let published = target.dataset("questions-late", json!({})).await?;
    let late = target.post(&format!("{}/questions", published.path), question("late")).await?;
    seen.note(late.refused_for(422, "published dataset")?);
    Ok(seen)
}

async fn options(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let dataset = target.draft("options", json!({})).await?;
    for name in ["text", "other"] {
        target.post(&format!("{}/fields", dataset.path), field(name)).await?.is(201)?;
    }
    let path = format!("{}/questions", dataset.path);
    let options = |count: usize| -> Value {
        (0..count).map(|n| json!({"value": format!("L{n}"), "text": format!("L{n}")})).collect()
    };
    let with = |name: &str, more: Value| {
        let mut body = question(name);
        merge(&mut body["settings"], more);
        body
    };
    for more in [
        json!({"options": []}),
        json!({"options": options(501)}),
        json!({"options": options(4), "visible_options": 2}),
        json!({"options": options(4), "visible_options": 5}),
        json!({"options": [{"value": "A", "text": "A"}, {"value": "A", "text": "B"}]}),
    ] {
        let answer = target.post(&path, with("refused", more)).await?;
        seen.note(answer.refused_for(422, "ValidationError at body")?);
    }
    target.post(&path, with("most", json!({"options": options(500)}))).await?.is(201)?;
    let more = json!({"field": "other", "options": options(4), "visible_options": 3});
    let visible = target.post(&path, with("visible", more)).await?.is(201)?;
    ensure!(visible["settings"]["visible_options"] == 3, "{visible}");
    Ok(seen)
}

async fn not_required(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let dataset = target.draft("optional", json!({})).await?;
    target.post(&format!("{}/fields", dataset.path), field("text")).await?.is(201)?;
    let mut body = question("entities");
    body.as_object_mut().and_then(|body| body.remove("required"));
    let made = target.post(&format!("{}/questions", dataset.path), body).await?.is(201)?;
    ensure!(made["required"] == false, "{made}");
    let publish = target.put(&format!("{}/publish", dataset.path), Value::Null).await?;
    seen.note(publish.refused_for(422, "without required questions")?);
    Ok(seen)
}

async fn metadata_properties(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let dataset = target.dataset("properties", json!({})).await?;
    let path = format!("{}/metadata-properties", dataset.path);
    let late = json!({"name": "run_id", "title": "OCR run", "settings": {"type": "integer"}});
    let made = target.post(&path, late.clone()).await?.is(201)?;
    seen.note(keys(&made));
    seen.note(&made["settings"]);
    seen.note(target.post(&path, late).await?.refused_for(409, "already exists for dataset")?);
    let odd = json!({"name": "odd", "title": "Odd", "settings": {"type": "colour"}});
    seen.note(target.post(&path, odd).await?.refused_for(422, "ValidationError at body")?);
    for key in [&target.owner, &target.annotator] {
        let listed = target.call(key, Method::GET, &format!("/me{path}"), None).await?.is(200)?;
        let names = listed["items"].as_array().into_iter().flatten().map(|p| p["name"].to_string());
        seen.note(names.collect::<Vec<_>>().join(" "));
    }
    Ok(seen)
}

async fn publish(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let dataset = target.draft("publish", json!({})).await?;
    let publish = format!("{}/publish", dataset.path);
    seen.note(target.put(&publish, Value::Null).await?.refused_for(422, "without fields")?);
    target.post(&format!("{}/fields", dataset.path), field("text")).await?.is(201)?;
    seen.note(target.put(&publish, Value::Null).await?.refused_for(422, "without required questions")?);
    target.post(&format!("{}/questions", dataset.path), question("entities")).await?.is(201)?;
    let made = target.put(&publish, Value::Null).await?.is(200)?;
    ensure!(made["status"] == "ready", "{made}");
    seen.note(keys(&made));
    seen.note(target.put(&publish, Value::Null).await?.refused_for(422, "already been published")?);
    ensure!(target.get(&dataset.path).await?.is(200)?["status"] == "ready", "it stays so");
    Ok(seen)
}

/// The publishing fails, and yet the dataset says `ready`: only a new dataset helps.
async fn records_first(target: &Target) -> Result<Seen> {
    let mut seen = Seen::default();
    let dataset = target.draft("records-first", json!({})).await?;
    target.post(&format!("{}/fields", dataset.path), field("text")).await?.is(201)?;
    target.post(&format!("{}/questions", dataset.path), question("entities")).await?.is(201)?;
    let item = json!({"external_id": "d:1", "fields": {"text": "x"}});
    seen.note(format!("a bulk on a draft: {}", target.bulk(&dataset, json!([item])).await?.status));
    let publish = target.put(&format!("{}/publish", dataset.path), Value::Null).await?;
    seen.note(format!("its publishing: {}", publish.status));
    seen.note(format!("then it is {}", target.get(&dataset.path).await?.is(200)?["status"]));
    Ok(seen)
}
