use burn::backend::Backend;
use burn::module::{Module, ModuleDisplay};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::dataset::DistillData;
use crate::data::outputs::{Distillable, Feature, Outputs};
use crate::distiller::train_alone;
use crate::error::{Error, Result};
use crate::loss::logits::hard_label::HardLabelConfig;
use crate::loss::logits::soft_target::SoftTargetConfig;
use crate::loss::{Loss, LossContext};
use crate::objective::Objective;
use crate::report::{ModelReport, TrainingSummary};
use crate::train::config::FitConfig;

/// How peers teach each other.
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
pub struct MutualConfig {
    /// Of the divergence between peers.
    pub temperature: f64,
    /// How much labels count.
    pub label_weight: f64,
    /// How much the other peers count.
    pub peer_weight: f64,
}

impl Default for MutualConfig {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            label_weight: 1.0,
            peer_weight: 1.0,
        }
    }
}

impl MutualConfig {
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

    /// Sets how much labels and how much the other peers count.
    #[must_use]
    pub fn with_weights(mut self, label: f64, peer: f64) -> Self {
        self.label_weight = label;
        self.peer_weight = peer;
        self
    }

    fn init(&self) -> Result<MutualLoss> {
        for (name, weight) in [
            ("mutual.label_weight", self.label_weight),
            ("mutual.peer_weight", self.peer_weight),
        ] {
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(Error::invalid(name, weight, "a number of at least 0"));
            }
        }
        SoftTargetConfig::new(self.temperature).init()?;
        Ok(MutualLoss(self.clone()))
    }
}

/// Networks of one type that learn together; as a module, their mean answer.
#[derive(Module, Debug)]
pub struct Peers<S: Module + ModuleDisplay> {
    peers: Vec<S>,
}

impl<S: Module + ModuleDisplay> Peers<S> {
    /// The peers.
    pub fn into_inner(self) -> Vec<S> {
        self.peers
    }
}

fn peer(k: usize) -> String {
    format!("peer {k}")
}

impl<I: Clone, S: Distillable<I>> Distillable<I> for Peers<S> {
    fn outputs(&self, input: I) -> Outputs {
        let logits: Vec<Tensor<2>> = self
            .peers
            .iter()
            .map(|p| p.outputs(input.clone()).logits)
            .collect();
        let probabilities = logits.iter().map(|z| softmax(z.clone(), 1));
        let sum = probabilities.reduce(|sum, p| sum + p);
        let mean = sum.expect("mutual learning has peers") / logits.len() as f64;
        let mean = mean.clamp_min(f32::MIN_POSITIVE).log();
        let outputs = Outputs::new(mean);
        (0..)
            .zip(logits)
            .fold(outputs, |outputs, (k, z)| outputs.with_feature(peer(k), z))
    }
}

/// The sum over all peers.
#[derive(Debug)]
struct MutualLoss(MutualConfig);

impl MutualLoss {
    /// The logits of each peer as outputs of their own.
    fn peers(&self, context: &LossContext<'_>) -> Vec<Outputs> {
        let features = (0..).map_while(|k| context.student.feature(&peer(k)));
        let logits = features.map(|feature| match feature {
            Feature::Rank2(logits) => Outputs::new(logits.clone()),
            other => unreachable!("peers give logits, not {:?}", other.shape()),
        });
        logits.collect()
    }
}

impl Loss for MutualLoss {
    fn name(&self) -> String {
        "mutual".into()
    }

    fn needs_teacher(&self) -> bool {
        false
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        if self.0.label_weight > 0.0 {
            HardLabelConfig::new().init()?.check(context)?;
        }
        Ok(())
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let peers = self.peers(context);
        let hard = HardLabelConfig::new().init().expect("valid defaults");
        let soft = SoftTargetConfig::new(self.0.temperature).init();
        let soft = soft.expect("checked beforehand");
        let others = (peers.len() - 1).max(1) as f64;
        let mut terms = Vec::new();
        for (k, student) in peers.iter().enumerate() {
            let alone = LossContext {
                student,
                ..context.clone()
            };
            if self.0.label_weight > 0.0 {
                terms.push(hard.forward(&alone) * self.0.label_weight);
            }
            for teacher in peers
                .iter()
                .enumerate()
                .filter(|(j, _)| *j != k)
                .map(|(_, p)| p)
            {
                let taught = LossContext {
                    teacher: Some(teacher),
                    ..alone.clone()
                };
                terms.push(soft.forward(&taught) * (self.0.peer_weight / others));
            }
        }
        let sum = terms.into_iter().reduce(|sum, term| sum + term);
        sum.unwrap_or_else(|| peers[0].logits.clone().sum() * 0.0)
    }
}

/// What [`mutual_learning`] hands back.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Mutual<S> {
    /// The peers, in inference mode, each with what was measured of it.
    pub peers: Vec<(S, ModelReport)>,
    /// How they were trained.
    pub training: TrainingSummary,
}

/// Deep mutual learning: networks without a teacher that teach each other while they learn.
///
/// Each peer learns from the labels and from the others' answers, which are constants to it; the
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
pub fn mutual_learning<B, I, S>(
    device: B::Device,
    peers: Vec<S>,
    mutual: &MutualConfig,
    config: &FitConfig,
    train: DistillData<I>,
    valid: impl Into<Option<DistillData<I>>>,
) -> Result<Mutual<S>>
where
    B: Backend,
    B::Device: Into<Device>,
    I: Module + 'static,
    S: Distillable<I>,
{
    if peers.len() < 2 {
        return Err(Error::invalid("mutual.peers", peers.len(), "at least 2"));
    }
    let (device, valid) = (device.into(), valid.into());
    let objective = Objective::new().with(mutual.init()?, 1.0)?;
    let peers = Peers { peers };
    let (peers, training) = train_alone(&device, peers, objective, config, &train, valid.as_ref())?;
    let data = valid.as_ref().unwrap_or(&train);
    let measured = peers.into_inner().into_iter().map(|peer| {
        let nobody = None::<&crate::teacher::frozen::Frozen<S>>;
        let report = crate::report::measure(&peer, nobody, data, config.batch_size, &device)?;
        Ok((peer, report))
    });
    Ok(Mutual {
        peers: measured.collect::<Result<_>>()?,
        training,
    })
}
