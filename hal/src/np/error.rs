//! What cannot be encoded for an NP, or decoded from one.

/// An NP configuration that does not exist. Carries the field, its value and what would have been right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NpError {
    /// A value does not fit its register field.
    #[error("NP register field \"{field}\" takes {min}..={max}, not {value}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it was given or held.
        value: i64,
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A value that has no meaning in its field.
    #[error("NP register field \"{field}\" holds {value}, which means nothing")]
    Code {
        /// The field.
        field: &'static str,
        /// What it held.
        value: u32,
    },
    /// Two fields that exclude one another.
    #[error("NP configuration contradicts itself: {what}")]
    Contradiction {
        /// Which rule is broken.
        what: &'static str,
    },
    /// A range of rows, columns or filters that is empty or leaves its map.
    #[error("NP configuration: {what} {origin}..{origin}+{len} are not inside 0..{size}")]
    Span {
        /// Rows, columns or filters of what.
        what: &'static str,
        /// First.
        origin: u32,
        /// How many.
        len: u32,
        /// How many there are.
        size: u32,
    },
    /// Registers written in an encoding that is not this one, for example by a vendor program.
    #[error(
        "NP registers are configured, but register 0xF8 is {found:#010x} instead of {expected:#010x}: this program was made for other hardware"
    )]
    Foreign {
        /// What register 0xF8 held.
        found: u32,
        /// What this encoding writes there.
        expected: u32,
    },
    /// Weights, parameters or a table of the wrong length or with values out of range.
    #[error("{what}: {value}, expected {expected}")]
    Contents {
        /// Which memory.
        what: &'static str,
        /// What there was.
        value: i64,
        /// What there must be.
        expected: i64,
    },
}
