//! Distances and angles within a batch.

use burn::nn::loss::SmoothL1LossConfig;
use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::data::targets::from_bool;
use crate::error::{Error, Result, check_not_negative};
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::ops::features::{Samples, vectors};
use crate::ops::vectors::or_one;

/// The least squared distance: samples that are nearer coincide.
const LEAST: f64 = 1e-12;

/// Distances between the samples of a batch: the half of relational knowledge distillation that
/// looks at pairs.
///
/// The student learns how far apart the teacher's embedding puts two samples, up to a scale. Widths,
/// ranks and sizes may differ and no auxiliary module is needed. Best on embeddings, one vector per
/// sample; feature maps are flattened as they are and should be pooled first, since the differences
/// between all pairs are `N²·D` numbers on each side.
///
/// ```text
/// L(f_s, f_t) = (1/N²) Σ_ij h(δ_ij, δ'_ij),   δ_ij = ‖f_i − f_j‖ / μ
///
/// δ, δ'   relative distances of student and teacher      f_i   feature of sample i, flattened
/// μ   mean distance of two samples of the batch          N   valid samples
/// h(x, y) = (x − y)²/2, or |x − y| − 1/2 from 1 on
/// ```
///
/// The sum runs over all pairs, those of a sample with itself included, which add 0. The authors'
/// code, RepDistiller, mdistiller, KDZoo and torchdistill compute the same; mdistiller can square
/// the distances.
///
/// # Shapes
///
/// - student, teacher: `[N, ..]`, everything but `N` may differ
/// - output: `[1]`, 0 for `N` = 1
///
/// # Gradient
///
/// Through the distances and through the student's `μ`. Two samples closer than 1e-6 coincide:
/// their distance is 1e-6 and has no gradient. None towards the teacher.
///
/// # Panics
///
/// Panics if the numbers of samples differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::rkd_distance;
///
/// let device = Device::flex();
/// // Distances 1, 1, 2 of mean 4/3 for the student, 2, 1, 1 of the same mean for the teacher.
/// let student = Tensor::<2>::from_floats([[0.0], [1.0], [2.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[0.0], [2.0], [1.0]], &device);
/// let loss = rkd_distance(student, teacher, false);
/// // Four of nine pairs differ by 3/4.
/// assert!((loss.into_scalar::<f32>() - 0.125).abs() < 1e-6);
/// ```
///
/// # References
///
/// Park, Kim, Lu, Cho: Relational Knowledge Distillation, 2019, arXiv:1904.05068.
#[must_use]
pub fn rkd_distance(
    student: impl Into<Feature>,
    teacher: impl Into<Feature>,
    squared: bool,
) -> Tensor<1> {
    let (student, teacher, samples) = vectors(student.into(), teacher.into(), None);
    compare_distances(&Pairs::of(student), &Pairs::of(teacher), &samples, squared)
}

/// Angles in the triples of a batch: the half of relational knowledge distillation that looks at
/// three samples at a time.
///
/// The student learns the shape of the teacher's embedding, up to a rotation, a shift and a scale.
/// It asks for more than distances do. Widths, ranks and sizes may differ and no auxiliary module is
/// needed. It costs `N²·D` and `N³` numbers on each side, so embeddings or pooled maps fit best.
///
/// ```text
/// L(f_s, f_t) = (1/N³) Σ_ijk h(ψ_ijk, ψ'_ijk)
///
/// ψ_ijk = ⟨e_ij, e_ik⟩,   e_ij = (f_j − f_i) / ‖f_j − f_i‖
///
/// ψ, ψ'   cosines of student and teacher      f_i   feature of sample i, flattened
/// N   valid samples                           h(x, y) = (x − y)²/2, or |x − y| − 1/2 from 1 on
/// ```
///
/// The sum runs over all triples, those with one sample twice included. The authors' code,
/// RepDistiller, mdistiller, KDZoo and torchdistill compute the same.
///
/// # Shapes
///
/// - student, teacher: `[N, ..]`, everything but `N` may differ
/// - output: `[1]`, 0 for `N` = 1
///
/// # Gradient
///
/// Through both directions of each angle. Between two samples closer than 1e-6 there is no
/// direction: their cosines are 0 and have no gradient. None towards the teacher.
///
/// # Panics
///
/// Panics if the numbers of samples differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::rkd_angle;
///
/// let device = Device::flex();
/// // A right angle at the first sample against a straight line: cosines 0, √½, √½ and -1, 1, 1.
/// let student = Tensor::<2>::from_floats([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[0.0], [1.0], [-1.0]], &device);
/// let loss = rkd_angle(student, teacher);
/// // Each is there twice among 27 triples.
/// let expected = 2.0 * (0.5 + (1.0 - 0.5f32.sqrt()).powi(2)) / 27.0;
/// assert!((loss.into_scalar::<f32>() - expected).abs() < 1e-6);
/// ```
///
/// # References
///
/// Park, Kim, Lu, Cho: Relational Knowledge Distillation, 2019, arXiv:1904.05068.
#[must_use]
pub fn rkd_angle(student: impl Into<Feature>, teacher: impl Into<Feature>) -> Tensor<1> {
    let (student, teacher, samples) = vectors(student.into(), teacher.into(), None);
    compare_angles(&Pairs::of(student), &Pairs::of(teacher), &samples)
}

fn compare_distances(
    student: &Pairs,
    teacher: &Pairs,
    samples: &Samples,
    squared: bool,
) -> Tensor<1> {
    let student = student.distances(samples, squared);
    let teacher = teacher.distances(samples, squared);
    samples.mean(SmoothL1LossConfig::new().init().forward(student, teacher))
}

fn compare_angles(student: &Pairs, teacher: &Pairs, samples: &Samples) -> Tensor<1> {
    let (student, teacher) = (student.angles(), teacher.angles());
    samples.mean(SmoothL1LossConfig::new().init().forward(student, teacher))
}

/// What all pairs of one side have.
///
/// Differences are taken before they are squared: from inner products they would be all rounding
/// where two samples nearly coincide.
struct Pairs {
    /// `x_j − x_i` at `[i, j]`, `[N, N, D]`.
    difference: Tensor<3>,
    /// Its squared length, `[N, N]`, 1 for pairs that coincide, whose root would have none or an
    /// infinite derivative.
    square: Tensor<2>,
    /// Which pairs coincide.
    coincide: Tensor<2, Bool>,
}

impl Pairs {
    fn of(vectors: Tensor<2>) -> Self {
        let difference = vectors.clone().unsqueeze_dim::<3>(0) - vectors.unsqueeze_dim::<3>(1);
        let square: Tensor<2> = difference.clone().square().sum_dim(2).squeeze_dim(2);
        let coincide = square.clone().lower_equal_elem(LEAST);
        Self {
            difference,
            square: square.mask_fill(coincide.clone(), 1.0),
            coincide,
        }
    }

    /// Distances divided by their mean, `[N, N]`; 0 between a sample and itself.
    fn distances(&self, samples: &Samples, squared: bool) -> Tensor<2> {
        let (distance, least) = match squared {
            true => (self.square.clone(), LEAST),
            false => (self.square.clone().sqrt(), LEAST.sqrt()),
        };
        let device = self.coincide.device();
        let apart = Tensor::<2, Bool>::diag_mask(distance.dims(), 0, &device);
        let distance = distance.mask_fill(self.coincide.clone(), least);
        let distance = samples.keep(distance.mask_fill(apart.clone().bool_not(), 0.0));

        let pairs = samples.weighted(from_bool(apart).cast(distance.dtype()));
        let mean = samples.weighted(distance.clone()).sum() / or_one(pairs.sum());
        let no_pair = mean.clone().equal_elem(0.0);
        distance / mean.mask_fill(no_pair, 1.0).unsqueeze_dim::<2>(0)
    }

    /// The cosine at `i` between the directions to `j` and to `k`, `[N, N, N]`; 0 where one of them
    /// coincides with `i`.
    fn angles(&self) -> Tensor<3> {
        let coincide = self.coincide.clone().unsqueeze_dim::<3>(2);
        let coincide = coincide.expand(self.difference.shape());
        let direction = self.difference.clone().mask_fill(coincide, 0.0)
            / self.square.clone().sqrt().unsqueeze_dim::<3>(2);
        direction.clone().matmul(direction.swap_dims(1, 2))
    }
}

/// Relational knowledge distillation as a term of an objective: the weighted sum of
/// [`rkd_distance`] and [`rkd_angle`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `distance_weight` | 25 | at least 0 | weight of the distances; 0 leaves them out |
/// | `angle_weight` | 50 | at least 0 | weight of the angles; 0 leaves them out |
/// | `squared` | false | | whether distances are squared |
///
/// At least one of the weights is greater than 0. The defaults are those of RepDistiller and
/// mdistiller.
///
/// A mask of tokens leaves tokens out of the features, and samples without any out of the batch. With
/// weights all means, that of `μ` included, weight a pair or a triple by the product of its samples'.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Loss, Rkd};
///
/// let loss = Rkd::new("embedding", "embedding").with_angle_weight(0.0);
/// assert!(loss.validate().is_ok());
/// assert!(loss.with_distance_weight(0.0).validate().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Rkd {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// The weight of the distances.
    #[serde(default = "default_distance_weight")]
    pub distance_weight: f64,
    /// The weight of the angles.
    #[serde(default = "default_angle_weight")]
    pub angle_weight: f64,
    /// Whether distances are squared.
    #[serde(default)]
    pub squared: bool,
}

fn default_distance_weight() -> f64 {
    25.0
}

fn default_angle_weight() -> f64 {
    50.0
}

impl Rkd {
    /// The relations in the teacher's feature of one name for the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            distance_weight: default_distance_weight(),
            angle_weight: default_angle_weight(),
            squared: false,
        }
    }

    /// Sets the weight of the distances.
    #[must_use]
    pub fn with_distance_weight(mut self, weight: f64) -> Self {
        self.distance_weight = weight;
        self
    }

    /// Sets the weight of the angles.
    #[must_use]
    pub fn with_angle_weight(mut self, weight: f64) -> Self {
        self.angle_weight = weight;
        self
    }

    /// Sets whether distances are squared.
    #[must_use]
    pub fn with_squared(mut self, squared: bool) -> Self {
        self.squared = squared;
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("rkd", &self.student, &self.teacher)
    }
}

impl Loss for Rkd {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        check_not_negative("rkd.distance_weight", self.distance_weight)?;
        check_not_negative("rkd.angle_weight", self.angle_weight)?;
        if self.distance_weight == 0.0 && self.angle_weight == 0.0 {
            return Err(Error::invalid(
                "rkd.angle_weight",
                self.angle_weight,
                "a number greater than 0 where rkd.distance_weight is 0",
            ));
        }
        self.pair().validate("rkd")
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair().check(context, Common::Samples)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair().features(context);
        let (student, teacher, samples) = vectors(student, teacher, context.weights());
        let (student, teacher) = (Pairs::of(student), Pairs::of(teacher));
        let distances = (self.distance_weight > 0.0).then(|| {
            compare_distances(&student, &teacher, &samples, self.squared) * self.distance_weight
        });
        let angles = (self.angle_weight > 0.0)
            .then(|| compare_angles(&student, &teacher, &samples) * self.angle_weight);
        let sum = distances.into_iter().chain(angles).reduce(|d, a| d + a);
        sum.expect("one of the weights is greater than 0")
    }
}

#[cfg(test)]
#[path = "../tests/rkd.rs"]
mod tests;
