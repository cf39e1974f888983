use burn::tensor::Bool;

use super::super::pair::fixtures::{assert_close, outputs};
use super::*;

/// Hidden states: the mean is over the elements of the tokens that count.
#[test]
fn masked_tokens_do_not_count() {
    let device = Device::flex().autodiff();
    let student = [[[1.0, 2.0], [f32::NAN, 7.0]], [[0.0, 0.0], [1.0, 1.0]]];
    let student = Tensor::<3>::from_floats(student, &device).require_grad();
    let teacher = [[[4.0, 6.0], [7.0, f32::NAN]], [[0.0, 0.0], [1.0, 2.0]]];
    let teacher = Tensor::<3>::from_floats(teacher, &device);
    let (s, t) = (outputs(4, "s", student.clone()), outputs(4, "t", teacher));
    let mask = Tensor::<1, Bool>::from_data([true, false, true, true], &device.inner());
    let context = LossContext::new(&s, &t).with_mask(&mask);
    let loss = HintConfig::new("s", "t").init().unwrap();
    loss.check(&context).unwrap();
    let value = loss.forward(&context);
    let gradients = value.backward();
    // 3² + 4² and 1² over the six elements of three tokens.
    assert_close(value, &[26.0 / 6.0], 1e-6);
    let expected = [-1.0, -4.0 / 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0 / 3.0];
    assert_close(student.grad(&gradients).unwrap(), &expected, 1e-6);
}
