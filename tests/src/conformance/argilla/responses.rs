//! What reviewers answer, and what becomes of the record and of the progress.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Case, Dataset, Target, id, keys, values};
use crate::conformance::{Seen, cases, until};

pub(super) fn cases() -> Vec<Case<Target>> {
    cases![
        statuses => "POST responses: draft, submitted, discarded",
        twice => "one response a record and user: 409",
        refused => "POST responses: what a submitted one needs",
        null_values => "trap: values null: stored, and answered with 500",
        discarded => "trap: a discarded response keeps its spans",
        bulk => "POST /me/responses/bulk: item by item",
        bulk_bounds => "POST /me/responses/bulk: 1 to 100 items",
        completed => "a record is completed at min_submitted",
        read_back => "a bulk answers with responses given before it",
        kept => "an upsert leaves responses and status alone",
        progress => "GET progress (it may lag)",
        users_progress => "GET users/progress (it may lag)",
    ]
}

const TEXT: &str = "IMO 9074729";

fn answer(status: &str, spans: &[(&str, i64, i64)]) -> Value {
    json!({"status": status, "values": {"entities": {"value": values(spans)}}})
}

/// A dataset with records `d:0`, `d:1`, …; gives their ids.
async fn pages(target: &Target, name: &str, more: Value, count: usize) -> Result<(Dataset, Vec<String>)> {
    let dataset = target.dataset(name, more).await?;
    let items: Value = (0..count).map(|n| dataset.item(&format!("d:{n}"), TEXT, &[("IMO", 4, 11)])).collect();
    let stored = target.bulk(&dataset, items).await?.is(200)?;
    let ids = stored["items"].as_array().into_iter().flatten().map(id).collect::<Result<_>>()?;
    Ok((dataset, ids))
}

fn responses(record: &str) -> String {
    format!("/records/{record}/responses")
}

async fn statuses(target: &Target) -> Result<Seen> {
    let (dataset, ids) = pages(target, "statuses", json!({}), 3).await?;
    let mut seen = Seen::default();
    for (record, status) in ids.iter().zip(["draft", "submitted", "discarded"]) {
        let given = answer(status, &[("IMO", 4, 11)]);
        let made = target.sme(Method::POST, &responses(record), Some(given.clone())).await?.is(201)?;
        ensure!(made["status"] == status && made["user_id"] == target.annotator_id.as_str(), "{made}");
        ensure!(made["values"] == given["values"], "{made}");
        seen.note(keys(&made));
    }
    let listed = target.listed(&dataset).await?;
    for record in listed["items"].as_array().context("items")? {
        let responses = record["responses"].as_array().context("responses")?;
        ensure!(responses.len() == 1, "{record}");
        seen.note(format!("{} {}", record["status"], responses[0]["status"]));
        seen.note(keys(&responses[0]));
    }
    Ok(seen)
}

async fn twice(target: &Target) -> Result<Seen> {
    let (_, ids) = pages(target, "response-twice", json!({}), 1).await?;
    let mut seen = Seen::default();
    let draft = answer("draft", &[]);
    target.sme(Method::POST, &responses(&ids[0]), Some(draft.clone())).await?.is(201)?;
    let again = target.sme(Method::POST, &responses(&ids[0]), Some(draft.clone())).await?;
    seen.note(again.refused_for(409, "Response already exists")?);
    target.post(&responses(&ids[0]), draft).await?.is(201).context("another user has one too")?;
    Ok(seen)
}

async fn refused(target: &Target) -> Result<Seen> {
    let (_, ids) = pages(target, "response-refused", json!({}), 1).await?;
    let mut seen = Seen::default();
    for body in [
        json!({"status": "submitted", "values": {}}),
        json!({"status": "submitted", "values": {"other": {"value": []}}}),
        json!({"status": "draft", "values": {"other": {"value": []}}}),
        answer("submitted", &[("IMO", 4, 12)]),
        answer("draft", &[("IMO", 11, 12)]),
        answer("submitted", &[("SPECIES", 0, 1)]),
        answer("submitted", &[("IMO", 0, 3), ("FLAG", 2, 4)]),
        answer("discarded", &[("IMO", 0, 12)]),
        answer("submitted", &[("IMO", 3, 3)]),
        json!({"status": "draft", "values": {"entities": {"value": [{"label": "IMO", "start": 0}]}}}),
        json!({"status": "submitted", "values": {"entities": {"value": "x"}}}),
        json!({"status": "submitted", "values": {"entities": {"value": 7}}}),
        json!({"status": "submitted", "values": {"entities": {"value": null}}}),
        json!({"status": "submitted", "values": {"entities": {}}}),
        json!({"status": "submitted"}),
        json!({"status": "submitted", "values": null}),
        json!({"status": "done", "values": {}}),
        json!({"values": {}}),
    ] {
        seen.note(target.sme(Method::POST, &responses(&ids[0]), Some(body)).await?.refused(422)?);
    }
    let empty = answer("submitted", &[]);
    target
        .sme(Method::POST, &responses(&ids[0]), Some(empty))
        .await?
        .is(201)
        .context("no spans is an answer")?;
    Ok(seen)
}

/// What control may meet in an export; who writes sends `values: {}` at least.
async fn null_values(target: &Target) -> Result<Seen> {
    let (dataset, ids) = pages(target, "null-values", json!({}), 5).await?;
    let mut seen = Seen::default();
    let bodies = [
        json!({"status": "discarded", "values": null}),
        json!({"status": "discarded"}),
        json!({"status": "draft", "values": null}),
    ];
    for (record, body) in ids.iter().zip(bodies) {
        seen.note(target.sme(Method::POST, &responses(record), Some(body)).await?.refused(500)?);
    }
    let item = json!({"record_id": ids[3], "status": "discarded", "values": null});
    let bulk = json!({"items": [item]});
    let bulk = target.sme(Method::POST, "/me/responses/bulk", Some(bulk)).await?.is(200)?;
    seen.note(&bulk["items"][0]);
    let empty = json!({"status": "discarded", "values": {}});
    target.sme(Method::POST, &responses(&ids[4]), Some(empty)).await?.is(201)?;
    for record in target.listed(&dataset).await?["items"].as_array().context("items")? {
        seen.note(format!("{} {}", record["responses"][0]["status"], record["responses"][0]["values"]));
    }
    ensure!(seen.lines[4] == "\"discarded\" null", "{:?}", seen.lines);
    Ok(seen)
}

async fn discarded(target: &Target) -> Result<Seen> {
    let (dataset, ids) = pages(target, "discarded", json!({}), 1).await?;
    let given = answer("discarded", &[("IMO", 4, 11)]);
    target.sme(Method::POST, &responses(&ids[0]), Some(given.clone())).await?.is(201)?;
    let record = target.record(&dataset, "d:0").await?;
    ensure!(record["responses"][0]["values"] == given["values"], "{record}");
    ensure!(record["status"] == "pending", "{record}");
    Ok(Seen::default())
}

async fn bulk(target: &Target) -> Result<Seen> {
    let (dataset, ids) = pages(target, "response-bulk", json!({}), 3).await?;
    let with = |record: &str, mut body: Value| {
        body["record_id"] = json!(record);
        body
    };
    let items = json!([
        with(&ids[0], answer("submitted", &[("IMO", 4, 11)])),
        with(&ids[1], answer("submitted", &[("IMO", 4, 12)])),
        with("00000000-0000-4000-8000-000000000000", answer("discarded", &[])),
        with(&ids[2], answer("discarded", &[("IMO", 4, 11)])),
    ]);
    let path = "/me/responses/bulk";
    let answered = target.sme(Method::POST, path, Some(json!({"items": items}))).await?.is(200)?;
    let mut seen = Seen::default();
    for item in answered["items"].as_array().context("items")? {
        let error = item["error"]["detail"].as_str().unwrap_or("no error");
        seen.note(format!("{} {}", item["item"]["status"], super::plain(error, &target.token)));
    }
    ensure!(seen.lines.len() == 4 && seen.lines[0] == "\"submitted\" no error", "{:?}", seen.lines);
    ensure!(seen.lines[3] == "\"discarded\" no error", "a bad item stops no other: {:?}", seen.lines);
    // Again: an upsert.
    let again = json!({"items": [with(&ids[0], answer("submitted", &[]))]});
    let changed = target.sme(Method::POST, path, Some(again)).await?.is(200)?;
    ensure!(changed["items"][0]["error"].is_null(), "{changed}");
    let record = target.record(&dataset, "d:0").await?;
    ensure!(record["responses"].as_array().is_some_and(|all| all.len() == 1), "{record}");
    ensure!(record["responses"][0]["values"]["entities"]["value"] == json!([]), "{record}");
    Ok(seen)
}

async fn bulk_bounds(target: &Target) -> Result<Seen> {
    let (_, ids) = pages(target, "response-bulk-bounds", json!({}), 101).await?;
    let items = |count: usize| {
        let item = |record: &String| json!({"record_id": record, "status": "discarded", "values": {}});
        json!({"items": ids[..count].iter().map(item).collect::<Vec<_>>()})
    };
    let mut seen = Seen::default();
    for count in [0, 101] {
        let answer = target.sme(Method::POST, "/me/responses/bulk", Some(items(count))).await?;
        seen.note(answer.refused_for(422, "ValidationError at body")?);
    }
    target.sme(Method::POST, "/me/responses/bulk", Some(items(100))).await?.is(200)?;
    Ok(seen)
}

async fn completed(target: &Target) -> Result<Seen> {
    let two = json!({"distribution": {"strategy": "overlap", "min_submitted": 2}});
    let (dataset, ids) = pages(target, "completed", two, 1).await?;
    let mut seen = Seen::default();
    let submit = answer("submitted", &[("IMO", 4, 11)]);
    let status = async || Ok::<_, anyhow::Error>(target.record(&dataset, "d:0").await?["status"].to_string());
    target.sme(Method::POST, &responses(&ids[0]), Some(submit.clone())).await?.is(201)?;
    seen.note(format!("one of two: {}", status().await?));
    target.post(&responses(&ids[0]), submit).await?.is(201)?;
    seen.note(format!("two of two: {}", status().await?));
    let mut discard = answer("discarded", &[("IMO", 4, 11)]);
    discard["record_id"] = json!(ids[0]);
    target.post("/me/responses/bulk", json!({"items": [discard]})).await?.is(200)?;
    seen.note(format!("one taken back: {}", status().await?));
    ensure!(seen.lines[..2] == ["one of two: \"pending\"", "two of two: \"completed\""], "{:?}", seen.lines);
    Ok(seen)
}

async fn read_back(target: &Target) -> Result<Seen> {
    let (dataset, ids) = pages(target, "read-back", json!({}), 1).await?;
    target.sme(Method::POST, &responses(&ids[0]), Some(answer("submitted", &[]))).await?.is(201)?;
    let stored = target.stored(&dataset, dataset.item("d:0", TEXT, &[("FLAG", 0, 3)])).await?;
    ensure!(stored["responses"][0]["status"] == "submitted", "the race is seen: {stored}");
    ensure!(stored["suggestions"][0]["value"][0]["label"] == "FLAG", "and what was stored: {stored}");
    Ok(Seen::default())
}

async fn kept(target: &Target) -> Result<Seen> {
    let (dataset, ids) = pages(target, "response-kept", json!({}), 1).await?;
    let given = answer("submitted", &[("IMO", 4, 11)]);
    target.sme(Method::POST, &responses(&ids[0]), Some(given.clone())).await?.is(201)?;
    target.stored(&dataset, dataset.item("d:0", "IMO", &[])).await?;
    let record = target.record(&dataset, "d:0").await?;
    ensure!(record["responses"][0]["values"] == given["values"], "{record}");
    let mut seen = Seen::default();
    seen.note(format!("{} {}", record["status"], record["fields"]["text"]));
    Ok(seen)
}

/// Two submitted, one discarded, one draft, two untouched.
async fn reviewed(target: &Target, name: &str) -> Result<Dataset> {
    let (dataset, ids) = pages(target, name, json!({}), 6).await?;
    for (record, status) in ids.iter().zip(["submitted", "submitted", "discarded", "draft"]) {
        target
            .sme(Method::POST, &responses(record), Some(answer(status, &[("IMO", 4, 11)])))
            .await?
            .is(201)?;
    }
    Ok(dataset)
}

async fn progress(target: &Target) -> Result<Seen> {
    let dataset = reviewed(target, "progress").await?;
    let progress = until(async || {
        let progress = target.get(&format!("{}/progress", dataset.path)).await?.is(200)?;
        ensure!(progress["total"] == 6 && progress["completed"] == 2, "{progress}");
        Ok(progress)
    })
    .await?;
    ensure!(progress["pending"] == 4, "{progress}");
    ensure!(progress["users"] == json!([{"username": target.annotator_name}]), "{progress}");
    let mut seen = Seen::default();
    seen.note(keys(&progress));
    let nobody = target.dataset("progress-none", json!({})).await?;
    let none = target.get(&format!("{}/progress", nobody.path)).await?.is(200)?;
    seen.note(format!("{} {} {} {}", none["total"], none["completed"], none["pending"], none["users"]));
    let draft = target.draft("progress-draft", json!({})).await?;
    let draft = target.get(&format!("{}/progress", draft.path)).await?;
    seen.note(format!("of a draft: {}", draft.status));
    Ok(seen)
}

async fn users_progress(target: &Target) -> Result<Seen> {
    let dataset = reviewed(target, "users-progress").await?;
    let path = format!("{}/users/progress", dataset.path);
    let user = until(async || {
        let progress = target.get(&path).await?.is(200)?;
        let user = progress["users"][0].clone();
        let pending = json!({"discarded": 1, "draft": 1});
        ensure!(
            user["completed"]["submitted"] == 2 && count(&user["pending"]) == count(&pending),
            "{progress}"
        );
        Ok(user)
    })
    .await?;
    ensure!(user["username"] == target.annotator_name.as_str(), "{user}");
    let mut seen = Seen::default();
    seen.note(format!("{}: {} / {}", keys(&user), keys(&user["completed"]), keys(&user["pending"])));
    let nobody = target.dataset("users-progress-none", json!({})).await?;
    seen.note(target.get(&format!("{}/users/progress", nobody.path)).await?.is(200)?);
    Ok(seen)
}

fn count(statuses: &Value) -> u64 {
    statuses.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
}
