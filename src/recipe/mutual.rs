//! Deep mutual learning: peers without a teacher.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::dataset::DistillData;
use crate::data::distillable::Distillable;
use crate::data::outputs::{LOGITS, Outputs};
use crate::data::targets::TargetKind;
use crate::error::{Error, Result};
use crate::loss::context::LossContext;
use crate::loss::logits::hard_label::HardLabel;
use crate::loss::logits::soft_target::SoftTarget;
use crate::loss::loss::{Loss, Needs};
use crate::objective::Objective;
use crate::objective::classes::ClassPolicy;
use crate::report::measure::measure_pair;
use crate::report::model::ModelReport;
use crate::supervised::train_model;
use crate::train::config::FitConfig;
use crate::train::summary::TrainingSummary;

/// How peers teach each other: the parameters of [`mutual_learning`].
///
/// ```text
/// L = Σ_k [ w_label · CE(y, z_k) + w_peer · 1/(K−1) Σ_{j≠k} τ² · KL( p_j ‖ p_k ) ]
///
/// z_k, p_k   logits and softened probabilities of peer k of K; p_j is a constant for peer k
/// ```
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 1 | greater than 0 | of the divergence between peers; the paper has none |
/// | `label_weight` | 1 | at least 0 | `w_label`; at 0 no labels are needed |
/// | `peer_weight` | 1 | at least 0 | `w_peer` |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Mutual {
    /// Of the divergence between peers.
    pub temperature: f64,
    /// The weight of the labels.
    pub label_weight: f64,
    /// The weight of the other peers.
    pub peer_weight: f64,
}

impl Default for Mutual {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            label_weight: 1.0,
            peer_weight: 1.0,
        }
    }
}

impl Mutual {
    /// The paper's.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the temperature of the divergence between peers.
    #[must_use]
    pub fn with_temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets the weights of labels and of the other peers.
    #[must_use]
    pub fn with_weights(mut self, label: f64, peer: f64) -> Self {
        self.label_weight = label;
        self.peer_weight = peer;
        self
    }
}

/// Networks of one type that learn together; as a module, their mean prediction.
#[derive(Module, Debug)]
struct Peers<S: Module + ModuleDisplay> {
    peers: Vec<S>,
}

/// The head of one peer.
fn peer(k: usize) -> String {
    format!("peer {k}")
}

impl<I: Clone + 'static, S: Distillable<I>> Distillable<I> for Peers<S> {
    /// The mean prediction, and a head for each peer.
    fn outputs(&self, input: I) -> Outputs {
        let peers = self.peers.iter();
        let all: Vec<Tensor<2>> = peers.map(|p| p.outputs(input.clone()).logits()).collect();
        let probabilities = all.iter().map(|z| softmax(z.clone(), 1));
        let sum = probabilities.reduce(|sum, p| sum + p);
        let mean = sum.expect("mutual learning has peers") / all.len() as f64;
        let mean = mean.clamp_min(f32::MIN_POSITIVE).log();
        let mean = Outputs::features_only().with_head(LOGITS, mean);
        (0..)
            .zip(all)
            .fold(mean, |outputs, (k, z)| outputs.with_head(peer(k), z))
    }
}

/// The sum over all peers. Each compares with constants of the others, and so needs both as outputs of
/// their own.
#[derive(Debug)]
struct MutualLoss(Mutual);

impl MutualLoss {
    /// The logits of each peer as outputs of their own.
    fn peers(context: &LossContext<'_>) -> Vec<Outputs> {
        let heads = (0..).map_while(|k| context.student.head(&peer(k)));
        heads.map(|head| Outputs::new(head.tensor())).collect()
    }
}

impl Loss for MutualLoss {
    fn name(&self) -> String {
        "mutual".into()
    }

    fn needs(&self) -> Needs {
        match self.0.label_weight > 0.0 {
            true => Needs::nothing().with_target(TargetKind::Class),
            false => Needs::nothing(),
        }
    }

    fn validate(&self) -> Result<()> {
        for (name, weight) in [
            ("mutual.label_weight", self.0.label_weight),
            ("mutual.peer_weight", self.0.peer_weight),
        ] {
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(Error::invalid(name, weight, "a number of at least 0"));
            }
        }
        SoftTarget::new(self.0.temperature).validate()
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let peers = Self::peers(context);
        let hard = HardLabel::new();
        let soft = SoftTarget::new(self.0.temperature);
        let others = (peers.len() - 1).max(1) as f64;
        let constants: Vec<Outputs> = peers
            .iter()
            .cloned()
            .map(Outputs::without_autodiff)
            .collect();
        let mut terms = Vec::new();
        for (k, student) in peers.iter().enumerate() {
            let alone = LossContext {
                student,
                ..context.clone()
            };
            if self.0.label_weight > 0.0 {
                terms.push(hard.forward(&alone) * self.0.label_weight);
            }
            for (_, teacher) in constants.iter().enumerate().filter(|(j, _)| *j != k) {
                let taught = LossContext {
                    teacher: Some(teacher),
                    ..alone.clone()
                };
                terms.push(soft.forward(&taught) * (self.0.peer_weight / others));
            }
        }
        let sum = terms.into_iter().reduce(|sum, term| sum + term);
        sum.unwrap_or_else(|| peers[0].logits().sum() * 0.0)
    }
}

/// Deep mutual learning: networks without a teacher that teach each other while they learn. Hands back the
/// peers, in inference mode, each with what was measured of it, and how they were trained.
///
/// Each peer learns from the labels and from the others' predictions, which are constants to it; the
/// optimizer keeps a state of its own for every parameter, hence for every peer. Peers of different
/// types are variants of one enum that derives `Module`.
///
/// # Errors
///
/// [`Error::InvalidParameter`] for fewer than two peers or a value out of range; otherwise as for
/// [`Distiller::fit`](crate::Distiller::fit).
///
/// # References
///
/// Zhang et al.: Deep Mutual Learning, 2018, arXiv:1706.00384.
#[allow(clippy::type_complexity)] // Peers with their reports, and the training.
pub fn mutual_learning<I, S>(
    device: Device,
    peers: Vec<S>,
    mutual: &Mutual,
    config: &FitConfig,
    train: DistillData<I>,
    valid: impl Into<Option<DistillData<I>>>,
) -> Result<(Vec<(S, ModelReport)>, TrainingSummary)>
where
    I: Module + 'static,
    S: Distillable<I>,
{
    if peers.len() < 2 {
        return Err(Error::invalid("mutual.peers", peers.len(), "at least 2"));
    }
    let valid = valid.into();
    let objective = Objective::new().with(MutualLoss(mutual.clone()), 1.0);
    let peers = Peers { peers };
    let trained = train_model(&device, peers, objective, config, &train, valid.as_ref());
    let (peers, mut training) =
        trained.map_err(|error| error.map_student(|peers: Peers<S>| peers.peers))?;
    let data = valid.as_ref().unwrap_or(&train);
    let measured = (0..).zip(peers.peers).map(|(k, model)| {
        let (size, policy) = (config.batch_size, ClassPolicy::default());
        let pair = measure_pair(&model, None, false, policy, data, size, &device);
        let report = pair.map(|pair| pair.student).unwrap_or_else(|error| {
            let note = format!("{} is not measured: {error}", peer(k));
            training.notes.push(note);
            ModelReport::default()
        });
        (model, report)
    });
    Ok((measured.collect(), training))
}
