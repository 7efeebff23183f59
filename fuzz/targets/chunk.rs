//! Pages and budgets, made of pieces as the bytes say.
#![no_main]

use e2e::fuzzing::{Bytes, cuts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|chance: &[u8]| {
    cuts(&mut Bytes::new(chance)).expect("it holds");
});
