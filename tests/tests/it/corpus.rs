//! What tests write is what the pipeline reads.

use e2e::corpus::{RawDocument, RawPage, write_document};
use futures::TryStreamExt;
use proto::{
    keys,
    parquet_io::TableFile,
    schema::Table,
    store::{Env, Store},
};

#[tokio::test]
async fn a_written_document_is_found_and_valid() {
    let root = tempfile::tempdir().expect("a folder");
    let uri = root.path().to_str().expect("UTF-8");
    let page = RawPage::new("a/b 'c'", 1, 1, "F/V ASTRA");
    write_document(uri, &RawDocument::new("a/b 'c'", 1), std::slice::from_ref(&page)).await.expect("written");

    let store = Store::open(uri, &Env::new()).expect("a store");
    let [object] = &store.list_sorted(keys::RAW_PAGES).await.expect("listed")[..] else { panic!("one file") };
    let file = TableFile::open(&store, object, Table::RawPages).await.expect("raw pages");
    let rows: Vec<Vec<RawPage>> = file.read(10).expect("readable").try_collect().await.expect("read");
    assert_eq!(rows.concat()[0].text, page.text);
}
