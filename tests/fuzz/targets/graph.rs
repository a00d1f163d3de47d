//! Edited networks: float and quantized ones of the conformance data with changed nodes, attributes, constants, shapes.
#![no_main]

use akida_converter::onnx::parse;
use akida_fuzz::{edit, road};

libfuzzer_sys::fuzz_target!(init: akida_fuzz::let_the_float_runtime_fail(), |bytes: &[u8]| {
    // Written and read again: what the checks of the reader refuse never gets further in the tools either.
    let Ok(file) = edit::network(&edit::CONFORMANCE, bytes).to_bytes() else { return };
    if let Ok(graph) = parse(file.into(), "fuzz.onnx", None) {
        road::graph(graph);
    }
});
