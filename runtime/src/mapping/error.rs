//! Why a layer, or a model, is not on the hardware.

use std::fmt;

use akida_hal::mesh::Version;

use crate::model::Target;

/// One broken rule: its id, what it allows, what was found and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Reason {
    /// Rule id, for example `akida2.dense.inputs`; see [`super::limits::RULES`] and docs/mapping.md.
    pub rule: &'static str,
    /// What the rule allows.
    pub limit: String,
    /// What was found.
    pub value: String,
    /// What the user can do.
    pub remedy: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (limit: {}); {}", self.rule, self.value, self.limit, self.remedy)
    }
}

/// Why there is no mapping.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The model was made for something else.
    #[error(
        "the model {name:?} was made for {made_for}, the board is {found} ({version}): convert it with --target {found}"
    )]
    Target {
        /// Model name.
        name: String,
        /// What it was made for.
        made_for: Target,
        /// What the mesh is.
        found: Target,
        /// Hardware version of the mesh.
        version: Version,
    },
    /// A layer cannot be on the hardware and hardware was all that was asked for.
    #[error("layer {layer:?} is not on the hardware: {reason}")]
    NotOnHardware {
        /// Layer name.
        layer: String,
        /// Why.
        reason: Reason,
    },
    /// The model breaks a rule of its own.
    #[error("the model is not valid")]
    Invalid(#[from] crate::model::ModelError),
    /// Layers, parameters and tensors of the model contradict each other.
    #[error("layer {layer:?} of the model is inconsistent: {what}")]
    Model {
        /// Layer name.
        layer: String,
        /// What does not agree.
        what: String,
    },
    /// A tensor that the model does not have was asked for.
    #[error("tensor {tensor} was asked for, the model has {count}")]
    NoSuchTensor {
        /// Asked for.
        tensor: usize,
        /// How many there are.
        count: usize,
    },
    /// Registers or packets could not be made.
    #[error("layer {layer:?} cannot be encoded for {np}")]
    Encode {
        /// Layer name.
        layer: String,
        /// Which NP.
        np: String,
        /// Why.
        source: super::encode::EncodeError,
    },
}

impl Target {
    /// The target that hardware of this version is.
    pub fn of(version: Version) -> Target {
        match version {
            v if v.generation() == 2 => Target::Akida2,
            v if v.product == Version::AKD1500.product => Target::Akd1500,
            _ => Target::Akd1000,
        }
    }
}
