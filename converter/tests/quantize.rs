//! Quantization with the reference's ranges: every parameter equal, bit for bit.

mod support;

use akida_converter::calibrate::load_ranges;
use akida_converter::onnx::{self, Graph};
use akida_converter::prepare;
use akida_converter::quantize::quantize_prepared;
use support::{Case, all_cases};

fn from_sanitized(case: &Case) -> Result<(), String> {
    let path = case.file("sanitized.onnx");
    if !path.exists() {
        return Err("no sanitized.onnx".into());
    }
    let mut graph = onnx::load(&path).map_err(|e| e.to_string())?;
    prepare::infer(&mut graph).map_err(|e| e.to_string())?;
    let ranges = load_ranges(&case.file("calibration_ranges.npz")).map_err(|e| e.to_string())?;
    let (quantized, _) = quantize_prepared(&graph, &ranges, &case.options()).map_err(|e| e.to_string())?;
    let expected: Graph = onnx::load(&case.file("quantized.onnx")).map_err(|e| e.to_string())?;
    support::same_graph(&quantized, &expected)
}

#[test]
fn reference_graphs_with_reference_ranges() {
    for case in all_cases() {
        match from_sanitized(&case) {
            Ok(()) => println!("{}: equal", case.name),
            Err(e) => println!("{}: {e}", case.name),
        }
    }
}
