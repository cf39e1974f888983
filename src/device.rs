//! Whether a device is there, asked before anything is moved to it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Mutex;

use burn::tensor::{Device, Tensor};

use crate::attempt::panic_text;
use crate::error::{Error, Result};

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
    let plain = device.clone().inner();
    let outcome = quietly(|| {
        let two = Tensor::<1>::ones([1], &plain) + 1.0;
        two.try_into_scalar::<f32>().map_err(|e| e.to_string())
    });
    match outcome.and_then(|value| value) {
        Ok(_) => Ok(()),
        Err(reason) => Err(Error::DeviceUnavailable {
            device: format!("{device:?}"),
            reason,
        }),
    }
}

/// Runs what needs a device besides the training's own. Burn panics, or stops the training, where a
/// device no longer answers; if that one does not, this is the error.
pub(crate) fn attended<R>(device: Option<&Device>, run: impl FnOnce() -> Result<R>) -> Result<R> {
    let Some(device) = device else {
        return run();
    };
    // What a panic left half done is dropped with it.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Err(error)) if may_be_of_a_device(error.reason()) => match check_device(device) {
            Ok(()) => Err(error),
            Err(gone) => Err(error.because(gone)),
        },
        Ok(outcome) => outcome,
        Err(panic) => {
            check_device(device)?;
            resume_unwind(panic)
        }
    }
}

/// Whether an error may be the panic of a device that went.
fn may_be_of_a_device(error: &Error) -> bool {
    match error {
        Error::Training(_) | Error::Panic { .. } => true,
        Error::Batch { error, .. } => may_be_of_a_device(error),
        _ => false,
    }
}

/// Runs what may panic in a driver, and gives the panic's message instead of printing it.
pub(crate) fn quietly<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    // The panic hook belongs to the whole process: one at a time, and the shortest possible.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());

    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    // Whatever the driver left half done is not used after a panic.
    let outcome = catch_unwind(AssertUnwindSafe(run));
    set_hook(hook);
    outcome.map_err(|panic| {
        panic_text(panic.as_ref()).unwrap_or("its driver failed without a message".into())
    })
}
