//! Several trainings, several students, several teachers.

mod common;

use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams, SgdConfig};
use burn::store::{BurnpackStore, ModuleStore};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use burn_distill::loss::{HardLabel, Hint, SoftTarget, hard_label, soft_target};
use burn_distill::recipe::{Mutual, Preset, Stage, Stages, born_again, mutual_learning};
use burn_distill::{
    AnyTeacher, Combine, Distillable, Distiller, Ensemble, FitConfig, Objective, ProgressMode,
    Schedule, Teacher, TeacherBatch, teacher_fn,
};
use common::net::{
    Net, classes, initialized, inputs, labelled, largest_difference, numbers, points, unlabelled,
};

fn quiet(epochs: usize) -> FitConfig {
    FitConfig::new(epochs)
        .with_batch_size(16)
        .with_optimizer(SgdConfig::new().init(), 0.1)
        .with_progress(ProgressMode::Silent)
}

fn net(seed: u64, hidden: usize) -> Net {
    let device = Device::flex();
    device.seed(seed);
    initialized(Net::new(hidden, 0.0, &device))
}

fn soft() -> Objective {
    Objective::new().with(SoftTarget::new(4.0), 1.0)
}

#[test]
fn stages_hand_the_student_on() {
    let _seeded = common::seeded();
    let hint = Objective::new().with(Hint::new("hidden", "hidden"), 1.0);
    let stages = Stages::new()
        .with(Stage::new(hint, 2))
        .with(Stage::new(soft(), 3).with_learning_rate(0.01));
    let data = labelled(points(40));
    let results = stages
        .fit(
            Device::flex(),
            net(1, 16),
            net(2, 4),
            &quiet(1),
            data.clone(),
            None,
        )
        .unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(results[0].report.training.last_epoch, 2);
    assert_eq!(results[1].report.training.learning_rate, 0.01);

    // The second stage by hand, from where the first left the student.
    let by_hand = Distiller::on(Device::flex(), net(1, 16), results[0].student.clone())
        .with(SoftTarget::new(4.0), 1.0)
        .fit(
            &quiet(3).with_optimizer(SgdConfig::new().init(), 0.01),
            data,
            None,
        )
        .unwrap();
    assert_eq!(numbers(&by_hand.student), numbers(&results[1].student));
}

#[test]
fn a_carried_optimizer_is_one_training_cut_in_two() {
    let _seeded = common::seeded();
    let data = labelled(points(16));
    let adam = |epochs| quiet(epochs).with_optimizer(AdamConfig::new().init(), 0.01);
    let whole = Distiller::on(Device::flex(), net(1, 16), net(2, 4))
        .with(SoftTarget::new(4.0), 1.0)
        .fit(&adam(6), data.clone(), None)
        .unwrap();
    let run = |carry: bool| {
        let second = Stage::new(soft(), 3);
        let second = if carry {
            second.with_carried_optimizer()
        } else {
            second
        };
        let stages = Stages::new().with(Stage::new(soft(), 3)).with(second);
        let (teacher, student) = (net(1, 16), net(2, 4));
        let results = stages
            .fit(
                Device::flex(),
                teacher,
                student,
                &adam(1),
                data.clone(),
                None,
            )
            .unwrap();
        numbers(&results[1].student)
    };
    // One batch holds all points: the order does not matter but for rounding, of which Adam makes
    // more where a gradient is next to nothing. This is a hundredth of one of its steps.
    let difference = largest_difference(&run(true), &numbers(&whole.student));
    assert!(difference < 1e-4, "{difference}");
    assert!(largest_difference(&run(false), &numbers(&whole.student)) > 1e-3);
}

#[test]
fn stages_that_cannot_run_are_refused() {
    let _seeded = common::seeded();
    let error = |stages: Stages| stages.validate().unwrap_err().to_string();
    assert_eq!(
        error(Stages::new()),
        "stages is empty, expected at least one stage"
    );
    let first = Stage::new(soft(), 1).with_carried_optimizer();
    assert_eq!(
        error(Stages::new().with(first)),
        "stages.carry_optimizer is on in the first stage, expected a stage before it"
    );
}

#[test]
fn generations_teach_each_other_in_turn() {
    let _seeded = common::seeded();
    let objective = soft();
    let results = born_again(
        Device::flex(),
        net(1, 8),
        |generation| net(10 + generation as u64, 8),
        3,
        &objective,
        &quiet(2),
        labelled(points(40)),
        None,
    )
    .unwrap();
    assert_eq!(results.len(), 3);
    for pair in results.windows(2) {
        assert_eq!(numbers(&pair[1].teacher), numbers(&pair[0].student));
    }
    assert_eq!(numbers(&results[0].teacher), numbers(&net(1, 8)));
}

#[test]
fn peers_learn_from_labels_and_from_each_other() {
    let _seeded = common::seeded();
    let points = points(16);
    let (first, second) = (net(1, 4), net(2, 4));
    let mutual = Mutual::new().with_temperature(2.0);
    let (learned, training) = mutual_learning(
        Device::flex(),
        vec![first.clone(), second.clone()],
        &mutual,
        &quiet(3),
        labelled(points.clone()),
        None,
    )
    .unwrap();

    // By hand: each peer with an optimizer of its own, the other's logits as constants.
    let device = Device::flex().autodiff();
    let mut peers = [first, second].map(|peer| peer.train().fork(&device));
    let mut optimizers = [0, 1].map(|_| SgdConfig::new().init());
    for _ in 0..3 {
        let logits = peers
            .each_ref()
            .map(|peer| peer.outputs(inputs(&points, &device)).logits());
        let labels = classes(&points, &Device::flex());
        for k in 0..2 {
            let taught = logits[1 - k].clone().inner();
            let loss = hard_label(logits[k].clone(), labels.clone(), 0.0).mean()
                + soft_target(logits[k].clone(), taught, 2.0).mean();
            let gradients = GradientsParams::from_grads(loss.backward(), &peers[k]);
            peers[k] = optimizers[k].step(0.1, peers[k].clone(), gradients);
        }
    }
    for (peer, (found, report)) in peers.iter().zip(&learned) {
        let difference = largest_difference(&numbers(&peer.valid()), &numbers(found));
        assert!(difference < 1e-6, "{difference}");
        assert!(report.accuracy.is_some());
    }
    assert_eq!(training.last_epoch, 3);
}

#[test]
fn peers_need_company_and_fitting_values() {
    let _seeded = common::seeded();
    let error = |peers: usize, mutual: Mutual| {
        let peers = (0..peers as u64).map(|seed| net(seed, 4)).collect();
        let data = unlabelled(points(16));
        mutual_learning(Device::flex(), peers, &mutual, &quiet(1), data, None)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(1, Mutual::new()),
        "mutual.peers is 1, expected at least 2"
    );
    assert_eq!(
        error(2, Mutual::new().with_weights(-1.0, 1.0)),
        "mutual.label_weight is -1, expected a number of at least 0"
    );
    assert_eq!(
        error(2, Mutual::new()),
        "term \"mutual\" needs class targets, the batches carry no targets"
    );
}

#[test]
fn an_average_follows_its_student() {
    let _seeded = common::seeded();
    let data = labelled(points(16));
    let run = |decay: f64, epochs: usize| {
        Distiller::mean_teacher(Device::flex(), net(3, 6), decay)
            .with(HardLabel::new(), 1.0)
            .with(SoftTarget::new(1.0), Schedule::from(1.0).warm_up(0.5))
            .fit(&quiet(epochs), data.clone(), None)
            .unwrap()
    };
    let start = numbers(&net(3, 6));
    // Without decay it is the student, with full decay it never leaves its start.
    let student = run(0.0, 3);
    assert_eq!(numbers(&student.teacher), numbers(&student.student));
    assert_eq!(numbers(&run(1.0, 3).teacher), start);
    // One step: 0.75 · start + 0.25 · student, running statistics included.
    let one = run(0.75, 1);
    let student = numbers(&one.student);
    let expected: Vec<f32> = start
        .iter()
        .zip(student)
        .map(|(a, b)| 0.75 * a + 0.25 * b)
        .collect();
    let difference = largest_difference(&numbers(&one.teacher), &expected);
    assert!(difference < 1e-6, "{difference}");
}

#[test]
fn an_average_is_checkpointed_and_resumed() {
    let _seeded = common::seeded();
    let directory = tempfile::tempdir().unwrap();
    let run = |config: FitConfig| {
        Distiller::mean_teacher(Device::flex(), net(3, 6), 0.9)
            .with(HardLabel::new(), 1.0)
            .with(SoftTarget::new(1.0), 1.0)
            .fit(&config, labelled(points(40)), None)
            .unwrap()
    };
    let undisturbed = run(quiet(4));
    run(quiet(4).with_checkpoints(directory.path()));
    let path = directory.path().join("checkpoint/model-4.bpk");
    let keys = BurnpackStore::from_file(path).keys().unwrap();
    assert!(
        keys.iter().any(|key| key.starts_with("mean-teacher.")),
        "{keys:?}"
    );
    std::fs::remove_file(directory.path().join("checkpoint/model-4.bpk")).unwrap();
    let resumed = run(quiet(4)
        .with_checkpoints(directory.path())
        .with_resume(true));
    assert_eq!(resumed.report.training.resumed_from, Some(3));
    assert_eq!(numbers(&resumed.teacher), numbers(&undisturbed.teacher));
    assert_eq!(numbers(&resumed.student), numbers(&undisturbed.student));
}

#[test]
fn a_decay_out_of_range_is_refused() {
    let _seeded = common::seeded();
    let error = Distiller::mean_teacher(Device::flex(), net(3, 6), 1.5)
        .with(SoftTarget::new(1.0), 1.0)
        .fit(&quiet(1), labelled(points(16)), None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "mean_teacher.decay is 1.5, expected a number from 0 to 1"
    );
}

/// The probabilities of a teacher, row after row.
fn probabilities(teacher: &impl Teacher<Tensor<2>>, input: &Tensor<2>) -> Vec<f32> {
    let outputs = teacher.ask(&TeacherBatch::new(input)).unwrap();
    let p = softmax(outputs.logits(), 1);
    p.into_data().iter::<f32>().collect()
}

#[test]
fn an_ensemble_teaches_as_one() {
    let _seeded = common::seeded();
    let teachers = vec![net(1, 8), net(2, 8)];
    let input = inputs(&points(5), &Device::flex());
    let mean = |combine: Combine| {
        let ensemble = Ensemble::new(teachers.clone(), combine).unwrap();
        let outputs = ensemble.ask(&TeacherBatch::new(&input)).unwrap();
        assert_eq!(outputs.feature_names(), ["0.hidden", "1.hidden"]);
        probabilities(&ensemble, &input)
    };
    let (a, b) = (
        probabilities(&teachers[0], &input),
        probabilities(&teachers[1], &input),
    );
    let arithmetic: Vec<f32> = a.iter().zip(&b).map(|(a, b)| (a + b) / 2.0).collect();
    assert!(largest_difference(&mean(Combine::Probabilities), &arithmetic) < 1e-6);
    let geometric: Vec<f32> = a
        .chunks(3)
        .zip(b.chunks(3))
        .flat_map(|(a, b)| {
            let products: Vec<f32> = a.iter().zip(b).map(|(a, b)| (a * b).sqrt()).collect();
            let sum: f32 = products.iter().sum();
            products.into_iter().map(move |p| p / sum)
        })
        .collect();
    assert!(largest_difference(&mean(Combine::Logits), &geometric) < 1e-6);

    // A teacher that agrees with the two others outweighs one that does not.
    let by = |combine: Combine| {
        let three = vec![net(1, 8), net(1, 8), net(2, 8)];
        probabilities(&Ensemble::new(three, combine).unwrap(), &input)
    };
    let to_majority = |p: Vec<f32>| largest_difference(&p, &a);
    assert!(to_majority(by(Combine::Agreement)) < to_majority(by(Combine::Probabilities)));

    let ensemble = Ensemble::new(teachers, Combine::Probabilities).unwrap();
    let distilled = Distiller::on(Device::flex(), ensemble, net(5, 4))
        .with(SoftTarget::new(4.0), 1.0)
        .with(Hint::new("hidden", "1.hidden"), 0.1)
        .fit(&quiet(2), unlabelled(points(40)), None)
        .unwrap();
    assert!(distilled.report.distilled.agreement.is_some());
}

#[test]
fn an_ensemble_mixes_teachers_of_any_type() {
    let _seeded = common::seeded();
    let input = inputs(&points(5), &Device::flex());
    let closure = teacher_fn("even", |x: Tensor<2>| x.narrow(1, 0, 3) * 0.0);
    let all = vec![AnyTeacher::new(net(1, 8)), AnyTeacher::new(closure)];
    let ensemble = Ensemble::new(all, Combine::Probabilities).unwrap();
    let expected = probabilities(&net(1, 8), &input);
    let expected: Vec<f32> = expected.iter().map(|p| (p + 1.0 / 3.0) / 2.0).collect();
    let difference = largest_difference(&probabilities(&ensemble, &input), &expected);
    assert!(difference < 1e-6, "{difference}");
}

#[test]
fn an_ensemble_refuses_weights_that_do_not_fit() {
    let _seeded = common::seeded();
    let error = |weights: &[f64]| {
        let ensemble = Ensemble::new(vec![net(1, 4), net(2, 4)], Combine::Logits).unwrap();
        ensemble.with_weights(weights).unwrap_err().to_string()
    };
    let expected = "expected a number of at least 0 for each teacher, not all of them 0";
    assert_eq!(
        error(&[1.0]),
        format!("ensemble.weights is [1.0] for 2 teachers, {expected}")
    );
    assert_eq!(
        error(&[0.0, 0.0]),
        format!("ensemble.weights is [0.0, 0.0] for 2 teachers, {expected}")
    );
    let none = Ensemble::<Net>::new(vec![], Combine::Logits).unwrap_err();
    assert_eq!(
        none.to_string(),
        "ensemble.teachers is 0, expected at least one teacher"
    );
}

#[test]
fn every_preset_is_an_objective_that_a_file_can_hold() {
    let pairs = [("s1", "t1"), ("s2", "t2")];
    let one = &pairs[..1];
    let all = [
        ("hinton2015", Preset::hinton2015()),
        ("hint2015", Preset::hint2015(one)),
        ("at2017", Preset::at2017(&pairs)),
        ("nst2017", Preset::nst2017(one)),
        ("pkt2018", Preset::pkt2018("s1", "t1")),
        ("rkd2019", Preset::rkd2019("s1", "t1")),
        ("sp2019", Preset::sp2019("s1", "t1")),
        ("cc2019", Preset::cc2019("s1", "t1")),
        ("vid2019", Preset::vid2019(&pairs)),
        ("crd2020", Preset::crd2020("s1", "t1")),
        ("tfkd2020", Preset::tfkd2020()),
        ("cwd2021", Preset::cwd2021(one)),
        (
            "review_kd2021",
            Preset::review_kd2021(pairs[0], pairs[1], &[]),
        ),
        ("dkd2022", Preset::dkd2022()),
        ("dist2022", Preset::dist2022()),
        ("mgd2022", Preset::mgd2022(one)),
        ("nkd2023", Preset::nkd2023()),
        (
            "logit_standardization2024",
            Preset::logit_standardization2024(),
        ),
    ];
    for (name, objective) in all {
        objective.validate().unwrap();
        assert!(objective.terms().len() >= 2, "{name}");
        let json = serde_json::to_string(&objective).unwrap();
        let read = Objective::from_json(&json).unwrap();
        assert_eq!(read.to_string(), objective.to_string(), "{name}");
        assert_eq!(serde_json::to_string(&read).unwrap(), json, "{name}");
    }
}

#[test]
fn fitnets_are_two_stages() {
    let _seeded = common::seeded();
    let stages = Preset::fitnets2015(&[("hidden", "hidden")], 5);
    let epochs: Vec<_> = stages.stages.iter().map(|stage| stage.epochs).collect();
    assert_eq!(epochs, [2, 3]);
    let (teacher, student) = (net(1, 8), net(2, 4));
    let data = labelled(points(40));
    let results = stages.fit(Device::flex(), teacher, student, &quiet(1), data, None);
    let results = results.unwrap();
    assert_eq!(
        results[1].report.training.objective,
        "0.9 · soft_target + 0.1 · hard_label"
    );
}
