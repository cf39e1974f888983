//! A manifest of knowledge, as it is and with its checksum put right.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| burn_distill::knowledge::fuzzing::manifest(bytes));
