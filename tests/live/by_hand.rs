//! Every SQL step of the runbook by `control` and by hand, over `s3://` in MinIO: the shell through its httpfs.

use e2e::by_hand::ByHand;

use crate::place::Place;

#[tokio::test]
async fn every_step_over_s3_gives_equal_rows() {
    let place = Place::new("by-hand");
    ByHand::new(place.control(), place.shell(), place.store.clone()).every_step().await.unwrap();
}
