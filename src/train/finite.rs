//! Which sample a number that is not finite belongs to.

use std::any::Any;

use burn::tensor::{Bool, Tensor};

use crate::data::batch::DistillBatch;
use crate::data::feature::Feature;
use crate::data::head::{Head, Logits};
use crate::data::outputs::Outputs;
use crate::error::{Error, Result, Side};
use crate::ops::features::masked;
use crate::ops::vectors::mask_rows;

/// Fails if an input that is a tensor has a number that is not finite in a sample that is valid: why its
/// outputs are not.
pub(crate) fn check_input<I: 'static, J>(
    what: &'static str,
    batch: &DistillBatch<I, J>,
) -> Result<()> {
    fn found<const D: usize, J, I>(
        input: &dyn Any,
        batch: &DistillBatch<I, J>,
    ) -> Option<(usize, usize)> {
        let input = input.downcast_ref::<Tensor<D>>()?;
        let samples = input.dims()[0];
        let weights = batch.targets.first_weights();
        match weights.filter(|weights| weights.rows().is_multiple_of(samples.max(1))) {
            Some(weights) => {
                let is_out = weights.by_sample(samples).equal_elem(0.0);
                broken(&mask_rows(input.clone().without_autodiff(), &is_out))
            }
            None => broken(input),
        }
    }
    let input: &dyn Any = &batch.input;
    let found = found::<1, J, I>(input, batch)
        .or_else(|| found::<2, J, I>(input, batch))
        .or_else(|| found::<3, J, I>(input, batch))
        .or_else(|| found::<4, J, I>(input, batch))
        .or_else(|| found::<5, J, I>(input, batch));
    match found {
        Some((row, rows)) => Err(error(what, "the input of", batch, row, rows)),
        None => Ok(()),
    }
}

/// Fails if a valid row of some outputs for a batch has a number that is not finite.
pub(crate) fn check_outputs<I, J>(
    what: &'static str,
    side: Side,
    outputs: &Outputs,
    batch: &DistillBatch<I, J>,
) -> Result<()> {
    let found = |name: String, broken: Option<(usize, usize)>| match broken {
        Some((row, rows)) => {
            let name = format!("{name} of the {side} for");
            Err(error(what, &name, batch, row, rows))
        }
        None => Ok(()),
    };
    for (at, (name, head)) in outputs.heads().enumerate() {
        let numbers = match head {
            Head::Categorical(Logits::TopK(top_k)) => top_k.log_probs.clone(),
            Head::Categorical(Logits::Projected(layer)) => layer.hidden().clone(),
            other => other.tensor(),
        };
        let numbers = match batch.targets.weights_of(name, at == 0) {
            Some(weights) if weights.rows() == numbers.dims()[0] => {
                mask_rows(numbers, &weights.values().clone().equal_elem(0.0))
            }
            _ => numbers,
        };
        // A masked class may stand at minus infinity.
        let is_masked = numbers.clone().equal_elem(f32::NEG_INFINITY);
        found(
            format!("head {name:?}"),
            broken(&numbers.mask_fill(is_masked, 0.0)),
        )?;
    }
    outputs.features().try_for_each(|(name, feature)| {
        let weights = batch.targets.first_weights();
        let samples = feature.shape()[0].max(1);
        let weights = weights.filter(|weights| weights.rows().is_multiple_of(samples));
        let broken = match masked(feature.clone(), weights) {
            Feature::Rank2(x) => broken(&x),
            Feature::Rank3(x) => broken(&x),
            Feature::Rank4(x) => broken(&x),
        };
        found(format!("feature {name:?}"), broken)
    })
}

/// The first entry along the first axis that has a number that is not finite, and how many entries there
/// are.
fn broken<const D: usize>(x: &Tensor<D>) -> Option<(usize, usize)> {
    let rows = x.dims()[0];
    let is_finite: Tensor<D, Bool> = x.clone().without_autodiff().is_finite();
    if is_finite.clone().all().into_scalar::<bool>() {
        return None;
    }
    let is_finite = is_finite.into_data();
    let per_row = is_finite.num_elements() / rows.max(1);
    let at = is_finite.iter::<bool>().position(|is_finite| !is_finite)?;
    Some((at / per_row.max(1), rows))
}

fn error<I, J>(
    what: &'static str,
    name: &str,
    batch: &DistillBatch<I, J>,
    row: usize,
    rows: usize,
) -> Error {
    let sample = batch.sample_of(row, rows);
    Error::NonFinite {
        what: format!("{name} sample {sample} of the {what} set"),
        value: "NaN or infinite".into(),
    }
}
