//! The roads a file takes once it is read.

use akida_converter::calibrate::{Calibration, Range, Ranges};
use akida_converter::import::{ImportOptions, import, import_network};
use akida_converter::onnx::{BRAINCHIP, Graph};
use akida_converter::prepare::prepare;
use akida_converter::qdq::{import_qdq, is_qdq};
use akida_converter::quantize;
use akida_converter::quantize::QuantizeOptions;
use akida_runtime::hybrid::HybridModel;
use akida_runtime::mapping::{MapOptions, map};
use akida_runtime::model::{Blob, Model, Target};
use akida_runtime::reference::{Reference, Rules};
use akida_simulator::Model as BoardModel;

/// Elements of all weights of a graph above which it is read and prepared, not quantized: time, not memory, is the limit.
const LARGE: usize = 200_000;

/// Prepares, quantizes and imports a float graph, or imports a quantized one. All of it may refuse; none of it may break.
pub fn graph(graph: Graph) {
    if graph.nodes.iter().any(|node| node.domain == BRAINCHIP) {
        for require_functions in [true, false] {
            let options = ImportOptions { allow_float_tail: true, require_functions };
            if let Ok(imported) = import(&graph, options) {
                model(&imported.model);
            }
        }
        network(&graph);
        return;
    }
    if is_qdq(&graph) {
        return qdq(graph);
    }
    let Ok((prepared, _)) = prepare(graph.clone(), None) else { return };
    let elements: usize = prepared.initializers.values().map(|tensor| tensor.len()).sum();
    if elements > LARGE {
        return;
    }
    // A range for every tensor, so that quantization is reached without running the float network.
    let mut ranges = Ranges::new();
    let names = prepared.nodes.iter().flat_map(|node| node.outputs.iter());
    for name in names.chain(prepared.inputs.iter().map(|input| &input.name)) {
        ranges.insert(name.clone(), Range { min: vec![-1.0], max: vec![1.0] });
    }
    let Ok(quantized) = quantize(graph, &Calibration::Ranges(&ranges), &QuantizeOptions::default(), &mut |_, _| {})
    else {
        return;
    };
    network(&quantized.graph);
}

/// Imports a quantized graph in parts, some of them on the host.
fn network(graph: &Graph) {
    if let Ok(network) = import_network(graph, ImportOptions::default()) {
        let mut file = Vec::new();
        network.write(&mut file).expect("memory takes every file");
        let read = HybridModel::read(Blob::new(file)).expect("what was written is read");
        for (_, part) in read.boards() {
            model(part);
        }
    }
}

/// Imports a network with QuantizeLinear and DequantizeLinear.
pub fn qdq(graph: Graph) {
    if let Ok(imported) = import_qdq(graph) {
        model(&imported.model);
    }
}

/// Maps a valid model on every board of its target, and runs it when that is a matter of moments.
pub fn model(model: &Model) {
    model.validate().expect("a reader gives valid models only");
    for board in BoardModel::ALL {
        let mesh = board.mesh();
        if Target::of(mesh.version) == model.target {
            // A refusal is as good as a mapping.
            let _ = map(model, &mesh, &MapOptions::default());
        }
    }
    let macs = model.macs().iter().fold(0u64, |sum, &macs| sum.saturating_add(macs));
    let elements = |layer: &akida_runtime::model::Layer| layer.output.elements();
    if macs < 1_000_000 && model.input.tensor.elements() + model.layers.iter().map(elements).sum::<usize>() < 1_000_000
    {
        // One, or the nearest that the input holds: a signed value of one bit is -1 or 0.
        let (min, max) = model.input.tensor.range();
        let input = vec![1i32.clamp(min, max) as u8; model.input.tensor.elements()];
        let tensors = Reference::new(model, Rules::Chip).run(&input).expect("the input holds this value");
        assert_eq!(tensors.len(), model.layers.len() + 1);
    }
}
