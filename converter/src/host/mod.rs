//! Host segments: float operators of a network, as ONNX, computed by the float runtime that calibration uses (rten).

mod bound;
mod engine;
mod trial;

pub use engine::{FORMAT, OnnxEngine};

pub(crate) use trial::{trial, value};
