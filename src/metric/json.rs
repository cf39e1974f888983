//! Numbers in JSON, which has no word for what is not finite: it is written, and read, as `null`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Reads a number that may have been NaN.
pub(crate) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Reads lists of such numbers by name.
pub(crate) fn curves<'de, D>(from: D) -> Result<BTreeMap<String, Vec<f64>>, D::Error>
where
    D: Deserializer<'de>,
{
    let curves = BTreeMap::<String, Vec<Option<f64>>>::deserialize(from)?;
    let numbers = |curve: Vec<Option<f64>>| {
        let numbers = curve.into_iter().map(|number| number.unwrap_or(f64::NAN));
        numbers.collect()
    };
    let curves = curves.into_iter();
    Ok(curves.map(|(name, c)| (name, numbers(c))).collect())
}
