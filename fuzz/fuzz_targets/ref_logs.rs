#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| treebox::history::fuzzing::logs(bytes));
