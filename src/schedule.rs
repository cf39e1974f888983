//! A weight, a temperature or a learning rate as a function of training progress.

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result, check};

/// A number that may change while training runs.
///
/// Progress `p` is the share of optimizer steps done, `0` at the first step and just below `1` at
/// the last. In a config file a plain number is a constant.
///
/// ```text
/// Constant(v)                       v
/// Linear { from, to }               from + (to − from) · p
/// Cosine { from, to }               to + (from − to) · (1 + cos πp) / 2
/// WarmUp { over, then }             then(p) · min(1, p / over)
/// ```
///
/// | variant | field | range | meaning |
/// |---|---|---|---|
/// | `Linear`, `Cosine` | `from`, `to` | finite | value at the start and at the end |
/// | `WarmUp` | `over` | (0, 1] | share of the training in which the value rises from 0 |
/// | `WarmUp` | `then` | a schedule | what is warmed up |
///
/// # Example
///
/// ```
/// use burn_distill::Schedule;
///
/// let schedule = Schedule::cosine(8.0, 1.0);
/// assert_eq!(schedule.at(0.0), 8.0);
/// assert_eq!(schedule.at(0.5), 4.5);
/// assert_eq!(Schedule::from(4.0).warm_up(0.5).at(0.25), 2.0);
/// ```
///
/// # References
///
/// Cosine annealing: Loshchilov, Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts,
/// 2016, arXiv:1608.03983.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Schedule(Form);

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Form {
    Constant(f64),
    Changing(Box<Changing>),
}

/// The schedules that change with progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Changing {
    /// A straight line.
    Linear {
        /// The value at the start.
        from: f64,
        /// The value at the end.
        to: f64,
    },
    /// Half a cosine wave: slow at both ends.
    Cosine {
        /// The value at the start.
        from: f64,
        /// The value at the end.
        to: f64,
    },
    /// Rises from zero, then follows another schedule.
    WarmUp {
        /// The share of the training in which the value rises.
        over: f64,
        /// The schedule that is warmed up.
        then: Schedule,
    },
}

impl Schedule {
    fn changing(changing: Changing) -> Self {
        Self(Form::Changing(Box::new(changing)))
    }

    /// A straight line from one value to another.
    pub fn linear(from: f64, to: f64) -> Self {
        Self::changing(Changing::Linear { from, to })
    }

    /// Half a cosine wave from one value to another.
    pub fn cosine(from: f64, to: f64) -> Self {
        Self::changing(Changing::Cosine { from, to })
    }

    /// The same schedule, rising from zero over the first part of the training, a share in (0, 1].
    #[must_use]
    pub fn warm_up(self, over: f64) -> Self {
        Self::changing(Changing::WarmUp { over, then: self })
    }

    /// The value at a progress from 0 to 1.
    pub fn at(&self, progress: f64) -> f64 {
        match &self.0 {
            Form::Constant(value) => *value,
            Form::Changing(changing) => match changing.as_ref() {
                Changing::Linear { from, to } => from + (to - from) * progress,
                Changing::Cosine { from, to } => {
                    to + (from - to) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
                }
                Changing::WarmUp { over, then } => then.at(progress) * (progress / over).min(1.0),
            },
        }
    }

    /// Checks every value the schedule can take against a range.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] with the name given, if a value the schedule passes through is
    /// not finite or not `allowed`, or if a warm-up is not in (0, 1].
    pub fn check(
        &self,
        name: &str,
        allowed: impl Fn(f64) -> bool + Copy,
        expected: &'static str,
    ) -> Result<()> {
        let value = |v: f64| check(name, v, v.is_finite() && allowed(v), expected);
        match &self.0 {
            Form::Constant(v) => value(*v),
            // Both ends bound a monotone curve, and all ranges here are intervals.
            Form::Changing(changing) => match changing.as_ref() {
                Changing::Linear { from, to } | Changing::Cosine { from, to } => {
                    value(*from)?;
                    value(*to)
                }
                Changing::WarmUp { over, then } => {
                    if !(*over > 0.0 && *over <= 1.0) {
                        return Err(Error::invalid(
                            format!("{name}.warm_up.over"),
                            over,
                            "a share of the training in (0, 1]",
                        ));
                    }
                    value(0.0)?;
                    then.check(name, allowed, expected)
                }
            },
        }
    }
}

impl Schedule {
    /// The value, where it is the same all the time.
    pub(crate) fn constant(&self) -> Option<f64> {
        match &self.0 {
            Form::Constant(value) => Some(*value),
            Form::Changing(_) => None,
        }
    }

    /// Fails unless the value is greater than 0 all the time.
    pub(crate) fn check_positive(&self, name: &str) -> Result<()> {
        self.check(name, |value| value > 0.0, "a number greater than 0")
    }
}

/// Numbers of these types are constants.
macro_rules! constants {
    ($($number:ty),*) => {
        $(
            impl From<$number> for Schedule {
                fn from(value: $number) -> Self {
                    Self(Form::Constant(value as f64))
                }
            }
        )*
    };
}

constants!(f64, f32, i32, u32, i64, usize);

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Form::Constant(v) => write!(f, "{v}"),
            Form::Changing(c) => match c.as_ref() {
                Changing::Linear { from, to } => write!(f, "linear {from} to {to}"),
                Changing::Cosine { from, to } => write!(f, "cosine {from} to {to}"),
                Changing::WarmUp { over, then } => write!(f, "{then}, warm-up {over}"),
            },
        }
    }
}

/// By hand, because an untagged enum would answer a wrong key with "no variant matched".
impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct NumberOrTable;

        impl<'de> Visitor<'de> for NumberOrTable {
            type Value = Schedule;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number, or a table with one of linear, cosine, warm_up")
            }

            fn visit_f64<E>(self, value: f64) -> std::result::Result<Schedule, E> {
                Ok(Schedule::from(value))
            }

            fn visit_i64<E>(self, value: i64) -> std::result::Result<Schedule, E> {
                Ok(Schedule::from(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> std::result::Result<Schedule, E> {
                Ok(Schedule::from(value as f64))
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                map: A,
            ) -> std::result::Result<Schedule, A::Error> {
                let changing = Changing::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Schedule::changing(changing))
            }
        }

        deserializer.deserialize_any(NumberOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_at_the_ends_and_in_the_middle() {
        // By hand from the formulas above.
        assert_eq!(Schedule::linear(2.0, 6.0).at(0.25), 3.0);
        assert_eq!(Schedule::cosine(8.0, 0.0).at(0.0), 8.0);
        assert!((Schedule::cosine(8.0, 0.0).at(0.5) - 4.0).abs() < 1e-12);
        assert!(Schedule::cosine(8.0, 0.0).at(1.0).abs() < 1e-12);
        let warm = Schedule::linear(4.0, 2.0).warm_up(0.5);
        assert_eq!(warm.at(0.0), 0.0);
        assert_eq!(warm.at(0.25), 3.5 * 0.5);
        assert_eq!(warm.at(1.0), 2.0);
    }

    #[test]
    fn round_trips_through_json_and_toml() {
        for schedule in [
            Schedule::from(4.0),
            Schedule::linear(1.0, 2.0),
            Schedule::cosine(8.0, 1.0).warm_up(0.1),
        ] {
            let json = serde_json::to_string(&schedule).unwrap();
            assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule);
        }
        let written: Schedule = serde_json::from_str(r#"{"cosine":{"from":8,"to":1.5}}"#).unwrap();
        assert_eq!(written, Schedule::cosine(8.0, 1.5));
        assert_eq!(serde_json::from_str::<Schedule>("3").unwrap().at(0.0), 3.0);
    }

    #[test]
    fn a_wrong_key_is_named() {
        let error = serde_json::from_str::<Schedule>(r#"{"linear":{"from":1,"too":2}}"#);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("unknown field `too`"), "{text}");
        let error = serde_json::from_str::<Schedule>(r#"{"quadratic":{"from":1}}"#);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("unknown variant `quadratic`"), "{text}");
    }

    #[test]
    fn ranges_are_checked_at_both_ends() {
        let positive = |v: f64| v > 0.0;
        let check = |s: Schedule| {
            s.check("temperature", positive, "greater than 0")
                .map_err(|e| e.to_string())
        };
        assert_eq!(check(Schedule::linear(4.0, 1.0)), Ok(()));
        assert_eq!(
            check(Schedule::linear(4.0, 0.0)),
            Err("temperature is 0, expected greater than 0".into())
        );
        assert_eq!(
            check(f64::NAN.into()),
            Err("temperature is NaN, expected greater than 0".into())
        );
        let over = Schedule::from(1.0).warm_up(1.5);
        assert_eq!(
            over.check("weight", |v| v >= 0.0, "at least 0")
                .unwrap_err()
                .to_string(),
            "weight.warm_up.over is 1.5, expected a share of the training in (0, 1]"
        );
    }
}
