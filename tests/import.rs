//! Teachers that PyTorch trained: `examples/data/teacher` through Burn's stores, by the code of the
//! example.

#[path = "../examples/common/mod.rs"]
mod common;

use std::error::Error;
use std::path::PathBuf;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::Device;
use burn_distill::Distillable;
use common::digits;
use common::known::Known;
use common::torch_cnn::{TorchCnn, load_pytorch};
use safetensors::SafeTensors;

const CHANNELS: [usize; 2] = [8, 16];
const KINDS: [&str; 2] = ["pt", "safetensors"];

fn file(ending: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(format!("examples/data/teacher/digits_cnn{ending}"))
}

fn largest_difference(network: &TorchCnn) -> Result<f32, Box<dyn Error>> {
    Known::read()?.largest_difference(network, &Device::flex())
}

#[test]
fn both_kinds_of_file_give_pytorchs_logits() {
    let network = || TorchCnn::new(CHANNELS, &Device::flex());
    // The control: the network without the weights says something else.
    let error = largest_difference(&network()).unwrap_err().to_string();
    assert!(error.starts_with("the import is not exact"), "{error}");
    for kind in KINDS {
        let loaded = network().with_weights(&file(&format!(".{kind}"))).unwrap();
        let difference = largest_difference(&loaded).unwrap();
        assert!(difference < 1e-4, "{kind}: {difference}");
    }
}

#[test]
fn a_file_of_another_shape_is_refused_with_both_shapes() {
    for kind in KINDS {
        let network = TorchCnn::new([8, 12], &Device::flex());
        let error = network
            .with_weights(&file(&format!(".{kind}")))
            .unwrap_err();
        let error = error.to_string();
        let (asked, found) = ("[12, 8, 3, 3]", "[16, 8, 3, 3]");
        for part in ["conv2.weight", asked, found] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(error.contains(&format!("digits_cnn.{kind}")), "{error}");
    }
}

#[test]
fn a_file_of_other_names_is_refused_with_those_of_both_sides() {
    #[derive(Module, Debug)]
    struct Other {
        head: Linear,
    }
    for kind in KINDS {
        let other = Other {
            head: LinearConfig::new(784, 10).init(&Device::flex()),
        };
        let error = load_pytorch(other, &file(&format!(".{kind}"))).unwrap_err();
        let error = error.to_string();
        // What the module asks for, and what the file has instead.
        for name in ["head.weight", "head.bias", "fc.weight", "bn1.bias"] {
            assert!(error.contains(name), "{name}: {error}");
        }
    }
}

#[test]
fn a_file_that_lacks_a_tensor_is_refused() {
    let bytes = std::fs::read(file(".safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let left = tensors.iter().filter(|(name, _)| *name != "fc.bias");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("without_bias.safetensors");
    safetensors::serialize_to_file(left, None, &path).unwrap();

    let error = TorchCnn::new(CHANNELS, &Device::flex()).with_weights(&path);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("Missing in source:    1 tensors"), "{error}");
    assert!(error.contains("• fc.bias"), "{error}");

    let error = TorchCnn::new(CHANNELS, &Device::flex()).with_weights(&file(".pth"));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("digits_cnn.pth"), "{error}");
}

/// Why `load_pytorch` has an adapter for one kind of file.
#[test]
fn safetensors_alone_do_not_say_that_they_are_pytorchs() {
    let mut network = TorchCnn::new(CHANNELS, &Device::flex());
    let error = network
        .load_from(&mut SafetensorsStore::from_file(file(".safetensors")))
        .unwrap_err();
    assert!(error.to_string().contains("fc.weight"), "{error}");
}

/// The teachers' logits are what a training sees, whatever device it moves them to.
#[test]
fn an_imported_teacher_is_in_inference_mode() {
    let loaded = TorchCnn::new(CHANNELS, &Device::flex().autodiff())
        .with_weights(&file(".pt"))
        .unwrap();
    let images = digits::flat_images(&digits::test().unwrap()[..16], &Device::flex());
    let plain = loaded.valid().outputs(images).logits();
    assert!(!plain.is_autodiff());
    assert!(largest_difference(&loaded).is_ok());
}
