//! How to train: everything about a training that is neither data, nor model, nor objective.

use std::path::PathBuf;

use burn::grad_clipping::{GradientClipping, GradientClippingConfig};
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::ParamGroup;
use burn::optim::{AdamConfig, ModuleOptimizer, Optimizer};
use burn::tensor::Device;
use burn::tensor::distributed::{DistributedConfig, ReduceOperation};
use burn::train::metric::store::Direction;
use burn::train::{Interrupter, MultiDeviceOptim};

use crate::error::{Error, Result};
use crate::progress::ProgressMode;
use crate::schedule::Schedule;
use crate::teacher::cache::TeacherCache;
use crate::train::groups::{OptimizerGroup, RateGroup, ScheduledRate};
use crate::train::loader::Plan;

/// How a student is trained.
///
/// | setting | default | range | meaning |
/// |---|---|---|---|
/// | epochs | required | at least 1 | passes over the training data |
/// | [batch size](Self::with_batch_size) | 128 | at least 1 | samples per step and device |
/// | [drop last](Self::with_drop_last) | off | | leaves out a last smaller batch |
/// | [optimizer](Self::with_optimizer) | Adam with ε = 1e-8 | any of Burn's | one state for student and projectors |
/// | learning rate | 1e-3 | greater than 0 | set with the optimizer |
/// | [learning-rate schedule](Self::with_lr_schedule) | constant | at least 0 | a factor on the learning rate, per step |
/// | [rate of a group](Self::with_lr_group) | none | at least 0 | a factor for some parameters |
/// | [optimizer of a group](Self::with_optimizer_group) | none | any of Burn's | another optimizer for some parameters |
/// | [gradient clipping](Self::with_gradient_clipping) | none | Burn's config | each parameter by itself, as Burn clips |
/// | [global clipping](Self::with_global_clipping) | none | greater than 0 | by the norm over all parameters |
/// | [accumulation](Self::with_accumulation) | 1 | at least 1 | batches per optimizer step |
/// | [early stopping](Self::with_early_stopping) | none | at least 1 | epochs without a better loss; hands back the best |
/// | [best](Self::with_best) | the last epoch | a metric and a direction | hands back the student of the best epoch |
/// | [checkpoints](Self::with_checkpoints) | none | a directory | one per epoch, the last two are kept |
/// | [resume](Self::with_resume) | off | | go on after the newest whole checkpoint |
/// | [changed settings](Self::with_changed_settings) | off | | go on from a checkpoint of other settings |
/// | [interrupter](Self::with_interrupter) | none | Burn's handle | stops training from elsewhere |
/// | [seed](Self::with_seed) | 0 | any | order of the data, dropout, initial projectors |
/// | [workers](Self::with_workers) | 1 | any | threads that prepare batches, and ask the teacher, ahead |
/// | [teacher cache](Self::with_teacher_cache) | none | memory or a directory | asks the teacher once for each sample |
/// | [devices](Self::with_devices) | the distiller's | Burn's devices | data parallel training |
/// | [gradient checkpointing](Self::with_gradient_checkpointing) | off | | recompute instead of keep |
/// | [progress](Self::with_progress) | [`ProgressMode::Auto`] | | what is shown |
/// | [baseline](Self::with_baseline) | off | | also trains the student without the teacher |
/// | [kept optimizer](Self::with_kept_optimizer) | off | | hand the optimizer's state back |
///
/// # Example
///
/// ```
/// use burn::optim::AdamConfig;
/// use burn_distill::{FitConfig, Schedule};
///
/// let config = FitConfig::new(30)
///     .with_optimizer(AdamConfig::new().init(), 3e-3)
///     .with_lr_schedule(Schedule::cosine(1.0, 0.0))
///     .with_accumulation(4)
///     .with_seed(7);
/// assert_eq!(config.epochs(), 30);
/// ```
#[derive(Clone)]
pub struct FitConfig {
    pub(crate) epochs: usize,
    pub(crate) batch_size: usize,
    pub(crate) optimizer: ModuleOptimizer,
    pub(crate) learning_rate: f64,
    pub(crate) lr: LearningRate,
    pub(crate) rate_groups: Vec<RateGroup>,
    pub(crate) optimizer_groups: Vec<OptimizerGroup>,
    pub(crate) clipping: Option<GradientClipping>,
    pub(crate) global_clipping: Option<f64>,
    pub(crate) drop_last: bool,
    pub(crate) accumulation: usize,
    pub(crate) patience: Option<usize>,
    pub(crate) best: Option<(String, Direction)>,
    pub(crate) checkpoints: Option<Checkpoints>,
    pub(crate) resume: bool,
    pub(crate) changed_settings: bool,
    pub(crate) interrupter: Interrupter,
    pub(crate) seed: u64,
    pub(crate) workers: usize,
    pub(crate) execution: Execution,
    pub(crate) gradient_checkpointing: bool,
    pub(crate) progress: ProgressMode,
    pub(crate) label: Option<String>,
    pub(crate) baseline: bool,
    /// Whether this is the training of a baseline, with the settings of a distillation.
    pub(crate) is_baseline: bool,
    pub(crate) keep_optimizer: bool,
    pub(crate) teacher_cache: Option<TeacherCache>,
}

/// The learning rate over time.
#[derive(Clone)]
pub(crate) enum LearningRate {
    /// A factor on the base rate, by progress.
    Factor(Schedule),
    /// One of Burn's schedulers, with rates of its own.
    Scheduler(ModuleLrScheduler),
}

#[derive(Debug, Clone)]
pub(crate) struct Checkpoints {
    pub directory: PathBuf,
    pub keep: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum Execution {
    Single,
    Multi(Vec<Device>, MultiDeviceOptim),
    Ddp(Vec<Device>, DistributedConfig),
}

impl Execution {
    /// See [`Plan::reduction`].
    pub fn reduction(&self) -> f64 {
        match self {
            Self::Ddp(devices, config) if config.all_reduce_op == ReduceOperation::Mean => {
                1.0 / devices.len() as f64
            }
            _ => 1.0,
        }
    }

    pub fn devices(&self) -> usize {
        match self {
            Self::Single => 1,
            Self::Multi(devices, _) | Self::Ddp(devices, _) => devices.len().max(1),
        }
    }
}

impl FitConfig {
    /// A training of `epochs` epochs, everything else at its default.
    pub fn new(epochs: usize) -> Self {
        Self {
            epochs,
            batch_size: 128,
            // Burn's default of 1e-5 is large beside the gradients of a well-fitted student.
            optimizer: AdamConfig::new().with_epsilon(1e-8).init(),
            learning_rate: 1e-3,
            lr: LearningRate::Factor(Schedule::from(1.0)),
            rate_groups: Vec::new(),
            optimizer_groups: Vec::new(),
            clipping: None,
            global_clipping: None,
            drop_last: false,
            accumulation: 1,
            patience: None,
            best: None,
            checkpoints: None,
            resume: false,
            changed_settings: false,
            interrupter: Interrupter::new(),
            seed: 0,
            workers: 1,
            execution: Execution::Single,
            gradient_checkpointing: false,
            progress: ProgressMode::Auto,
            label: None,
            baseline: false,
            is_baseline: false,
            keep_optimizer: false,
            teacher_cache: None,
        }
    }

    /// The number of passes over the training data.
    pub fn epochs(&self) -> usize {
        self.epochs
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Sets the number of samples per step and device.
    #[must_use]
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }

    /// Leaves out the last batch of an epoch where it is smaller than the others: 129 samples in batches
    /// of 128 have a last one of 1, in which batch norm finds no variance. Which samples these are
    /// changes with every epoch. Validation has all samples.
    #[must_use]
    pub fn with_drop_last(mut self, drop_last: bool) -> Self {
        self.drop_last = drop_last;
        self
    }

    /// Sets the optimizer, what the `init` of Burn's optimizer configs gives, and the learning
    /// rate.
    #[must_use]
    pub fn with_optimizer(
        mut self,
        optimizer: impl Into<ModuleOptimizer>,
        learning_rate: f64,
    ) -> Self {
        self.optimizer = optimizer.into();
        self.learning_rate = learning_rate;
        self
    }

    /// Sets a factor on the learning rate as a function of progress, stepped with every optimizer
    /// step: `Schedule::cosine(1.0, 0.0)` decays to zero.
    #[must_use]
    pub fn with_lr_schedule(mut self, factor: Schedule) -> Self {
        self.lr = LearningRate::Factor(factor);
        self
    }

    /// Sets one of Burn's learning-rate schedulers, which then alone decides the rate.
    #[must_use]
    pub fn with_lr_scheduler(mut self, scheduler: impl Into<ModuleLrScheduler>) -> Self {
        self.lr = LearningRate::Scheduler(scheduler.into());
        self
    }

    /// Multiplies the learning rate of the parameters of a group by a factor, a number or a [`Schedule`].
    /// Paths are the student's own, such as `head.weight`; what losses train is under `loss-modules`. Where
    /// a parameter is in several groups, the last counts. A group that has no parameter is an error before
    /// training, which one that is set on Burn's own scheduler is not.
    ///
    /// # Example
    ///
    /// ```
    /// use burn::module::ParamGroup;
    /// use burn_distill::FitConfig;
    ///
    /// let config = FitConfig::new(30).with_lr_group(ParamGroup::from_predicate("backbone"), 0.1);
    /// assert_eq!(config.epochs(), 30);
    /// ```
    #[must_use]
    pub fn with_lr_group(mut self, group: ParamGroup, factor: impl Into<Schedule>) -> Self {
        let factor = factor.into();
        self.rate_groups.push(RateGroup { group, factor });
        self
    }

    /// Gives the parameters of a group an optimizer of their own, what the `build` of Burn's optimizer
    /// configs gives, such as one without weight decay.
    /// Groups are those of [`with_lr_group`](Self::with_lr_group). An optimizer that was handed back with
    /// its state has its groups already.
    #[must_use]
    pub fn with_optimizer_group(mut self, group: ParamGroup, optimizer: impl Optimizer) -> Self {
        let group = OptimizerGroup::new(group, optimizer);
        self.optimizer_groups.push(group);
        self
    }

    /// Clips the gradient of each parameter by itself, by value or by norm.
    #[must_use]
    pub fn with_gradient_clipping(mut self, clipping: GradientClippingConfig) -> Self {
        self.clipping = Some(clipping.init());
        self
    }

    /// Scales the gradients of all parameters, of whichever group, by one factor where their norm over
    /// all of them is larger than `max_norm`, as `torch.nn.utils.clip_grad_norm_` does. With accumulation
    /// and on several devices it is the norm of the sum.
    #[must_use]
    pub fn with_global_clipping(mut self, max_norm: f64) -> Self {
        self.global_clipping = Some(max_norm);
        self
    }

    /// Sums the gradients of several batches before each optimizer step. The sum is weighted such
    /// that k batches of b give the gradient of one batch of k·b, also at the end of an epoch, where
    /// batches run out, and under masks.
    #[must_use]
    pub fn with_accumulation(mut self, batches: usize) -> Self {
        self.accumulation = batches;
        self
    }

    /// Stops after `patience` epochs without a better loss, or a better metric of
    /// [`with_best`](Self::with_best), and hands back the student of the best epoch. The numbers are those
    /// of the validation data where there are any, else of the training.
    #[must_use]
    pub fn with_early_stopping(mut self, patience: usize) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Keeps the student of the best epoch, and hands back that one. `metric` is a number that every
    /// step reports: `loss`, the name of a term, `agreement` or `accuracy`, over the validation data where
    /// there are any, else over the training. One more copy of the student stays in memory; with
    /// checkpoints one lies beside them, so that a training that goes on has it too.
    /// [`TrainingSummary::best_epoch`](crate::TrainingSummary) says which epoch it was. A kept optimizer is
    /// that of the last epoch. A baseline goes by `accuracy` as well, or else by its own loss.
    ///
    /// # Example
    ///
    /// ```
    /// use burn::train::metric::store::Direction;
    /// use burn_distill::FitConfig;
    ///
    /// let config = FitConfig::new(30).with_best("accuracy", Direction::Highest);
    /// assert_eq!(config.epochs(), 30);
    /// ```
    #[must_use]
    pub fn with_best(mut self, metric: impl Into<String>, direction: Direction) -> Self {
        self.best = Some((metric.into(), direction));
        self
    }

    /// Saves a checkpoint to a directory after every epoch and keeps the last two. It holds the
    /// student, its projectors, the optimizer's state and the learning-rate scheduler's, and
    /// nothing of the teacher, and [`load_student`](crate::load_student) takes the student out of it.
    ///
    /// An old checkpoint goes when a new one is whole: at every moment at least one is, and the disk needs
    /// room for one more than are kept. The folder `checkpoint` in the directory belongs to the training. One
    /// training at a time holds a directory, [`Error::DirectoryLocked`](crate::Error::DirectoryLocked) for
    /// the second. Without [resume](Self::with_resume), checkpoints of an earlier training are set aside in
    /// `checkpoint.before` and go with the first new one.
    #[must_use]
    pub fn with_checkpoints(self, directory: impl Into<PathBuf>) -> Self {
        self.with_checkpoints_kept(directory, 2)
    }

    /// [`with_checkpoints`](Self::with_checkpoints), keeping the last `keep`.
    #[must_use]
    pub fn with_checkpoints_kept(mut self, directory: impl Into<PathBuf>, keep: usize) -> Self {
        self.checkpoints = Some(Checkpoints {
            directory: directory.into(),
            keep,
        });
        self
    }

    /// Goes on after the newest whole checkpoint of the directory, or starts afresh where there is none.
    /// The student becomes the one of an undisturbed training, bit for bit. A training that was finished or
    /// stopped early is finished: it hands its student back.
    ///
    /// A checkpoint holds checksums. One that is damaged is passed over, with a word in the progress and
    /// among the [notes](crate::TrainingSummary::notes); if all are, that is
    /// [`Error::Checkpoint`](crate::Error::Checkpoint). It also says what it belongs to: the objective, the
    /// teacher's fingerprint, seed, optimizer, learning rates, batch size, accumulation, devices, and of the data
    /// the number of samples, names of up to 256 of them, and the first batch's input if that is a tensor. Where the
    /// training asked for would not have come to this checkpoint, that is
    /// [`Error::CheckpointMismatch`](crate::Error::CheckpointMismatch), which names both sides.
    ///
    /// More epochs than before are asked for freely, as long as no learning rate so far would have been
    /// another, and no weight or temperature follows a schedule. A [rollout](crate::Distiller::with_rollout) and
    /// losses from code see the progress of a training: they count as if they followed it.
    #[must_use]
    pub fn with_resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Lets a [resumed](Self::with_resume) training go on from a checkpoint of other settings. What differs
    /// first is among the [notes](crate::TrainingSummary::notes); early stopping and the best student begin
    /// anew.
    #[must_use]
    pub fn with_changed_settings(mut self, allowed: bool) -> Self {
        self.changed_settings = allowed;
        self
    }

    /// Sets a handle through which training can be stopped from elsewhere, after the running batch. A stop
    /// is of the training that runs: a later stage and the next training run to their end. A baseline is
    /// left out of the report then, which says so.
    #[must_use]
    pub fn with_interrupter(mut self, interrupter: Interrupter) -> Self {
        self.interrupter = interrupter;
        self
    }

    /// Sets the seed of the order of the data, of dropout and of the initial projectors.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Asks the teacher once for each sample, and each of its views, and reads afterwards: in memory up to a
    /// number of bytes, or in a directory, where it is recorded before the first epoch and found by the
    /// next training.
    ///
    /// In single precision the student is bit for bit that of the live teacher, also after a resume. The
    /// teacher must be a function of the sample: inputs that are never the same twice, such as those that
    /// are augmented without a seed, are an error before training. A directory needs samples with
    /// [names](crate::DistillData::builder).
    ///
    /// # Example
    ///
    /// ```
    /// use burn_distill::{FitConfig, TeacherCache};
    ///
    /// let config = FitConfig::new(30).with_teacher_cache(TeacherCache::memory(1 << 30));
    /// assert_eq!(config.epochs(), 30);
    /// ```
    #[must_use]
    pub fn with_teacher_cache(mut self, cache: TeacherCache) -> Self {
        self.teacher_cache = Some(cache);
        self
    }

    /// Sets the number of threads that prepare batches ahead, teacher's outputs included: the teacher works
    /// on the next batch while the student learns from this one. With 0 both happen in turn. Neither the
    /// order of the batches nor the student depends on it.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Trains on several devices: each takes a batch per step, and their gradients are summed into
    /// those of one batch as large as all of them: the mean over all rows, each with its weight.
    #[must_use]
    pub fn with_devices(mut self, devices: Vec<Device>, optim: MultiDeviceOptim) -> Self {
        self.execution = Execution::Multi(devices, optim);
        self
    }

    /// Trains on several devices with Burn's distributed data parallel engine, one replica each. A
    /// backend that cannot is an error before training.
    #[must_use]
    pub fn with_ddp(mut self, devices: Vec<Device>, config: DistributedConfig) -> Self {
        self.execution = Execution::Ddp(devices, config);
        self
    }

    /// Recomputes memory-bound activations in the backward pass instead of keeping them.
    #[must_use]
    pub fn with_gradient_checkpointing(mut self, enabled: bool) -> Self {
        self.gradient_checkpointing = enabled;
        self
    }

    /// Sets how progress is shown.
    #[must_use]
    pub fn with_progress(mut self, progress: ProgressMode) -> Self {
        self.progress = progress;
        self
    }

    /// Sets a name that is shown with the progress.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Also trains a copy of the student on targets alone, the supervised baseline, with the same recipe,
    /// seed and batches, and puts it into the report: what distillation has to beat. Takes as long again,
    /// less the teacher.
    #[must_use]
    pub fn with_baseline(mut self, baseline: bool) -> Self {
        self.baseline = baseline;
        self
    }

    /// Hands the optimizer back with its state, for a next training of the same student to go on
    /// with; see [`Distilled::optimizer`](crate::Distilled).
    #[must_use]
    pub fn with_kept_optimizer(mut self, keep: bool) -> Self {
        self.keep_optimizer = keep;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let at_least_one = [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("accumulation", self.accumulation),
            ("early_stopping", self.patience.unwrap_or(1)),
            (
                "checkpoints kept",
                self.checkpoints.as_ref().map_or(1, |c| c.keep),
            ),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                return Err(Error::invalid(name, value, "at least 1"));
            }
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(Error::invalid(
                "learning_rate",
                self.learning_rate,
                "a number greater than 0",
            ));
        }
        let expected = "a number of at least 0";
        if let LearningRate::Factor(factor) = &self.lr {
            factor.check("lr_schedule", |f| f >= 0.0, expected)?;
        }
        for group in &self.rate_groups {
            group.factor.check("lr_group", |f| f >= 0.0, expected)?;
        }
        if let Some(bound) = self.global_clipping
            && !(bound.is_finite() && bound > 0.0)
        {
            let expected = "a number greater than 0";
            return Err(Error::invalid("global_clipping", bound, expected));
        }
        if let Execution::Multi(devices, _) | Execution::Ddp(devices, _) = &self.execution
            && devices.is_empty()
        {
            return Err(Error::invalid("devices", "empty", "at least one device"));
        }
        if self.resume && self.checkpoints.is_none() {
            return Err(Error::invalid(
                "resume",
                "on without a directory",
                "a directory of checkpoints",
            ));
        }
        Ok(())
    }

    pub(crate) fn plan(&self) -> Plan {
        Plan {
            batch_size: self.batch_size,
            accumulation: self.accumulation,
            devices: self.execution.devices(),
            reduction: self.execution.reduction(),
            drop_last: self.drop_last,
            epochs: self.epochs,
            workers: self.workers,
        }
    }

    pub(crate) fn scheduler(&self, steps: usize) -> ModuleLrScheduler {
        let base: ModuleLrScheduler = match &self.lr {
            LearningRate::Scheduler(scheduler) => scheduler.clone(),
            LearningRate::Factor(factor) => {
                ScheduledRate::new(self.learning_rate, factor.clone(), steps).into()
            }
        };
        let groups = self.rate_groups.iter();
        groups.fold(base.clone(), |all, RateGroup { group, factor }| {
            let rate = ScheduledRate::new(base.clone(), factor.clone(), steps);
            all.with_group(group.clone(), rate)
        })
    }

    /// Whether the student of the best epoch is handed back.
    pub(crate) fn keeps_best(&self) -> bool {
        self.best.is_some() || self.patience.is_some()
    }

    pub(crate) fn optimizer(&self) -> ModuleOptimizer {
        let base = match &self.clipping {
            Some(clipping) => self.optimizer.clone().with_grad_clipping(clipping.clone()),
            None => self.optimizer.clone(),
        };
        let groups = self.optimizer_groups.iter();
        groups.fold(base, |all, group| group.add_to(all, self.clipping.clone()))
    }
}

impl std::fmt::Debug for FitConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FitConfig")
            .field("epochs", &self.epochs)
            .field("batch_size", &self.batch_size)
            .field("learning_rate", &self.learning_rate)
            .field("accumulation", &self.accumulation)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_trained_is_named() {
        let text = |config: FitConfig| config.check().unwrap_err().to_string();
        assert_eq!(text(FitConfig::new(0)), "epochs is 0, expected at least 1");
        assert_eq!(
            text(FitConfig::new(1).with_batch_size(0)),
            "batch_size is 0, expected at least 1"
        );
        let optimizer = AdamConfig::new().init();
        assert_eq!(
            text(FitConfig::new(1).with_optimizer(optimizer, f64::NAN)),
            "learning_rate is NaN, expected a number greater than 0"
        );
        assert_eq!(
            text(FitConfig::new(1).with_resume(true)),
            "resume is on without a directory, expected a directory of checkpoints"
        );
        assert_eq!(
            text(FitConfig::new(1).with_lr_schedule(Schedule::linear(1.0, -1.0))),
            "lr_schedule is -1, expected a number of at least 0"
        );
        assert!(FitConfig::new(1).check().is_ok());
    }
}
