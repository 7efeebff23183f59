use super::*;
use crate::{
    ids::DocId,
    keys::{BatchKeys, PartKind, raw_pages},
};

fn root(uri: &str) -> RootUri {
    uri.parse().expect("a root")
}

#[test]
fn roots_have_a_normal_form() {
    assert_eq!(root("s3://b/p/q/").to_string(), "s3://b/p/q");
    assert_eq!(root("s3://b").to_string(), "s3://b");
    assert_eq!(root("/a/./b/../c").to_string(), "/a/c");
    assert_eq!(root("file:///a%20b").to_string(), "/a b");
    for bad in ["", "ftp://x/y", "s3://", "s3:///p", "s3://b/../c", "file://host/x"] {
        assert!(bad.parse::<RootUri>().is_err(), "{bad}");
    }
}

#[test]
fn a_root_contains_what_lies_below_it() {
    assert!(root("s3://b/p").contains(&root("s3://b/p/q")));
    assert!(!root("s3://b/p").contains(&root("s3://b/pq")));
    assert!(!root("s3://b/p").contains(&root("s3://c/p")));
    assert!(root("/a").contains(&root("/a/b")));
    assert!(!root("/a").contains(&root("/a/../b")));
    assert!(!root("/a").contains(&root("s3://a")));
}

#[test]
fn an_endpoint_without_keys_is_refused_at_once() {
    let mut env = Env::from([("AWS_ENDPOINT_URL".into(), "http://127.0.0.1:9".into())]);
    for _ in 0..2 {
        let error = Store::open("s3://b/p", &env).expect_err("no keys");
        assert!(matches!(error, StoreError::NoCredentials { .. }), "{error}");
        assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"));
        env.insert("AWS_ACCESS_KEY_ID".into(), String::new());
    }
}

#[tokio::test]
async fn objects_come_back_under_odd_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path().to_str().expect("UTF-8"), &Env::new()).expect("a store");
    assert_eq!(store.list_sorted("md_raw_ocr/pages/").await.expect("an empty list"), []);
    for id in ["../a b/c%\"'", "..", "é\u{202e}x", "a%2Fb", "00123"] {
        let key = raw_pages(&DocId::new(id).expect("not empty"), 1);
        store.put(&key, id.as_bytes().to_vec()).await.expect("put");
        assert_eq!(store.get(&key).await.expect("get"), id.as_bytes());
        assert!(store.local_path(&key).expect("a folder").is_file());
    }
    let listed = store.list_sorted("md_raw_ocr/pages/").await.expect("a list");
    assert_eq!(listed.len(), 5);
    for object in listed {
        let bytes = store.get(&object.key).await.expect("listed keys can be read");
        assert_eq!(bytes.len() as u64, object.bytes);
    }
}

#[tokio::test]
async fn the_first_create_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path().to_str().expect("UTF-8"), &Env::new()).expect("a store");
    let key = BatchKeys::new(&"b".parse().expect("an id")).part(PartKind::Commits, 0);
    assert_eq!(store.get_opt(&key).await.expect("no error"), None);
    assert_eq!(store.put_create(&key, "first").await.expect("put"), Created::New);
    assert_eq!(store.put_create(&key, "second").await.expect("put"), Created::Exists);
    assert_eq!(store.get(&key).await.expect("get"), "first");
    store.delete(&key).await.expect("delete");
    store.delete(&key).await.expect("no error twice");
}

#[tokio::test]
async fn a_name_that_no_folder_takes_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path().to_str().expect("UTF-8"), &Env::new()).expect("a store");
    let key = raw_pages(&DocId::new("é".repeat(60)).expect("not empty"), 1);
    let error = store.put(&key, "x").await.expect_err("too long");
    assert!(matches!(error, StoreError::NameTooLong { .. }), "{error}");
}

#[test]
fn what_the_file_system_forbids_is_no_outage() {
    let store = Store::open("/root-of-somebody", &Env::new()).expect("a folder");
    let told = |kind: ErrorKind| {
        let source = Box::new(io::Error::from(kind));
        store.error(
            &Key::from_listing("x/y"),
            object_store::Error::Generic { store: "LocalFileSystem", source },
        )
    };
    let error = told(ErrorKind::PermissionDenied);
    assert!(matches!(error, StoreError::Forbidden { .. }), "{error}");
    assert!(error.to_string().contains("/root-of-somebody/x/y may not be read or written"), "{error}");
    assert!(matches!(told(ErrorKind::StorageFull), StoreError::Unreachable { .. }));
}
