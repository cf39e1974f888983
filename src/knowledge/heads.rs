//! Heads beside the one whose logits a store keeps: they are kept as features under reserved names.

use burn::tensor::Tensor;

use crate::data::head::{Head, HeadKind};

const PREFIX: &str = "head:";

/// The kinds of head, as names have them.
const KINDS: [(HeadKind, &str); 3] = [
    (HeadKind::Categorical, "categorical"),
    (HeadKind::Binary, "binary"),
    (HeadKind::Continuous, "continuous"),
];

impl HeadKind {
    /// A head of this kind.
    pub(crate) fn head(self, tensor: Tensor<2>) -> Head {
        match self {
            Self::Categorical => tensor.into(),
            Self::Binary => Head::Binary(tensor),
            Self::Continuous => Head::Continuous(tensor),
        }
    }
}

/// The name under which a head is kept among the features.
pub(crate) fn feature_of(name: &str, kind: HeadKind) -> String {
    format!("{PREFIX}{kind}:{name}")
}

/// The head that a feature's name stands for, if it is one.
pub(crate) fn head_of(feature: &str) -> Option<(&str, HeadKind)> {
    let (kind, name) = feature.strip_prefix(PREFIX)?.split_once(':')?;
    let kind = KINDS.iter().find(|(_, text)| *text == kind)?;
    Some((name, kind.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_heads_come_back() {
        for (kind, text) in KINDS {
            assert_eq!(kind.to_string(), text);
            assert_eq!(head_of(&feature_of("a:b", kind)), Some(("a:b", kind)));
        }
        assert_eq!(head_of("hidden"), None);
        assert_eq!(head_of("head:square:x"), None);
    }
}
