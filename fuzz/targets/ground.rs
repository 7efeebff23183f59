//! Mentions and pages, made of pieces as the bytes say.
#![no_main]

use std::sync::LazyLock;

use e2e::fuzzing::{Bytes, grounds};
use libfuzzer_sys::fuzz_target;
use proto::labelset::Labelset;

static LABELSET: LazyLock<Labelset> = LazyLock::new(Labelset::embedded);

fuzz_target!(|chance: &[u8]| {
    grounds(&mut Bytes::new(chance), &LABELSET).expect("it holds");
});
