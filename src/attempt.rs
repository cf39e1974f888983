//! The code of a user, whose panics become errors with their text.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result};

/// Runs code on a batch of these samples of a set. Whatever a panic leaves half done is dropped with it.
pub(crate) fn attempt<R>(
    what: &'static str,
    samples: &[usize],
    run: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let outcome = catch_unwind(AssertUnwindSafe(run));
    outcome.unwrap_or_else(|panic| Err(panicked(panic.as_ref()).in_batch(what, samples)))
}

/// A panic as an error.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
    Error::Panic {
        message: panic_text(panic).unwrap_or("without a message".into()),
    }
}

/// The text of a panic, where it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> Option<String> {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.map(|text| text.trim().to_string())
}
