//! The numbers of one feature in a shard before it is a file.

use safetensors::Dtype;

use crate::knowledge::format::form::feature_dtype;
use crate::knowledge::format::header::{FeatureFormat, FeaturePrecision};
use crate::knowledge::format::numbers;
use crate::knowledge::format::tensors::Tensor;

/// One feature of all samples of a shard.
#[derive(Debug, Default)]
pub(crate) struct FeatureColumn {
    values: Vec<u8>,
    scales: Vec<u8>,
    ends: Vec<u8>,
    /// The samples, or the sum of the lengths where an axis varies.
    length: usize,
}

/// How long a column was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    values: usize,
    scales: usize,
    length: usize,
}

impl FeatureColumn {
    pub(crate) fn clear(&mut self) {
        self.values.clear();
        self.scales.clear();
        self.ends.clear();
        self.length = 0;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.values.len() + self.scales.len() + self.ends.len()
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            values: self.values.len(),
            scales: self.scales.len(),
            length: self.length,
        }
    }

    /// Forgets what was pushed since and not ended.
    pub(crate) fn back_to(&mut self, mark: Mark) {
        self.values.truncate(mark.values);
        self.scales.truncate(mark.scales);
        self.length = mark.length;
    }

    /// Ends a sample.
    pub(crate) fn end(&mut self, format: &FeatureFormat) {
        if format.varies {
            self.ends.extend((self.length as u32).to_le_bytes());
        }
    }

    /// Appends the numbers of a sample.
    pub(crate) fn push(&mut self, format: &FeatureFormat, values: &[f32]) -> Result<(), String> {
        let (name, size) = (&format.name, format.size());
        let fits = match format.varies {
            true => values.len().is_multiple_of(size),
            false => values.len() == size,
        };
        if !fits {
            return Err(format!(
                "feature {name:?} has {} numbers, expected {}{:?}",
                values.len(),
                if format.varies { "any number of " } else { "" },
                format.shape
            ));
        }
        if values.iter().any(|v| !v.is_finite()) {
            return Err(format!("feature {name:?} has a number that is not finite"));
        }
        match format.precision {
            FeaturePrecision::F32 => numbers::write_f32(values, &mut self.values),
            FeaturePrecision::F16 => {
                if !numbers::write_f16(values, &mut self.values) {
                    return Err(format!(
                        "feature {name:?} has a number too large for half precision"
                    ));
                }
            }
            FeaturePrecision::Int8 => {
                for vector in values.chunks_exact(format.vector()) {
                    numbers::write_i8(vector, &mut self.values, &mut self.scales);
                }
            }
        }
        self.length += values.len() / size;
        Ok(())
    }

    /// The tensors of the file.
    pub(crate) fn tensors(&self, format: &FeatureFormat, samples: usize) -> Vec<Tensor<'_>> {
        let name = &format.name;
        let shape = std::iter::once(self.length).chain(format.shape.iter().copied());
        let mut all = vec![Tensor::new(
            format!("value/{name}"),
            feature_dtype(format.precision),
            shape.collect(),
            &self.values,
        )];
        if format.precision == FeaturePrecision::Int8 {
            let shape = vec![self.scales.len() / 4];
            let name = format!("scale/{name}");
            all.push(Tensor::new(name, Dtype::F32, shape, &self.scales));
        }
        if format.varies {
            let name = format!("ends/{name}");
            all.push(Tensor::new(name, Dtype::U32, vec![samples], &self.ends));
        }
        all
    }
}
