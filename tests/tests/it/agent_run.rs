//! `dgx-agent run` with the rules, over the committed corpus.

use std::collections::BTreeMap;

use e2e::{
    agent_jobs::{Made, commits, example_pages},
    batch_dir::{BatchDir, page, parts},
    harness::{Process, agent_run, agent_run_json, agent_with_input},
};
use proto::{
    docs::{Counts, Manifest, PilotPin},
    ids::{CharSpan, DocId, PageKey},
    keys::PartKind,
    rows::Outcome,
};

#[tokio::test]
async fn every_page_has_its_outcome_and_every_span_is_on_its_page() {
    let root = tempfile::tempdir().unwrap();
    let batch = BatchDir::new(root.path(), "corpus").unwrap();
    let pages = example_pages().await.unwrap();
    batch.write_parts(&parts(&pages, 25)).await.unwrap();
    let summary = agent_run_json(root.path(), "corpus", &[]).unwrap();
    assert_eq!(summary["complete"], true);

    let texts: BTreeMap<_, _> =
        pages.iter().map(|page| ((page.doc_id.clone().unwrap(), page.page_num.unwrap()), page)).collect();
    let (ledger, suggestions) = (batch.ledger().await.unwrap(), batch.suggestions().await.unwrap());
    assert_eq!(ledger.len(), pages.len());
    assert!(suggestions.len() > pages.len(), "{}", suggestions.len());
    for row in &ledger {
        let page = texts[&(row.doc_id.clone(), row.page_num)];
        assert_eq!((&row.page_sha256, row.run_id), (&page.text_sha256, page.run_id));
        assert_eq!(row.reason.is_none(), row.outcome == Outcome::Suggested);
        let spans =
            suggestions.iter().filter(|span| (&*span.doc_id, span.page_num) == (&*row.doc_id, row.page_num));
        assert_eq!(spans.count(), row.spans as usize);
        assert_eq!(row.attempts, 0, "the rules ask nobody");
    }
    for span in &suggestions {
        let page = texts[&(span.doc_id.to_string(), span.page_num)];
        let place = CharSpan::new(span.start as u32, span.end as u32).unwrap();
        assert_eq!(place.slice(page.text.as_deref().unwrap()), Some(&*span.text), "{}", span.span_id);
        let key = PageKey::new(DocId::new(&*span.doc_id).unwrap(), span.page_num);
        assert_eq!(span.span_id, key.span_id(&span.label, place));
        assert_eq!(Some(&*span.page_sha256), page.text_sha256.as_deref());
        assert_eq!((&*span.source, &*span.model), ("rules", "rules"));
    }
    let order: Vec<_> = suggestions.iter().map(|span| (&span.doc_id, span.page_num, span.start)).collect();
    assert!(order.is_sorted(), "rows stand in the order of pages and places");

    let made = Made::read(root.path().to_str().unwrap(), "corpus").await.unwrap();
    let manifest: Manifest = made.manifest.expect("complete");
    let mut counts = Counts::default();
    commits(root.path().to_str().unwrap(), "corpus")
        .await
        .unwrap()
        .iter()
        .for_each(|part| counts.add(&part.counts));
    assert_eq!(manifest.counts, counts);
    assert_eq!(counts.pages, pages.len() as u64);
    assert_eq!(counts.spans, suggestions.len() as u64);
    assert_eq!(serde_json::to_value(&counts).unwrap(), summary["counts"]);
    assert_eq!(Outcome::ALL.map(|outcome| counts.of(outcome)).iter().sum::<u64>(), counts.pages);
}

#[tokio::test]
async fn a_second_run_does_nothing_twice() {
    let root = tempfile::tempdir().unwrap();
    let batch = BatchDir::new(root.path(), "again").unwrap();
    batch.write_parts(&parts(&example_pages().await.unwrap()[..20], 5)).await.unwrap();
    let first = agent_run_json(root.path(), "again", &[]).unwrap();
    let before = batch.store.list_sorted(batch.keys.folder()).await.unwrap();
    assert_eq!(agent_run_json(root.path(), "again", &[]).unwrap(), first);
    assert_eq!(batch.store.list_sorted(batch.keys.folder()).await.unwrap(), before, "nothing was written");
}

#[tokio::test]
async fn what_got_lost_of_a_committed_part_is_made_again_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let batch = BatchDir::new(root.path(), "lost").unwrap();
    batch.write_parts(&parts(&example_pages().await.unwrap()[..10], 5)).await.unwrap();
    agent_run_json(root.path(), "lost", &[]).unwrap();
    let (suggestions, ledger) =
        (batch.keys.part(PartKind::Suggestions, 1), batch.keys.part(PartKind::Ledger, 1));
    let before = (batch.store.get(&suggestions).await.unwrap(), batch.store.get(&ledger).await.unwrap());
    batch.store.delete(&suggestions).await.unwrap();
    batch.store.put(&ledger, "another agent's").await.unwrap();
    agent_run_json(root.path(), "lost", &[]).unwrap();
    let after = (batch.store.get(&suggestions).await.unwrap(), batch.store.get(&ledger).await.unwrap());
    assert!(before == after, "byte for byte what the standing commit vouches for");
}

#[tokio::test]
async fn shards_complete_a_batch_together() {
    let root = tempfile::tempdir().unwrap();
    let pages = example_pages().await.unwrap();
    for (name, runs) in [("whole", &[&[][..]][..]), ("shards", &[&["--shard", "0/2"], &["--shard", "1/2"]])] {
        let batch = BatchDir::new(root.path(), name).unwrap();
        batch.write_parts(&parts(&pages[..30], 10)).await.unwrap();
        for (number, args) in runs.iter().enumerate() {
            let last = number + 1 == runs.len();
            let summary = agent_run_json(root.path(), name, args).unwrap();
            assert_eq!(summary["complete"], last, "{summary}");
            assert_eq!(batch.is_complete().await.unwrap(), last);
        }
    }
    let root = root.path().to_str().unwrap();
    let (whole, shards) =
        (Made::read(root, "whole").await.unwrap(), Made::read(root, "shards").await.unwrap());
    assert_eq!(whole.suggestions, shards.suggestions);
    assert_eq!(whole.ledger, shards.ledger);
}

#[tokio::test]
async fn a_batch_description_is_held_to() {
    let root = tempfile::tempdir().unwrap();
    let batch = BatchDir::new(root.path(), "told").unwrap();
    batch
        .write_parts(&[vec![page("d", 1, "Flag State: France")], vec![page("d", 2, "IMO No.: 4522460")]])
        .await
        .unwrap();
    let mut spec = batch.spec().await.unwrap();
    batch.write_spec(&spec).await.unwrap();
    // A file that the description does not know is none of the batch.
    batch
        .write_parts(&[
            vec![page("d", 1, "Flag State: France")],
            vec![page("d", 2, "IMO No.: 4522460")],
            vec![page("e", 1, "x")],
        ])
        .await
        .unwrap();
    let summary = agent_run_json(root.path(), "told", &[]).unwrap();
    assert_eq!(summary["counts"]["pages"], 2);
    assert_eq!(summary["provenance"]["labelset_sha256"], spec.labelset.sha256.as_str());

    let provenance = &summary["provenance"];
    let said = |name: &str| provenance[name].as_str().unwrap().to_owned();
    let pin = PilotPin {
        batch_id: "pilot-1".parse().unwrap(),
        labelset_sha256: said("labelset_sha256"),
        prompt_sha256: said("prompt_sha256"),
        model: said("model"),
        model_digest: said("model_digest"),
    };
    spec.pages = 1001;
    for (pilot, no_pilot, says) in [
        (None, None, Some("no signed pilot")),
        (None, Some("a bench".to_owned()), None),
        (Some(PilotPin { model_digest: "0".repeat(64), ..pin.clone() }), None, Some("another model digest")),
        (Some(pin), None, None),
    ] {
        (spec.pilot, spec.no_pilot) = (pilot, no_pilot);
        batch.write_spec(&spec).await.unwrap();
        let done = agent_run(root.path(), "told", &[]).unwrap();
        assert_eq!(done.code, Some(if says.is_some() { 3 } else { 0 }), "{}", done.stderr);
        assert!(done.stderr.contains(says.unwrap_or_default()), "{}", done.stderr);
    }
}

#[tokio::test]
async fn another_labelset_is_another_batch() {
    let root = tempfile::tempdir().unwrap();
    let batch = BatchDir::new(root.path(), "labels").unwrap();
    batch.write_parts(&[vec![page("d", 1, "Flag State: France")]]).await.unwrap();
    agent_run_json(root.path(), "labels", &[]).unwrap();
    let labels = root.path().join("labels.toml");
    let toml = proto::labelset::Labelset::embedded().toml().replace("version = ", "# another\nversion = ");
    std::fs::write(&labels, toml).unwrap();
    let done = agent_run(root.path(), "labels", &["--labels", labels.to_str().unwrap()]).unwrap();
    assert_eq!(done.code, Some(5), "{}", done.stderr);
    assert!(done.stderr.contains("make a new batch with this one as its parent"), "{}", done.stderr);
}

#[tokio::test]
async fn a_signal_ends_a_run_and_what_is_committed_stays() {
    let root = tempfile::tempdir().unwrap();
    let batch = BatchDir::new(root.path(), "stop").unwrap();
    batch.write_parts(&parts(&example_pages().await.unwrap()[..10], 5)).await.unwrap();
    let configure = |command: &mut std::process::Command| {
        command.args(["run", "--batch-id", "stop", "--root"]).arg(root.path());
        command.env("DGX_AGENT_PAUSE_AT", "part:1");
    };
    let mut process = Process::start("dgx-agent", configure, &root.path().join("log")).unwrap();
    let log = root.path().join("log");
    let paused = || std::fs::read_to_string(&log).ok()?.contains("paused at part of part 1").then_some(());
    process.until("get to the second part", paused).unwrap();
    process.terminate().unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(130), "{}", process.log());
    assert!(batch.has(&batch.keys.part(PartKind::Commits, 0)).await.unwrap());
    assert!(!batch.has(&batch.keys.part(PartKind::Commits, 1)).await.unwrap());
    assert_eq!(agent_run_json(root.path(), "stop", &[]).unwrap()["counts"]["pages"], 10);
}

#[test]
fn ground_answers_line_by_line() {
    let line = br#"{"id": 7, "text": "IMO 9074729", "mentions": [{"label": "IMO", "text": "9074729"}]}"#;
    let done = agent_with_input(&["ground"], line).unwrap();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let answer: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&answer["id"], &answer["spans"][0]["start"]), (&7.into(), &4.into()));
    let done = agent_with_input(&["ground"], b"{}\nno\n").unwrap();
    assert_eq!((done.code, done.stdout.lines().count()), (Some(5), 2), "{}", done.stderr);
    assert_eq!(agent_with_input(&["ground", "--labels", "/none.toml"], b"").unwrap().code, Some(3));
}
