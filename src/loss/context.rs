//! What a loss sees of one step.

use burn::tensor::{Int, Tensor};

use crate::data::feature::Feature;
use crate::data::head::Head;
use crate::data::outputs::Outputs;
use crate::data::targets::{Target, Targets, Weights};
use crate::error::{Error, Result, Side};
use crate::loss::modules::LossModules;
use crate::ops::closed_form::ClosedForm;
use crate::ops::row_loss::RowLoss;
use crate::ops::vectors::mean_rows;

/// The context passed to a loss in one step.
///
/// Student and teacher are named rather than ordered: both sides have the same type, and a swapped
/// pair would compile. An objective narrows it to the head that a term names; a loss knows nothing of
/// that, and asks for [`logits`](Self::logits), [`target`](Self::target) and
/// [`weights`](Self::weights).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LossContext<'a> {
    /// The student's outputs, with gradients.
    pub student: &'a Outputs,
    /// The teacher's outputs, constants; `None` where no term needs a teacher.
    pub teacher: Option<&'a Outputs>,
    /// Targets and weights of all heads; `None` where nothing is known.
    pub targets: Option<&'a Targets>,
    /// The fraction of the training done, from 0 to 1.
    pub progress: f64,
    /// The modules that the loss trains.
    pub modules: Option<&'a LossModules>,
    /// The index of each sample in its dataset; empty in a loop that does not say.
    pub indices: &'a [usize],
    /// How many samples the training data has; 0 outside training.
    pub samples: usize,
    /// The head that is looked at; `None` is the student's first.
    pub(crate) head: Option<&'a str>,
}

impl<'a> LossContext<'a> {
    /// A context for a loop of your own: outputs of both sides, no targets, all weights 1.
    pub fn new(student: &'a Outputs, teacher: &'a Outputs) -> Self {
        Self {
            teacher: Some(teacher),
            ..Self::without_teacher(student)
        }
    }

    /// A context without a teacher.
    pub fn without_teacher(student: &'a Outputs) -> Self {
        Self {
            student,
            teacher: None,
            targets: None,
            progress: 0.0,
            modules: None,
            indices: &[],
            samples: 0,
            head: None,
        }
    }

    /// Sets targets and weights.
    #[must_use]
    pub fn with_targets(mut self, targets: &'a Targets) -> Self {
        self.targets = Some(targets);
        self
    }

    /// Sets the modules that the loss trains.
    #[must_use]
    pub fn with_modules(mut self, modules: &'a LossModules) -> Self {
        self.modules = Some(modules);
        self
    }

    /// Sets the index of each sample among all `samples` of the training data.
    #[must_use]
    pub fn with_indices(mut self, indices: &'a [usize], samples: usize) -> Self {
        self.indices = indices;
        self.samples = samples;
        self
    }

    /// Sets the progress.
    #[must_use]
    pub fn at(mut self, progress: f64) -> Self {
        self.progress = progress;
        self
    }

    /// Looks at the head of this name instead of the first.
    #[must_use]
    pub fn on(mut self, head: &'a str) -> Self {
        self.head = Some(head);
        self
    }

    /// The name of the head that is looked at; empty where the student has none.
    pub fn head_name(&self) -> &'a str {
        let first = || self.student.first_head().map(|(name, _)| name);
        self.head.or_else(first).unwrap_or_default()
    }

    /// Whether the head is the student's first, whose targets need no name.
    fn is_first(&self) -> bool {
        let first = self.student.first_head().map(|(name, _)| name);
        first.is_none_or(|first| first == self.head_name())
    }

    /// The student's head.
    pub fn student_head(&self) -> Option<&'a Head> {
        self.student.head(self.head_name())
    }

    /// The teacher's head of the same name.
    pub fn teacher_head(&self) -> Option<&'a Head> {
        self.teacher?.head(self.head_name())
    }

    /// The teacher's outputs.
    ///
    /// # Panics
    ///
    /// Panics if there is no teacher, which an objective's check rules out for a loss that needs one.
    pub fn teacher(&self) -> &'a Outputs {
        self.teacher.expect("a loss that needs a teacher has one")
    }

    /// The student's logits, labels or values, `[rows, width]`. A projected head is materialised.
    ///
    /// # Panics
    ///
    /// Panics if there is no such head, which an objective's check rules out for a loss that needs one.
    pub fn logits(&self) -> Tensor<2> {
        let head = self.student_head();
        head.expect("a loss that needs a head has one").tensor()
    }

    /// The teacher's logits, labels or values, `[rows, width]`, constants.
    ///
    /// # Panics
    ///
    /// Panics if there is no such head, which an objective's check rules out for a loss that needs one.
    pub fn teacher_logits(&self) -> Tensor<2> {
        let head = self.teacher_head();
        head.expect("a loss that needs a teacher's head has one")
            .tensor()
    }

    /// The targets of the head.
    pub fn target(&self) -> Option<&'a Target> {
        self.targets?.target_of(self.head_name(), self.is_first())
    }

    /// The class labels of the head, `[rows]`.
    pub fn labels(&self) -> Option<&'a Tensor<1, Int>> {
        self.target()?.classes()
    }

    /// The weights of the head's rows; `None` where all are 1. They also weight features, at the
    /// resolution of each.
    pub fn weights(&self) -> Option<&'a Weights> {
        self.targets?.weights_of(self.head_name(), self.is_first())
    }

    /// The weights of the head's rows, `[rows]`.
    pub(crate) fn row_weights(&self) -> Option<&'a Tensor<1>> {
        self.weights().map(|weights| &weights.values)
    }

    /// The weighted mean of one value per row of the head, `Σ w·v / Σ w`, `[1]`.
    pub fn mean(&self, rows: Tensor<1>) -> Tensor<1> {
        mean_rows(rows, self.row_weights())
    }

    /// The value of a closed form at the head, `[1]`.
    pub(crate) fn run(&self, form: ClosedForm) -> Tensor<1> {
        let logits = |head: Option<&'a Head>| head.and_then(Head::logits).cloned();
        let student = logits(self.student_head());
        let student = student.unwrap_or_else(|| self.logits().into());
        let teacher = form.formula.has_teacher().then(|| {
            let teacher = logits(self.teacher_head());
            teacher.unwrap_or_else(|| self.teacher_logits().into())
        });
        RowLoss {
            form,
            student,
            teacher,
            labels: self.labels().cloned(),
            weights: self.row_weights().cloned(),
        }
        .mean()
    }

    /// Fails unless the student has at least two classes.
    pub(crate) fn check_two_classes(&self, term: &str) -> Result<()> {
        match self.student_head().map_or(0, Head::width) {
            classes @ 0..2 => Err(Error::invalid(
                format!("term {term:?}: the number of classes"),
                classes,
                "at least 2: a single logit is `Outputs::binary`, a single value `Outputs::values`",
            )),
            _ => Ok(()),
        }
    }

    /// The feature of this name of one side.
    ///
    /// # Errors
    ///
    /// [`Error::MissingFeature`], listing what there is.
    pub fn feature(&self, term: &str, side: Side, name: &str) -> Result<&'a Feature> {
        let outputs = match side {
            Side::Student => self.student,
            Side::Teacher => self.teacher(),
        };
        outputs.feature(name).ok_or_else(|| Error::MissingFeature {
            term: term.to_string(),
            name: name.to_string(),
            side,
            available: outputs.feature_names(),
        })
    }
}
