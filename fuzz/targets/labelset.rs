//! Labelsets, made of pieces as the bytes say, and the rules engine on pages with them.
#![no_main]

use e2e::fuzzing::{Bytes, holds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|chance: &[u8]| {
    holds(&mut Bytes::new(chance)).expect("it holds");
});
