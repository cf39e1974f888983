//! The backend by name.

use std::error::Error;
use std::fmt;

use burn::tensor::Device;

/// A backend that this build may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BackendName {
    /// CPU, Burn's own.
    Flex,
    /// CPU, the older one.
    Ndarray,
    /// GPU through Vulkan, Metal or WebGPU.
    Wgpu,
}

impl BackendName {
    /// The default device of the backend, once it has answered.
    pub fn device(self) -> Result<Device, Box<dyn Error>> {
        let device = match self {
            #[cfg(feature = "flex")]
            Self::Flex => Device::flex(),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)] // Offered as long as Burn ships it.
            Self::Ndarray => Device::ndarray(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
            #[allow(unreachable_patterns)] // Which names are left depends on the features.
            missing => return Err(NotCompiled(missing).into()),
        };
        burn_distill::check_device(&device)?;
        Ok(device)
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flex => "flex",
            Self::Ndarray => "ndarray",
            Self::Wgpu => "wgpu",
        })
    }
}

/// The backend was not compiled in.
#[derive(Debug, thiserror::Error)]
#[error("this build has no {0} backend: add `--features {0}` to the cargo command")]
pub struct NotCompiled(pub BackendName);
