//! Why ranges cannot be observed.

/// A calibration that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// The samples do not fit the graph's input.
    #[error("calibration samples have shape {found:?}, input '{input}' takes (samples, {})", list(expected))]
    Shape {
        /// Name of the input.
        input: String,
        /// Dimensions of the input without the batch.
        expected: Vec<usize>,
        /// Dimensions of the samples.
        found: Vec<usize>,
    },
    /// There are no samples.
    #[error("there are no calibration samples")]
    Empty,
    /// A sample holds NaN or infinity.
    #[error("calibration sample {sample} holds a value that is not finite")]
    NotFinite {
        /// Its number.
        sample: usize,
    },
    /// The float runtime does not take the graph.
    #[error("the float runtime cannot {action} the graph: {reason}. Give ranges observed elsewhere with --ranges")]
    Runtime {
        /// What was tried.
        action: &'static str,
        /// What it says.
        reason: String,
    },
    /// A constant cannot be read.
    #[error(transparent)]
    Onnx(#[from] crate::onnx::OnnxError),
}

fn list(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
