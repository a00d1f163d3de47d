//! The bytes of a quantized ONNX file: read and imported, with and without the functions that define its operators.
#![no_main]

use akida_converter::import::{ImportOptions, import};
use akida_converter::onnx::parse;
use akida_fuzz::road;

libfuzzer_sys::fuzz_target!(init: akida_fuzz::let_the_float_runtime_fail(), |bytes: &[u8]| {
    let Ok(graph) = parse(bytes.to_vec().into(), "fuzz.onnx", None) else { return };
    for require_functions in [true, false] {
        if let Ok(imported) = import(&graph, ImportOptions { allow_float_tail: true, require_functions }) {
            road::model(&imported.model);
        }
    }
});
