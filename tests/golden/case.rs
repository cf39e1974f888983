//! Reading a case and comparing with it.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use burn_distill::loss::LossContext;
use burn_distill::{Objective, Outputs, Targets};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct File {
    loss: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    pub variant: String,
    pub params: Value,
    inputs: BTreeMap<String, Option<Array>>,
    expected: Expected,
    #[serde(default)]
    f32_original: Option<F32Original>,
}

#[derive(Deserialize)]
struct Array {
    shape: Vec<usize>,
    data: Vec<f64>,
}

#[derive(Deserialize)]
struct Expected {
    loss: f64,
    gradients: BTreeMap<String, Array>,
    /// What else the original gives, such as a state it has updated.
    #[serde(flatten)]
    others: BTreeMap<String, Array>,
}

/// What the original itself gives in single precision.
#[derive(Deserialize)]
struct F32Original {
    #[serde(default)]
    loss_abs_err: Value,
    #[serde(default)]
    grad_max_abs_err: Value,
}

/// All cases by loss, in the order of the file names.
pub fn read_all(directory: &Path) -> Vec<(String, Vec<Case>)> {
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let file: File = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (file.loss, file.cases)
    };
    paths.iter().map(read).collect()
}

impl Case {
    pub fn number(&self, name: &str) -> f64 {
        let value = &self.params[name];
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{}: parameter {name} is {value}", self.name))
    }

    pub fn has(&self, name: &str) -> bool {
        matches!(self.inputs.get(name), Some(Some(_)))
    }

    fn array(&self, name: &str) -> &Array {
        match self.inputs.get(name) {
            Some(Some(array)) => array,
            _ => panic!("{}: no input {name}", self.name),
        }
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.array(name).shape.clone()
    }

    /// A constant input of rank `D`.
    pub fn constant<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let array = self.array(name);
        let data = TensorData::new(array.data.clone(), array.shape.clone());
        Tensor::from_data(data.convert::<f32>(), device)
    }

    /// A constant input of any rank of at least 2, all axes but the last flattened to rows.
    pub fn constant_rows(&self, name: &str, device: &Device) -> Tensor<2> {
        let array = self.array(name);
        let data = TensorData::new(array.data.clone(), rows(&array.shape));
        Tensor::from_data(data.convert::<f32>(), device)
    }

    /// Class indices, flattened.
    pub fn classes(&self, name: &str, device: &Device) -> Tensor<1, Int> {
        let data: Vec<i64> = self.array(name).data.iter().map(|v| *v as i64).collect();
        Tensor::from_data(data.as_slice(), device)
    }

    /// The mask, flattened, where the case has one.
    pub fn mask(&self, device: &Device) -> Option<Tensor<1, Bool>> {
        self.has("mask")
            .then(|| self.classes("mask", device).bool())
    }

    /// Labels and mask, the mask with its axes, where the case has them.
    pub fn targets(&self, device: &Device) -> Targets {
        let targets = match self.has("targets") {
            true => Targets::new().with_classes(self.classes("targets", device)),
            false => Targets::new(),
        };
        let Some(mask) = self.mask(device) else {
            return targets;
        };
        match self.shape("mask")[..] {
            [_] => targets.with_mask(mask),
            [n, t] => targets.with_mask::<2>(mask.reshape([n, t])),
            [n, h, w] => targets.with_mask::<3>(mask.reshape([n, h, w])),
            ref shape => panic!("{}: a mask of shape {shape:?}", self.name),
        }
    }
}

/// The value of an objective for the outputs of a case, which it is checked with first.
pub fn value(
    objective: &Objective,
    student: &Outputs,
    teacher: &Outputs,
    targets: &Targets,
    device: &Device,
) -> Tensor<1> {
    let context = LossContext::new(student, teacher).with_targets(targets);
    let checked = objective.check(&context);
    checked.expect("a case that fits its loss");
    let modules = objective.modules(&context, device);
    objective.forward(&context, &modules).total
}

fn rows(shape: &[usize]) -> [usize; 2] {
    let width = *shape.last().expect("a shape of at least one axis");
    [shape.iter().product::<usize>() / width, width]
}

/// Inputs that a gradient is wanted for. Each is a flat leaf, so that its gradient is flat too,
/// whatever shape the loss sees.
pub struct Leaves<'a> {
    case: &'a Case,
    device: Device,
    leaves: Vec<(String, Tensor<1>)>,
}

impl<'a> Leaves<'a> {
    pub fn new(case: &'a Case, device: &Device) -> Self {
        Self {
            case,
            device: device.clone().autodiff(),
            leaves: Vec::new(),
        }
    }

    /// A flat leaf.
    pub fn leaf(&mut self, name: &str) -> Tensor<1> {
        let data: Vec<f32> = self
            .case
            .array(name)
            .data
            .iter()
            .map(|v| *v as f32)
            .collect();
        let leaf = Tensor::<1>::from_data(data.as_slice(), &self.device).require_grad();
        self.leaves.push((name.to_string(), leaf.clone()));
        leaf
    }

    /// A leaf in the shape of the case.
    pub fn tensor<const D: usize>(&mut self, name: &str) -> Tensor<D> {
        let shape: [usize; D] = self
            .case
            .shape(name)
            .try_into()
            .expect("the rank asked for");
        self.leaf(name).reshape(shape)
    }

    /// A leaf with all axes but the last flattened to rows.
    pub fn rows(&mut self, name: &str) -> Tensor<2> {
        let shape = rows(&self.case.shape(name));
        self.leaf(name).reshape(shape)
    }

    /// Runs the loss backward.
    pub fn outcome(self, loss: Tensor<1>) -> Outcome {
        let gradients = loss.backward();
        let data = |leaf: &Tensor<1>| match leaf.grad(&gradients) {
            Some(gradient) => gradient.into_data().iter::<f64>().collect(),
            None => vec![0.0; leaf.dims()[0]],
        };
        Outcome {
            loss: f64::from(loss.into_scalar::<f32>()),
            gradients: self
                .leaves
                .iter()
                .map(|(name, leaf)| (name.clone(), data(leaf)))
                .collect(),
            others: BTreeMap::new(),
        }
    }
}

pub struct Outcome {
    loss: f64,
    gradients: BTreeMap<String, Vec<f64>>,
    others: BTreeMap<String, Vec<f64>>,
}

/// Relative tolerance of values and of gradients.
const RELATIVE: f64 = 1e-4;
/// Absolute floor, to which twice the error of the original in single precision is added.
const FLOOR: f64 = 1e-6;

impl Outcome {
    /// The same outcome with something else that the case expects by this name.
    pub fn with<const D: usize>(mut self, name: &str, tensor: Tensor<D>) -> Self {
        let data = tensor.into_data().iter::<f64>().collect();
        self.others.insert(name.to_string(), data);
        self
    }

    pub fn compare(&self, case: &Case) -> Result<(), String> {
        let original = case.f32_original.as_ref();
        let loss_floor = FLOOR + 2.0 * original.map_or(0.0, |o| finite(&o.loss_abs_err));
        let gradient_floor = FLOOR + 2.0 * original.map_or(0.0, |o| finite(&o.grad_max_abs_err));

        let expected = &case.expected;
        close("loss", self.loss, expected.loss, loss_floor)?;
        for (name, array) in &expected.gradients {
            let Some(found) = self.gradients.get(name) else {
                return Err(format!("no gradient of {name}"));
            };
            if found.len() != array.data.len() {
                return Err(format!("gradient of {name} has {} elements", found.len()));
            }
            for (i, (found, expected)) in found.iter().zip(&array.data).enumerate() {
                close(
                    &format!("gradient {i} of {name}"),
                    *found,
                    *expected,
                    gradient_floor,
                )?;
            }
        }
        for (name, array) in &expected.others {
            let found = self.others.get(name).ok_or_else(|| format!("no {name}"))?;
            if found.len() != array.data.len() {
                return Err(format!("{name} has {} elements", found.len()));
            }
            for (i, (found, expected)) in found.iter().zip(&array.data).enumerate() {
                close(&format!("element {i} of {name}"), *found, *expected, FLOOR)?;
            }
        }
        Ok(())
    }
}

fn close(what: &str, found: f64, expected: f64, floor: f64) -> Result<(), String> {
    let allowed = RELATIVE * expected.abs() + floor;
    // Not "greater than": a NaN must not pass.
    match (found - expected).abs() <= allowed {
        true => Ok(()),
        false => Err(format!(
            "{what} is {found:e}, expected {expected:e} ± {allowed:.1e}"
        )),
    }
}

/// The error of the original, which is a string where the original fails in single precision.
fn finite(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}
