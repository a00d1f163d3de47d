//! Why a graph cannot be prepared.

use super::ShapeError;

/// Why one rewrite was left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StepError(pub String);

/// A graph that cannot be prepared at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// Not one input.
    #[error("graph '{graph}' has {} inputs ({}), a model must have one", names.len(), names.join(", "))]
    Inputs {
        /// Its name.
        graph: String,
        /// Names of the inputs.
        names: Vec<String>,
    },
    /// The input is read by several nodes, or by none.
    #[error("input '{input}' is read by {} nodes ({}), it must be one", nodes.len(), nodes.join(", "))]
    InputReaders {
        /// Its name.
        input: String,
        /// Names of the nodes that read it.
        nodes: Vec<String>,
    },
    /// The input's size is open.
    #[error("input '{input}' has open dimensions {found}: give samples or --input-shape")]
    OpenShape {
        /// Its name.
        input: String,
        /// Its dimensions.
        found: String,
    },
    /// The wanted shape has another number of dimensions.
    #[error("input '{input}' has {expected} dimensions besides the batch, {given:?} were given")]
    Rank {
        /// Its name.
        input: String,
        /// How many it has.
        expected: usize,
        /// What was given.
        given: Vec<usize>,
    },
    /// The input is not float.
    #[error("input '{input}' has type {found}: it must be FLOAT, or the first node a Cast to FLOAT")]
    InputType {
        /// Its name.
        input: String,
        /// Its type.
        found: String,
    },
    /// An operator set that is not known.
    #[error(
        "operator set '{domain}' version {found}: versions {lowest} to {highest} are supported; export the model again"
    )]
    Opset {
        /// Its name; empty for the standard one.
        domain: String,
        /// Its version.
        found: i64,
        /// The oldest that is supported.
        lowest: i64,
        /// The newest.
        highest: i64,
    },
    /// An operator of a set nobody knows.
    #[error("node '{node}' ({domain}:{op}): operators of this domain are not supported; export the model without it")]
    Domain {
        /// Its name.
        node: String,
        /// Its operator set.
        domain: String,
        /// Its operator.
        op: String,
    },
    /// Operands do not fit.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}
