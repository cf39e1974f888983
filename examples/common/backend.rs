//! The backend by name.

use std::fmt;

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

/// Calls a function that is generic over the backend with the backend's default device.
#[macro_export]
macro_rules! on_backend {
    ($name:expr, $run:ident, $args:expr) => {{
        use $crate::common::backend::{BackendName, NotCompiled};
        match $name {
            #[cfg(feature = "flex")]
            BackendName::Flex => $run::<burn::backend::Flex>(Default::default(), $args),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)] // Offered as long as Burn ships it.
            BackendName::Ndarray => $run::<burn::backend::NdArray>(Default::default(), $args),
            #[cfg(feature = "wgpu")]
            BackendName::Wgpu => $run::<burn::backend::Wgpu>(Default::default(), $args),
            #[allow(unreachable_patterns)] // Which names are left depends on the features.
            missing => Err(NotCompiled(missing).into()),
        }
    }};
}
