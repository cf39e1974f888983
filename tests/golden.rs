//! Every loss against numbers from the original implementations, value and gradient, on every
//! backend that is compiled in.
//!
//! The cases are JSON files in `tests/golden/`, or in the directory that `BURN_DISTILL_GOLDEN`
//! names; `tests/golden/README.md` says where they come from. A loss or variant that is not computed
//! here fails.

#[path = "golden/case.rs"]
mod case;
#[path = "golden/classes.rs"]
mod classes;
#[path = "common/mod.rs"]
mod common;
#[path = "golden/features.rs"]
mod features;
#[path = "golden/logits.rs"]
mod logits;
#[path = "golden/maps.rs"]
mod maps;
#[path = "golden/sequences.rs"]
mod sequences;
#[path = "golden/relations.rs"]
mod relations;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use case::{Case, Outcome};

/// Computes a case, or says that no loss here computes it.
fn compute(loss: &str, case: &Case, device: &Device) -> Option<Outcome> {
    logits::compute(loss, case, device)
        .or_else(|| features::compute(loss, case, device))
        .or_else(|| sequences::compute(loss, case, device))
        .or_else(|| classes::compute(loss, case, device))
        .or_else(|| maps::compute(loss, case, device))
        .or_else(|| relations::compute(loss, case, device))
}

#[test]
fn every_case_matches_its_original() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let directory = std::env::var_os("BURN_DISTILL_GOLDEN").map_or(shipped, PathBuf::from);
    let files = case::read_all(&directory);
    assert!(!files.is_empty(), "no cases in {}", directory.display());
    let mut failures = Vec::new();
    for (name, device) in common::devices() {
        for (loss, cases) in &files {
            let mut passed = 0;
            for case in cases {
                let outcome = compute(loss, case, &device);
                let outcome = outcome.ok_or_else(|| format!("no loss computes {}", case.variant));
                match outcome.and_then(|outcome| outcome.compare(case)) {
                    Ok(()) => passed += 1,
                    Err(reason) => failures.push(format!("{name}: {}: {reason}", case.name)),
                }
            }
            println!(
                "{name:8} {loss:24} {passed} of {} cases passed",
                cases.len()
            );
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
