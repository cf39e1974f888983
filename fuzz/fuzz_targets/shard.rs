//! A shard of knowledge, in each of the forms of logits and features.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| burn_distill::knowledge::fuzzing::shard(bytes));
