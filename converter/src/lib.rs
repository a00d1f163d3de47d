//! ONNX in, Akida model out.
//!
//! [`fn@quantize`] takes a float graph the whole way: [`prepare`] rewrites it until its chains of nodes are layers of the
//! chip, [`calibrate`] observes the ranges of its tensors, [`mod@quantize`] makes integers of it. [`mod@import`] turns
//! the quantized graph into a model; [`convert`] does all of it with a file. That is the way to Akida 2.0;
//! [`mod@qdq`] takes graphs whose integers were trained or calibrated elsewhere.
//! [`mod@akida1`] is the one to Akida 1.0, whose integers are of another kind.

pub mod akida1;
pub mod calibrate;
pub mod compare;
mod contained;
mod convert;
pub mod host;
pub mod import;
pub mod onnx;
pub mod prepare;
pub mod qdq;
pub mod quantize;
pub mod stages;

pub use convert::{ConvertError, Converted, Quantized, convert, convert_observed, quantize, quantize_observed};
