//! Copying a teacher's parameters into a student before it is distilled.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::store::ModuleSnapshot;
use burn::store::burn_pack::Tensor as Packed;

use crate::error::{Error, Result};

/// Which parameters a student takes over from its teacher.
///
/// A student that starts from its teacher's weights, such as every second layer of it, learns
/// faster than one that starts from chance. Parameters are named by their path in the module, as in
/// a saved file: `blocks.0.linear.weight`. Running statistics move with them.
///
/// | rule | a student's parameter takes |
/// |---|---|
/// | [`whole`](Self::whole) | the teacher's of the same path; all of them must match |
/// | [`matching`](Self::matching) | the teacher's of the same path, where there is one of its shape |
/// | [`layers`](Self::layers) | the teacher's of the path that the map leads to |
///
/// # Example
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// use burn_distill::Transfer;
///
/// #[derive(Module, Debug)]
/// struct Stack {
///     blocks: Vec<Linear>,
/// }
/// let stack = |n| Stack {
///     blocks: (0..n).map(|_| LinearConfig::new(8, 8).init(&Device::flex())).collect(),
/// };
///
/// // Every second block.
/// let transfer = Transfer::layers([("blocks.0", "blocks.0"), ("blocks.2", "blocks.1")]).strict();
/// let (student, summary) = transfer.apply(&stack(4), stack(2))?;
/// assert_eq!(summary.copied.len(), 4);
/// assert_eq!(student.num_params(), 144);
/// # Ok::<(), burn_distill::Error>(())
/// ```
///
/// # References
///
/// Sanh et al.: DistilBERT, a distilled version of BERT, 2019, arXiv:1910.01108, section 3: one
/// layer out of two.
#[derive(Debug, Clone)]
pub struct Transfer {
    rule: Rule,
    strict: bool,
}

#[derive(Debug, Clone)]
enum Rule {
    SamePath,
    /// From a path of the teacher to one of the student.
    Layers(Vec<(String, String)>),
}

impl Transfer {
    /// Everything, into a student of the same shape: strict by nature.
    pub fn whole() -> Self {
        Self {
            rule: Rule::SamePath,
            strict: true,
        }
    }

    /// Whatever has the same path and shape on both sides.
    pub fn matching() -> Self {
        Self {
            rule: Rule::SamePath,
            strict: false,
        }
    }

    /// By a map of layers: pairs of a path of the teacher and a path of the student. Each stands for
    /// everything below it. A teacher's layer may serve several of the student's.
    pub fn layers<T, S>(pairs: impl IntoIterator<Item = (T, S)>) -> Self
    where
        T: Into<String>,
        S: Into<String>,
    {
        let pairs = pairs.into_iter().map(|(t, s)| (t.into(), s.into()));
        Self {
            rule: Rule::Layers(pairs.collect()),
            strict: false,
        }
    }

    /// Fails instead of leaving a parameter behind: with a map of layers, every parameter below the
    /// student's paths must find its match; else every parameter of the student.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Copies the parameters and says what was done. The student keeps its device, its identity
    /// (optimizer states stay valid) and every parameter that finds no match.
    ///
    /// # Errors
    ///
    /// [`Error::Transfer`] with the summary if the transfer is strict and something was left behind,
    /// [`Error::InvalidParameter`] if a map of layers names a path that does not exist.
    pub fn apply<T: Module, S: Module>(
        &self,
        teacher: &T,
        mut student: S,
    ) -> Result<(S, TransferSummary)> {
        let theirs: BTreeMap<String, Packed> =
            packed(teacher).map(|t| (t.name.clone(), t)).collect();
        let ours: Vec<Packed> = packed(&student).collect();
        self.check_paths(&theirs, &ours)?;

        let mut summary = TransferSummary::default();
        let mut moved = Vec::new();
        for own in &ours {
            let Some(source) = self.source(&own.name) else {
                summary.untouched.push(own.name.clone());
                continue;
            };
            let Some(found) = theirs.get(&source) else {
                summary.skipped.push(own.name.clone());
                continue;
            };
            if found.shape != own.shape || found.dtype != own.dtype {
                summary.mismatched.push(Mismatch {
                    from: source,
                    to: own.name.clone(),
                    teacher: format!("{:?} {:?}", found.dtype, found.shape.to_vec()),
                    student: format!("{:?} {:?}", own.dtype, own.shape.to_vec()),
                });
                continue;
            }
            summary.copied.push(Copied {
                from: source,
                to: own.name.clone(),
                shape: own.shape.to_vec(),
            });
            let mut tensor = found.clone();
            tensor.name = own.name.clone();
            // Two layers may be filled from one: they must not become one to an optimizer.
            tensor.param_id = None;
            moved.push(tensor);
        }
        if self.strict && !(summary.skipped.is_empty() && summary.mismatched.is_empty()) {
            return Err(Error::Transfer(summary.to_string()));
        }

        let applied = student.apply(moved, None, None, false);
        assert!(
            applied.errors.is_empty() && applied.applied.len() == summary.copied.len(),
            "paths, shapes and types were compared before: {:?}",
            applied.errors
        );
        Ok((student, summary))
    }

    /// The teacher's path for one of the student's; `None` where the rule does not speak of it.
    fn source(&self, own: &str) -> Option<String> {
        match &self.rule {
            Rule::SamePath => Some(own.to_string()),
            Rule::Layers(pairs) => pairs.iter().find_map(|(teacher, student)| {
                let below = below(own, student)?;
                Some(format!("{teacher}{below}"))
            }),
        }
    }

    fn check_paths(&self, theirs: &BTreeMap<String, Packed>, ours: &[Packed]) -> Result<()> {
        let Rule::Layers(pairs) = &self.rule else {
            return Ok(());
        };
        for (teacher, student) in pairs {
            if !theirs.keys().any(|path| below(path, teacher).is_some()) {
                return Err(Error::invalid(
                    "transfer layer",
                    format!("{teacher:?}"),
                    "a path of the teacher",
                ));
            }
            if !ours.iter().any(|own| below(&own.name, student).is_some()) {
                return Err(Error::invalid(
                    "transfer layer",
                    format!("{student:?}"),
                    "a path of the student",
                ));
            }
        }
        Ok(())
    }
}

/// What follows `layer` in `path`, if the path is the layer or below it.
fn below<'a>(path: &'a str, layer: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(layer)?;
    (rest.is_empty() || rest.starts_with('.')).then_some(rest)
}

fn packed<M: Module>(module: &M) -> impl Iterator<Item = Packed> {
    module.collect(None, None, false).into_iter()
}

/// What a [`Transfer`] did, parameter by parameter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferSummary {
    /// Taken over from the teacher.
    pub copied: Vec<Copied>,
    /// Parameters of the student that the rule leads to nothing at the teacher.
    pub skipped: Vec<String>,
    /// Found at the teacher, but with another shape or type.
    pub mismatched: Vec<Mismatch>,
    /// Parameters of the student that a map of layers does not speak of.
    pub untouched: Vec<String>,
}

/// A parameter that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// Its path at the teacher.
    pub from: String,
    /// Its path at the student.
    pub to: String,
    /// Its shape on both sides.
    pub shape: Vec<usize>,
}

/// A parameter that has another shape or type on the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// Its path at the teacher.
    pub from: String,
    /// Its path at the student.
    pub to: String,
    /// Type and shape at the teacher.
    pub teacher: String,
    /// Type and shape at the student.
    pub student: String,
}

impl std::fmt::Display for TransferSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} copied, {} skipped, {} mismatched, {} untouched",
            self.copied.len(),
            self.skipped.len(),
            self.mismatched.len(),
            self.untouched.len()
        )?;
        for Copied { from, to, shape } in &self.copied {
            write!(f, "\n  copied      {from} -> {to} {shape:?}")?;
        }
        for to in &self.skipped {
            write!(f, "\n  skipped     {to}: not at the teacher")?;
        }
        for m in &self.mismatched {
            write!(f, "\n  mismatched  {} -> {}", m.from, m.to)?;
            write!(f, ": student has {}, teacher has {}", m.student, m.teacher)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests/transfer.rs"]
mod tests;
