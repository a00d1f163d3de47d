//! Quantization with the reference's ranges: every node, name and parameter equal, bit for bit.

mod support;

use akida_converter::calibrate::{Calibration, load_ranges};
use akida_converter::onnx::{self, Graph};
use akida_converter::{ConvertError, prepare, quantize};
use support::{Case, all_cases};

/// From the reference's prepared graph, where it is stored.
fn from_prepared(case: &Case) -> Result<(), String> {
    let mut graph = onnx::load(&case.file("sanitized.onnx")).map_err(|e| e.to_string())?;
    prepare::infer(&mut graph).map_err(|e| e.to_string())?;
    let ranges = load_ranges(&case.file("calibration_ranges.npz")).map_err(|e| e.to_string())?;
    let result = akida_converter::quantize::quantize_prepared(&graph, &ranges, &case.options());
    let (quantized, _) = result.map_err(|e| e.to_string())?;
    let expected: Graph = onnx::load(&case.file("quantized.onnx")).map_err(|e| e.to_string())?;
    support::same_graph(&quantized, &expected)
}

/// From the exported model.
fn from_model(case: &Case) -> Result<(), String> {
    let graph = onnx::load(&case.model()).map_err(|e| e.to_string())?;
    let ranges = support::ranges(case);
    let options = case.options();
    let quantized = quantize(graph, &Calibration::Ranges(&ranges), &options, &mut |_, _| {});
    let quantized = quantized.map_err(|e: ConvertError| e.to_string())?;
    let text = std::fs::read_to_string(case.file("sanitized.graph.txt")).map_err(|e| e.to_string())?;
    support::same_nodes(&quantized.prepared, &text)?;
    let expected: Graph = onnx::load(&case.file("quantized.onnx")).map_err(|e| e.to_string())?;
    support::same_graph(&quantized.graph, &expected)
}

#[test]
fn the_references_prepared_graphs() {
    let mut count = 0;
    for case in all_cases() {
        // Its functions hold text constants, which this reader does not take.
        if !case.file("sanitized.onnx").exists() || case.name == "act_lut" {
            continue;
        }
        from_prepared(&case).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        count += 1;
    }
    assert!(count >= 20, "{count} cases");
}

#[test]
fn exported_models() {
    let mut count = 0;
    for case in all_cases() {
        from_model(&case).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        count += 1;
    }
    println!("{count} equal");
    assert!(count >= 30, "{count} cases");
}
