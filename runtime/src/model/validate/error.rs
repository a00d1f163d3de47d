//! What can be wrong with a model.

use super::super::Shape;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{place}: {field} {problem}{}", rule.map(|id| format!(" (rule {id})")).unwrap_or_default())]
pub struct ModelError {
    /// Which layer, input or output, by name.
    pub place: Box<str>,
    /// Which of its fields.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
    /// Id of the chip's limit that it breaks, as in [`RULES`](crate::mapping::limits::RULES); None: the model contradicts itself.
    pub rule: Option<&'static str>,
}

impl ModelError {
    pub(crate) fn new(place: impl Into<Box<str>>, field: &'static str, problem: Problem) -> Self {
        Self { place: place.into(), field, problem, rule: None }
    }

    /// The same, as a break of this limit of the chip.
    pub(crate) fn of_rule(self, id: &'static str) -> Self {
        Self { rule: Some(id), ..self }
    }
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// A vector of the wrong length.
    #[error("has {len} values where {} belong", list(.allowed))]
    Length {
        /// Its length.
        len: usize,
        /// Lengths it may have.
        allowed: Vec<usize>,
    },
    /// A value outside its range.
    #[error("is {value}, outside {min}..={max}")]
    Range {
        /// The value.
        value: i64,
        /// Smallest allowed.
        min: i64,
        /// Largest allowed.
        max: i64,
    },
    /// A value that is none of a few.
    #[error("is {value}, not {}", list(.allowed))]
    OneOf {
        /// The value.
        value: i64,
        /// What it may be.
        allowed: Vec<i64>,
    },
    /// A shape that does not follow from its neighbours.
    #[error("has shape {found:?} (height, width, channels) where {expected:?} follows from its input")]
    Shape {
        /// As it is.
        found: Shape,
        /// As it must be.
        expected: Shape,
    },
    /// A kernel that does not fit its input.
    #[error("has shape {found:?} (filters, height, width, channels) where {expected:?} belongs")]
    Weights {
        /// As it is.
        found: [usize; 4],
        /// As it must be.
        expected: [usize; 4],
    },
    /// A scale that is not a positive finite number.
    #[error("holds {value}, not a positive number")]
    Scale {
        /// The value.
        value: f32,
    },
    /// A rule without a number.
    #[error("{0}")]
    Rule(&'static str),
}

fn list(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}
