//! The Argilla stand-in holds to `contracts/argilla.md`.

use e2e::argilla_standin::{ANNOTATOR_KEY, App, HEADER, OWNER_KEY, faults::Fault, serve};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

/// An id that nothing has.
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// A stand-in inside this process.
struct Server {
    base: String,
    app: App,
    client: Client,
}

impl Server {
    async fn start() -> Self {
        Self::with(App::open(None).unwrap()).await
    }

    async fn with(app: App) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, app.clone(), std::future::pending()));
        Self { base, app, client: Client::new() }
    }

    async fn as_user(&self, key: &str, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self
            .client
            .request(method, format!("{}/api/v1{path}", self.base))
            .header("X-Argilla-Api-Key", key);
        let answer = if body.is_null() { request } else { request.json(&body) }.send().await.unwrap();
        assert_eq!(answer.headers()[HEADER], "1");
        let status = answer.status();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        self.as_user(OWNER_KEY, method, path, body).await
    }

    async fn ok(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!(status.is_success(), "{status} {answer}");
        answer
    }

    /// A workspace, and in it a published dataset with the field `text` and the span question `entities`.
    async fn dataset(&self) -> Dataset {
        let workspace = text(&self.ok(Method::POST, "/workspaces", json!({"name": "vessels"})).await["id"]);
        let body = json!({"name": "vessels_ocr_p", "workspace_id": workspace,
                          "distribution": {"strategy": "overlap", "min_submitted": 1}});
        let id = text(&self.ok(Method::POST, "/datasets", body).await["id"]);
        let path = format!("/datasets/{id}");
        let field = json!({"name": "text", "title": "Text", "required": true,
                           "settings": {"type": "text", "use_markdown": false}});
        self.ok(Method::POST, &format!("{path}/fields"), field).await;
        let question = json!({"name": "entities", "title": "Entities", "required": true,
            "settings": {"type": "span", "field": "text", "allow_overlapping": false,
                         "options": [{"value": "IMO", "text": "IMO number"}, {"value": "FLAG", "text": "Flag"}]}});
        let question = text(&self.ok(Method::POST, &format!("{path}/questions"), question).await["id"]);
        let page = json!({"name": "page_num", "title": "Page", "settings": {"type": "integer"}});
        self.ok(Method::POST, &format!("{path}/metadata-properties"), page).await;
        self.ok(Method::PUT, &format!("{path}/publish"), Value::Null).await;
        Dataset { workspace, path, question }
    }

    async fn bulk(&self, dataset: &Dataset, items: Value) -> (StatusCode, Value) {
        self.call(Method::PUT, &format!("{}/records/bulk", dataset.path), json!({"items": items})).await
    }

    async fn records(&self, dataset: &Dataset) -> Value {
        let path = format!("{}/records?include=responses&include=suggestions&limit=1000", dataset.path);
        self.ok(Method::GET, &path, Value::Null).await
    }
}

struct Dataset {
    workspace: String,
    path: String,
    question: String,
}

impl Dataset {
    fn item(&self, external_id: &str, text: &str, spans: &[(&str, u32, u32)]) -> Value {
        let mut item =
            json!({"external_id": external_id, "fields": {"text": text}, "metadata": {"page_num": 1}});
        if !spans.is_empty() {
            item["suggestions"] = json!([self.suggestion(spans)]);
        }
        item
    }

    fn suggestion(&self, spans: &[(&str, u32, u32)]) -> Value {
        json!({"question_id": self.question, "value": values(spans), "score": vec![0.5; spans.len()],
               "agent": "rules", "type": "model"})
    }
}

fn values(spans: &[(&str, u32, u32)]) -> Value {
    spans.iter().map(|(label, start, end)| json!({"label": label, "start": start, "end": end})).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn detail(answer: &Value) -> &str {
    answer["detail"].as_str().unwrap_or_else(|| panic!("not a sentence: {answer}"))
}

fn code(answer: &Value) -> &str {
    answer["detail"]["code"].as_str().unwrap_or_else(|| panic!("not a code: {answer}"))
}

#[tokio::test]
async fn says_what_it_is_and_asks_for_a_key() {
    let server = Server::start().await;
    let root = server.client.get(&server.base).send().await.unwrap();
    assert_eq!(root.headers()[HEADER], "1");
    assert!(root.text().await.unwrap().contains("STAND-IN"));
    let version = server.client.get(format!("{}/api/v1/version", server.base)).send().await.unwrap();
    assert_eq!(version.json::<Value>().await.unwrap()["version"], "2.8.0");

    let (status, answer) = server.as_user("wrong", Method::GET, "/me", Value::Null).await;
    assert_eq!(status, 401);
    assert_eq!(code(&answer), "argilla.api.errors::UnauthorizedError");
    assert_eq!(server.ok(Method::GET, "/me", Value::Null).await["role"], "owner");
    let body = json!({"name": "w"});
    let (status, answer) = server.as_user(ANNOTATOR_KEY, Method::POST, "/workspaces", body).await;
    assert_eq!(status, 403);
    assert_eq!(code(&answer), "argilla.api.errors::ForbiddenOperationError");
}

#[tokio::test]
async fn a_dataset_is_made_once_and_found_by_name() {
    let server = Server::start().await;
    let dataset = server.dataset().await;
    let (status, answer) = server.call(Method::POST, "/workspaces", json!({"name": "vessels"})).await;
    assert_eq!((status.as_u16(), detail(&answer)), (409, "Workspace name `vessels` is not unique"));
    let again = json!({"name": "vessels_ocr_p", "workspace_id": dataset.workspace});
    assert_eq!(server.call(Method::POST, "/datasets", again).await.0, 409);
    let found = format!("/me/datasets?name=vessels_ocr_p&workspace_id={}", dataset.workspace);
    let found = server.ok(Method::GET, &found, Value::Null).await;
    assert_eq!(found["items"][0]["status"], "ready");
    assert_eq!(server.ok(Method::GET, "/me/datasets?name=vessels", Value::Null).await["items"], json!([]));

    let publish = server.call(Method::PUT, &format!("{}/publish", dataset.path), Value::Null).await;
    assert_eq!((publish.0.as_u16(), detail(&publish.1)), (422, "Dataset has already been published"));
    let field = json!({"name": "more", "title": "More", "settings": {"type": "text"}});
    assert_eq!(server.call(Method::POST, &format!("{}/fields", dataset.path), field).await.0, 422);
    let late = json!({"name": "run_id", "title": "Run", "settings": {"type": "integer"}});
    server.ok(Method::POST, &format!("{}/metadata-properties", dataset.path), late).await;
}

#[tokio::test]
async fn publishing_wants_a_field_and_a_required_question() {
    let server = Server::start().await;
    let workspace = text(&server.ok(Method::POST, "/workspaces", json!({"name": "w"})).await["id"]);
    let body = json!({"name": "d", "workspace_id": workspace});
    let id = text(&server.ok(Method::POST, "/datasets", body).await["id"]);
    let publish = format!("/datasets/{id}/publish");
    let refused = server.call(Method::PUT, &publish, Value::Null).await.1;
    assert_eq!(detail(&refused), "Dataset cannot be published without fields");
    let field = json!({"name": "text", "title": "Text", "settings": {"type": "text"}});
    server.ok(Method::POST, &format!("/datasets/{id}/fields"), field).await;
    let options = json!([{"value": "A", "text": "A"}]);
    let mut question = json!({"name": "q", "title": "Q",
        "settings": {"type": "span", "field": "text", "options": options, "visible_options": 3}});
    let (status, answer) =
        server.call(Method::POST, &format!("/datasets/{id}/questions"), question.clone()).await;
    assert_eq!((status.as_u16(), code(&answer)), (422, "argilla.api.errors::ValidationError"));
    question["settings"].as_object_mut().unwrap().remove("visible_options");
    server.ok(Method::POST, &format!("/datasets/{id}/questions"), question).await;
    // `required` defaults to false.
    let refused = server.call(Method::PUT, &publish, Value::Null).await.1;
    assert_eq!(detail(&refused), "Dataset cannot be published without required questions");
}

#[tokio::test]
async fn a_bulk_is_all_or_nothing_and_counts_code_points() {
    let server = Server::start().await;
    let dataset = server.dataset().await;
    let good = dataset.item("d:1", "😀 9074729", &[("IMO", 2, 9)]);
    let bad = dataset.item("d:2", "😀 9074729", &[("IMO", 2, 10)]);
    let (status, answer) = server.bulk(&dataset, json!([good, bad])).await;
    assert_eq!(status, 422);
    assert!(
        detail(&answer).starts_with("Record at position 1 is not valid because record does not have valid")
    );
    assert_eq!(server.records(&dataset).await["total"], 0);

    for (broken, at) in [
        (json!({"question_id": dataset.question, "value": values(&[("IMO", 3, 3)])}), "value"),
        (json!({"question_id": dataset.question, "value": [], "score": []}), "score"),
        (
            json!({"question_id": dataset.question, "value": values(&[("IMO", 0, 1)]), "score": [1.5]}),
            "score",
        ),
        (json!({"question_id": dataset.question, "value": [], "agent": "model@v1"}), "agent"),
        (json!({"question_name": "entities", "value": []}), ""),
    ] {
        let mut item = good.clone();
        item["suggestions"] = json!([broken]);
        let (status, answer) = server.bulk(&dataset, json!([item])).await;
        assert_eq!(status, 422);
        assert_eq!(code(&answer), "argilla.api.errors::ValidationError");
        let loc = &answer["detail"]["params"]["errors"][0]["loc"];
        assert!(at.is_empty() || loc.as_array().unwrap().contains(&json!(at)), "{answer}");
    }
    for (broken, why) in [
        (dataset.suggestion(&[("IMO", 0, 2), ("FLAG", 1, 3)]), "overlapping"),
        (dataset.suggestion(&[("SPECIES", 0, 2)]), "undefined label"),
        (
            json!({"question_id": dataset.question, "value": values(&[("IMO", 0, 1)]), "score": [0.1, 0.2]}),
            "doesn't match",
        ),
        (json!({"question_id": NOBODY, "value": []}), "does not exists"),
    ] {
        let mut item = good.clone();
        item["suggestions"] = json!([broken]);
        assert!(detail(&server.bulk(&dataset, json!([item])).await.1).contains(why));
    }
    let (status, _) = server.bulk(&dataset, json!([good, good])).await;
    assert_eq!(status, 422, "external ids are unique in a bulk");
    let many: Vec<_> = (0..501).map(|n| dataset.item(&n.to_string(), "x", &[])).collect();
    assert_eq!(server.bulk(&dataset, json!(many)).await.0, 422);
    assert_eq!(server.bulk(&dataset, json!([good])).await.0, 200);
}

#[tokio::test]
async fn upserts_keep_suggestions_and_validate_against_the_stored_text() {
    let server = Server::start().await;
    let dataset = server.dataset().await;
    let first = dataset.item("d:1", "IMO 9074729", &[("IMO", 4, 11)]);
    let created = server.bulk(&dataset, json!([first])).await.1;
    let record = text(&created["items"][0]["id"]);

    // Trap 3: left out, [] and null all keep the old ones.
    for kept in [None, Some(json!([])), Some(Value::Null)] {
        let mut item = dataset.item("d:1", "IMO 9074729", &[]);
        if let Some(suggestions) = kept {
            item["suggestions"] = suggestions;
        }
        let answer = server.bulk(&dataset, json!([item])).await.1;
        assert_eq!(answer["items"][0]["id"], record.as_str(), "the same record");
        assert_eq!(answer["items"][0]["suggestions"].as_array().unwrap().len(), 1);
    }
    // Trap 2: the new text has room for the span, the stored one has not.
    let longer = dataset.item("d:1", "The ship's IMO is 9074729", &[("IMO", 18, 25)]);
    let (status, answer) = server.bulk(&dataset, json!([longer])).await;
    assert_eq!(status, 422, "{answer}");
    server.bulk(&dataset, json!([dataset.item("d:1", "The ship's IMO is 9074729", &[])])).await;
    assert_eq!(server.bulk(&dataset, json!([longer])).await.0, 200);
    // Trap 4: {} wipes metadata; left out keeps it.
    let wiped = server.bulk(&dataset, json!([{"external_id": "d:1", "metadata": {}}])).await.1;
    assert_eq!(wiped["items"][0]["metadata"], json!({}));
    assert_eq!(wiped["items"][0]["fields"]["text"], "The ship's IMO is 9074729");
    // PATCH clears.
    let path = format!("/records/{record}");
    let cleared = server.ok(Method::PATCH, &path, json!({"suggestions": []})).await;
    assert_eq!(cleared["suggestions"], json!([]));
    let put =
        server.call(Method::PUT, &format!("{path}/suggestions"), dataset.suggestion(&[("IMO", 0, 3)])).await;
    assert_eq!(put.0, 201);
    let put =
        server.call(Method::PUT, &format!("{path}/suggestions"), dataset.suggestion(&[("IMO", 1, 3)])).await;
    assert_eq!(put.0, 200);
}

#[tokio::test]
async fn reviewers_answer_and_records_complete() {
    let server = Server::start().await;
    let dataset = server.dataset().await;
    let items = json!([dataset.item("d:1", "IMO 9074729", &[]), dataset.item("d:2", "empty", &[])]);
    let created = server.bulk(&dataset, items).await.1;
    let id = |n: usize| text(&created["items"][n]["id"]);

    let users = server.ok(Method::GET, "/users", Value::Null).await;
    let sme = users["items"].as_array().unwrap().iter().find(|u| u["api_key"] == ANNOTATOR_KEY).unwrap();
    let path = format!("{}/records", dataset.path);
    let search = format!("/me{path}/search?include=suggestions&include=responses");
    assert_eq!(server.as_user(ANNOTATOR_KEY, Method::POST, &search, json!({})).await.0, 403, "not a member");
    let members = format!("/workspaces/{}/users", dataset.workspace);
    server.ok(Method::POST, &members, json!({"user_id": sme["id"]})).await;
    assert_eq!(
        server.as_user(ANNOTATOR_KEY, Method::GET, &path, Value::Null).await.0,
        403,
        "not for annotators"
    );
    let found = server.as_user(ANNOTATOR_KEY, Method::POST, &search, json!({})).await.1;
    assert_eq!(found["items"][0]["record"]["external_id"], "d:1");

    let spans = |start: u32, end: u32| json!({"entities": {"value": values(&[("IMO", start, end)])}});
    let answers = json!({"items": [
        {"record_id": id(0), "status": "submitted", "values": spans(4, 11)},
        {"record_id": id(1), "status": "submitted", "values": spans(4, 11)},
        {"record_id": NOBODY, "status": "discarded", "values": {}},
    ]});
    let bulk = server.as_user(ANNOTATOR_KEY, Method::POST, "/me/responses/bulk", answers).await.1;
    assert_eq!(bulk["items"][0]["item"]["status"], "submitted");
    assert!(bulk["items"][1]["error"]["detail"].as_str().unwrap().contains("`end` must have"));
    assert_eq!(bulk["items"][2]["error"]["detail"], format!("Record with id `{NOBODY}` not found"));

    let discard = json!({"status": "discarded", "values": null});
    let (status, _) = server
        .as_user(ANNOTATOR_KEY, Method::POST, &format!("/records/{}/responses", id(1)), discard.clone())
        .await;
    assert_eq!(status, 500, "it is stored, and Argilla stumbles over it afterwards");
    let (status, _) =
        server.as_user(ANNOTATOR_KEY, Method::POST, &format!("/records/{}/responses", id(1)), discard).await;
    assert_eq!(status, 409, "one response a user and record");
    let nothing = json!({"status": "submitted", "values": {}});
    let (_, answer) = server.call(Method::POST, &format!("/records/{}/responses", id(1)), nothing).await;
    assert_eq!(detail(&answer), "missing response values for submitted response");

    let listed = server.records(&dataset).await;
    assert_eq!(listed["items"][0]["status"], "completed");
    assert_eq!(listed["items"][1]["status"], "pending");
    assert_eq!(listed["items"][1]["responses"][0]["values"], Value::Null);
    let progress = server.ok(Method::GET, &format!("{}/progress", dataset.path), Value::Null).await;
    assert_eq!(
        progress,
        json!({"total": 2, "completed": 1, "pending": 1, "users": [{"username": "annotator"}]})
    );
}

#[tokio::test]
async fn listings_page_and_refuse_more_than_a_thousand() {
    let server = Server::start().await;
    let dataset = server.dataset().await;
    let items: Vec<_> = (0..5).map(|n| dataset.item(&format!("d:{n}"), "x", &[])).collect();
    server.bulk(&dataset, json!(items)).await;
    let page = |query: &str| format!("{}/records?{query}", dataset.path);
    let answer = server.ok(Method::GET, &page("offset=3&limit=4"), Value::Null).await;
    assert_eq!(answer["total"], 5);
    assert_eq!(answer["items"].as_array().unwrap().len(), 2);
    assert!(answer["items"][0].get("responses").is_none(), "only what was asked for");
    assert_eq!(server.call(Method::GET, &page("limit=1001"), Value::Null).await.0, 422);
}

#[tokio::test]
async fn records_are_looked_up_by_external_id() {
    let server = Server::start().await;
    let dataset = server.dataset().await;
    let items: Vec<_> = (0..5).map(|n| dataset.item(&format!("d:{n}"), "x", &[])).collect();
    server.bulk(&dataset, json!(items)).await;
    let search = |values: Vec<String>| {
        json!({"filters": {"and": [{"type": "terms", "values": values,
                                    "scope": {"entity": "record", "property": "external_id"}}]}})
    };
    let path = format!("{}/records/search?include=responses&limit=250", dataset.path);
    let found =
        server.ok(Method::POST, &path, search(vec!["d:3".into(), "other".into(), "d:1".into()])).await;
    let ids: Vec<_> =
        found["items"].as_array().unwrap().iter().map(|hit| &hit["record"]["external_id"]).collect();
    assert_eq!(ids, ["d:1", "d:3"]);
    assert_eq!(found["items"][0]["record"]["responses"], json!([]));
    assert_eq!(server.call(Method::POST, &path, search(vec!["x".into(); 251])).await.0, 422);
    assert_eq!(server.as_user(ANNOTATOR_KEY, Method::POST, &path, json!({})).await.0, 403);
}

#[tokio::test]
async fn planned_faults_come_once_and_a_500_may_have_stored() {
    let server = Server::start().await;
    let dataset = server.dataset().await;
    server.app.faults.plan([
        Fault::TooManyRequests { retry_after: 1 },
        Fault::Unavailable,
        Fault::ErrorAfterCommit,
    ]);
    let items = json!([dataset.item("d:1", "x", &[])]);
    for (status, stored) in [(429, 0), (503, 0), (500, 1), (200, 1)] {
        assert_eq!(server.bulk(&dataset, items.clone()).await.0, status);
        assert_eq!(server.records(&dataset).await["total"], stored);
    }
}

#[tokio::test]
async fn a_state_file_is_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("argilla.json");
    let first = Server::with(App::open(Some(&file)).unwrap()).await;
    let dataset = first.dataset().await;
    first.bulk(&dataset, json!([dataset.item("d:1", "IMO 9074729", &[("IMO", 4, 11)])])).await;
    let before = first.records(&dataset).await;

    let second = Server::with(App::open(Some(&file)).unwrap()).await;
    assert_eq!(second.records(&dataset).await, before);
    let again = second.bulk(&dataset, json!([dataset.item("d:1", "IMO 9074729", &[])])).await.1;
    assert_eq!(again["items"][0]["id"], before["items"][0]["id"], "found by its external id");
}

#[test]
fn the_process_listens_says_so_and_ends_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = e2e::harness::ArgillaStandIn::start(folder.path()).unwrap();
    assert!(server.process.log().contains("STAND-IN"));
    server.process.terminate().unwrap();
    assert!(server.process.wait().unwrap().success());
}
