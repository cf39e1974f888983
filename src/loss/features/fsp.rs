use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::outputs::Feature;
use crate::error::{Result, Side};
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::{Loss, LossContext};
use crate::ops::features::masked;
use crate::ops::maps::{at_one_size, max_pooled, to_map};
use crate::ops::vectors::{mask_rows, mean_rows, mean_square, norm};

/// How two matrices of [`fsp`](fn@fsp) are compared, and how maps of two sizes are brought to one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FspForm {
    /// The mean of the squared differences, after average pooling: RepDistiller, KDZoo and, for
    /// sequences, TextBrewer. The paper takes their sum, which differs by a constant. The default.
    #[default]
    MeanSquare,
    /// The sum over the second feature's channels of the Euclidean norm over the first's, after
    /// maximum pooling: torchdistill.
    ColumnNorm,
}

/// Flow of the solution procedure: how two features of one model go together, compared between
/// student and teacher.
///
/// The student is asked for the teacher's step from one layer to a later one rather than for the
/// layers themselves. Take the two ends of a stage, such as the first and the last block of one
/// resolution. The paper trains on this alone first and on labels after.
///
/// ```text
/// L = (1/N) Σ_n (1/AB) Σ_ab (G_s − G_t)²        MeanSquare
///     (1/N) Σ_n Σ_b √( Σ_a (G_s − G_t)² )       ColumnNorm
///
/// G_ab = (1/P) Σ_p x_ap · y_bp
///
/// x, y   two features of one model, widths A and B      P   places of a map, or tokens that count
/// N      samples that count
/// ```
///
/// Within one model, maps of different height or width are first brought to the smaller of the two.
/// Student and teacher may differ in it.
///
/// # Shapes
///
/// - student, teacher: twice `[N, C, H, W]`, `[N, T, D]` or `[N, D]`, with the widths of the
///   student equal to those of the teacher
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂G_s = 2 (G_s − G_t) / (N·A·B)` for `MeanSquare`, zero where a column of `ColumnNorm` is
/// already met; none towards the teacher.
///
/// # Panics
///
/// Panics if the ranks, the widths or the numbers of samples differ, or the tokens of one model do.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{FspForm, fsp};
///
/// let device = Device::flex();
/// let vector = |x: f32, y: f32| Tensor::<2>::from_floats([[x, y]], &device).into();
/// let student = [vector(1.0, 0.0), vector(1.0, 1.0)]; // G = [[1, 1], [0, 0]]
/// let teacher = [vector(1.0, 0.0), vector(3.0, 1.0)]; // G = [[3, 1], [0, 0]]
/// let loss = fsp(student, teacher, FspForm::MeanSquare);
/// assert_eq!(loss.into_scalar::<f32>(), 1.0); // 2² / 4
/// ```
///
/// # References
///
/// Yim et al.: A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and
/// Transfer Learning, CVPR 2017.
#[must_use]
pub fn fsp(student: [Feature; 2], teacher: [Feature; 2], form: FspForm) -> Tensor<1> {
    fsp_no_reduction(student, teacher, form).mean()
}

/// [`fsp`](fn@fsp) with one value per sample, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the ranks, the widths or the numbers of samples differ, or the tokens of one model do.
#[must_use]
pub fn fsp_no_reduction(student: [Feature; 2], teacher: [Feature; 2], form: FspForm) -> Tensor<1> {
    let matrix = |[x, y]: [Feature; 2]| {
        let (x, y) = match form {
            FspForm::MeanSquare => at_one_size(x, y),
            FspForm::ColumnNorm => max_pooled(x, y),
        };
        let [x, y] = [x, y].map(|x| to_map(x).flatten::<3>(2, 3));
        let places = x.dims()[2];
        x.matmul(y.swap_dims(1, 2)) / places as f64
    };
    compared(matrix(student), matrix(teacher), form)
}

/// [`fsp`](fn@fsp) between sequences of which only some tokens count: `true` in `mask`, `[N, T]`.
///
/// The matrix of a sample is divided by the number of its tokens that count, as in TextBrewer; a
/// sample without any does not count. Whatever the other tokens hold, it contributes nothing.
///
/// # Panics
///
/// Panics if shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Bool, Device, Tensor};
/// use burn_distill::loss::{FspForm, fsp_sequence};
///
/// let device = Device::flex();
/// let tokens = |x: f32, y: f32| Tensor::<3>::from_floats([[[x], [y]]], &device);
/// let mask = Tensor::<2, Bool>::from_data([[true, false]], &device);
/// let student = [tokens(1.0, f32::NAN), tokens(2.0, 0.0)]; // G = 1 · 2
/// let teacher = [tokens(1.0, 5.0), tokens(5.0, 5.0)]; // G = 1 · 5
/// let loss = fsp_sequence(student, teacher, mask, FspForm::MeanSquare);
/// assert_eq!(loss.into_scalar::<f32>(), 9.0);
/// ```
#[must_use]
pub fn fsp_sequence(
    student: [Tensor<3>; 2],
    teacher: [Tensor<3>; 2],
    mask: Tensor<2, Bool>,
    form: FspForm,
) -> Tensor<1> {
    let [samples, tokens] = mask.dims();
    let ignored = mask.clone().bool_not().reshape([samples * tokens]);
    let count: Tensor<2> = mask.clone().int().sum_dim(1).float();
    let count = count
        .cast(student[0].dtype())
        .clamp_min(1.0)
        .reshape([samples, 1, 1]);
    let clean = |x: Tensor<3>| {
        let shape = x.dims();
        mask_rows(x.flatten::<2>(0, 1), &ignored).reshape(shape)
    };
    let matrix = |[x, y]: [Tensor<3>; 2]| clean(x).swap_dims(1, 2).matmul(clean(y)) / count.clone();
    let rows = compared(matrix(student), matrix(teacher), form);
    mean_rows(rows, Some(&mask.any_dim(1).squeeze_dim(1)))
}

/// One value per sample from the matrices `[N, A, B]`.
fn compared(student: Tensor<3>, teacher: Tensor<3>, form: FspForm) -> Tensor<1> {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher features have the same widths"
    );
    let difference = student - teacher.without_autodiff();
    match form {
        FspForm::MeanSquare => mean_square(difference),
        FspForm::ColumnNorm => norm(difference, 1).sum_dim(2).flatten(0, 2),
    }
}

/// Config of [`Fsp`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | two features of the student | the names its `outputs` gives, the earlier first |
/// | `teacher` | required | two features of the teacher | the names its `outputs` gives, the earlier first |
/// | `form` | `mean_square` | `mean_square`, `column_norm` | how the matrices are compared |
///
/// For several steps add one term for each: the losses of RepDistiller, KDZoo and torchdistill are
/// sums over steps.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{FspConfig, FspForm};
///
/// let config = FspConfig::new(["first", "second"], ["first", "fourth"]);
/// assert_eq!(config.form, FspForm::MeanSquare);
/// assert!(config.init().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FspConfig {
    /// The student's features, the earlier first.
    pub student: [String; 2],
    /// The teacher's features, the earlier first.
    pub teacher: [String; 2],
    /// How the matrices are compared.
    #[serde(default)]
    pub form: FspForm,
}

impl FspConfig {
    /// The step between two features of the student and the step between two of the teacher.
    pub fn new(student: [impl Into<String>; 2], teacher: [impl Into<String>; 2]) -> Self {
        Self {
            student: student.map(Into::into),
            teacher: teacher.map(Into::into),
            form: FspForm::default(),
        }
    }

    /// Sets how the matrices are compared.
    #[must_use]
    pub fn with_form(mut self, form: FspForm) -> Self {
        self.form = form;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) if a name is empty. Whether the
    /// models have such features, and in equal widths, shows only when they run, in the check before
    /// training.
    pub fn init(&self) -> Result<Fsp> {
        let term = format!("fsp_{}", self.student.join("_"));
        let pair = |i: usize| -> Result<FeaturePair> {
            let pair = FeaturePair::new("fsp", &self.student[i], &self.teacher[i])?;
            Ok(pair.of_term(&term))
        };
        Ok(Fsp {
            pairs: [pair(0)?, pair(1)?],
            form: self.form,
        })
    }
}

/// Flow of the solution procedure as a term of an objective; see [`fsp`](fn@fsp) for the formula.
#[derive(Debug, Clone)]
pub struct Fsp {
    pairs: [FeaturePair; 2],
    form: FspForm,
}

impl Fsp {
    fn sides(&self, context: &LossContext<'_>) -> [[Feature; 2]; 2] {
        let [first, second] = self.pairs.each_ref().map(|pair| pair.features(context));
        [[first.0, second.0], [first.1, second.1]]
    }
}

impl Loss for Fsp {
    fn name(&self) -> String {
        self.pairs[0].name()
    }

    fn feature_pairs(&self) -> Vec<(String, String)> {
        self.pairs.iter().map(FeaturePair::names).collect()
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        for pair in &self.pairs {
            pair.check(context, Common::AllButWidth)?;
            pair.check_width(context)?;
        }
        // Each of the teacher's features goes with one of the student's, so this holds for both.
        let [[first, second], _] = self.sides(context);
        let rows = |feature: &Feature| match feature.shape()[..] {
            [samples, tokens, _] => (3, samples, tokens),
            ref shape => (shape.len(), shape[0], 1),
        };
        match rows(&first) == rows(&second) {
            true => Ok(()),
            false => {
                let expected = "the rank, the samples and the tokens of the first feature";
                Err(self.pairs[1].unsuited(Side::Student, second.shape(), expected))
            }
        }
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let [student, teacher] = self.sides(context);
        if let (
            [Feature::Rank3(s0), Feature::Rank3(s1)],
            [Feature::Rank3(t0), Feature::Rank3(t1)],
            Some(mask),
        ) = (&student, &teacher, context.mask)
            && let [samples, tokens, _] = s0.dims()
            && mask.dims()[0] != samples
        {
            return fsp_sequence(
                [s0.clone(), s1.clone()],
                [t0.clone(), t1.clone()],
                mask.clone().reshape([samples, tokens]),
                self.form,
            );
        }
        let clean = |side: [Feature; 2]| side.map(|x| masked(x, context.mask));
        context.mean(fsp_no_reduction(clean(student), clean(teacher), self.form))
    }
}

#[cfg(test)]
#[path = "../tests/fsp.rs"]
mod tests;
