//! Networks of several parts on simulated boards, held against the reference arithmetic and the float network.

use std::sync::Arc;

use akida_converter::calibrate::Calibration;
use akida_converter::host::{FORMAT, OnnxEngine};
use akida_converter::import::{ImportOptions, import_network};
use akida_converter::onnx::Graph;
use akida_converter::quantize::QuantizeOptions;
use akida_converter::{ConvertError, quantize};
use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::edge;
use akida_runtime::hybrid::{
    HostEngine, HostValues, HybridModel, HybridOutputs, HybridSession, Part, PartResults, Port, Segment,
};
use akida_runtime::model::{Blob, Model};
use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::{Batch, Detail, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use ndarray::{ArrayD, ArrayViewD, Axis};

/// The float network on the host: every output.
pub fn float_outputs(graph: &Graph, batch: ArrayViewD<'_, f32>) -> Vec<ArrayD<f32>> {
    let dims: Vec<usize> = [1].iter().chain(&batch.shape()[1..]).copied().collect();
    let port = |name: &str, dims: &[usize]| Port::floats(name, dims);
    let segment = Segment {
        name: "whole".into(),
        format: FORMAT.into(),
        inputs: vec![port(&graph.inputs[0].name, &dims)],
        outputs: graph.outputs.iter().map(|o| port(&o.name, &[1])).collect(),
        operations: Vec::new(),
        data: Blob::new(graph.to_bytes().expect("a graph can be written")),
    };
    let mut program = OnnxEngine.prepare(&segment).unwrap_or_else(|e| panic!("{}: {e}", graph.name));
    let mut all: Vec<Vec<ArrayD<f32>>> = vec![Vec::new(); graph.outputs.len()];
    for sample in batch.axis_iter(Axis(0)) {
        let input = HostValues::F32(sample.insert_axis(Axis(0)).to_owned());
        let outputs = program.run(&[&input]).unwrap_or_else(|e| panic!("{}: {e}", graph.name));
        for (all, output) in all.iter_mut().zip(outputs) {
            all.push(output.to_floats());
        }
    }
    let join = |arrays: &Vec<ArrayD<f32>>| {
        let views: Vec<_> = arrays.iter().map(|a| a.view()).collect();
        ndarray::concatenate(Axis(0), &views).expect("samples have one shape")
    };
    all.iter().map(join).collect()
}

/// Quantized with these samples, further regions included.
pub fn convert(
    graph: &Graph,
    samples: ArrayViewD<'_, f32>,
    options: &QuantizeOptions,
) -> Result<HybridModel, ConvertError> {
    let options = QuantizeOptions { further_regions: true, ..options.clone() };
    let quantized = quantize(graph.clone(), &Calibration::Samples(samples), &options, &mut |_, _| {})?;
    Ok(import_network(&quantized.graph, ImportOptions::default())?)
}

/// On a simulated board.
pub fn open(board: BoardModel, network: &Arc<HybridModel>, options: &SessionOptions) -> HybridSession {
    let board = Arc::new(SimBoard::open(&SimSpec::new(board)).expect("a simulated board opens"));
    let device = Device::open(board, DeviceOptions::default()).expect("the device opens");
    HybridSession::open(network.clone(), &OnnxEngine, device, options)
        .unwrap_or_else(|e| panic!("{}: {e:?}", network.name))
}

/// Runs floats with every layer visible.
pub fn run(board: BoardModel, network: &Arc<HybridModel>, batch: ArrayViewD<'_, f32>) -> HybridOutputs {
    let mut session = open(board, network, &SessionOptions::default());
    session.infer(Batch::Float(batch), Detail::AllTensors).unwrap_or_else(|e| panic!("{}: {e:?}", network.name))
}

/// Holds every integer of every board part against the reference; how many there were.
pub fn same_integers(network: &HybridModel, batch: ArrayViewD<'_, f32>, outputs: &HybridOutputs) -> usize {
    let mut count = 0;
    for (part, results) in network.parts.iter().zip(&outputs.parts) {
        let (Part::Board(model), PartResults::Board { inputs, outputs }) = (part, results) else { continue };
        let own = match inputs.is_empty() {
            true => edge::quantize_input(model, batch.view()).expect("an input of the network"),
            false => inputs.clone(),
        };
        count += same_as_reference(model, &own, outputs);
    }
    count
}

fn same_as_reference(model: &Model, inputs: &[Vec<u8>], outputs: &akida_runtime::session::Outputs) -> usize {
    let mut reference = Reference::new(model, Rules::Chip);
    let mut count = 0;
    for (sample, input) in inputs.iter().enumerate() {
        let expected = reference.run(input).expect("a sample of the part");
        let made = model.outputs.iter().map(|output| output.tensor).zip(&outputs.raw);
        let layers = outputs.intermediates.iter().map(|layer| (layer.tensor, &layer.values));
        for (tensor, values) in made.chain(layers) {
            let t = model.tensor(tensor);
            let wanted = t.layout.to_onnx(&expected[tensor], t.shape);
            let found: Vec<i32> = values.index_axis(Axis(0), sample).iter().copied().collect();
            assert_eq!(found, wanted, "{}: {} of sample {sample}", model.name, t.name);
            count += wanted.len();
        }
    }
    count
}

/// Signal to noise in dB.
pub fn sqnr(expected: &ArrayD<f32>, found: &ArrayD<f32>) -> f64 {
    assert_eq!(expected.shape(), found.shape());
    let signal: f64 = expected.iter().map(|&v| f64::from(v).powi(2)).sum();
    let noise: f64 = expected.iter().zip(found).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (signal / noise.max(1e-30)).log10()
}
