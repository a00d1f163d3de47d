//! Observing the ranges of a float graph's tensors (quantization.md 3).

mod npz;
mod ranges;

pub use npz::{RangesFileError, load_ranges};
pub use ranges::{Range, Ranges};
