use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::*;
use crate::metric::distance::parameter_distance;

#[derive(Module, Debug)]
struct Block {
    linear: Linear,
    norm: BatchNorm,
}

#[derive(Module, Debug)]
struct Net {
    blocks: Vec<Block>,
    head: Linear,
}

fn net(blocks: usize, width: usize) -> Net {
    let device = Device::flex();
    Net {
        blocks: (0..blocks)
            .map(|_| Block {
                linear: LinearConfig::new(width, width).init(&device),
                norm: BatchNormConfig::new(width).init(&device),
            })
            .collect(),
        head: LinearConfig::new(width, 3).init(&device),
    }
}

fn weight(net: &Net, block: usize) -> Vec<f32> {
    let weight = net.blocks[block].linear.weight.val();
    weight.into_data().iter::<f32>().collect()
}

#[test]
fn a_whole_copy_leaves_no_distance() {
    let (teacher, student) = (net(2, 4), net(2, 4));
    assert!(parameter_distance(&teacher, &student).distance > 0.1);
    let (student, summary) = Transfer::whole().apply(&teacher, student).unwrap();
    // Two blocks of weight, bias, gamma, beta, mean, variance; a head of weight and bias.
    assert_eq!(summary.copied.len(), 14);
    let distance = parameter_distance(&teacher, &student);
    assert_eq!(
        (distance.distance, distance.compared, distance.of),
        (0.0, 14, 14)
    );
}

#[test]
fn layers_follow_the_map_with_their_running_statistics() {
    let teacher = net(4, 4);
    let mean = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0], &Device::flex());
    teacher.blocks[2].norm.running_mean.update(mean.clone());
    let _ = teacher.blocks[2].norm.running_mean.value_sync();

    let transfer = Transfer::layers([("blocks.0", "blocks.0"), ("blocks.2", "blocks.1")]);
    let before = net(2, 4);
    let head = before.head.weight.val().into_data();
    let (student, summary) = transfer.apply(&teacher, before).unwrap();

    assert_eq!(weight(&student, 0), weight(&teacher, 0));
    assert_eq!(weight(&student, 1), weight(&teacher, 2));
    let moved = student.blocks[1].norm.running_mean.value().into_data();
    assert_eq!(moved, mean.into_data());
    assert_eq!(student.head.weight.val().into_data(), head);
    assert_eq!(summary.untouched, ["head.weight", "head.bias"]);
    assert_eq!(summary.copied[0].from, "blocks.0.linear.weight");
}

#[test]
fn one_layer_may_fill_two_without_making_them_one() {
    let teacher = net(1, 4);
    let transfer = Transfer::layers([("blocks.0", "blocks.0"), ("blocks.0", "blocks.1")]);
    let (student, _) = transfer.apply(&teacher, net(2, 4)).unwrap();
    assert_eq!(weight(&student, 0), weight(&student, 1));
    let ids = [0, 1].map(|block| student.blocks[block].linear.weight.id);
    assert_ne!(ids[0], ids[1]);
    assert_ne!(ids[0], teacher.blocks[0].linear.weight.id);
}

#[test]
fn what_does_not_match_is_listed_or_refused() {
    let (teacher, narrow) = (net(2, 4), net(3, 3));
    let (_, summary) = Transfer::matching().apply(&teacher, narrow).unwrap();
    assert_eq!(summary.copied.len(), 1, "{summary}"); // The head's bias has 3 values on both sides.
    assert_eq!(summary.mismatched.len(), 13);
    assert_eq!(summary.skipped.len(), 6);
    assert_eq!(summary.mismatched[0].student, "F32 [3, 3]");
    assert_eq!(summary.mismatched[0].teacher, "F32 [4, 4]");

    let error = Transfer::whole().apply(&teacher, net(3, 4)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(
            "strict transfer left parameters behind:\n14 copied, 6 skipped, 0 mismatched, 0 untouched\n"
        ),
        "{text}"
    );
    assert!(
        text.contains("\n  skipped     blocks.2.linear.weight: not at the teacher"),
        "{text}"
    );
}

#[test]
fn a_map_to_nowhere_is_an_error() {
    let error = |pairs: [(&str, &str); 1]| {
        let result = Transfer::layers(pairs).apply(&net(2, 4), net(2, 4));
        result.unwrap_err().to_string()
    };
    assert_eq!(
        error([("blocks.7", "blocks.0")]),
        "transfer layer is \"blocks.7\", expected a path of the teacher"
    );
    assert_eq!(
        error([("blocks.1", "block.1")]),
        "transfer layer is \"block.1\", expected a path of the student"
    );
}
