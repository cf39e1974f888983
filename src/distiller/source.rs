//! Where a distillation has its teacher's outputs from.

use std::path::Path;
use std::sync::Arc;

use burn::backend::Backend;
use burn::module::Module;

use crate::data::dataset::DistillData;
use crate::device::check_device;
use crate::distiller::Distiller;
use crate::error::{Error, Result};
use crate::knowledge::options::RecordOptions;
use crate::knowledge::record::record_first;
use crate::knowledge::store::Store;
use crate::teacher::Teacher;
use crate::teacher::cache::TeacherCache;
use crate::teacher::pinned::Pinned;
use crate::train::TeacherSource;
use crate::train::config::FitConfig;

impl<B: Backend, T, S> Distiller<B, T, S> {
    /// The teacher, never learning, and on its device if it has one of its own.
    pub(super) fn source<I, J>(
        &self,
        config: &FitConfig,
        train: &DistillData<I, J>,
        valid: Option<&DistillData<I, J>>,
    ) -> Result<TeacherSource<J>>
    where
        J: Module + 'static,
        T: Teacher<J>,
    {
        config.check()?;
        if let (Some(device), Some(_)) = (&self.teacher_on, self.average) {
            return Err(Error::invalid(
                "teacher_on",
                format!("{device:?}"),
                "no device of its own for a mean teacher, which follows its student at every step",
            ));
        }
        if !self.objective.needs_teacher() {
            return Ok(TeacherSource::None);
        }
        if let Some(decay) = self.average {
            return Ok(TeacherSource::Average(decay));
        }
        self.check_recorded(train, valid)?;
        Ok(TeacherSource::Teacher(match &self.teacher_on {
            Some(device) => {
                check_device(device)?;
                Arc::new(Pinned::new(&self.teacher, device))
            }
            None => self.teacher.on(&self.device),
        }))
    }

    /// Fails if the data bring the outputs of another teacher.
    fn check_recorded<I, J>(
        &self,
        train: &DistillData<I, J>,
        valid: Option<&DistillData<I, J>>,
    ) -> Result<()>
    where
        T: Teacher<J>,
    {
        let all = std::iter::once(train).chain(valid);
        let recorded = all.filter_map(|data| data.recorded());
        let mut recorded = recorded.flat_map(|it| it.teachers()).peekable();
        if recorded.peek().is_none() {
            return Ok(());
        }
        let Some(expected) = self.teacher.info().digest() else {
            return Ok(());
        };
        match recorded.find(|teacher| *teacher != expected) {
            Some(other) => Err(Error::OtherTeacher {
                expected,
                found: other.to_string(),
            }),
            None => Ok(()),
        }
    }

    /// The directory in which the teacher's outputs are cached, if they are.
    pub(super) fn directory<'a>(&self, config: &'a FitConfig) -> Option<&'a Path> {
        let is_asked = self.objective.needs_teacher() && self.average.is_none();
        match &config.teacher_cache {
            Some(TeacherCache::Directory(directory)) if is_asked && self.rollout.is_none() => {
                Some(directory)
            }
            _ => None,
        }
    }

    /// Records what the teacher gives for the first samples of each data, and gives it to them.
    #[allow(clippy::type_complexity)] // The data that came in.
    pub(super) fn recorded<I, J>(
        &self,
        directory: &Path,
        config: &FitConfig,
        train: &DistillData<I, J>,
        valid: Option<&DistillData<I, J>>,
        count: usize,
    ) -> Result<(DistillData<I, J>, Option<DistillData<I, J>>)>
    where
        I: Module + 'static,
        J: Module + 'static,
        T: Teacher<J>,
    {
        let device = self.teacher_on.as_ref().unwrap_or(&self.device);
        check_device(device)?;
        let mut options = RecordOptions::new(device.clone())
            .with_batch_size(config.batch_size)
            .with_progress(config.progress);
        let needs = self
            .objective
            .terms()
            .iter()
            .map(|term| term.loss().needs());
        for (_, name) in needs.flat_map(|needs| needs.features) {
            options = options.with_exact_feature(name);
        }
        let keep = |data: &DistillData<I, J>| -> Result<_> {
            record_first(count, &self.teacher, data, directory, &options)?;
            Ok(data.clone().with_knowledge(&Store::open(directory)?))
        };
        Ok((keep(train)?, valid.map(keep).transpose()?))
    }
}
