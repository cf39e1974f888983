//! Parameters that are trained otherwise than the rest, and the learning rate over time.

use std::sync::Arc;

use burn::grad_clipping::GradientClipping;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use burn::module::ParamGroup;
use burn::optim::{ModuleOptimizer, Optimizer};

use crate::schedule::Schedule;

type Add =
    dyn Fn(ModuleOptimizer, Option<GradientClipping>) -> ModuleOptimizer + Send + Sync + 'static;

/// Parameters with an optimizer of their own.
#[derive(Clone)]
pub(crate) struct OptimizerGroup {
    pub group: ParamGroup,
    add: Arc<Add>,
}

impl OptimizerGroup {
    pub fn new(group: ParamGroup, optimizer: impl Optimizer) -> Self {
        let of_group = group.clone();
        let add = move |all: ModuleOptimizer, clipping| {
            all.with_group(of_group.clone(), optimizer.clone(), clipping)
        };
        Self {
            group,
            add: Arc::new(add),
        }
    }

    /// An optimizer of all parameters with that of this group.
    pub fn add_to(
        &self,
        all: ModuleOptimizer,
        clipping: Option<GradientClipping>,
    ) -> ModuleOptimizer {
        (self.add)(all, clipping)
    }
}

/// Parameters with a factor on the learning rate.
#[derive(Clone)]
pub(crate) struct RateGroup {
    pub group: ParamGroup,
    pub factor: Schedule,
}

/// A [`Schedule`] as one of Burn's schedulers: a factor on the rate of another.
#[derive(Clone)]
pub(crate) struct ScheduledRate {
    base: ModuleLrScheduler,
    factor: Schedule,
    /// Optimizer steps in the whole training.
    steps: usize,
    next: usize,
}

impl ScheduledRate {
    pub fn new(base: impl Into<ModuleLrScheduler>, factor: Schedule, steps: usize) -> Self {
        Self {
            base: base.into(),
            factor,
            steps,
            next: 0,
        }
    }
}

impl LrScheduler for ScheduledRate {
    fn step(&mut self) -> f64 {
        let progress = self.next as f64 / self.steps as f64;
        self.next += 1;
        self.base.step().base() * self.factor.at(progress.min(1.0))
    }

    fn to_record(&self) -> LrSchedulerRecord {
        let record = LrSchedulerRecord::new().with_record("base", self.base.to_record());
        record.with_scalar("next", self.next as u64)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(next) = record.scalar::<u64>("next") {
            self.next = next as usize;
        }
        self.base = self.base.clone().load_record(record.record("base"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_follows_its_schedules_through_a_record() {
        let cosine = || ScheduledRate::new(0.02, Schedule::cosine(1.0, 0.0), 4);
        let scheduler = || {
            let group = ParamGroup::from_path("head.weight");
            let half = ScheduledRate::new(cosine(), Schedule::linear(0.5, 0.0), 4);
            ModuleLrScheduler::from(cosine()).with_group(group, half)
        };
        let rates = |scheduler: &mut ModuleLrScheduler| {
            let rate = scheduler.step();
            let head = rate.lr_from_param(0.into(), Some("head.weight"));
            [rate.base(), head]
        };
        let near = |[a, b]: [f64; 2], [c, d]: [f64; 2]| {
            assert!((a - c).abs() < 1e-12 && (b - d).abs() < 1e-12, "{a} {b}");
        };
        // 0.02 · (1 + cos(π t / 4)) / 2 for t = 0, 1, as torch's CosineAnnealingLR(T_max=4).
        let second = 0.017_071_067_811_865_476;
        let mut undisturbed = scheduler();
        near(rates(&mut undisturbed), [0.02, 0.01]);
        near(rates(&mut undisturbed), [second, 0.375 * second]);

        let mut resumed = scheduler().load_record(undisturbed.to_record());
        assert_eq!(rates(&mut resumed), rates(&mut undisturbed));
    }
}
