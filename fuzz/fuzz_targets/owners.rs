#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| treebox::engine::fuzzing::owners(bytes));
