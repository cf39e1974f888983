//! Whether a device is there, asked before anything is moved to it.

use std::panic::{catch_unwind, set_hook, take_hook};
use std::sync::Mutex;

use burn::tensor::{Device, Tensor};

use crate::{Error, Result};

/// Runs one tiny operation on a device.
///
/// Backends open their hardware on first use, and one that finds none, or finds no driver, panics.
/// Ask here first, and a missing GPU is an error that can be shown to a person.
/// [`Distiller`](crate::Distiller) does so before it moves a model.
///
/// # Errors
///
/// [`Error::DeviceUnavailable`] with what the backend says.
///
/// # Example
///
/// ```
/// use burn::tensor::Device;
///
/// assert!(burn_distill::check_device(&Device::flex()).is_ok());
/// ```
pub fn check_device(device: &Device) -> Result<()> {
    // The panic hook belongs to the whole process: one check at a time, and the shortest possible.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());

    let plain = device.clone().inner();
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(|| {
        let two = Tensor::<1>::ones([1], &plain) + 1.0;
        two.try_into_scalar::<f32>().map_err(|e| e.to_string())
    });
    set_hook(hook);

    let reason = match outcome {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(reason)) => reason,
        Err(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))
            .unwrap_or_else(|| "its driver failed without a message".into()),
    };
    Err(Error::DeviceUnavailable {
        device: format!("{device:?}"),
        reason: reason.trim().to_string(),
    })
}
