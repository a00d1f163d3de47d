//! Damaged models end in a result: they are refused or quantized, and never break the converter.

mod support;

use akida_converter::calibrate::{Calibration, Range, Ranges};
use akida_converter::import::{ImportOptions, import_network};
use akida_converter::onnx::Node;
use akida_converter::quantize::QuantizeOptions;
use akida_converter::{onnx, prepare, quantize};

/// A range for every tensor of the prepared graph, so that quantization is reached whatever the graph has become.
fn ranges(graph: onnx::Graph) -> Option<Ranges> {
    let (graph, _) = prepare::prepare(graph, None).ok()?;
    let names = graph.nodes.iter().flat_map(|node| node.outputs.clone());
    let mut ranges = Ranges::new();
    for name in names.chain(graph.inputs.iter().map(|input| input.name.clone())) {
        ranges.insert(name, Range { min: vec![-1.0], max: vec![1.0] });
    }
    Some(ranges)
}

#[test]
fn flipped_bits_and_bytes() {
    let (mut read, mut quantized) = (0, 0);
    for (file, step) in [
        ("negative/zero_filter/model.onnx", 13),
        ("bn_unfolded/model.onnx", 97),
        ("norm_in_graph/model.onnx", 89),
        ("branches/model.onnx", 61),
        ("pad_inner/model.onnx", 211),
        ("act_lut/model.onnx", 83),
    ] {
        let whole = std::fs::read(support::data().join(file)).unwrap();
        for (turn, at) in (0..whole.len()).step_by(step).enumerate() {
            let mut bytes = whole.clone();
            bytes[at] = match turn % 3 {
                0 => bytes[at] ^ (1 << (turn % 8)),
                1 => bytes[at].wrapping_add(1),
                _ => 0,
            };
            let Ok(graph) = onnx::parse(bytes.into(), file, None) else { continue };
            read += 1;
            let Some(ranges) = ranges(graph.clone()) else { continue };
            let result = quantize(graph, &Calibration::Ranges(&ranges), &QuantizeOptions::default(), &mut |_, _| {});
            quantized += usize::from(result.is_ok());
        }
    }
    assert!(read > 100 && quantized > 100, "{read} read, {quantized} quantized");
}

/// What fuzzing (tests/fuzz) broke the converter with once.
#[test]
fn files_that_fuzzing_found() {
    let folder = support::data().join("../fuzzed");
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "onnx") {
            files += 1;
            // An error or a graph, in bounded time: anything but a panic.
            if let Ok(graph) = onnx::parse(std::fs::read(&path).unwrap().into(), "fuzzed", None)
                && let Some(ranges) = ranges(graph.clone())
                && let Ok(quantized) =
                    quantize(graph, &Calibration::Ranges(&ranges), &QuantizeOptions::default(), &mut |_, _| {})
            {
                let _ = import_network(&quantized.graph, ImportOptions::default());
            }
        }
    }
    assert!(files > 0, "{}", folder.display());
}

#[test]
fn operators_without_inputs_are_refused() {
    let mut graph = onnx::load(&support::data().join("negative/zero_filter/model.onnx")).unwrap();
    let output = graph.outputs[0].name.clone();
    graph.nodes = vec![Node::new("Relu", &[], &output)].into();
    let error = onnx::parse(graph.to_bytes().unwrap().into(), "sourceless", None).unwrap_err();
    assert!(error.to_string().contains("no input"), "{error}");
}
