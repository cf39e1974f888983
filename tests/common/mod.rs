//! What the integration tests share.
#![allow(dead_code)] // No test uses all of it.

pub mod net;
#[cfg(feature = "flex")]
pub mod plain;

use std::sync::{Mutex, MutexGuard};

use burn::tensor::Device;

/// A device of every backend that is compiled in. Where there is no GPU adapter, the GPU is left
/// out with a word about it, or is a failure if `BURN_DISTILL_REQUIRE_GPU` is set.
pub fn devices() -> Vec<(&'static str, Device)> {
    let devices: [Option<_>; _] = [
        #[cfg(feature = "flex")]
        Some(("flex", Device::flex())),
        #[cfg(feature = "ndarray")]
        Some(("ndarray", ndarray())),
        #[cfg(feature = "wgpu")]
        gpu().map(|device| ("wgpu", device)),
    ];
    devices.into_iter().flatten().collect()
}

/// Burn announces the end of this backend; as long as it ships it, it is tested.
#[cfg(feature = "ndarray")]
#[allow(deprecated)]
pub fn ndarray() -> Device {
    Device::ndarray()
}

/// The default GPU, if there is one.
#[cfg(feature = "wgpu")]
pub fn gpu() -> Option<Device> {
    let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
    match burn_distill::check_device(&device) {
        Ok(()) => Some(device),
        Err(error) => {
            let required = std::env::var_os("BURN_DISTILL_REQUIRE_GPU").is_some();
            assert!(!required, "{error}");
            eprintln!("skipping the GPU: {error}");
            None
        }
    }
}

/// Keeps other tests from drawing from a device's generator of random numbers, of which a process has one
/// for each device. A test that seeds it, draws weights, or trains holds this while it does so.
pub fn seeded() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    // A test that failed left nothing behind that another one needs.
    GENERATOR
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
