//! What the compiler says to someone who writes the first lines wrong.
// The same on every backend, and each set of features would compile Burn once more.
#![cfg(not(feature = "wgpu"))]

#[test]
fn mistakes_of_the_first_hour_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
