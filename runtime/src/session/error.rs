//! What can end a session's work. A result is exact or an error, never something between.

use crate::edge::EdgeError;
use crate::mapping::MapError;
use crate::reference::InputError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The model does not map to the board.
    #[error("{board}: the model cannot be mapped")]
    Map {
        /// Board.
        board: String,
        /// Why.
        source: Box<MapError>,
    },
    /// Silicon, and a model of our own encoding.
    #[error(
        "{board}: converted models run on simulated boards only, since the vendor's NP encoding is not public and ours \
         is our own; docs/silicon.md says what is known, and vendor program files run on this board"
    )]
    UnknownEncoding {
        /// Board.
        board: String,
    },
    /// A host layer could not be prepared.
    #[error("layer {layer:?} cannot be prepared for the host")]
    Prepare {
        /// Layer name.
        layer: String,
        /// Why.
        source: akida_kernels::PrepareError,
    },
    /// A host layer got what it cannot take.
    #[error("layer {layer:?} could not be run on the host")]
    Run {
        /// Layer name.
        layer: String,
        /// Why.
        source: akida_kernels::RunError,
    },
    /// Floats that are no input.
    #[error("sample {sample} of the batch is no input of the model")]
    Edge {
        /// Sample.
        sample: usize,
        /// Why.
        source: EdgeError,
    },
    /// An array that is no batch of the model's input.
    #[error("the input has shape {found:?}; the model takes (batch, {}), {what}", .expected.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Shape {
        /// Shape of the array.
        found: Vec<usize>,
        /// Dimensions of a sample.
        expected: Vec<usize>,
        /// What the array was taken for.
        what: &'static str,
    },
    /// Bytes that are no input.
    #[error("sample {sample} of the batch is no input of the model")]
    Input {
        /// Sample.
        sample: usize,
        /// Why.
        source: InputError,
    },
    /// The board failed, and failed again after recovery, or cannot be recovered.
    #[error("{board}: sequence {sequence} failed at sample {sample}{}", if *.recovered { " again after the board was recovered" } else { "" })]
    Device {
        /// Board.
        board: String,
        /// Index of the sequence.
        sequence: usize,
        /// First sample without a result.
        sample: usize,
        /// Whether a recovery was tried.
        recovered: bool,
        /// The last failure.
        source: Box<akida_hal::Error>,
    },
    /// The board failed while it kept frames of a stream.
    #[error(
        "{board}: failed at sample {sample} of a stream; the frames that temporal layers kept are lost: start the stream again"
    )]
    StateLost {
        /// Board.
        board: String,
        /// First sample without a result.
        sample: usize,
        /// The failure.
        source: Box<akida_hal::Error>,
    },
    /// The board sent something else than the program's output.
    #[error("{board}: sequence {sequence} gave {found} elements instead of {expected}")]
    OutputLength {
        /// Board.
        board: String,
        /// Index of the sequence.
        sequence: usize,
        /// Elements received.
        found: usize,
        /// Elements of the output.
        expected: usize,
    },
    /// The board computes something else than the reference.
    #[error(
        "{board}: known-answer test failed: layer {layer:?}, tensor {tensor:?}, sample {sample}, (row, column, channel) \
         {position:?} is {found} instead of {expected}; the board is not to be used"
    )]
    KnownAnswer {
        /// Board.
        board: String,
        /// Earliest layer that differs.
        layer: String,
        /// Its output tensor.
        tensor: String,
        /// Sample of the test.
        sample: usize,
        /// (row, column, channel).
        position: [usize; 3],
        /// What the board gave.
        found: i32,
        /// What the reference gives.
        expected: i32,
    },
    /// The session is refused since its known-answer test failed.
    #[error("{board}: refused, since its known-answer test failed")]
    Refused {
        /// Board.
        board: String,
    },
}
