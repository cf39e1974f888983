//! Losses on the hidden states of sequences, and on embeddings of samples.

use burn::tensor::{Device, Tensor};
use burn_distill::loss::{CosineNorm, CrdMemory, HiddenCosine, Hint, PatientKd, crd};
use burn_distill::{Objective, Outputs};

use crate::case::{Case, Leaves, Outcome, value};
use crate::features::{constant, leaf};

const STUDENT: &str = "student_features_0";
const TEACHER: &str = "teacher_features_0";

pub fn compute(loss: &str, case: &Case, device: &Device) -> Option<Outcome> {
    let cosine = |norm| HiddenCosine::new(STUDENT, TEACHER).with_norm(norm);
    let objective = Objective::new();
    let objective = match (loss, case.variant.as_str()) {
        ("hidden_mse", "mean_over_selected_elements") => {
            objective.with(Hint::new(STUDENT, TEACHER), 1)
        }
        ("cosine_hidden", "mean_over_selected_tokens") => {
            objective.with(cosine(CosineNorm::Added), 1)
        }
        ("cosine_hidden", "distillkit_hs_cosine") => objective.with(cosine(CosineNorm::Clamped), 1),
        ("pkd", "normalized_cls_mse") => objective.with(PatientKd::new(STUDENT, TEACHER), 1),
        ("crd", "nce_memory") => return Some(contrast(case, device)),
        _ => return None,
    };
    let mut leaves = Leaves::new(case, device);
    let student = leaf(case, &mut leaves, STUDENT);
    let student = Outputs::features_only().with_feature(STUDENT, student);
    let teacher = constant(case, TEACHER, device);
    let teacher = Outputs::features_only().with_feature(TEACHER, teacher);
    let total = value(
        &objective,
        &student,
        &teacher,
        &case.targets(device),
        device,
    );
    Some(leaves.outcome(total))
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
    let outcome = leaves.outcome(loss.mean());
    outcome
        .with("updated_memory_student", updated.student)
        .with("updated_memory_teacher", updated.teacher)
}
