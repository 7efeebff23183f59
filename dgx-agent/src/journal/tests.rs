//! The journal over a real folder: kept over restarts, bounded, and never in the way.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use super::*;

const KEEP: u64 = 16 << 20;

fn key(number: u8) -> Key {
    [number; 32]
}

fn kept(content: &str) -> Kept {
    let completion = Completion {
        content: content.into(),
        prompt_tokens: Some(3),
        output_tokens: Some(2),
        ..Completion::default()
    };
    Kept { completion, prompt_tokens: 6, output_tokens: 2, ..Kept::default() }
}

fn vouching() -> Witness {
    Witness::new(|| Box::pin(async { true }))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_restart_and_the_owners_alone() {
    let state = tempfile::tempdir().expect("a folder");
    let journal = Journal::of(state.path(), KEEP).await.expect("kept");
    assert_eq!(journal.recall(key(1)).await, None);
    journal.keep(key(1), kept("{\"mentions\": []}"), &vouching()).await;
    journal.close().await;
    journal.keep(key(2), kept("too late"), &vouching()).await;

    let journal = Journal::of(state.path(), KEEP).await.expect("kept");
    assert_eq!(journal.recall(key(1)).await, Some(kept("{\"mentions\": []}")));
    assert_eq!(journal.recall(key(2)).await, None);
    assert_eq!(journal.trouble(), None);
    let folder = state.path().join(FOLDER);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in files(&folder) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    assert!(Journal::of(state.path(), 0).await.is_none());
}

/// Kept, and not waiting any more.
async fn keep_now(journal: &Journal, number: u8) {
    journal.keep(key(number), kept("a"), &vouching()).await;
    settled(journal).await;
}

/// What was kept is on disk, or nowhere.
async fn settled(journal: &Journal) {
    while !those(&journal.inner.waiting).is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn it_is_on_again_once_the_trouble_is_over() {
    let state = tempfile::tempdir().expect("a folder");
    let file = state.path().join("file");
    fs::write(&file, "x").expect("written");
    let journal = Journal::opened(&file, KEEP, Duration::ZERO).await;
    keep_now(&journal, 1).await;
    assert!(journal.trouble().expect("a file").contains("is off"));
    fs::remove_file(&file).expect("removed");
    keep_now(&journal, 2).await;
    assert_eq!(journal.trouble(), None);
    assert_eq!((journal.recall(key(1)).await, journal.recall(key(2)).await), (None, Some(kept("a"))));

    let patient = Journal::open(&state.path().join("file"), KEEP).await;
    assert!(patient.trouble().expect("in use").contains("another dgx-agent"));
    journal.close().await;
    keep_now(&patient, 3).await;
    assert!(patient.trouble().is_some(), "not yet");
    let other = Journal::opened(&state.path().join("file"), KEEP, Duration::ZERO).await;
    assert_eq!(other.recall(key(2)).await, Some(kept("a")));
}

#[tokio::test]
async fn a_folder_in_use_or_of_another_kind_turns_it_off() {
    let state = tempfile::tempdir().expect("a folder");
    let first = Journal::open(state.path(), KEEP).await;
    first.keep(key(1), kept("a"), &vouching()).await;
    // On disk, where another one meets it.
    while !those(&first.inner.waiting).is_empty() {
        tokio::task::yield_now().await;
    }
    let second = Journal::open(state.path(), KEEP).await;
    assert!(second.trouble().expect("in use").contains("another dgx-agent"));
    second.keep(key(2), kept("b"), &vouching()).await;
    assert_eq!(second.recall(key(1)).await, None);
    second.close().await;
    assert!(first.recall(key(1)).await.is_some());

    let file = state.path().join("file");
    fs::write(&file, "x").expect("written");
    assert!(Journal::open(&file, KEEP).await.trouble().expect("a file").contains("file"));
}

#[tokio::test]
async fn a_broken_file_is_set_aside_and_the_journal_goes_on() {
    let state = tempfile::tempdir().expect("a folder");
    let folder = state.path().join(FOLDER);
    let breaks: [fn(Vec<u8>) -> Vec<u8>; 4] = [
        |mut bytes| bytes.drain(..100).collect(),
        |bytes| vec![b'x'; bytes.len()],
        |mut bytes| {
            bytes[..320].fill(0xff);
            bytes
        },
        // All but the header: what is found is not what was written.
        |mut bytes| {
            bytes[4096..].iter_mut().for_each(|byte| *byte ^= 0x55);
            bytes
        },
    ];
    for (number, broken) in (0..).zip(breaks) {
        let journal = Journal::of(state.path(), KEEP).await.expect("kept");
        for each in 0..50 {
            journal.keep([each; 32], kept(&format!("{number} {each}")), &vouching()).await;
        }
        journal.close().await;
        let file =
            files(&folder).into_iter().rfind(|file| !file.ends_with("set-aside.redb")).expect("a segment");
        fs::write(&file, broken(fs::read(&file).expect("read"))).expect("written");

        let journal = Journal::of(state.path(), KEEP).await.expect("kept");
        assert_eq!(journal.recall(key(1)).await, None, "{number}");
        journal.keep(key(1), kept("again"), &vouching()).await;
        journal.close().await;
        if journal.trouble().is_none() {
            let journal = Journal::of(state.path(), KEEP).await.expect("kept");
            assert_eq!(journal.recall(key(1)).await, Some(kept("again")), "{number}");
            journal.close().await;
            assert!(files(&folder).iter().any(|file| file.ends_with("set-aside.redb")), "{number}");
        }
        fs::remove_dir_all(&folder).expect("removed");
    }
}

#[tokio::test]
async fn the_oldest_answers_make_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path(), KEEP).await;
    // What does not shrink.
    let noise = |seed: u64| {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let text: String = (0..200_000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                char::from(33 + (state % 90) as u8)
            })
            .collect();
        kept(&text)
    };
    let key = |number: u64| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    };
    for number in 0..150 {
        journal.keep(key(number), noise(number), &vouching()).await;
    }
    // However slow the disk is: who closes waits for a bounded time.
    settled(&journal).await;
    journal.close().await;
    let bytes: u64 = files(folder.path()).iter().map(|file| fs::metadata(file).expect("there").len()).sum();
    assert!(bytes <= KEEP, "{bytes}");
    let journal = Journal::open(folder.path(), KEEP).await;
    assert_eq!(journal.recall(key(149)).await, Some(noise(149)));
    assert_eq!(journal.recall(key(0)).await, None);
    journal.close().await;

    let smaller = Journal::open(folder.path(), KEEP / 4).await;
    assert_eq!(smaller.recall(key(149)).await, Some(noise(149)));
    smaller.close().await;
    assert!(files(folder.path()).len() < 3);
}

#[tokio::test]
async fn what_another_model_may_have_said_is_not_kept() {
    let state = tempfile::tempdir().expect("a folder");
    let journal = Journal::of(state.path(), KEEP).await.expect("kept");
    let asked = Arc::new(AtomicU32::new(0));
    let witness = |vouches: bool| {
        let asked = asked.clone();
        Witness::new(move || {
            asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { vouches })
        })
    };
    let (same, another) = (witness(true), witness(false));
    for number in 0..6 {
        journal.keep(key(number), kept("a"), if number < 3 { &same } else { &another }).await;
    }
    settled(&journal).await;
    assert_eq!(journal.recall(key(5)).await, None);
    journal.close().await;
    assert_eq!(asked.load(Ordering::Relaxed), 2, "each once a window");
    let journal = Journal::of(state.path(), KEEP).await.expect("kept");
    let mut there = Vec::new();
    for number in 0..6 {
        there.push(journal.recall(key(number)).await.is_some());
    }
    assert_eq!(there, [true, true, true, false, false, false]);
}

#[tokio::test]
async fn a_server_that_is_away_does_not_hold_up_the_end() {
    let state = tempfile::tempdir().expect("a folder");
    let journal = Journal::of(state.path(), KEEP).await.expect("kept");
    journal.keep(key(1), kept("a"), &Witness::new(|| Box::pin(std::future::pending()))).await;
    journal.close().await;
    let journal = Journal::of(state.path(), KEEP).await.expect("kept");
    assert_eq!((journal.trouble(), journal.recall(key(1)).await), (None, None), "the files were let go of");
}
