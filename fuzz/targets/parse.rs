//! Answers, as bytes that are nearly UTF-8.
#![no_main]

use e2e::fuzzing::parses_answer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| {
    parses_answer(&String::from_utf8_lossy(answer)).expect("it holds");
});
