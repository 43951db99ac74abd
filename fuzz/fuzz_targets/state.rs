#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| treebox::object::fuzzing::state(bytes));
