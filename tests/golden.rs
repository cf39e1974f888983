//! Every loss against numbers from the original implementations, value and gradient, on every
//! backend that is compiled in.
//!
//! The cases are JSON files in `tests/golden/`, or in the directory that `BURN_DISTILL_GOLDEN`
//! names; `tests/golden/README.md` says where they come from. A loss or variant that is neither
//! computed here nor listed in `tests/golden/PENDING` fails.

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

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use case::{Case, Outcome};

/// Computes a case, or says that nobody here knows it.
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
    let directory = std::env::var_os("BURN_DISTILL_GOLDEN").map_or(shipped.clone(), PathBuf::from);
    let pending = std::fs::read_to_string(shipped.join("PENDING")).unwrap_or_default();
    let is_pending = |variant: &str| pending.lines().any(|line| line == variant);

    let files = case::read_all(&directory);
    assert!(!files.is_empty(), "no cases in {}", directory.display());
    let mut failures = Vec::new();
    for (name, device) in common::devices() {
        let mut waiting: BTreeMap<String, usize> = BTreeMap::new();
        for (loss, cases) in &files {
            let (mut passed, mut known) = (0, 0);
            for case in cases {
                let variant = format!("{loss}/{}", case.variant);
                let Some(outcome) = compute(loss, case, &device) else {
                    match is_pending(&variant) {
                        true => *waiting.entry(variant).or_default() += 1,
                        false => failures.push(format!("{variant}: nobody computes it")),
                    }
                    continue;
                };
                if is_pending(&variant) {
                    failures.push(format!("{variant}: computed, so no longer pending"));
                }
                known += 1;
                match outcome.compare(case) {
                    Ok(()) => passed += 1,
                    Err(reason) => failures.push(format!("{name}: {}: {reason}", case.name)),
                }
            }
            if known > 0 {
                println!("{name:8} {loss:24} {passed} of {known} cases passed");
            }
        }
        let cases: usize = waiting.values().sum();
        println!(
            "{name:8} pending: {cases} cases of {} variants",
            waiting.len()
        );
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
