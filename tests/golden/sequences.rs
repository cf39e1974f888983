//! Losses on the hidden states of sequences, and on embeddings of samples.

use burn::tensor::{Device, Tensor};
use burn_distill::loss::{
    CosineNorm, CrdMemory, HiddenCosineConfig, HintConfig, Loss, LossContext, PatientKdConfig, crd,
};
use burn_distill::{Feature, Outputs};

use crate::case::{Case, Leaves, Outcome};

const STUDENT: &str = "student_features_0";
const TEACHER: &str = "teacher_features_0";

pub fn compute(loss: &str, case: &Case, device: &Device) -> Option<Outcome> {
    let cosine = |norm| {
        let config = HiddenCosineConfig::new(STUDENT, TEACHER).with_norm(norm);
        Some(run(case, device, &config.init().expect("two names")))
    };
    match (loss, case.variant.as_str()) {
        ("hidden_mse", "mean_over_selected_elements") => {
            let hint = HintConfig::new(STUDENT, TEACHER).init();
            Some(run(case, device, &hint.expect("two names")))
        }
        ("cosine_hidden", "mean_over_selected_tokens") => cosine(CosineNorm::Added),
        ("cosine_hidden", "distillkit_hs_cosine") => cosine(CosineNorm::Clamped),
        ("pkd", "normalized_cls_mse") => {
            let patient = PatientKdConfig::new(STUDENT, TEACHER).init();
            Some(run(case, device, &patient.expect("two names")))
        }
        ("crd", "nce_memory") => Some(contrast(case, device)),
        _ => None,
    }
}

/// A loss on one feature of each side.
fn run(case: &Case, device: &Device, loss: &dyn Loss) -> Outcome {
    let mut leaves = Leaves::new(case, device);
    let student: Feature = match case.shape(STUDENT).len() {
        2 => leaves.tensor::<2>(STUDENT).into(),
        _ => leaves.tensor::<3>(STUDENT).into(),
    };
    let teacher: Feature = match case.shape(TEACHER).len() {
        2 => case.constant::<2>(TEACHER, device).into(),
        _ => case.constant::<3>(TEACHER, device).into(),
    };
    let mask = case.mask(device);
    let shape = case.shape(STUDENT);
    let rows = shape[..shape.len() - 1].iter().product();
    let outputs = |name, feature| {
        Outputs::new(Tensor::<2>::zeros([rows, 2], device)).with_feature(name, feature)
    };
    let (student, teacher) = (outputs(STUDENT, student), outputs(TEACHER, teacher));
    let mut context = LossContext::new(&student, &teacher);
    if let Some(mask) = &mask {
        context = context.with_mask(mask);
    }
    loss.check(&context).expect("a case that fits its loss");
    leaves.outcome(loss.forward(&context))
}

fn contrast(case: &Case, device: &Device) -> Outcome {
    let mut leaves = Leaves::new(case, device);
    let student = leaves.tensor::<2>("student_features");
    let teacher = case.constant::<2>("teacher_features", device);
    let mut memory = CrdMemory::new(
        case.constant("memory_student", device),
        case.constant("memory_teacher", device),
    );
    // Z is given, or estimated from the batch.
    if case.params["z_student"].is_number() {
        let z = [case.number("z_student"), case.number("z_teacher")].map(f64::ln);
        memory = memory.with_normalisers(Tensor::from_floats(z, device));
    }
    let shape: [usize; 2] = case.shape("indices").try_into().expect("two axes");
    let candidates = case.classes("indices", device).reshape(shape);
    let own = candidates.clone().narrow(1, 0, 1).into_data();
    let own: Vec<usize> = own.iter::<i64>().map(|index| index as usize).collect();

    let temperature = case.number("nce_t");
    let loss = crd(
        student.clone(),
        teacher.clone(),
        &memory,
        candidates,
        temperature,
    );
    let updated = memory.updated(&own, student, teacher, case.number("momentum"));
    let outcome = leaves.outcome(loss);
    outcome
        .with("updated_memory_student", updated.student)
        .with("updated_memory_teacher", updated.teacher)
}
