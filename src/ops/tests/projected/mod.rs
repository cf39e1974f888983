//! Closed forms at an output layer against the same with the logits of all rows in memory.

mod kit;
mod precision;

use burn::nn::LinearConfig;
use kit::*;

use super::*;
use crate::ops::closed_form::labelled;

#[test]
fn dense_and_projected_forms_agree() {
    let plain = Parts::new(3, 1);
    let students = [
        plain.clone(),
        plain.clone().with_bias(3),
        plain.with_bias(3).finished(),
    ];
    for (s, student) in students.iter().enumerate() {
        for (t, teacher) in teachers().iter().enumerate() {
            for form in forms() {
                for weights in [None, Some(weights())] {
                    let expected = dense(form, student, teacher, weights.clone());
                    for chunk in CHUNKS {
                        let found = projected(form, student, teacher, weights.clone(), chunk);
                        let is_weighted = weights.is_some();
                        let what = format!(
                            "{form:?}, student {s}, teacher {t}, chunks of {chunk}, weighted {is_weighted}"
                        );
                        found.assert_close(&expected, 1e-4, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn a_mean_of_a_projected_head_runs_in_chunks_by_itself() {
    let student = Parts::new(3, 1).with_bias(3);
    let [_, teacher, _] = teachers();
    for form in forms() {
        let parts = student.trained();
        let loss = row_loss(form, parts.layer().into(), &teacher, Some(weights()));
        let expected = dense(form, &student, &teacher, Some(weights()));
        backward(&loss.mean(), &parts).assert_close(&expected, 1e-4, "a mean");
    }
}

#[test]
fn several_terms_share_a_pass() {
    let student = Parts::new(3, 1).with_bias(3).finished();
    let factors = [0.5, 2.0, 1.0, 0.25, 1.0, 0.1, 0.0, 3.0];
    for teacher in teachers() {
        for is_weighted in [false, true] {
            let weights = is_weighted.then(weights);
            let parts = student.trained();
            let layer = parts.layer();
            let terms: Vec<_> = (forms().into_iter().zip(factors))
                .map(|(form, factor)| term(form, weights.clone(), factor))
                .collect();
            let projected = Projected::new(&layer, Some(&teacher)).with_rows_per_chunk(4);
            let value = projected.run(&terms);
            let found = backward(&value.total, &parts);

            let mut sum: Option<Found> = None;
            for ((form, factor), own) in forms().into_iter().zip(factors).zip(value.values) {
                let alone = dense(form, &student, &teacher, weights.clone());
                let own = numbers(own)[0];
                let expected = alone.0[0][0];
                // One that does not count in the sum has a value all the same.
                assert!((own - expected).abs() <= 1e-4 * expected.abs().max(0.1));
                let scaled = |x: &f32| x * factor as f32;
                let alone = alone.0.iter().map(|x| x.iter().map(scaled).collect());
                let alone = Found(alone.collect());
                sum = Some(match sum {
                    None => alone,
                    Some(sum) => Found(
                        (sum.0.iter().zip(&alone.0))
                            .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect())
                            .collect(),
                    ),
                });
            }
            found.assert_close(&sum.expect("several terms"), 1e-4, "several terms");
        }
    }
}

/// The gradient of the last term takes the place of the teacher's logits.
#[test]
fn no_term_overwrites_the_teacher_of_another() {
    let student = Parts::new(3, 1).layer();
    for teacher in teachers() {
        let parts = Parts::new(3, 1).trained();
        let layer = parts.layer();
        let terms = [1.0; 3].map(|factor| term(soft(), None, factor));
        for _ in 0..2 {
            let value = Projected::new(&layer, Some(&teacher)).run(&terms);
            let [a, b, c] = &value.values[..] else {
                panic!("three terms");
            };
            let [a, b, c] = [a, b, c].map(|x| numbers(x.clone())[0]);
            assert_eq!([a, b], [b, c]);
            let alone = row_loss(soft(), student.logits().into(), &teacher, None).mean();
            assert!((numbers(alone)[0] - a).abs() < 1e-5);
        }
    }
}

#[test]
fn outside_of_autodiff_there_is_the_value_alone() {
    let student = Parts::new(3, 1).with_bias(3);
    for teacher in teachers() {
        for form in forms() {
            let layer = student.layer();
            let projected = Projected::new(&layer, Some(&teacher)).with_rows_per_chunk(4);
            let found = projected.run(&[term(form, Some(weights()), 2.0)]);
            assert!(!found.total.is_autodiff());
            let expected = dense(form, &student, &teacher, Some(weights())).0[0][0];
            for found in [
                numbers(found.total)[0] / 2.0,
                numbers(found.values[0].clone())[0],
            ] {
                assert!((found - expected).abs() <= 1e-4 * expected.abs().max(0.1));
            }
        }
    }
}

#[test]
fn only_what_is_tracked_has_a_gradient() {
    let student = Parts::new(3, 1).with_bias(3).finished();
    let [_, teacher, _] = teachers();
    let expected = dense(soft(), &student, &teacher, None);
    // Frozen: on an autodiff device, without a gradient; or outside of autodiff.
    let frozen = Parts {
        hidden: student.hidden.clone().autodiff(),
        weight: student.weight.clone().autodiff(),
        bias: student.bias.clone().map(|bias| bias.autodiff()),
        ..student.clone()
    };
    for rest in [frozen, student.clone()] {
        let leaves = student.trained();
        let run = |parts: &Parts| {
            let layer = parts.layer();
            let sums = Sums::zero(&layer, ROWS, (&Device::flex(), DType::F32));
            let has = [
                sums.hidden.is_some(),
                sums.weight.is_some(),
                sums.bias.is_some(),
            ];
            let projected = Projected::new(&layer, Some(&teacher)).with_rows_per_chunk(4);
            (
                has,
                projected.run(&[term(soft(), None, 1.0)]).total.backward(),
            )
        };
        let parts = Parts {
            hidden: leaves.hidden.clone(),
            ..rest.clone()
        };
        let (has, gradients) = run(&parts);
        assert_eq!(has, [true, false, false]);
        let found = numbers(leaves.hidden.grad(&gradients).unwrap());
        Found(vec![found]).assert_close(&Found(vec![expected.0[1].clone()]), 1e-4, "hidden");
        assert!(parts.weight.grad(&gradients).is_none());

        let parts = Parts {
            weight: leaves.weight.clone(),
            ..rest.clone()
        };
        let (has, gradients) = run(&parts);
        assert_eq!(has, [false, true, false]);
        let found = numbers(leaves.weight.grad(&gradients).unwrap());
        Found(vec![found]).assert_close(&Found(vec![expected.0[2].clone()]), 1e-4, "weight");

        let parts = Parts {
            bias: leaves.bias.clone(),
            ..rest.clone()
        };
        let (has, gradients) = run(&parts);
        assert_eq!(has, [false, false, true]);
        let found = numbers(leaves.bias.unwrap().grad(&gradients).unwrap());
        Found(vec![found]).assert_close(&Found(vec![expected.0[3].clone()]), 1e-4, "bias");
    }
}

#[test]
fn nothing_flows_into_the_teacher() {
    for is_dense in [false, true] {
        let (student, teacher) = (Parts::new(3, 1).trained(), Parts::new(5, 10).trained());
        let layer = student.layer();
        let logits: Logits = match is_dense {
            true => teacher.layer().logits().into(),
            false => teacher.layer().into(),
        };
        let value = Projected::new(&layer, Some(&logits)).run(&[term(soft(), None, 1.0)]);
        let gradients = value.total.backward();
        assert!(teacher.hidden.grad(&gradients).is_none());
        assert!(teacher.weight.grad(&gradients).is_none());
        assert!(student.hidden.grad(&gradients).is_some());
    }
}

#[test]
fn equal_layers_give_exactly_zero() {
    let parts = Parts::new(4, 1).with_bias(3).finished();
    let teacher = parts.layer().into();
    for form in [soft(), ClosedForm::new(Formula::SquaredError, 1.0)] {
        assert!(projected(form, &parts, &teacher, None, 3).is_zero());
    }
}

#[test]
fn what_a_row_of_weight_zero_holds_does_not_matter() {
    // In double precision nothing is an operation of the backend.
    for dtype in [DType::F32, DType::F64] {
        let student = Parts::new(3, 1).with_bias(3).cast(dtype);
        for teacher in teachers() {
            let is_out: Tensor<2, burn::tensor::Bool> = weights().equal_elem(0.0).unsqueeze_dim(1);
            let dirty = Parts {
                hidden: (student.hidden.clone()).mask_fill(is_out.expand([ROWS, 3]), f32::NAN),
                ..student.clone()
            };
            for form in forms() {
                let expected = projected(form, &student, &teacher, Some(weights()), 2);
                let found = projected(form, &dirty, &teacher, Some(weights()), 2);
                found.assert_close(&expected, 1e-6, "garbage");
            }
        }
    }
}

#[test]
fn where_all_weights_are_zero_all_is_zero() {
    let student = Parts::new(3, 1).with_bias(3);
    let none = Tensor::zeros([ROWS], &Device::flex());
    for teacher in teachers() {
        for form in forms() {
            assert!(projected(form, &student, &teacher, Some(none.clone()), 4).is_zero());
        }
    }
}

#[test]
fn a_row_that_one_term_needs_is_there_for_all() {
    let student = Parts::new(3, 1);
    let [teacher, ..] = teachers();
    let parts = student.trained();
    let layer = parts.layer();
    let terms = [term(soft(), Some(weights()), 1.0), term(hard(), None, 1.0)];
    let projected = Projected::new(&layer, Some(&teacher)).with_rows_per_chunk(4);
    let value = projected.run(&terms);
    let expected = [
        dense(soft(), &student, &teacher, Some(weights())),
        dense(hard(), &student, &teacher, None),
    ];
    for (found, expected) in value.values.into_iter().zip(expected) {
        assert!((numbers(found)[0] - expected.0[0][0]).abs() < 1e-4);
    }
}

#[test]
fn what_arrives_scales_the_gradients() {
    let student = Parts::new(3, 1).with_bias(3);
    let [_, teacher, _] = teachers();
    let parts = student.trained();
    let layer = parts.layer();
    let total = Projected::new(&layer, Some(&teacher)).run(&[term(soft(), None, 1.0)]);
    let plain = dense(soft(), &student, &teacher, None);
    let thrice = plain.0.iter().map(|x| x.iter().map(|x| 3.0 * x).collect());
    let found = backward(&(total.total * 3.0), &parts);
    found.assert_close(&Found(thrice.collect()), 1e-4, "thrice");
}

#[test]
fn gradient_checkpointing_changes_nothing() {
    let student = Parts::new(3, 1).with_bias(3).finished();
    let device = Device::flex().autodiff().gradient_checkpointing();
    for teacher in teachers() {
        for form in forms() {
            let expected = dense(form, &student, &teacher, Some(weights()));
            for is_projected in [true, false] {
                let parts = student.trained_on(&device);
                // Behind operations that are computed again in the backward pass.
                let behind = Parts {
                    hidden: (parts.hidden.clone() + 1.0) - 1.0,
                    ..parts.clone()
                };
                let student = match is_projected {
                    true => behind.layer().into(),
                    false => behind.layer().logits().into(),
                };
                let value = row_loss(form, student, &teacher, Some(weights())).mean();
                let found = backward(&(value * 1.0), &parts);
                let what = format!("{form:?}, projected {is_projected}");
                found.assert_close(&expected, 1e-4, &what);
            }
        }
    }
}

#[test]
fn hidden_states_of_rank_three_and_layers_fit() {
    let device = Device::flex().autodiff();
    let layer = LinearConfig::new(4, VOCABULARY).init(&device);
    let hidden: Tensor<3> = noise([1, ROWS, 4], 1).autodiff().require_grad();
    let student = OutputLayer::linear(hidden.clone(), &layer);
    let value = Projected::new(&student, None).run(&[term(hard(), None, 1.0)]);
    let gradients = value.total.backward();
    assert_eq!(hidden.grad(&gradients).unwrap().dims(), [1, ROWS, 4]);
    let weight = layer.weight.val().grad(&gradients).unwrap();
    assert_eq!(weight.dims(), [4, VOCABULARY]);
    let bias = layer.bias.unwrap().val().grad(&gradients).unwrap();
    assert_eq!(bias.dims(), [VOCABULARY]);
}

#[test]
fn a_tied_weight_has_the_gradients_of_both_uses() {
    let [_, teacher, _] = teachers();
    let embedding = noise([VOCABULARY, 4], 5);
    let tokens = Tensor::<1, Int>::from_ints([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &Device::flex());
    for form in [soft(), hard()] {
        let run = |is_projected: bool| {
            let embedding = embedding.clone().autodiff().require_grad();
            let hidden = embedding.clone().select(0, tokens.clone()).tanh();
            let layer = OutputLayer::new(hidden, embedding.clone().transpose());
            let student = match is_projected {
                true => layer.into(),
                false => layer.logits().into(),
            };
            let value = row_loss(form, student, &teacher, Some(weights())).mean();
            let gradients = value.backward();
            let gradient = embedding.grad(&gradients).expect("the embedding learns");
            Found(vec![numbers(value), numbers(gradient)])
        };
        run(true).assert_close(&run(false), 1e-4, "a tied weight");
    }
}

#[test]
fn values_per_row_are_those_of_dense_logits() {
    let student = Parts::new(3, 1).with_bias(3).finished();
    for teacher in teachers() {
        for form in forms() {
            for weights in [None, Some(weights())] {
                let per_row = |student: Logits| {
                    let loss = row_loss(form, student, &teacher, weights.clone());
                    numbers(loss.per_row())
                };
                let expected = Found(vec![per_row(student.layer().logits().into())]);
                let found = Found(vec![per_row(student.layer().into())]);
                found.assert_close(&expected, 1e-5, &format!("{form:?}"));
                let layer = student.layer();
                let projected = Projected::new(&layer, Some(&teacher)).with_rows_per_chunk(4);
                let found = projected.per_row(&term(form, weights.clone(), 7.0));
                Found(vec![numbers(found)]).assert_close(&expected, 1e-5, &format!("{form:?}"));
            }
        }
    }
}

#[test]
#[should_panic(expected = "a value per row of a projected head has no gradient")]
fn a_gradient_through_values_per_row_is_refused() {
    let [teacher, ..] = teachers();
    let layer = Parts::new(3, 1).trained().layer();
    let _ = row_loss(soft(), layer.into(), &teacher, None).per_row();
}

#[test]
fn the_default_chunk_has_128_mebibytes_of_logits() {
    let chunk = |vocabulary| {
        let weight = Tensor::zeros([1, vocabulary], &Device::flex());
        let layer = OutputLayer::new(Tensor::<2>::zeros([1, 1], &Device::flex()), weight);
        Projected::new(&layer, None).rows_per_chunk
    };
    assert_eq!(chunk(128_256), 261);
    assert_eq!(chunk(1 << 10), 1 << 15);
    assert_eq!(chunk(1 << 26), 1);
}

#[test]
#[should_panic(expected = "the loss compares with a teacher, and there is none")]
fn a_missing_teacher_is_refused() {
    let layer = Parts::new(3, 1).layer();
    let _ = Projected::new(&layer, None).run(&[term(soft(), None, 1.0)]);
}

#[test]
#[should_panic(expected = "a loss on labels has some")]
fn missing_labels_are_refused() {
    let _ = labelled(hard().formula, None, None);
}

#[test]
#[should_panic(expected = "student logits and labels have the same number of rows")]
fn labels_of_another_length_are_refused() {
    let layer = Parts::new(3, 1).layer();
    let term = ProjectedTerm {
        labels: Some(labels().slice(0..ROWS - 1)),
        weights: None,
        ..term(hard(), None, 1.0)
    };
    let _ = Projected::new(&layer, None).run(&[term]);
}

#[test]
#[should_panic(expected = "student logits and weights have the same number of rows")]
fn weights_of_another_length_are_refused() {
    let layer = Parts::new(3, 1).layer();
    let [teacher, ..] = teachers();
    let weights = Some(Tensor::ones([ROWS + 1], &Device::flex()));
    let _ = Projected::new(&layer, Some(&teacher)).run(&[term(soft(), weights, 1.0)]);
}

#[test]
#[should_panic(expected = "student and teacher logits have one shape")]
fn another_vocabulary_is_refused() {
    let layer = Parts::new(3, 1).layer();
    let teacher = Tensor::<2>::zeros([ROWS, VOCABULARY + 1], &Device::flex()).into();
    let _ = Projected::new(&layer, Some(&teacher)).run(&[term(soft(), None, 1.0)]);
}
