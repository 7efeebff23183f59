//! Every SQL step of the runbook by `control` and by hand, over a folder. `deploy/deps/duckdb-cli.sh` gets the shell.

use e2e::{
    by_hand::ByHand,
    harness::{Control, Shell},
};
use proto::store::{Env, Store};

#[tokio::test]
async fn every_step_by_control_and_by_hand_gives_equal_rows() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data").display().to_string();
    let cache = folder.path().join("cache").display().to_string();
    let control = Control::new(folder.path(), &root).with("PREANNOTATE_CACHE", &cache);
    let store = Store::open(&root, &Env::new()).unwrap();
    ByHand::new(control, Shell::find().unwrap(), store).every_step().await.unwrap();
}
