//! Born-again networks: every generation teaches the next.

use burn::module::Module;
use burn::tensor::Device;

use crate::data::dataset::DistillData;
use crate::data::distillable::Distillable;
use crate::distiller::Distiller;
use crate::distiller::distilled::Distilled;
use crate::error::Result;
use crate::objective::Objective;
use crate::train::config::FitConfig;

/// Born-again networks: every generation's student teaches the next.
///
/// All generations have the shape of the teacher. `fresh` makes the untrained student of a
/// generation, from 1; the seed of its training is the config's plus the generation, so that no two
/// see the same batches. To average the generations' outputs, as the paper does, make an
/// [`Ensemble`](crate::Ensemble) of their students. With checkpoints, each generation
/// has a directory of its own below the one given: `generation-1`, `generation-2`.
///
/// # Errors
///
/// As for [`Distiller::fit`], for the first generation that fails.
///
/// # References
///
/// Furlanello et al.: Born Again Neural Networks, 2018, arXiv:1805.04770.
#[allow(clippy::too_many_arguments)] // Those of a distillation, and two more.
pub fn born_again<I, M>(
    device: Device,
    teacher: M,
    fresh: impl Fn(usize) -> M,
    generations: usize,
    objective: &Objective,
    config: &FitConfig,
    train: DistillData<I>,
    valid: impl Into<Option<DistillData<I>>>,
) -> Result<Vec<Distilled<M, M>>>
where
    I: Module + 'static,
    M: Distillable<I>,
{
    let valid = valid.into();
    let mut results: Vec<Distilled<M, M>> = Vec::with_capacity(generations);
    for generation in 1..=generations {
        let teacher = match results.last() {
            Some(before) => before.student.clone(),
            None => teacher.clone(),
        };
        let mut config = config.clone();
        config.seed = config.seed.wrapping_add(generation as u64);
        config.label = Some(format!("generation {generation}"));
        if let Some(checkpoints) = &mut config.checkpoints {
            let name = format!("generation-{generation}");
            checkpoints.directory = checkpoints.directory.join(name);
        }
        let distilled = Distiller::on(device.clone(), teacher, fresh(generation))
            .with_objective(objective.clone())
            .fit(&config, train.clone(), valid.clone());
        let distilled = distilled.map_err(|error| error.after(results.last()))?;
        results.push(distilled);
    }
    Ok(results)
}
