//! What cannot be prepared or run.

/// A layer whose parts do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// A vector of the wrong length.
    #[error("{what}: {got} values instead of {expected}")]
    Length {
        /// Which.
        what: &'static str,
        /// Its length.
        got: usize,
        /// What it must be.
        expected: usize,
    },
    /// A number out of range.
    #[error("{what} is {value}, possible are {min}..={max}")]
    Range {
        /// Which.
        what: &'static str,
        /// Its value.
        value: i64,
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// Parts that exclude one another.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// A run with tensors that do not belong to the layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The input window lacks rows or columns that the tile needs.
    #[error("{axis} {needed_start}..{needed_end} of the input are needed, {given_start}..{given_end} are given")]
    Window {
        /// Rows or columns.
        axis: &'static str,
        /// First needed.
        needed_start: usize,
        /// One past the last needed.
        needed_end: usize,
        /// First given.
        given_start: usize,
        /// One past the last given.
        given_end: usize,
    },
    /// A buffer of the wrong length.
    #[error("{what}: {got} elements instead of {expected}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Its length.
        got: usize,
        /// What it must be.
        expected: usize,
    },
    /// Bytes where potentials leave, or the other way round.
    #[error("the layer makes {bits}-bit elements, the output buffer is of the other kind")]
    OutputKind {
        /// Bits of an output element.
        bits: u8,
    },
}
