//! An objective in a config file, TOML or JSON.

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::files::read_regular;
use crate::loss::known::KnownLoss;
use crate::loss::term::Term;
use crate::objective::Objective;
use crate::objective::classes::ClassPolicy;
use crate::schedule::Schedule;

/// The fields of a file.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Objective", deny_unknown_fields)]
struct File {
    #[serde(default)]
    classes: ClassPolicy,
    terms: Vec<FileTerm>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Term", deny_unknown_fields)]
struct FileTerm {
    loss: KnownLoss,
    #[serde(default = "one")]
    weight: Schedule,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    standardize: Option<Standardize>,
}

/// On or off, or the ε to do it with.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Standardize {
    Is(bool),
    Eps(f64),
}

fn one() -> Schedule {
    Schedule::from(1.0)
}

impl From<File> for Objective {
    fn from(file: File) -> Self {
        let empty = Self::new().with_class_policy(file.classes);
        file.terms
            .into_iter()
            .fold(empty, |sum, term| sum.with_term(term.into()))
    }
}

impl From<FileTerm> for Term {
    fn from(file: FileTerm) -> Self {
        let mut term = Self::shared(file.loss.into_loss()).weighted(file.weight);
        if let Some(name) = file.name {
            term = term.named(name);
        }
        if let Some(head) = file.head {
            term = term.on(head);
        }
        match file.standardize {
            Some(Standardize::Is(true)) => term.standardized(),
            Some(Standardize::Eps(eps)) => term.standardized_by(eps),
            Some(Standardize::Is(false)) | None => term,
        }
    }
}

impl TryFrom<&Term> for FileTerm {
    type Error = String;

    fn try_from(term: &Term) -> std::result::Result<Self, String> {
        let loss = KnownLoss::of(term.loss()).ok_or_else(|| {
            format!(
                "term {:?} is a loss from code, which a config file cannot hold",
                term.name()
            )
        })?;
        Ok(Self {
            loss,
            weight: term.weight().clone(),
            name: term.given_name().map(String::from),
            head: term.head().map(String::from),
            standardize: term.standardize().map(Standardize::Eps),
        })
    }
}

impl Serialize for Objective {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let terms: std::result::Result<_, _> =
            self.terms().iter().map(FileTerm::try_from).collect();
        File {
            classes: self.class_policy(),
            terms: terms.map_err(serde::ser::Error::custom)?,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Objective {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        File::deserialize(deserializer).map(Self::from)
    }
}

/// Config files. An objective is written to one through serde, if all of its losses are known by name.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `classes` | `error` | `error`, `truncate`, `pad` | what happens where teacher and student have different numbers of classes, a [`ClassPolicy`] |
/// | `terms` | required | at least one | the terms of the sum |
///
/// Each of the terms:
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `loss` | required | a [`KnownLoss`](crate::loss::KnownLoss) | what is compared |
/// | `weight` | 1 | at least 0, may follow a [`Schedule`] | its factor in the sum |
/// | `name` | the loss's | any text | its name in progress, reports and errors |
/// | `head` | the first | the name of a head | the head that the loss looks at |
/// | `standardize` | `false` | `true`, `false`, an ε | whether the loss sees z-scores, see [`standardize`](crate::loss::standardize) |
impl Objective {
    /// Reads an objective from TOML text. Ranges are checked by [`validate`](Self::validate), and so by
    /// a [`Distiller`](crate::Distiller).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the key and the line of what is wrong.
    ///
    /// # Example
    ///
    /// ```
    /// use burn_distill::Objective;
    ///
    /// let objective = Objective::from_toml(
    ///     r#"
    ///     [[terms]]
    ///     weight = 0.9
    ///     loss = { soft_target = { temperature = { cosine = { from = 8.0, to = 2.0 } } } }
    ///
    ///     [[terms]]
    ///     weight = 0.1
    ///     loss = { hard_label = { smoothing = 0.1 } }
    ///     "#,
    /// )?;
    /// assert_eq!(objective.terms().len(), 2);
    ///
    /// let error = Objective::from_json(r#"{"terms": [{"loss": {"hard_label": {"smooth": 1}}}]}"#);
    /// assert!(error.unwrap_err().to_string().contains("unknown field `smooth`"));
    /// # Ok::<(), burn_distill::Error>(())
    /// ```
    pub fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| config_error("TOML", error))
    }

    /// Reads an objective from JSON text.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the key and the line of what is wrong.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| config_error("JSON", error))
    }

    /// Reads an objective from a file whose name ends in `.toml` or `.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read, [`Error::Config`] with its name if it has another
    /// ending or cannot be understood.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = read_regular(path, FILE_BYTES).map_err(|error| Error::io(path, error))?;
        let text = String::from_utf8(text).map_err(|error| Error::io(path, error))?;
        let read = match path.extension().and_then(|e| e.to_str()) {
            Some("toml") => Self::from_toml(&text),
            Some("json") => Self::from_json(&text),
            _ => Err(config_error("", "expected a file ending in .toml or .json")),
        };
        read.map_err(|error| match error {
            Error::Config { message, .. } => config_error(path.display(), message),
            other => other,
        })
    }
}

/// More than any objective has.
const FILE_BYTES: u64 = 1 << 28;
/// What a line of a message is cut to: parsers repeat the line that they cannot understand.
const LINE_CHARS: usize = 2000;

fn config_error(origin: impl std::fmt::Display, message: impl std::fmt::Display) -> Error {
    let message = message.to_string();
    let lines = message.trim_end().lines();
    let lines = lines.map(|line| match line.char_indices().nth(LINE_CHARS) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line.to_string(),
    });
    Error::Config {
        origin: origin.to_string(),
        message: lines.collect::<Vec<_>>().join("\n"),
    }
}

#[cfg(test)]
#[path = "tests/config.rs"]
mod tests;
