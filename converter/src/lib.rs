//! ONNX in, Akida model out: import, graph preparation, calibration and quantization.

pub mod calibrate;
pub mod import;
pub mod onnx;
pub mod prepare;
pub mod quantize;
