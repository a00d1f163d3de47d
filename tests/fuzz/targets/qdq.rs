//! Edited QDQ networks: those of ONNX Runtime and PyTorch with changed nodes, attributes, constants, shapes.
#![no_main]

use akida_converter::onnx::parse;
use akida_fuzz::{edit, road};

libfuzzer_sys::fuzz_target!(init: akida_fuzz::let_the_float_runtime_fail(), |bytes: &[u8]| {
    let Ok(file) = edit::network(&edit::QDQ, bytes).to_bytes() else { return };
    if let Ok(graph) = parse(file.into(), "fuzz.onnx", None) {
        road::qdq(graph);
    }
});
