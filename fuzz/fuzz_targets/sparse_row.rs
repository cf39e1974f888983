//! A packed row, in the form that the first byte chooses.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| burn_distill::knowledge::fuzzing::sparse_row(bytes));
