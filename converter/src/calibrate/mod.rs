//! Observing the ranges of a float graph's tensors (quantization.md 3).

mod cache;
mod engine;
mod error;
mod npz;
mod observe;
mod plain;
mod random;
mod ranges;

pub use cache::RangeCache;
pub use engine::{FloatNetwork, FloatTensor};
pub use error::CalibrateError;
pub use npz::{RangesFileError, load_ranges, save_ranges};
pub use observe::observe;
pub use random::random_samples;
pub use ranges::{Range, Ranges};

pub(crate) use plain::spelled_out;

use ndarray::ArrayViewD;

/// Where the ranges come from.
#[derive(Clone, Debug)]
pub enum Calibration<'a> {
    /// Observed on these samples: batch first, in the layout of the graph's input.
    Samples(ArrayViewD<'a, f32>),
    /// The same, when they are not known from an earlier time.
    Cached(ArrayViewD<'a, f32>, &'a RangeCache),
    /// Given, by tensor of the prepared graph.
    Ranges(&'a Ranges),
    /// Observed on so many samples of [`random_samples`].
    Random(usize),
}
