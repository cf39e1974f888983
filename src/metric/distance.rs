//! The distance between two models' weights.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::metric::json::number;

/// The distance between the parameters that two models share by path and shape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParameterDistance {
    /// `‖θ_T − θ_S‖`, the Euclidean norm over all of them.
    #[serde(deserialize_with = "number")]
    pub distance: f64,
    /// How many of the student's parameter tensors were compared.
    pub compared: usize,
    /// How many parameter tensors the student has.
    pub of: usize,
}

/// Measures `‖θ_T − θ_S‖` over the float parameters of the student that the teacher has under the
/// same path in the same shape. Running statistics count as parameters, as they do in a checkpoint.
///
/// The two may live on different devices.
///
/// # Example
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use burn_distill::metric::parameter_distance;
///
/// let linear = LinearConfig::new(10, 5).init(&Device::flex());
/// let itself = parameter_distance(&linear, &linear);
/// assert_eq!((itself.distance, itself.compared, itself.of), (0.0, 2, 2));
///
/// let other = LinearConfig::new(10, 2).init(&Device::flex());
/// assert_eq!(parameter_distance(&linear, &other).compared, 0);
/// ```
pub fn parameter_distance<T: Module, S: Module>(teacher: &T, student: &S) -> ParameterDistance {
    let mut theirs = Collector::default();
    teacher.visit(&mut theirs);
    let mut ours = Collector::default();
    student.visit(&mut ours);

    let mut squares = 0.0;
    let mut compared = 0;
    for (path, (shape, values)) in &ours.parameters {
        let Some((other_shape, others)) = theirs.parameters.get(path) else {
            continue;
        };
        if shape == other_shape {
            compared += 1;
            let pairs = values.iter().zip(others);
            squares += pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        }
    }
    ParameterDistance {
        distance: squares.sqrt(),
        compared,
        of: ours.parameters.len(),
    }
}

#[derive(Default)]
struct Collector {
    path: Vec<String>,
    parameters: HashMap<String, (Vec<usize>, Vec<f64>)>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let data = param.val().dequantize().into_data();
        let values = data.iter::<f64>().collect();
        let shape = data.shape().to_vec();
        self.parameters.insert(self.path.join("."), (shape, values));
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    use super::*;
    use crate::loss::modules::LossModules;

    #[test]
    fn a_module_of_a_hidden_type_has_the_same_paths() {
        let [teacher, student] = [(); 2].map(|()| LinearConfig::new(3, 2).init(&Device::flex()));
        let known = parameter_distance(&teacher, &student);
        let hidden = parameter_distance(&LossModules::new(teacher), &student);
        assert_eq!((hidden.compared, hidden.of), (2, 2));
        assert!(known.distance > 0.0 && (hidden.distance - known.distance).abs() < 1e-9);
    }
}
