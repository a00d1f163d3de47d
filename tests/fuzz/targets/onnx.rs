//! The bytes of an ONNX file: read, checked, prepared, quantized or imported.
#![no_main]

use akida_converter::onnx::parse;
use akida_fuzz::road;

libfuzzer_sys::fuzz_target!(init: akida_fuzz::let_the_float_runtime_fail(), |bytes: &[u8]| {
    if let Ok(graph) = parse(bytes.to_vec().into(), "fuzz.onnx", None) {
        road::graph(graph);
    }
});
