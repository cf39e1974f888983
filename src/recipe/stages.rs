//! Trainings one after the other.

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::data::dataset::DistillData;
use crate::data::distillable::Distillable;
use crate::distiller::Distiller;
use crate::distiller::distilled::Distilled;
use crate::error::{Error, Result};
use crate::objective::Objective;
use crate::teacher::Teacher;
use crate::train::config::FitConfig;

/// One training of a sequence.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `objective` | required | an [`Objective`] | what this stage minimises |
/// | `epochs` | required | at least 1 | how long |
/// | `learning_rate` | that of the [`FitConfig`] | greater than 0 | the base rate of this stage |
/// | `carry_optimizer` | false | | go on with the optimizer state of the stage before |
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Stage {
    /// What this stage minimises.
    pub objective: Objective,
    /// How long.
    pub epochs: usize,
    /// The base learning rate of this stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Whether to go on with the optimizer state of the stage before.
    #[serde(default)]
    pub carry_optimizer: bool,
}

impl Stage {
    /// A stage of `epochs` epochs, with a fresh optimizer.
    pub fn new(objective: Objective, epochs: usize) -> Self {
        Self {
            objective,
            epochs,
            learning_rate: None,
            carry_optimizer: false,
        }
    }

    /// Sets the base learning rate of this stage.
    #[must_use]
    pub fn with_learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = Some(learning_rate);
        self
    }

    /// Goes on with the optimizer state of the stage before.
    #[must_use]
    pub fn with_carried_optimizer(mut self) -> Self {
        self.carry_optimizer = true;
        self
    }
}

/// A sequence of trainings of one student, from code or from a config file, TOML or JSON through serde.
///
/// The student of one stage goes into the next. What a loss trains, such as a projector, belongs to its
/// stage and is gone with it. With checkpoints, each stage has a directory of its own below the one
/// given: `stage-1`, `stage-2`.
///
/// # Example
///
/// FitNets: hints first, then soft targets.
///
/// ```
/// use burn_distill::recipe::Stages;
///
/// let stages: Stages = toml::from_str(
///     r#"
///     [[stages]]
///     epochs = 10
///     objective.terms = [{ loss = { hint = { student = "block1", teacher = "block2" } } }]
///
///     [[stages]]
///     epochs = 30
///     learning_rate = 1e-3
///     objective.terms = [{ loss = { soft_target = { temperature = 4.0 } } }]
///     "#,
/// )?;
/// assert_eq!(stages.stages.len(), 2);
/// # Ok::<(), toml::de::Error>(())
/// ```
///
/// # References
///
/// Romero et al.: FitNets: Hints for Thin Deep Nets, 2014, arXiv:1412.6550, section 2.2: a stage of
/// hints, then one of soft targets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Stages {
    /// The stages, first to last.
    pub stages: Vec<Stage>,
}

impl Stages {
    /// A sequence without stages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stage at the end. Its objective may have any terms, losses of your own among them.
    #[must_use]
    pub fn with(mut self, stage: Stage) -> Self {
        self.stages.push(stage);
        self
    }

    /// Checks every stage's objective.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if there is no stage or the first would carry an optimizer, and
    /// what the objectives say.
    pub fn validate(&self) -> Result<()> {
        match self.stages.first() {
            None => return Err(Error::invalid("stages", "empty", "at least one stage")),
            Some(first) if first.carry_optimizer => {
                return Err(Error::invalid(
                    "stages.carry_optimizer",
                    "on in the first stage",
                    "a stage before it",
                ));
            }
            Some(_) => {}
        }
        self.stages
            .iter()
            .try_for_each(|stage| stage.objective.validate())
    }

    /// Runs all stages and hands back what each left; the student is that of the last.
    ///
    /// `config` says how to train, but for the epochs and learning rates that the stages set.
    ///
    /// # Errors
    ///
    /// As for [`validate`](Self::validate), and as for [`Distiller::fit`] for the first stage that fails; where
    /// that leaves no student, the error has the one of the stage before.
    pub fn fit<I, J, T, S>(
        &self,
        device: Device,
        teacher: T,
        student: S,
        config: &FitConfig,
        train: DistillData<I, J>,
        valid: impl Into<Option<DistillData<I, J>>>,
    ) -> Result<Vec<Distilled<T, S>>>
    where
        I: Module + 'static,
        J: Module + 'static,
        T: Teacher<J> + Clone,
        S: Distillable<I>,
    {
        self.validate()?;
        let valid = valid.into();
        let mut results: Vec<Distilled<T, S>> = Vec::with_capacity(self.stages.len());
        let (mut teacher, mut student) = (teacher, student);
        for (number, stage) in (1..).zip(&self.stages) {
            let config = self.config(number, stage, config, results.last_mut());
            let distiller = Distiller::on(device.clone(), teacher, student);
            let distiller = distiller.with_objective(stage.objective.clone());
            let distilled = distiller.fit(&config, train.clone(), valid.clone());
            let distilled = distilled.map_err(|error| error.after(results.last()))?;
            teacher = distilled.teacher.clone();
            student = distilled.student.clone();
            results.push(distilled);
        }
        Ok(results)
    }

    fn config<T, S>(
        &self,
        number: usize,
        stage: &Stage,
        config: &FitConfig,
        before: Option<&mut Distilled<T, S>>,
    ) -> FitConfig {
        let mut config = config.clone();
        config.epochs = stage.epochs;
        config.learning_rate = stage.learning_rate.unwrap_or(config.learning_rate);
        config
            .label
            .get_or_insert_with(|| format!("stage {number}"));
        if let Some(checkpoints) = &mut config.checkpoints {
            checkpoints.directory = checkpoints.directory.join(format!("stage-{number}"));
        }
        if stage.carry_optimizer
            && let Some(state) = before.and_then(|before| before.optimizer.take())
        {
            config.optimizer = state;
            // It has them already, with their state.
            config.optimizer_groups.clear();
        }
        let carries = |next: &Stage| next.carry_optimizer;
        config.keep_optimizer |= self.stages.get(number).is_some_and(carries);
        config
    }
}
