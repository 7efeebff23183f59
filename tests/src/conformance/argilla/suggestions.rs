//! Suggestions: spans in code points, scores, agents, and what an upsert does to those that are stored.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Case, Dataset, Target, id, merge, values};
use crate::conformance::{Seen, cases};

pub(super) fn cases() -> Vec<Case<Target>> {
    cases![
        code_points => "spans count code points, also beyond U+FFFF",
        span_bounds => "spans: 0 <= start < end <= length",
        overlap => "spans: no overlap, no duplicate; touching is fine",
        labels => "spans: labels are option values",
        extra_keys => "spans: extra keys are dropped",
        scores => "score: as long as value, each from 0 to 1",
        agents => "agent: its pattern and length",
        questions => "question_id: mandatory, known, once",
        kept => "trap: an upsert never removes suggestions",
        cleared => "PATCH suggestions [] clears them",
        put => "PUT suggestions: 201 new, 200 replaced",
        stored_text => "trap: spans are checked against the stored text",
        order => "spans come back in the order they were sent",
    ]
}

/// A bulk of one record whose suggestion has `more` merged over it.
async fn suggest(target: &Target, dataset: &Dataset, text: &str, more: Value) -> Result<super::Answer> {
    let mut suggestion = json!({"question_id": dataset.question, "value": []});
    merge(&mut suggestion, more);
    let item = json!({"external_id": "d:1", "fields": {"text": text}, "suggestions": [suggestion]});
    target.bulk(dataset, json!([item])).await
}

async fn code_points(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("code-points", json!({})).await?;
    let mut seen = Seen::default();
    // 9 code points, 11 UTF-16 units, 17 bytes.
    let text = "😀𝕏 né IMO";
    for end in [10, 11, 17] {
        let answer = suggest(target, &dataset, text, json!({"value": values(&[("IMO", 6, end)])})).await?;
        seen.note(answer.refused_for(422, "length that is `9`")?);
    }
    let beyond = suggest(target, &dataset, text, json!({"value": values(&[("IMO", 9, 10)])})).await?;
    seen.note(beyond.refused_for(422, "`start` must have a value lower")?);
    suggest(target, &dataset, text, json!({"value": values(&[("IMO", 0, 2), ("IMO", 6, 9)])}))
        .await?
        .is(200)?;
    // A decomposed character is two, whatever one sees; so is CR LF.
    suggest(target, &dataset, text, json!({"value": values(&[("IMO", 0, 1)])})).await?.is(200)?;
    let item = dataset.item("d:2", "e\u{301}\r\n", &[("IMO", 3, 4)]);
    target.stored(&dataset, item).await?;
    Ok(seen)
}

async fn span_bounds(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("span-bounds", json!({})).await?;
    let mut seen = Seen::default();
    for (start, end) in [(-1, 2), (0, 0), (3, 3), (3, 2), (0, -1)] {
        let answer =
            suggest(target, &dataset, "IMO 9", json!({"value": values(&[("IMO", start, end)])})).await?;
        seen.note(answer.refused_for(422, "ValidationError at body")?);
    }
    for value in [json!([{"label": "IMO", "start": 0}]), json!([{"start": 0, "end": 1}])] {
        let answer = suggest(target, &dataset, "IMO 9", json!({"value": value})).await?;
        seen.note(answer.refused_for(422, "ValidationError at body")?);
    }
    suggest(target, &dataset, "IMO 9", json!({"value": values(&[("IMO", 0, 5)])})).await?.is(200)?;
    let none = suggest(target, &dataset, "IMO 9", json!({"value": []})).await?.is(200)?;
    ensure!(none["items"][0]["suggestions"][0]["value"] == json!([]), "no spans is an answer: {none}");
    let blank = dataset.item("d:2", "", &[("IMO", 0, 1)]);
    seen.note(target.bulk(&dataset, json!([blank])).await?.refused(422)?);
    Ok(seen)
}

async fn overlap(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("overlap", json!({})).await?;
    let mut seen = Seen::default();
    for spans in [
        &[("IMO", 0, 3), ("FLAG", 2, 4)][..],
        &[("IMO", 0, 3), ("IMO", 0, 3)],
        &[("IMO", 0, 3), ("FLAG", 0, 3)],
        &[("FLAG", 3, 5), ("IMO", 0, 4)],
        &[("IMO", 0, 9), ("FLAG", 2, 3), ("IMO", 4, 5)],
    ] {
        let answer = suggest(target, &dataset, "0123456789", json!({"value": values(spans)})).await?;
        seen.note(answer.refused_for(422, "overlapping values found")?);
    }
    let touching = json!({"value": values(&[("FLAG", 3, 6), ("IMO", 0, 3)])});
    suggest(target, &dataset, "0123456789", touching).await?.is(200)?;
    Ok(seen)
}

async fn labels(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("labels", json!({})).await?;
    let mut seen = Seen::default();
    for label in ["SPECIES", "IMO number", "imo"] {
        let answer = suggest(target, &dataset, "IMO 9", json!({"value": values(&[(label, 0, 1)])})).await?;
        seen.note(answer.refused_for(422, &format!("undefined label '{label}'"))?);
    }
    Ok(seen)
}

async fn extra_keys(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("extra-keys", json!({})).await?;
    let value = json!([{"label": "IMO", "start": 0, "end": 3, "text": "IMO", "score": 0.5}]);
    let stored = suggest(target, &dataset, "IMO 9", json!({"value": value})).await?.is(200)?;
    let span = &stored["items"][0]["suggestions"][0]["value"][0];
    ensure!(super::keys(span) == "end label start", "{span}");
    Ok(Seen::default())
}

async fn scores(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("scores", json!({})).await?;
    let spans = values(&[("IMO", 0, 3), ("FLAG", 4, 5)]);
    let mut seen = Seen::default();
    for score in [json!([0.1]), json!([0.1, 0.2, 0.3]), json!(0.5)] {
        let answer = suggest(target, &dataset, "IMO 9", json!({"value": spans, "score": score})).await?;
        seen.note(format!("{score}: {}", answer.refused_for(422, "does not have valid suggestions")?));
    }
    for score in [json!([]), json!([0.1, 1.1]), json!([-0.1, 0.5]), json!(1.5), json!(["x", 0.5])] {
        let answer = suggest(target, &dataset, "IMO 9", json!({"value": spans, "score": score})).await?;
        seen.note(format!("{score}: {}", answer.refused_for(422, "ValidationError at body")?));
    }
    for score in [json!(null), json!([0, 1]), json!([0.0, 1.0]), json!([0.123_456_789, 0.9])] {
        let stored =
            suggest(target, &dataset, "IMO 9", json!({"value": spans, "score": score})).await?.is(200)?;
        let kept = &stored["items"][0]["suggestions"][0]["score"];
        let numbers =
            |score: &Value| score.as_array().map(|s| s.iter().filter_map(Value::as_f64).collect::<Vec<_>>());
        ensure!(numbers(kept) == numbers(&score), "{score} became {kept}");
    }
    // No span, so no score: an empty list is refused, and what `control` sends is null.
    let empty = suggest(target, &dataset, "IMO 9", json!({"value": [], "score": []})).await?;
    seen.note(empty.refused_for(422, "ValidationError at body")?);
    suggest(target, &dataset, "IMO 9", json!({"value": [], "score": null})).await?.is(200)?;
    Ok(seen)
}

async fn agents(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("agents", json!({})).await?;
    let mut seen = Seen::default();
    for agent in ["model@sha256", "é", "a,b", "a(b)", "", &"a".repeat(201)] {
        let answer = suggest(target, &dataset, "IMO 9", json!({"agent": agent})).await?;
        seen.note(answer.refused_for(422, "ValidationError at body")?);
    }
    for agent in ["rules", "ollama/qwen3:8b-instruct_q4.0 x", &"a".repeat(200)] {
        let stored = suggest(target, &dataset, "IMO 9", json!({"agent": agent})).await?.is(200)?;
        ensure!(stored["items"][0]["suggestions"][0]["agent"] == agent, "{agent} is kept: {stored}");
    }
    for kind in [json!("model"), json!("human"), json!(null)] {
        suggest(target, &dataset, "IMO 9", json!({"type": kind})).await?.is(200)?;
    }
    let robot = suggest(target, &dataset, "IMO 9", json!({"type": "robot"})).await?;
    seen.note(robot.refused_for(422, "ValidationError at body")?);
    Ok(seen)
}

async fn questions(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("question-ids", json!({})).await?;
    let other = target.dataset("question-ids-other", json!({})).await?;
    let mut seen = Seen::default();
    let item = |suggestions: Value| json!([{"external_id": "d:1", "fields": {"text": "IMO 9"}, "suggestions": suggestions}]);
    let named = json!([{"question_name": "entities", "value": []}]);
    seen.note(target.bulk(&dataset, item(named)).await?.refused_for(422, "ValidationError at body")?);
    let foreign = json!([{"question_id": other.question, "value": []}]);
    seen.note(target.bulk(&dataset, item(foreign)).await?.refused_for(422, "does not exists")?);
    let twice = json!([{"question_id": dataset.question, "value": []}, {"question_id": dataset.question, "value": []}]);
    seen.note(target.bulk(&dataset, item(twice)).await?.refused_for(422, "duplicate suggestions")?);
    let no_uuid = json!([{"question_id": "entities", "value": []}]);
    seen.note(target.bulk(&dataset, item(no_uuid)).await?.refused_for(422, "ValidationError at body")?);
    Ok(seen)
}

async fn kept(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("kept", json!({})).await?;
    target.stored(&dataset, dataset.item("d:1", "IMO 9074729", &[("IMO", 4, 11)])).await?;
    for kept in [None, Some(json!([])), Some(Value::Null)] {
        let mut item = dataset.item("d:1", "IMO 9074729", &[]);
        if let Some(suggestions) = kept.clone() {
            item["suggestions"] = suggestions;
        }
        let stored = target.stored(&dataset, item).await?;
        ensure!(stored["suggestions"][0]["value"][0]["start"] == 4, "{kept:?} took them away: {stored}");
    }
    // A shorter text keeps spans that are now outside of it, and nobody says so.
    let stored = target.stored(&dataset, dataset.item("d:1", "IMO", &[])).await?;
    ensure!(stored["suggestions"][0]["value"][0]["end"] == 11, "{stored}");
    let replaced = target.stored(&dataset, dataset.item("d:1", "IMO", &[("FLAG", 0, 1)])).await?;
    ensure!(replaced["suggestions"].as_array().is_some_and(|all| all.len() == 1), "{replaced}");
    ensure!(replaced["suggestions"][0]["value"][0]["label"] == "FLAG", "the new ones stand: {replaced}");
    Ok(Seen::default())
}

async fn cleared(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("cleared", json!({})).await?;
    let stored = target.stored(&dataset, dataset.item("d:1", "IMO 9074729", &[("IMO", 4, 11)])).await?;
    let path = format!("/records/{}", id(&stored)?);
    let cleared = target.patch(&path, json!({"suggestions": []})).await?.is(200)?;
    let mut seen = Seen::default();
    seen.note(super::keys(&cleared));
    let listed = target.record(&dataset, "d:1").await?;
    ensure!(listed["suggestions"] == json!([]), "{listed}");
    ensure!(
        listed["fields"] == stored["fields"] && listed["metadata"] == stored["metadata"],
        "the rest stays"
    );
    target.patch(&path, json!({"suggestions": []})).await?.is(200)?;
    Ok(seen)
}

async fn put(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("put", json!({})).await?;
    let stored = target.stored(&dataset, dataset.item("d:1", "IMO 9074729", &[])).await?;
    let path = format!("/records/{}/suggestions", id(&stored)?);
    let first = target.put(&path, dataset.suggestion(&[("IMO", 0, 3)])).await?.is(201)?;
    let second = target.put(&path, dataset.suggestion(&[("IMO", 1, 3)])).await?.is(200)?;
    ensure!(first["id"] == second["id"], "one suggestion a question");
    let mut seen = Seen::default();
    seen.note(super::keys(&second));
    let outside = target.put(&path, dataset.suggestion(&[("IMO", 4, 12)])).await?;
    seen.note(outside.refused(422)?);
    let in_a_patch = json!({"suggestions": [dataset.suggestion(&[("IMO", 4, 12)])]});
    let outside = target.patch(&format!("/records/{}", id(&stored)?), in_a_patch).await?;
    seen.note(outside.refused(422)?);
    let shown = target.get(&format!("/records/{}", id(&stored)?)).await?.is(200)?;
    ensure!(shown["suggestions"][0]["value"][0]["start"] == 1, "the second one stands: {shown}");
    seen.note(super::keys(&shown));
    Ok(seen)
}

async fn stored_text(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("stored-text", json!({})).await?;
    target.stored(&dataset, dataset.item("d:1", "IMO 9074729", &[("IMO", 4, 11)])).await?;
    let longer = "The ship's IMO is 9074729";
    let mut seen = Seen::default();
    let at_once = target.bulk(&dataset, json!([dataset.item("d:1", longer, &[("IMO", 18, 25)])])).await?;
    seen.note(at_once.refused_for(422, "length that is `11`")?);
    target.stored(&dataset, dataset.item("d:1", longer, &[])).await?;
    target.stored(&dataset, dataset.item("d:1", longer, &[("IMO", 18, 25)])).await?;
    // The other way round it is worse: accepted, though outside of the text that stands afterwards.
    let shorter = target.bulk(&dataset, json!([dataset.item("d:1", "IMO", &[("IMO", 18, 25)])])).await?;
    seen.note(format!("spans outside of the new text: {}", shorter.status));
    Ok(seen)
}

async fn order(target: &Target) -> Result<Seen> {
    let dataset = target.dataset("order", json!({})).await?;
    let sent = [("FLAG", 8, 9), ("IMO", 0, 3), ("IMO", 4, 5)];
    let mut item = dataset.item("d:1", "0123456789", &sent);
    item["suggestions"][0]["score"] = json!([0.1, 0.2, 0.3]);
    target.stored(&dataset, item).await?;
    let listed = target.record(&dataset, "d:1").await?;
    let starts =
        listed["suggestions"][0]["value"].as_array().into_iter().flatten().map(|span| &span["start"]);
    ensure!(starts.collect::<Vec<_>>() == [8, 0, 4], "{listed}");
    ensure!(listed["suggestions"][0]["score"] == json!([0.1, 0.2, 0.3]), "{listed}");
    Ok(Seen::default())
}
