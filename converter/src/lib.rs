//! ONNX in, Akida model out: import, graph preparation, calibration and quantization.

pub mod onnx;
