//! What is checked before the first epoch.

use std::sync::Arc;

use burn::module::Module;

use crate::data::batch::DistillBatch;
use crate::data::distillable::Distillable;
use crate::device::check_device;
use crate::error::{Error, Result};
use crate::teacher::Teacher;
use crate::teacher::frozen::Frozen;
use crate::teacher::mean::Average;
use crate::teacher::own::OwnTeacher;
use crate::train::composite::MODULES;
use crate::train::loader::mix;
use crate::train::named::Names;
use crate::train::parameters::ForceInit;
use crate::train::preflight::{Preflight, PreflightCheck, Prepared};
use crate::train::{TeacherSource, Training};

impl<I, J, S> Training<'_, I, J, S>
where
    I: Module + 'static,
    J: Module + 'static,
    S: Distillable<I>,
{
    /// Checks everything that can be known before the first epoch.
    pub fn preflight(&self, student: &S) -> Result<Preflight> {
        self.prepared(student).map(|prepared| prepared.preflight)
    }

    /// Checks the settings, the devices and the student's. Layers draw their first weights when they
    /// are first used: done now, the caller's seed decides them, and copies of the model start alike.
    pub fn prepare<M: Module>(&self, model: &M) -> Result<()> {
        self.config.check()?;
        if let TeacherSource::Average(decay) = self.source
            && !(0.0..=1.0).contains(&decay)
        {
            let expected = "a number from 0 to 1";
            return Err(Error::invalid("mean_teacher.decay", decay, expected));
        }
        let mut devices = self.devices().into_iter().chain(model.devices());
        devices.try_for_each(|device| check_device(&device))?;
        model.visit(&mut ForceInit);
        Ok(())
    }

    pub(super) fn prepared(&self, student: &S) -> Result<Prepared> {
        let devices = self.devices();
        if devices.len() > 1 && self.train.len() < devices.len() {
            return Err(Error::InvalidParameter {
                name: "devices".into(),
                value: devices.len().to_string(),
                expected: "at most as many as there are training samples",
            });
        }
        if self.config.plan().kept(self.train.len()) == 0 && !self.train.is_empty() {
            return Err(Error::InvalidParameter {
                name: "drop_last".into(),
                value: format!("on with {} training samples", self.train.len()),
                expected: "at least as many samples as a batch has",
            });
        }
        // The projectors of a training depend on its seed alone.
        let device = devices[0].clone().inner();
        device.seed(mix(self.config.seed, u64::MAX));
        let student = Frozen::new(student, &device);
        let average = |decay| Average::new(student.inner(), decay).model;
        let teacher: Option<Arc<dyn Teacher<J>>> = match &self.source {
            TeacherSource::None => None,
            TeacherSource::Teacher(teacher) => Some(teacher.on(&device)),
            TeacherSource::Average(decay) => {
                Some(Arc::new(OwnTeacher::<I, S>::new(average(*decay))))
            }
        };
        let rewrite = |batch: DistillBatch<I, J>| match &self.rollout {
            Some(rollout) => rollout(student.inner(), batch, 0.0),
            None => batch,
        };
        PreflightCheck {
            teacher: teacher.as_ref(),
            student: &student,
            objective: &self.objective,
            device: &device,
            batch_size: self.config.batch_size,
            is_cached: self.is_cached() && self.rollout.is_none(),
        }
        .run(self.train, self.valid, rewrite)
        .and_then(|mut prepared| {
            if let Some(watch) = self.watch() {
                watch.check(&prepared.metrics)?;
            }
            prepared.preflight.notes = self.check_names(student.inner(), &prepared)?;
            Ok(prepared)
        })
    }

    /// Checks what goes by the names of parameters, and gives what deserves a look.
    fn check_names(&self, student: &S, prepared: &Prepared) -> Result<Vec<String>> {
        let config = self.config;
        let mut names = Names::default();
        names.add(None, student);
        names.check_shared()?;
        let last_batch = config.plan().last_batch(self.train.len());
        let notes = names.notes(last_batch);
        names.add(Some(MODULES), &prepared.modules);
        names.check_trained()?;
        if config.is_baseline {
            // The groups are those of the distillation, and what its losses train is not here.
            return Ok(notes);
        }
        for it in &config.rate_groups {
            names.check_group("lr_group", &it.group)?;
        }
        for it in &config.optimizer_groups {
            names.check_group("optimizer_group", &it.group)?;
        }
        Ok(notes)
    }
}
