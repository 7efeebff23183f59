//! Records: the atomic bulk upsert, metadata, the listing, the search.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Case, Dataset, Target, keys};
use crate::conformance::{Seen, cases, until};

pub(super) fn cases() -> Vec<Case<Target>> {
    cases![
        bulk => "PUT records/bulk answers with the records",
        atomic => "one bad record rejects all, by its position",
        bounds => "1 to 500 items, external ids unique",
        fields => "fields: required, text, configured",
        metadata_types => "metadata: integers, floats, terms, unknown names",
        metadata_kept => "trap: metadata {} wipes, left out keeps",
        upsert => "an upsert by external id keeps the record's id",
        not_indexed => "trap: stored but not indexed; the same again heals",
        listing => "GET records: order, offset, limit, total",
        include => "GET records: include",
        search => "POST records/search by external id",
        search_as_annotator => "POST /me/…/records/search: own responses",
    ]
}

async fn bulk(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("bulk", json!({})).await?;
    let items =
        json!([dataset.item("d:1", "IMO 9074729", &[("IMO", 4, 11)]), dataset.item("d:2", "none", &[])]);
    let answer = target.bulk(&dataset, items).await?.is(200)?;
    let mut seen = Seen::default();
    seen.note(keys(&answer));
    for record in answer["items"].as_array().context("items")? {
        seen.note(keys(record));
        for part in ["external_id", "status", "fields", "metadata", "responses"] {
            seen.note(format!("{part}: {}", record[part]));
        }
    }
    let suggestion = &answer["items"][0]["suggestions"][0];
    seen.note(keys(suggestion));
    for part in ["value", "score", "agent", "type"] {
        seen.note(format!("{part}: {}", sorted(&suggestion[part])));
    }
    Ok(seen)
}

/// JSON with the keys of its objects in order: servers differ there.
fn sorted(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(", ")),
        Value::Object(object) => {
            let mut pairs: Vec<_> =
                object.iter().map(|(key, value)| format!("{key}: {}", sorted(value))).collect();
            pairs.sort();
            format!("{{{}}}", pairs.join(", "))
        }
        plain => plain.to_string(),
    }
}

async fn atomic(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("atomic", json!({})).await?;
    let good = |n: u32| dataset.item(&format!("d:{n}"), "IMO 9074729", &[("IMO", 4, 11)]);
    let bad = dataset.item("d:9", "IMO", &[("IMO", 2, 10)]);
    let mut seen = Seen::default();
    for at in [0, 2] {
        let mut items = vec![good(1), good(2)];
        items.insert(at, bad.clone());
        let answer = target.bulk(&dataset, json!(items)).await?;
        seen.note(answer.refused_for(422, &format!("Record at position {at} is not valid because"))?);
        ensure!(target.listed(&dataset).await?["total"] == 0, "nothing of it is stored");
    }
    target.bulk(&dataset, json!([good(1)])).await?.is(200)?;
    let changed = dataset.item("d:1", "another text", &[]);
    seen.note(target.bulk(&dataset, json!([changed, bad])).await?.refused(422)?);
    let stored = target.record(&dataset, "d:1").await?;
    ensure!(stored["fields"]["text"] == "IMO 9074729", "an update beside a bad record is not done: {stored}");
    Ok(seen)
}

async fn bounds(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("bounds", json!({})).await?;
    let items =
        |count: usize| -> Value { (0..count).map(|n| dataset.item(&format!("d:{n}"), "x", &[])).collect() };
    let mut seen = Seen::default();
    for refused in [items(0), items(501), json!([dataset.item("d", "x", &[]), dataset.item("d", "y", &[])])] {
        seen.note(target.bulk(&dataset, refused).await?.refused_for(422, "ValidationError at body")?);
    }
    let stored = target.bulk(&dataset, items(500)).await?.is(200)?;
    ensure!(stored["items"].as_array().is_some_and(|items| items.len() == 500), "500 are stored");
    Ok(seen)
}

async fn fields(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("field-values", json!({})).await?;
    let mut seen = Seen::default();
    for fields in [
        json!({}),
        json!(null),
        json!({"text": null}),
        json!({"other": "x"}),
        json!({"text": "x", "other": "x"}),
        json!({"text": 7}),
        json!({"text": ["x"]}),
        json!({"text": []}),
        json!({"text": true}),
        json!({"text": {"a": "x"}}),
    ] {
        let item = json!({"external_id": "d:1", "fields": fields});
        seen.note(format!("{fields}: {}", target.bulk(&dataset, json!([item])).await?.refused(422)?));
    }
    seen.note(target.bulk(&dataset, json!([{"external_id": "d:1"}])).await?.refused(422)?);
    let empty = target.stored(&dataset, dataset.item("d:1", "", &[])).await?;
    ensure!(empty["fields"]["text"] == "", "an empty text is a text: {empty}");
    let odd = "\t\r\n\u{202e}\u{feff}😀\u{10ffff}<b>&amp;";
    let kept = target.stored(&dataset, dataset.item("d:2", odd, &[])).await?;
    ensure!(kept["fields"]["text"] == odd, "every character comes back: {kept}");
    Ok(seen)
}

async fn metadata_types(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("metadata", json!({})).await?;
    let mut seen = Seen::default();
    let item =
        |metadata: &Value| json!({"external_id": "d:1", "fields": {"text": "x"}, "metadata": metadata});
    for metadata in [
        json!({"page_num": "1"}),
        json!({"page_num": 1.5}),
        json!({"page_num": 1.0}),
        json!({"page_num": ["it's", 1, null]}),
        json!({"ratio": 1}),
        json!({"ratio": "1.0"}),
        json!({"nobody": 1}),
    ] {
        let answer = target.bulk(&dataset, json!([item(&metadata)])).await?;
        seen.note(format!("{metadata}: {}", answer.refused_for(422, "metadata is not valid")?));
    }
    for metadata in [
        json!({"page_num": 1, "ratio": 1.0, "doc_id": "é/1"}),
        json!({"page_num": null}),
        json!({"page_num": true}),
        json!({"page_num": i32::MAX}),
        json!({"page_num": 9_007_199_254_740_993_i64}),
    ] {
        let stored = target.stored(&dataset, item(&metadata)).await?;
        ensure!(stored["metadata"] == metadata, "{metadata} became {}", stored["metadata"]);
    }
    let open = target.dataset("metadata-open", json!({"allow_extra_metadata": true})).await?;
    let stored = target.stored(&open, item(&json!({"anybody": 1}))).await?;
    seen.note(format!("extra metadata where it is allowed: {}", stored["metadata"]));
    Ok(seen)
}

async fn metadata_kept(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("metadata-kept", json!({})).await?;
    target.bulk(&dataset, json!([dataset.item("d:1", "x", &[])])).await?.is(200)?;
    let mut seen = Seen::default();
    for item in [
        json!({"external_id": "d:1"}),
        json!({"external_id": "d:1", "metadata": {"doc_id": "d"}}),
        json!({"external_id": "d:1", "fields": {"text": "y"}}),
        json!({"external_id": "d:1", "metadata": {}}),
    ] {
        let stored = target.stored(&dataset, item.clone()).await?;
        seen.note(format!("{item}: {} {}", stored["fields"], stored["metadata"]));
    }
    ensure!(seen.lines[0].ends_with("{\"page_num\":1}"), "left out keeps: {:?}", seen.lines);
    ensure!(seen.lines[3].ends_with("{\"text\":\"y\"} {}"), "an empty one wipes: {:?}", seen.lines);
    Ok(seen)
}

async fn upsert(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("upsert", json!({})).await?;
    let first = target.stored(&dataset, dataset.item("d:1", "x", &[])).await?;
    let second = target.stored(&dataset, dataset.item("d:1", "y", &[])).await?;
    ensure!(first["id"] == second["id"] && second["fields"]["text"] == "y", "{first} {second}");
    ensure!(first["inserted_at"] == second["inserted_at"], "it keeps its place in the listing");
    ensure!(target.listed(&dataset).await?["total"] == 1, "one record");
    Ok(Seen::default())
}

/// The real server answers 200 where the engine refuses a record, and 500 where the engine is away (which is played by
/// the stand-in alone): the database has the record either way, and `control` repeats the upsert after a 500.
async fn not_indexed(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("not-indexed", json!({})).await?;
    let items = json!([dataset.item("d:1", "IMO 9074729", &[("IMO", 4, 11)])]);
    target.break_index(&dataset).await?;
    let mut seen = Seen::default();
    let answer = target.bulk(&dataset, items.clone()).await?;
    ensure!(answer.status == 200 || answer.refused(500).is_ok(), "no other answer is known");
    let stored = target.record(&dataset, "d:1").await?;
    seen.note(format!("{} suggestions", stored["suggestions"].as_array().map_or(0, Vec::len)));
    target.mend_index(&dataset).await?;
    let again = target.bulk(&dataset, items).await?.is(200)?;
    ensure!(again["items"][0]["id"] == stored["id"], "it is the same record: {again}");
    ensure!(target.listed(&dataset).await?["total"] == 1, "one record");
    let path = format!("{}/records/search", dataset.path);
    until(async || {
        let found = target.post(&path, by_external_id(&["d:1"])).await?.is(200)?;
        ensure!(found["total"] == 1, "found {found}");
        Ok(())
    })
    .await
    .context("the repeated upsert indexes it")?;
    Ok(seen)
}

async fn filled(target: &Target, name: &str) -> Result<Dataset> {
    let dataset = target.dataset(name, json!({})).await?;
    for n in 0..5 {
        target.stored(&dataset, dataset.item(&format!("d:{n}"), "IMO 9074729", &[("IMO", 4, 11)])).await?;
    }
    Ok(dataset)
}

async fn listing(target: &Target) -> Result<Seen> {
    let dataset = filled(target, "listing").await?;
    // Touching a record does not move it.
    target.stored(&dataset, dataset.item("d:1", "changed", &[])).await?;
    let mut seen = Seen::default();
    for query in ["limit=1000", "offset=3", "offset=1&limit=2", "offset=5", "limit=1&offset=4"] {
        let listed = target.get(&format!("{}/records?{query}", dataset.path)).await?.is(200)?;
        ensure!(listed["total"] == 5, "the total is of the dataset: {listed}");
        let ids =
            listed["items"].as_array().into_iter().flatten().map(|record| record["external_id"].to_string());
        seen.note(format!("{query}: {}", ids.collect::<Vec<_>>().join(" ")));
    }
    ensure!(seen.lines[2] == "offset=1&limit=2: \"d:1\" \"d:2\"", "in order of insertion: {:?}", seen.lines);
    Ok(seen)
}

async fn include(target: &Target) -> Result<Seen> {
    let dataset = filled(target, "include").await?;
    let mut seen = Seen::default();
    for query in [
        "",
        "include=suggestions",
        "include=responses",
        "include=responses,suggestions",
        "include=responses&include=suggestions",
    ] {
        let listed = target.get(&format!("{}/records?limit=1&{query}", dataset.path)).await?.is(200)?;
        let record = &listed["items"][0];
        seen.note(format!("{query}: {}", keys(record)));
        let asked = |relation: &str| query.contains(relation) == record[relation].is_array();
        ensure!(asked("suggestions") && asked("responses"), "only what was asked for: {record}");
    }
    Ok(seen)
}

fn by_external_id(ids: &[&str]) -> Value {
    json!({"filters": {"and": [{"type": "terms", "values": ids,
                                "scope": {"entity": "record", "property": "external_id"}}]}})
}

/// The search engine lags behind: asked until it has all.
async fn search(target: &Target) -> Result<Seen> {
    let dataset = filled(target, "search").await?;
    let path = format!("{}/records/search?include=suggestions&include=responses&limit=250", dataset.path);
    let found = until(async || {
        let found = target.post(&path, by_external_id(&["d:3", "nobody", "d:1"])).await?.is(200)?;
        ensure!(found["items"].as_array().is_some_and(|items| items.len() == 2), "found {found}");
        Ok(found)
    })
    .await?;
    let mut seen = Seen::default();
    let mut ids: Vec<_> = found["items"].as_array().into_iter().flatten().map(|hit| &hit["record"]).collect();
    ids.sort_by_key(|record| record["external_id"].to_string());
    for record in ids {
        seen.note(format!("{} {}", record["external_id"], keys(record)));
        ensure!(record["suggestions"][0]["value"][0]["start"] == 4, "as the database has it: {record}");
    }
    let nobody = target.post(&path, by_external_id(&["nobody"])).await?.is(200)?;
    seen.note(format!("nobody: {} of {}", nobody["items"], nobody["total"]));
    let many: Vec<String> = (0..251).map(|n| format!("d:{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    target.post(&path, by_external_id(&many[..250])).await?.is(200)?;
    seen.note(target.post(&path, by_external_id(&many)).await?.refused_for(422, "ValidationError at body")?);
    seen.note(target.post(&path, by_external_id(&[])).await?.refused_for(422, "ValidationError at body")?);
    Ok(seen)
}

async fn search_as_annotator(target: &Target) -> Result<Seen> {
    let dataset = filled(target, "search-mine").await?;
    let record = target.record(&dataset, "d:0").await?;
    let responses = format!("/records/{}/responses", super::id(&record)?);
    let discard = json!({"status": "discarded", "values": {}});
    target.post(&responses, discard.clone()).await?.is(201)?;
    target.sme(Method::POST, &responses, Some(discard)).await?.is(201)?;
    let path = format!("/me{}/records/search?include=suggestions&include=responses&limit=50", dataset.path);
    let found = until(async || {
        let found = target.sme(Method::POST, &path, Some(json!({}))).await?.is(200)?;
        ensure!(found["items"].as_array().is_some_and(|items| items.len() == 5), "found {found}");
        Ok(found)
    })
    .await?;
    let mut seen = Seen::default();
    seen.note(keys(&found["items"][0]));
    let records = found["items"].as_array().into_iter().flatten().map(|hit| &hit["record"]);
    let answered = records.flat_map(|record| record["responses"].as_array().into_iter().flatten());
    let users: Vec<_> = answered.map(|response| &response["user_id"]).collect();
    ensure!(users == [target.annotator_id.as_str()], "only the caller's own: {users:?}");
    Ok(seen)
}
