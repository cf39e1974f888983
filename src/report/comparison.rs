//! Student and teacher, prediction by prediction.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::data::dataset::DistillData;
use crate::error::Result;
use crate::metric::json::number;
use crate::metric::rows::Truth;
use crate::report::batches::{read, unreadable};
use crate::report::image::draw;
use crate::report::predictions::Predictions;

/// How many disagreements are kept.
const KEPT: usize = 12;
/// Up to so many classes are counted against each other.
const COUNTED: usize = 64;

/// Where a student and its teacher agree and where they do not, in the first categorical head of both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The name of the head.
    #[serde(default)]
    pub head: String,
    /// How often the teacher predicted the class of the row and the student that of the column; empty
    /// where there are more than 64 classes.
    pub confusion: Vec<Vec<u64>>,
    /// What they disagree on most, by `KL(teacher || student)`, the worst first, at most 12.
    pub disagreements: Vec<Disagreement>,
}

/// One prediction of a student that is far from its teacher's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Disagreement {
    /// The index of the sample in the data.
    pub sample: usize,
    /// Which of the sample's rows, such as tokens; 0 where it has one.
    pub row: usize,
    /// The true class, where it is known.
    pub label: Option<usize>,
    /// The teacher's prediction.
    pub teacher: Prediction,
    /// The student's prediction.
    pub student: Prediction,
    /// `KL(teacher || student)` in nats.
    #[serde(deserialize_with = "number")]
    pub divergence: f64,
    /// The sample as an image in a `data:` URL, where samples are images; see
    /// [`DistillData::with_images`].
    #[serde(alias = "picture")]
    pub image: Option<String>,
}

/// The most likely class of one row, and its probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Prediction {
    /// The class.
    pub class: usize,
    /// Its probability.
    #[serde(deserialize_with = "number")]
    pub probability: f64,
}

/// A comparison in the making.
#[derive(Debug, Default)]
pub(crate) struct Comparer {
    comparison: Comparison,
}

/// Which rows of which samples are compared.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The samples of the batch, by their index in the data.
    pub samples: Range<usize>,
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// How many rows the batch has.
    pub of: usize,
}

impl Comparer {
    /// Whether this head is the one that is compared: the first that is asked for.
    pub fn is_for(&mut self, head: &str) -> bool {
        if self.comparison.head.is_empty() {
            self.comparison.head = head.to_string();
        }
        self.comparison.head == head
    }

    /// Counts some rows of a batch, whose logits have the same classes on both sides.
    pub fn add(
        &mut self,
        [student, teacher]: [&Predictions; 2],
        divergence: &[f64],
        classes: usize,
        truth: &Truth,
        place: &Place,
    ) {
        let confusion = &mut self.comparison.confusion;
        if confusion.is_empty() && classes <= COUNTED {
            *confusion = vec![vec![0; classes]; classes];
        }
        let per_sample = place.of.checked_div(place.samples.len());
        let per_sample = per_sample.unwrap_or(1).max(1);
        for (at, row) in place.rows.clone().enumerate() {
            if truth.weight(row) <= 0.0 {
                continue;
            }
            let prediction = |of: &Predictions| Prediction {
                class: of.classes[at],
                probability: of.confidences[at],
            };
            let (teacher, student) = (prediction(teacher), prediction(student));
            if !confusion.is_empty() {
                confusion[teacher.class][student.class] += 1;
            }
            self.comparison.disagreements.push(Disagreement {
                sample: place.samples.start + row / per_sample,
                row: row % per_sample,
                label: truth.label(row),
                teacher,
                student,
                divergence: divergence[at],
                image: None,
            });
        }
        let all = &mut self.comparison.disagreements;
        // A stable sort: of equals, the first in the data comes first.
        all.sort_by(|a, b| b.divergence.total_cmp(&a.divergence));
        all.truncate(KEPT);
    }

    /// The comparison, with images of the samples where there are any.
    pub fn finish<I: Module + 'static, J>(
        self,
        data: &DistillData<I, J>,
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
        if let Some(images) = data.images(&batch.input)
            && images.dims()[0] == samples.len()
        {
            let drawn = draw(images).map_err(|error| unreadable("images")(&error))?;
            for (it, image) in comparison.disagreements.iter_mut().zip(drawn) {
                it.image = image;
            }
        }
        Ok(Some(comparison))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Bool, Int, Tensor};

    use crate::data::targets::Weights;

    #[test]
    fn valid_rows_are_counted_and_the_worst_come_first() {
        let device = Device::flex();
        let predictions = |classes: [usize; 4]| Predictions {
            classes: classes.to_vec(),
            confidences: vec![0.75; 4],
        };
        let labels = Tensor::<1, Int>::from_ints([0, 1, -1, 0], &device);
        let mask = Tensor::<1, Bool>::from_data([true, true, true, false], &device);
        let truth = Truth::read(Some(&labels), Some(&Weights::from(mask))).unwrap();
        let place = Place {
            samples: 10..12,
            rows: 0..4,
            of: 4,
        };
        let sides = [&predictions([0, 0, 1, 1]), &predictions([0, 1, 1, 0])];
        let mut comparer = Comparer::default();
        assert!(comparer.is_for("logits") && !comparer.is_for("other"));
        comparer.add(sides, &[0.1, 0.9, 0.2, 5.0], 2, &truth, &place);
        let comparison = comparer.comparison;
        assert_eq!(comparison.confusion, [[1, 0], [1, 1]]);
        let places: Vec<_> = (comparison.disagreements.iter())
            .map(|it| (it.sample, it.row, it.label))
            .collect();
        assert_eq!(places, [(10, 1, Some(1)), (11, 0, None), (10, 0, Some(0))]);
        let worst = &comparison.disagreements[0];
        assert_eq!((worst.teacher.class, worst.student.class), (1, 0));
        assert_eq!((worst.student.probability, worst.divergence), (0.75, 0.9));
    }
}
