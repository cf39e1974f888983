//! CREPE's logits for a few sounds, as PyTorch computes them.

use std::error::Error;

use burn::tensor::Device;
use burn_distill::Distillable;
use serde::Deserialize;

use crate::model::Crepe;
use crate::sounds::{self, Frame, Partial};

/// What `fixture.py` wrote: sounds, and the logits of both networks for each.
#[derive(Debug, Deserialize)]
pub struct Fixture {
    sounds: Vec<Sound>,
    pub full: Vec<Vec<f32>>,
    pub tiny: Vec<Vec<f32>>,
}

#[derive(Debug, Deserialize)]
struct Sound {
    partials: Vec<Partial>,
}

impl Fixture {
    pub fn read() -> Result<Self, Box<dyn Error>> {
        Ok(serde_json::from_str(include_str!("fixture.json"))?)
    }

    /// Prints how far a network's logits are from PyTorch's; an error where they are not the same.
    pub fn check(
        &self,
        name: &str,
        network: &Crepe,
        known: &[Vec<f32>],
        device: &Device,
    ) -> Result<(), Box<dyn Error>> {
        let frame = |sound: &Sound| Frame {
            samples: sounds::normalised(&sounds::sum(&sound.partials)),
            pitch: None,
        };
        let frames: Vec<Frame> = self.sounds.iter().map(frame).collect();
        let outputs = network.outputs(sounds::batch(&frames, device));
        let ours: Vec<f32> = outputs.logits().into_data().iter().collect();
        let known = known.concat();
        let differences = ours.iter().zip(&known).map(|(a, b)| (a - b).abs());
        let largest = differences.fold(0.0, f32::max);
        // The fixture has four digits after the point.
        if ours.len() != known.len() || largest > 2e-3 {
            return Err(
                format!("{name}: the import is not exact, logits differ by {largest}").into(),
            );
        }
        println!(
            "{name}: logits of {} sounds differ from PyTorch's by at most {largest:.1e}",
            frames.len()
        );
        Ok(())
    }
}
