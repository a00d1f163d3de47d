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

fn from_model(case: &Case) -> Result<(), String> {
    let graph = onnx::load(&case.model()).map_err(|e| e.to_string())?;
    let shape: Vec<usize> =
        case.json["input"]["float_shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
    let (graph, warnings) = prepare::prepare(graph, Some(&shape)).map_err(|e| e.to_string())?;
    if std::env::var("SHOW").is_ok() {
        println!("{warnings:?}");
        println!("{graph}");
    }
    let text = std::fs::read_to_string(case.file("sanitized.graph.txt")).map_err(|e| e.to_string())?;
    let prepared = support::same_nodes(&graph, &text);
    let ranges = load_ranges(&case.file("calibration_ranges.npz")).map_err(|e| e.to_string())?;
    let (quantized, _) =
        quantize_prepared(&graph, &ranges, &case.options()).map_err(|e| format!("{e}\n  prepared: {prepared:?}"))?;
    let expected: Graph = onnx::load(&case.file("quantized.onnx")).map_err(|e| e.to_string())?;
    support::same_graph(&quantized, &expected).map_err(|e| format!("{e}\n  prepared: {prepared:?}"))?;
    prepared
}

#[test]
fn models_with_reference_ranges() {
    for case in all_cases() {
        if std::env::var("CASE").is_ok_and(|name| name != case.name) {
            continue;
        }
        match from_model(&case) {
            Ok(()) => println!("{}: equal", case.name),
            Err(e) => println!("{}: {e}", case.name),
        }
    }
}
