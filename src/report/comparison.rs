//! Student and teacher, answer by answer.

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, DType, Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::dataset::DistillData;
use crate::error::Result;
use crate::report::measure::{read, unreadable};
use crate::report::picture::pictures;

/// How many disagreements are kept.
const KEPT: usize = 12;
/// Up to so many classes are counted against each other.
const COUNTED: usize = 64;

/// Where a student and its teacher agree and where they do not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// How often the teacher answered with the class of the row and the student with that of the column;
    /// empty where there are more than 64 classes.
    pub confusion: Vec<Vec<u64>>,
    /// What they disagree on most, by `KL(teacher || student)`, the worst first, at most 12.
    pub disagreements: Vec<Disagreement>,
}

/// One answer of a student that is far from its teacher's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Disagreement {
    /// The place of the sample in the data.
    pub sample: usize,
    /// Which of the sample's rows, such as tokens; 0 where it has one.
    pub row: usize,
    /// The true class, where it is known.
    pub label: Option<usize>,
    /// The teacher's answer.
    pub teacher: Answer,
    /// The student's answer.
    pub student: Answer,
    /// `KL(teacher || student)` in nats.
    pub divergence: f64,
    /// The sample as an image in a `data:` URL, where samples are images; see
    /// [`DistillData::with_pictures`].
    pub picture: Option<String>,
}

/// The most likely class of one row, and its probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Answer {
    /// The class.
    pub class: usize,
    /// Its probability.
    pub probability: f64,
}

/// A comparison in the making.
#[derive(Debug, Default)]
pub(crate) struct Comparer {
    comparison: Comparison,
}

/// What is known of a batch beside its logits.
pub(crate) struct Place<'a> {
    /// `KL(teacher || student)` of each row.
    pub divergence: &'a Tensor<1>,
    pub labels: Option<&'a Tensor<1, Int>>,
    pub mask: Option<&'a Tensor<1, Bool>>,
    /// The samples of the batch, by their place in the data.
    pub samples: std::ops::Range<usize>,
}

impl Comparer {
    /// Counts a batch, of logits of as many classes on both sides.
    pub fn add(
        &mut self,
        student: &Tensor<2>,
        teacher: &Tensor<2>,
        place: &Place<'_>,
    ) -> Result<()> {
        let [rows, classes] = student.dims();
        let (sure, theirs) = softmax(teacher.clone(), 1).max_dim_with_indices(1);
        let (own_sure, ours) = softmax(student.clone(), 1).max_dim_with_indices(1);
        let kl = place.divergence.clone().unsqueeze_dim(1);
        let column = |classes: Tensor<2, Int>| classes.float().cast(DType::F32);
        let none = || Tensor::<2>::full([rows, 1], -1.0, &student.device()).cast(DType::F32);
        let labels = place
            .labels
            .map(|labels| column(labels.clone().unsqueeze_dim(1)));
        let mask = place
            .mask
            .map(|mask| column(mask.clone().int().unsqueeze_dim(1)));
        let columns = vec![
            column(theirs),
            sure.cast(DType::F32),
            column(ours),
            own_sure.cast(DType::F32),
            kl.cast(DType::F32),
            labels.unwrap_or_else(none),
            mask.unwrap_or_else(|| none().neg()),
        ];
        let width = columns.len();
        let data = Tensor::cat(columns, 1).try_into_data();
        let numbers: Vec<f64> = data
            .map_err(|error| unreadable(&error))?
            .iter::<f64>()
            .collect();

        let confusion = &mut self.comparison.confusion;
        if confusion.is_empty() && classes <= COUNTED {
            *confusion = vec![vec![0; classes]; classes];
        }
        let per_sample = rows.checked_div(place.samples.len()).unwrap_or(1).max(1);
        for (at, row) in numbers.chunks_exact(width).enumerate() {
            if row[6] <= 0.0 {
                continue;
            }
            let answer = |class: f64, probability| Answer {
                class: class as usize,
                probability,
            };
            let (teacher, student) = (answer(row[0], row[1]), answer(row[2], row[3]));
            if !confusion.is_empty() {
                confusion[teacher.class][student.class] += 1;
            }
            self.comparison.disagreements.push(Disagreement {
                sample: place.samples.start + at / per_sample,
                row: at % per_sample,
                label: (row[5] >= 0.0).then_some(row[5] as usize),
                teacher,
                student,
                divergence: row[4],
                picture: None,
            });
        }
        let all = &mut self.comparison.disagreements;
        // A stable sort: of equals, the first in the data comes first.
        all.sort_by(|a, b| b.divergence.total_cmp(&a.divergence));
        all.truncate(KEPT);
        Ok(())
    }

    /// The comparison, with pictures of the samples where they can be had.
    pub fn finish<I: Module + 'static>(
        self,
        data: &DistillData<I>,
        device: &Device,
    ) -> Result<Option<Comparison>> {
        let mut comparison = self.comparison;
        if comparison.disagreements.is_empty() {
            return Ok(None);
        }
        let samples: Vec<usize> = comparison
            .disagreements
            .iter()
            .map(|it| it.sample)
            .collect();
        let batch = read(data, &samples, device)?;
        if let Some(images) = data.pictures(&batch.input)
            && images.dims()[0] == samples.len()
        {
            let drawn = pictures(images).map_err(|error| unreadable(&error))?;
            for (it, picture) in comparison.disagreements.iter_mut().zip(drawn) {
                it.picture = picture;
            }
        }
        Ok(Some(comparison))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::divergence;

    #[test]
    fn rows_that_count_are_counted_and_the_worst_come_first() {
        let device = Device::flex();
        let teacher = Tensor::<2>::from_floats([[2., 0.], [0., 2.], [0., 2.], [9., 0.]], &device);
        let student = Tensor::<2>::from_floats([[2., 0.], [2., 0.], [0., 1.], [0., 9.]], &device);
        let labels = Tensor::<1, Int>::from_ints([0, 1, 0, 0], &device);
        let mask = Tensor::<1, Bool>::from_data([true, true, true, false], &device);
        let mut comparer = Comparer::default();
        let place = Place {
            divergence: &divergence(&student, &teacher, 1.0).value,
            labels: Some(&labels),
            mask: Some(&mask),
            samples: 10..12,
        };
        comparer.add(&student, &teacher, &place).unwrap();
        let comparison = comparer.comparison;
        assert_eq!(comparison.confusion, [[1, 0], [1, 1]]);
        let places: Vec<_> = (comparison.disagreements.iter())
            .map(|it| (it.sample, it.row, it.label))
            .collect();
        assert_eq!(
            places,
            [(10, 1, Some(1)), (11, 0, Some(0)), (10, 0, Some(0))]
        );
        let worst = &comparison.disagreements[0];
        assert_eq!((worst.teacher.class, worst.student.class), (1, 0));
        // Both are e²/(1 + e²) sure, of different classes: KL = 2 (2p - 1).
        let p = 2f64.exp() / (1.0 + 2f64.exp());
        assert!((worst.teacher.probability - p).abs() < 1e-6);
        assert!((worst.divergence - 2.0 * (2.0 * p - 1.0)).abs() < 1e-5);
    }
}
