//! What a model has to say of itself: input in, outputs out.

use burn::module::{Module, ModuleDisplay};

use crate::data::outputs::Outputs;

/// A module that can be a student or a teacher.
///
/// One method: input in, [`Outputs`] out. `I` is the type of the input, yours to choose. No hooks, no
/// layer names to look up: what a loss may see is what the module gives. A model whose type comes from
/// another crate is [adapted](crate::adapt) by a closure; a teacher that is not a module at all is a
/// [closure](crate::teacher_fn).
///
/// # Example
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor, activation::relu};
/// use burn_distill::{Distillable, Outputs};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     hidden: Linear,
///     head: Linear,
/// }
///
/// impl Distillable<Tensor<2>> for Net {
///     fn outputs(&self, images: Tensor<2>) -> Outputs {
///         let hidden = relu(self.hidden.forward(images));
///         Outputs::new(self.head.forward(hidden.clone())).with_feature("hidden", hidden)
///     }
/// }
///
/// let device = Device::flex();
/// let net = Net {
///     hidden: LinearConfig::new(784, 32).init(&device),
///     head: LinearConfig::new(32, 10).init(&device),
/// };
/// let outputs = net.outputs(Tensor::zeros([4, 784], &device));
/// assert_eq!(outputs.logits().dims(), [4, 10]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be distilled with inputs of type `{I}`",
    label = "expected a module that implements `Distillable<{I}>`",
    note = "write `impl Distillable<{I}> for {Self}`, whose one method returns `Outputs::new(logits)`; the type needs `#[derive(Module, Debug)]`",
    note = "a type from another crate is adapted: `adapt(model, |model, input| Outputs::new(model.forward(input)))`",
    note = "if teacher and student take different inputs, give each batch a `with_teacher_input`"
)]
pub trait Distillable<I>: Module + ModuleDisplay + Sync + 'static {
    /// Runs the model on a batch.
    fn outputs(&self, input: I) -> Outputs;
}
