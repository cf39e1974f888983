//! A teacher whose type is hidden.

use std::sync::Arc;

use burn::tensor::Device;

use crate::data::outputs::Outputs;
use crate::error::Result;
use crate::teacher::{Teacher, TeacherBatch, TeacherInfo};

/// A teacher of any type, so that several can stand in one list: an [`Ensemble`](crate::Ensemble) of a
/// module and a recording. Cloning shares it.
pub struct AnyTeacher<J>(Arc<dyn Teacher<J>>);

impl<J: 'static> AnyTeacher<J> {
    /// Hides the type of a teacher.
    pub fn new(teacher: impl Teacher<J>) -> Self {
        Self(Arc::new(teacher))
    }

    pub(crate) fn shared(teacher: Arc<dyn Teacher<J>>) -> Self {
        Self(teacher)
    }
}

impl<J> Clone for AnyTeacher<J> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<J> std::fmt::Debug for AnyTeacher<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnyTeacher").finish_non_exhaustive()
    }
}

impl<J: 'static> Teacher<J> for AnyTeacher<J> {
    fn ask(&self, batch: &TeacherBatch<'_, J>) -> Result<Outputs> {
        self.0.ask(batch)
    }

    fn on(&self, device: &Device) -> Arc<dyn Teacher<J>> {
        self.0.on(device)
    }

    fn info(&self) -> TeacherInfo {
        self.0.info()
    }
}
