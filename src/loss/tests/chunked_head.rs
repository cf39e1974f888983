use burn::nn::LinearConfig;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Distribution, FloatDType, TensorData, Tolerance};

use super::*;
use crate::data::outputs::Outputs;
use crate::data::top_k::MissingMass;
use crate::loss::logits::dkd::DkdConfig;
use crate::loss::logits::hard_label::HardLabelConfig;
use crate::loss::logits::jensen_shannon::JensenShannonConfig;
use crate::loss::logits::reverse_kl::ReverseKlConfig;
use crate::loss::logits::scale::TemperatureScale;
use crate::loss::logits::soft_target::SoftTargetConfig;
use crate::loss::logits::sparse_soft_target::SparseSoftTargetConfig;
use crate::loss::{Loss, LossContext};

const ROWS: usize = 11;
const VOCABULARY: usize = 13;
/// How many of the teacher's classes are known to the loss that asks for few.
const K: usize = 4;
/// The widths of student and teacher.
const WIDTHS: [usize; 2] = [3, 5];

/// Terms with their weights.
type Terms = Vec<(f64, Box<dyn Loss>)>;

/// A loss, and the terms with their weights that it is the sum of.
fn losses() -> Vec<(HeadLoss, Terms)> {
    let temperature = 2.0;
    let none = TemperatureScale::None;
    let squared = TemperatureScale::Squared;
    let soft = |weight| -> (f64, Box<dyn Loss>) {
        let config = SoftTargetConfig::new(temperature);
        (weight, Box::new(config.init().unwrap()))
    };
    let hard = |weight, smoothing| -> (f64, Box<dyn Loss>) {
        let config = HardLabelConfig::new().with_smoothing(smoothing);
        (weight, Box::new(config.init().unwrap()))
    };
    let reverse = |scale| -> (f64, Box<dyn Loss>) {
        let config = ReverseKlConfig::new(temperature).with_scale(scale);
        (1.0, Box::new(config.init().unwrap()))
    };
    let mixture = |scale, beta| -> (f64, Box<dyn Loss>) {
        let config = JensenShannonConfig::new(temperature);
        let config = config.with_beta(beta).with_scale(scale);
        (1.0, Box::new(config.init().unwrap()))
    };
    let dkd = || -> (f64, Box<dyn Loss>) {
        let config = DkdConfig::new(temperature).with_alpha(0.7).with_beta(3.0);
        (1.0, Box::new(config.init().unwrap()))
    };
    let sparse = |missing_mass| -> (f64, Box<dyn Loss>) {
        let config = SparseSoftTargetConfig::new(K).with_temperature(temperature);
        let config = config.with_missing_mass(missing_mass);
        (1.0, Box::new(config.init().unwrap()))
    };
    let mut all = vec![
        (HeadLoss::SoftTarget { temperature }, vec![soft(1.0)]),
        (HeadLoss::HardLabel { smoothing: 0.0 }, vec![hard(1.0, 0.0)]),
        (HeadLoss::HardLabel { smoothing: 0.1 }, vec![hard(1.0, 0.1)]),
        (
            HeadLoss::HardAndSoft {
                temperature,
                alpha: 0.3,
            },
            vec![hard(0.3, 0.0), soft(0.7)],
        ),
        (
            HeadLoss::Dkd {
                temperature,
                alpha: 0.7,
                beta: 3.0,
            },
            vec![dkd()],
        ),
    ];
    for missing_mass in [MissingMass::Bucket, MissingMass::Renormalize] {
        let loss = HeadLoss::SparseSoftTarget {
            temperature,
            missing_mass,
        };
        all.push((loss, vec![sparse(missing_mass)]));
    }
    for scale in [none, squared] {
        let loss = HeadLoss::ReverseKl { temperature, scale };
        all.push((loss, vec![reverse(scale)]));
        for beta in [0.0, 0.3, 1.0] {
            let loss = HeadLoss::JensenShannon {
                temperature,
                scale,
                beta,
            };
            all.push((loss, vec![mixture(scale, beta)]));
        }
    }
    all
}

fn random<const D: usize>(dims: [usize; D]) -> Tensor<D> {
    Tensor::random(dims, Distribution::Normal(0.0, 1.0), &Device::flex())
}

fn head(rows: usize, width: usize, has_bias: bool) -> Head {
    let head = Head::new(random([rows, width]), random([width, VOCABULARY]));
    match has_bias {
        true => head.with_bias(random([VOCABULARY])),
        false => head,
    }
}

fn heads(rows: usize, has_bias: bool) -> [Head; 2] {
    WIDTHS.map(|width| head(rows, width, has_bias))
}

fn labels(rows: usize) -> Tensor<1, Int> {
    let labels: Vec<i32> = (0..rows as i32)
        .map(|n| 5 * n % VOCABULARY as i32)
        .collect();
    Tensor::from_data(labels.as_slice(), &Device::flex())
}

/// Every third row counts for nothing.
fn mask(rows: usize) -> Tensor<1, Bool> {
    let mask: Vec<bool> = (0..rows).map(|n| n % 3 != 1).collect();
    Tensor::from_data(TensorData::from(mask.as_slice()), &Device::flex())
}

/// The same head with everything a leaf of the graph.
fn trained(head: &Head) -> Head {
    Head {
        hidden: head.hidden.clone().autodiff().require_grad(),
        weight: head.weight.clone().autodiff().require_grad(),
        bias: (head.bias.clone()).map(|bias| bias.autodiff().require_grad()),
    }
}

/// Value, and the gradients of hidden states, weight and bias.
type Found = (TensorData, Vec<TensorData>);

fn backward(loss: Tensor<1>, head: &Head) -> Found {
    let gradients = loss.backward();
    let mut found = vec![
        head.hidden.grad(&gradients).unwrap().into_data(),
        head.weight.grad(&gradients).unwrap().into_data(),
    ];
    found.extend((head.bias.as_ref()).map(|bias| bias.grad(&gradients).unwrap().into_data()));
    (loss.into_data(), found)
}

/// With the logits of all rows in memory.
fn materialised(
    terms: &[(f64, Box<dyn Loss>)],
    [student, teacher]: &[Head; 2],
    labels: &Tensor<1, Int>,
    mask: Option<&Tensor<1, Bool>>,
) -> Found {
    let student = trained(student);
    let all = 0..student.rows();
    let outputs = [&student, teacher].map(|head| Outputs::new(head.logits(all.clone())));
    let targets = crate::data::batch::Targets::Classes(labels.clone());
    let mut context = LossContext::new(&outputs[0], &outputs[1]).with_targets(&targets);
    context.mask = mask;
    let values = terms
        .iter()
        .map(|(weight, term)| term.forward(&context) * *weight);
    backward(values.reduce(|a, b| a + b).unwrap(), &student)
}

fn chunked([student, teacher]: &[Head; 2], labels: &Tensor<1, Int>) -> ChunkedHead {
    // The temperature of all losses, and the same classes that a loss would take.
    let logits = single(teacher.logits(0..teacher.rows()));
    let (log_p, indices) = log_softmax(logits / 2.0, 1).topk_with_indices(K, 1);
    ChunkedHead::new(trained(student))
        .with_teacher(teacher.clone())
        .with_top_k(TopK::new(indices, log_p).at_temperature(2.0))
        .with_labels(labels.clone())
}

fn run(chunked: &ChunkedHead, loss: HeadLoss) -> Found {
    backward(chunked.forward(loss), &chunked.student)
}

fn assert_equal(found: &Found, expected: &Found, tolerance: Tolerance<f32>, what: &str) {
    eprintln!("{what}");
    found.0.assert_approx_eq(&expected.0, tolerance);
    assert_eq!(found.1.len(), expected.1.len());
    for (found, expected) in found.1.iter().zip(&expected.1) {
        found.assert_approx_eq(expected, tolerance);
    }
}

#[test]
fn chunks_give_what_all_logits_give() {
    let tolerance = Tolerance::rel_abs(1e-4, 1e-6);
    for has_bias in [false, true] {
        let (heads, labels) = (heads(ROWS, has_bias), labels(ROWS));
        for (loss, terms) in losses() {
            for mask in [None, Some(mask(ROWS))] {
                let expected = materialised(&terms, &heads, &labels, mask.as_ref());
                // Chunks of one, some that divide the rows and some that do not, one, and the default.
                for rows in [Some(1), Some(4), Some(11), Some(100), None] {
                    let mut chunked = chunked(&heads, &labels);
                    chunked.rows_per_chunk = rows;
                    chunked.mask = mask.clone();
                    let what = format!("{loss:?}, chunks of {rows:?}, masked {}", mask.is_some());
                    assert_equal(&run(&chunked, loss), &expected, tolerance, &what);
                }
            }
        }
    }
}

#[test]
fn outside_of_autodiff_there_is_the_value_alone() {
    let (heads, labels) = (heads(ROWS, true), labels(ROWS));
    for (loss, _) in losses() {
        let mut chunked = chunked(&heads, &labels).with_rows_per_chunk(4);
        let expected = chunked.forward(loss).into_data();
        chunked.student = heads[0].clone();
        let found = chunked.forward(loss);
        assert!(!found.is_autodiff());
        found
            .into_data()
            .assert_approx_eq(&expected, Tolerance::<f32>::default());
    }
}

#[test]
fn only_what_has_autodiff_has_a_gradient() {
    let (heads, labels) = (heads(ROWS, true), labels(ROWS));
    let loss = HeadLoss::SoftTarget { temperature: 2.0 };
    let all = chunked(&heads, &labels).with_rows_per_chunk(4);
    let (_, expected) = run(&all, loss);
    let tolerance = Tolerance::<f32>::default();

    let mut some = all.clone();
    some.student.weight = heads[0].weight.clone();
    some.student.bias = heads[0].bias.clone();
    let gradients = some.forward(loss).backward();
    let hidden = some.student.hidden.grad(&gradients).unwrap();
    hidden.into_data().assert_approx_eq(&expected[0], tolerance);

    let mut some = all.clone();
    some.student.hidden = heads[0].hidden.clone();
    some.student.bias = heads[0].bias.clone();
    let gradients = some.forward(loss).backward();
    let weight = some.student.weight.grad(&gradients).unwrap();
    weight.into_data().assert_approx_eq(&expected[1], tolerance);

    let mut some = all;
    some.student.hidden = heads[0].hidden.clone();
    some.student.weight = heads[0].weight.clone();
    let gradients = some.forward(loss).backward();
    let bias = some.student.bias.unwrap().grad(&gradients).unwrap();
    bias.into_data().assert_approx_eq(&expected[2], tolerance);
}

#[test]
fn nothing_flows_into_the_teacher() {
    let ([student, teacher], labels) = (heads(ROWS, true), labels(ROWS));
    let heads = [student, trained(&teacher)];
    let chunked = chunked(&heads, &labels);
    let gradients = chunked
        .forward(HeadLoss::SoftTarget { temperature: 2.0 })
        .backward();
    assert!(heads[1].hidden.grad(&gradients).is_none());
    assert!(heads[1].weight.grad(&gradients).is_none());
    assert!(heads[1].bias.as_ref().unwrap().grad(&gradients).is_none());
    assert!(chunked.student.hidden.grad(&gradients).is_some());
}

#[test]
fn swapping_student_and_teacher_matters() {
    let [a, b] = heads(ROWS, false);
    let value = |student: &Head, teacher: &Head| {
        let head = ChunkedHead::new(student.clone()).with_teacher(teacher.clone());
        let loss = head.forward(HeadLoss::SoftTarget { temperature: 1.0 });
        loss.into_scalar::<f32>()
    };
    assert!((value(&a, &b) - value(&b, &a)).abs() > 1e-3);
}

#[test]
fn equal_heads_give_exactly_zero() {
    let head = head(ROWS, 4, true);
    let heads = [head.clone(), head];
    let (value, gradients) = run(
        &chunked(&heads, &labels(ROWS)).with_rows_per_chunk(3),
        HeadLoss::SoftTarget { temperature: 4.0 },
    );
    assert!(value.iter::<f32>().all(|x| x == 0.0));
    assert!(gradients.iter().all(|g| g.iter::<f32>().all(|x| x == 0.0)));
}

#[test]
fn what_a_row_that_does_not_count_holds_does_not_matter() {
    let (mut heads, mask) = (heads(ROWS, true), mask(ROWS));
    let loss = HeadLoss::Dkd {
        temperature: 2.0,
        alpha: 1.0,
        beta: 2.0,
    };
    let with = |heads: &[Head; 2], labels: &_| {
        let chunked = chunked(heads, labels).with_mask(mask.clone());
        run(&chunked.with_rows_per_chunk(2), loss)
    };
    let expected = with(&heads, &labels(ROWS));
    let out = mask.clone().bool_not();
    for head in &mut heads {
        let out = out
            .clone()
            .unsqueeze_dim::<2>(1)
            .expand(head.hidden.shape());
        head.hidden = head.hidden.clone().mask_fill(out, f32::NAN);
    }
    let found = with(&heads, &labels(ROWS).mask_fill(out, -100));
    assert_equal(&found, &expected, Tolerance::default(), "garbage");
}

#[test]
fn where_no_row_counts_all_is_zero() {
    let heads = heads(ROWS, true);
    let nothing = Tensor::<1>::zeros([ROWS], &Device::flex()).greater_elem(1.0);
    let chunked = chunked(&heads, &labels(ROWS)).with_mask(nothing);
    for (loss, _) in losses() {
        let (value, gradients) = run(&chunked, loss);
        assert!(value.iter::<f32>().all(|x| x == 0.0));
        assert!(gradients.iter().all(|g| g.iter::<f32>().all(|x| x == 0.0)));
    }
}

#[test]
fn a_weighted_loss_has_weighted_gradients() {
    let (heads, labels) = (heads(ROWS, true), labels(ROWS));
    let loss = HeadLoss::HardLabel { smoothing: 0.0 };
    let chunked = chunked(&heads, &labels);
    let (_, plain) = run(&chunked, loss);
    let (_, weighted) = backward(chunked.forward(loss) * 3.0, &chunked.student);
    for (plain, weighted) in plain.iter().zip(&weighted) {
        let thrice: Vec<f32> = plain.iter::<f32>().map(|x| 3.0 * x).collect();
        let thrice = TensorData::new(thrice, plain.shape().clone());
        weighted.assert_approx_eq(&thrice, Tolerance::<f32>::default());
    }
}

#[test]
fn hidden_states_of_rank_three_and_layers_fit() {
    let device = Device::flex().autodiff();
    let layer = LinearConfig::new(4, VOCABULARY).init(&device);
    let hidden: Tensor<3> = random([2, 3, 4]).autodiff().require_grad();
    let chunked = ChunkedHead::new(Head::linear(hidden.clone(), &layer)).with_labels(labels(6));
    let gradients = chunked
        .forward(HeadLoss::HardLabel { smoothing: 0.0 })
        .backward();
    assert_eq!(hidden.grad(&gradients).unwrap().dims(), [2, 3, 4]);
    let weight = layer.weight.val().grad(&gradients).unwrap();
    assert_eq!(weight.dims(), [4, VOCABULARY]);
    let bias = layer.bias.unwrap().val().grad(&gradients).unwrap();
    assert_eq!(bias.dims(), [VOCABULARY]);
}

#[test]
fn a_tied_weight_gets_its_gradient_as_the_embedding_has_it() {
    let embedding: Tensor<2> = random([VOCABULARY, 4]).autodiff().require_grad();
    let head = Head::new(random([ROWS, 4]), embedding.clone().transpose());
    let chunked = ChunkedHead::new(head)
        .with_labels(labels(ROWS))
        .with_rows_per_chunk(4);
    let gradients = chunked
        .forward(HeadLoss::HardLabel { smoothing: 0.0 })
        .backward();
    let found = embedding.grad(&gradients).unwrap();

    let plain = embedding
        .clone()
        .without_autodiff()
        .transpose()
        .autodiff()
        .require_grad();
    let head = Head {
        weight: plain.clone(),
        ..chunked.student.clone()
    };
    let chunked = ChunkedHead::new(head).with_labels(labels(ROWS));
    let gradients = chunked
        .forward(HeadLoss::HardLabel { smoothing: 0.0 })
        .backward();
    let expected = plain.grad(&gradients).unwrap().transpose();
    let tolerance = Tolerance::<f32>::rel_abs(1e-4, 1e-6);
    found
        .into_data()
        .assert_approx_eq(&expected.into_data(), tolerance);
}

#[test]
fn half_precision_gives_nearly_what_single_does() {
    let (heads, labels) = (heads(ROWS, true), labels(ROWS));
    for dtype in [FloatDType::F16, FloatDType::BF16] {
        // Numbers that both have.
        let half = |head: &Head| Head {
            hidden: head.hidden.clone().cast(dtype),
            weight: head.weight.clone().cast(dtype),
            bias: head.bias.clone().map(|bias| bias.cast(dtype)),
        };
        let single = |head: &Head| Head {
            hidden: half(head).hidden.cast(FloatDType::F32),
            weight: half(head).weight.cast(FloatDType::F32),
            bias: half(head).bias.map(|bias| bias.cast(FloatDType::F32)),
        };
        let halves = [half(&heads[0]), half(&heads[1])];
        let singles = [single(&heads[0]), single(&heads[1])];
        for (loss, _) in losses() {
            let in_half = chunked(&halves, &labels).with_rows_per_chunk(4);
            let (value, gradients) = run(&in_half, loss);
            assert_eq!(value.dtype(), DType::F32);
            let is_half = |g: &TensorData| g.dtype() == DType::from(dtype);
            assert!(gradients.iter().all(is_half));
            let gradients = gradients.into_iter().map(|g| g.convert::<f32>()).collect();
            let expected = run(&chunked(&singles, &labels), loss);
            let tolerance = Tolerance::rel_abs(0.05, 0.02);
            assert_equal(&(value, gradients), &expected, tolerance, "half");
        }
    }
}

#[test]
fn losses_round_trip() {
    for (loss, _) in losses() {
        let json = serde_json::to_string(&loss).unwrap();
        assert_eq!(serde_json::from_str::<HeadLoss>(&json).unwrap(), loss);
    }
}

#[test]
fn the_default_chunk_has_128_mebibytes_of_logits() {
    let device = Device::flex();
    let head = |vocabulary| {
        let head = Head::new(
            Tensor::<2>::zeros([1, 1], &device),
            Tensor::zeros([1, vocabulary], &device),
        );
        ChunkedHead::new(head).chunk()
    };
    assert_eq!(head(128_256), 261);
    assert_eq!(head(1 << 10), 1 << 15);
    assert_eq!(head(1 << 26), 1);
}

#[test]
#[should_panic(expected = "SoftTarget { temperature: 2.0 } needs a teacher")]
fn a_missing_teacher_is_refused() {
    let [student, _] = heads(ROWS, true);
    let _ = ChunkedHead::new(student).forward(HeadLoss::SoftTarget { temperature: 2.0 });
}

#[test]
#[should_panic(expected = "HardLabel { smoothing: 0.0 } needs labels")]
fn missing_labels_are_refused() {
    let [student, _] = heads(ROWS, true);
    let _ = ChunkedHead::new(student).forward(HeadLoss::HardLabel { smoothing: 0.0 });
}

#[test]
#[should_panic(expected = "a chunk has at least one row")]
fn a_chunk_without_rows_is_refused() {
    let chunked = chunked(&heads(ROWS, true), &labels(ROWS)).with_rows_per_chunk(0);
    let _ = chunked.forward(HeadLoss::SoftTarget { temperature: 2.0 });
}

#[test]
#[should_panic(expected = "the student's hidden states and labels have the same number of rows")]
fn labels_of_another_length_are_refused() {
    let chunked = chunked(&heads(ROWS, true), &labels(ROWS - 1));
    let _ = chunked.forward(HeadLoss::HardLabel { smoothing: 0.0 });
}

#[test]
#[should_panic(expected = "student and teacher have one vocabulary")]
fn another_vocabulary_is_refused() {
    let [student, _] = heads(ROWS, false);
    let teacher = Head::new(random([ROWS, 2]), random([2, VOCABULARY + 1]));
    let chunked = ChunkedHead::new(student).with_teacher(teacher);
    let _ = chunked.forward(HeadLoss::SoftTarget { temperature: 2.0 });
}
