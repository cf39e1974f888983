//! The quantised forms of a student, after training and inside it.

use burn::module::{Module, Param, ParamGroup, Quantizer, Reparameterization, Reparameterizer};
use burn::tensor::quantization::{Calibration, QuantScheme, QuantValue, ScaleDtype};
use burn::tensor::{Device, Tensor};

use crate::common::backend::BackendName;

/// How many bits a weight has, and how many weights share a scale.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    pub name: &'static str,
    file: &'static str,
    value: QuantValue,
    /// Rows and columns of a block with one scale, or one scale for the whole matrix.
    block: Option<[u8; 2]>,
}

/// Sixteen inputs of one unit.
const BLOCK: Option<[u8; 2]> = Some([16, 1]);

impl Form {
    /// The forms that a backend of Burn 0.22.1 has.
    pub fn all(backend: BackendName) -> Vec<Self> {
        let form = |name, file, value, block| Self {
            name,
            file,
            value,
            block,
        };
        let mut forms = vec![
            form("8 bits, one scale", "8", QuantValue::Q8S, None),
            form("8 bits, a scale for 16", "8-block", QuantValue::Q8S, BLOCK),
        ];
        if backend != BackendName::Ndarray {
            forms.extend([
                form("4 bits, one scale", "4", QuantValue::Q4S, None),
                form("4 bits, a scale for 16", "4-block", QuantValue::Q4S, BLOCK),
                form("2 bits, a scale for 16", "2-block", QuantValue::Q2S, BLOCK),
            ]);
        }
        forms
    }

    /// What Burn calls it. Whether values are packed into words is the device's own choice.
    pub fn scheme(&self, device: &Device) -> QuantScheme {
        let scheme = device.settings().quantization.scheme.with_value(self.value);
        match self.block {
            Some(block) => scheme.per_block(block, ScaleDtype::F32),
            None => scheme.per_tensor(ScaleDtype::F32),
        }
    }

    /// The name of the file with a student of this form.
    pub fn file(&self, when: &str) -> String {
        format!("student-{}-{when}.bpk", self.file)
    }
}

/// A module with quantised weights. Biases, a hundredth of the numbers, stay floats.
pub fn quantised<M: Module>(module: M, scheme: QuantScheme) -> M {
    // Weights show their range by themselves: the largest magnitude. No data is needed for that.
    let mut quantizer = Quantizer::new(Calibration::MinMax, scheme);
    module.quantize_weights_group(&mut quantizer, ParamGroup::from_predicate("weight"))
}

/// Gives the weights of a module the values that they will have in a quantised file, each time a
/// forward pass reads them. What the optimiser moves are the floats underneath.
#[derive(Debug)]
pub struct RoundWeights(pub QuantScheme);

impl Reparameterizer for RoundWeights {
    type Reparam = Rounded;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Rounded>) {
        let scheme = self.0;
        let rounded = path.ends_with("weight").then_some(Rounded { scheme });
        (param, rounded)
    }
}

/// A weight that is read in its quantised form.
#[derive(Module, Debug)]
pub struct Rounded {
    #[module(skip)]
    scheme: QuantScheme,
}

impl Reparameterization for Rounded {
    const NAME: &'static str = "rounded";

    /// Burn's quantisation ends the gradient, rounding having none. The straight-through estimator
    /// takes the change that rounding makes for a constant: the value is the rounded one, the
    /// gradient that of the float.
    fn apply<const D: usize>(&self, float: Tensor<D>) -> Tensor<D> {
        let constant = float.clone().detach();
        let rounded = constant.clone().quantize_dynamic(&self.scheme).dequantize();
        float + (rounded - constant)
    }
}
