//! Stored integers of the reference against those of the plain implementation and of simulated boards.

use std::sync::Arc;

use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::mapping::{MapOptions, Sequences};
use akida_runtime::model::{Model, Target, TensorId};
use akida_runtime::reference::{Reference, Rules};
use akida_runtime::session::{Batch, Detail, Session, SessionOptions};
use akida_simulator::{Model as BoardModel, SimBoard, SimSpec};
use akida_tests::conformance::Case;
use ndarray::{ArrayD, Axis};

use crate::Failed;
use crate::parameters::Share;

/// A stored tensor.
pub struct Stored {
    pub tensor: TensorId,
    /// Batch first, in ONNX layout, in exact integers.
    pub exact: ArrayD<i64>,
    /// The same with the saturations of the chip, where they matter.
    pub chip: Option<ArrayD<i64>>,
}

/// All tensors a case stores: inner ones for the first samples, outputs for all.
pub fn stored(case: &Case, model: &Model) -> Result<Vec<Stored>, Failed> {
    let id = |name: &str| {
        let id = (0..=model.layers.len()).find(|&id| model.tensor(id).name == name);
        id.ok_or_else(|| format!("no tensor '{name}'"))
    };
    let mut all = Vec::new();
    if let Some(mut npz) = case.npz("intermediates.npz") {
        for node in case.json["nodes"].as_array().ok_or("no list of nodes")? {
            let key = node["keys"][0].as_str().filter(|key| npz.has(key));
            let float = node["op"].as_str().is_some_and(|op| op.starts_with("Dequantizer"));
            if let Some(key) = key.filter(|_| !float) {
                let tensor = id(node["outputs"][0].as_str().unwrap_or_default())?;
                all.push(Stored { tensor, exact: npz.integers(key), chip: None });
            }
        }
    }
    let mut npz = case.npz("quantized_outputs.npz").ok_or("no outputs")?;
    for (n, name) in case.strings("raw_outputs").iter().enumerate() {
        let (exact, chip) = (format!("exact_raw{n}"), format!("int32_raw{n}"));
        let exact = if npz.has(&exact) { exact } else { format!("raw{n}") };
        let exact = npz.integers(&exact);
        // Where the chip saturates in an output, what is stored of its inner form is without saturation.
        let chip = npz.has(&chip).then(|| npz.integers(&chip));
        let tensor = id(name)?;
        all.retain(|s: &Stored| s.tensor != tensor);
        all.push(Stored { tensor, exact, chip });
    }
    Ok(all)
}

/// The plain implementation, by the rules of the graph.
pub fn reference(model: &Model, inputs: &[Vec<u8>], stored: &[Stored]) -> Result<Share, Failed> {
    let mut reference = Reference::new(model, Rules::Graph);
    let mut share = Share::default();
    for (sample, input) in inputs.iter().enumerate() {
        let tensors = reference.run(input)?;
        for s in stored.iter().filter(|s| sample < s.exact.len_of(Axis(0))) {
            let tensor = model.tensor(s.tensor);
            let found = tensor.layout.to_onnx(&tensors[s.tensor], tensor.shape);
            share.add(equal(&found, s.exact.index_axis(Axis(0), sample).iter()));
        }
    }
    Ok(share)
}

/// Runs the plain implementation with the chip's saturations and notes where inner tensors then differ from what is
/// stored, which has none. Says how many integers do.
pub fn saturate(model: &Model, inputs: &[Vec<u8>], stored: &mut [Stored]) -> Result<usize, Failed> {
    let mut reference = Reference::new(model, Rules::Chip);
    let detailed = detailed(inputs, stored);
    let mut different = 0;
    for (sample, input) in inputs.iter().enumerate().take(detailed) {
        let tensors = reference.run(input)?;
        for s in stored.iter_mut().filter(|s| model.outputs.iter().all(|o| o.tensor != s.tensor)) {
            let tensor = model.tensor(s.tensor);
            let found = tensor.layout.to_onnx(&tensors[s.tensor], tensor.shape);
            let exact = s.exact.index_axis(Axis(0), sample);
            let wrong = found.iter().zip(&exact).filter(|(a, b)| i64::from(**a) != **b).count();
            if wrong > 0 {
                different += wrong;
                let chip = s.chip.get_or_insert_with(|| s.exact.clone());
                chip.index_axis_mut(Axis(0), sample).iter_mut().zip(found).for_each(|(a, b)| *a = b.into());
            }
        }
    }
    Ok(different)
}

/// Samples whose inner tensors are stored.
fn detailed(inputs: &[Vec<u8>], stored: &[Stored]) -> usize {
    stored.iter().map(|s| s.exact.len_of(Axis(0))).min().unwrap_or(0).min(inputs.len())
}

fn equal<'a>(found: &[i32], expected: impl ExactSizeIterator<Item = &'a i64>) -> Share {
    let all = expected.len().max(found.len());
    Share { equal: found.iter().zip(expected).filter(|(a, b)| i64::from(**a) == **b).count(), all }
}

/// The boards of a target.
pub fn boards(target: Target) -> &'static [BoardModel] {
    match target {
        Target::Akd1000 => &[BoardModel::Akd1000],
        Target::Akd1500 => &[BoardModel::Akd1500],
        Target::Akida2 => &[BoardModel::Akida2SixNodes, BoardModel::Akida2TwoNodes],
    }
}

/// A model on a simulated board, with as many layers there as it can hold.
pub fn open(board: BoardModel, model: &Arc<Model>) -> Result<Session, Failed> {
    let board = Arc::new(SimBoard::open(&SimSpec::new(board))?);
    let device = Device::open(board, DeviceOptions::default())?;
    let map = MapOptions { sequences: Sequences::All, ..MapOptions::default() };
    Ok(Session::open(model.clone(), device, SessionOptions { map, ..SessionOptions::default() })?)
}

/// A simulated board: the outputs of all samples, and inner tensors of the first ones.
pub fn board(session: &mut Session, inputs: &[Vec<u8>], stored: &[Stored]) -> Result<Share, Failed> {
    let model = session.model().clone();
    let mut share = Share::default();
    let outputs = session.infer(Batch::Bytes(inputs))?;
    for (output, found) in model.outputs.iter().zip(&outputs.raw) {
        for s in stored.iter().filter(|s| s.tensor == output.tensor) {
            share.add(compare(found, s.chip.as_ref().unwrap_or(&s.exact))?);
        }
    }
    let inner = |tensor: TensorId| stored.iter().find(|s| s.tensor == tensor);
    let outputs = session.infer_with(Batch::Bytes(&inputs[..detailed(inputs, stored)]), Detail::AllTensors)?;
    for found in &outputs.intermediates {
        let output = model.outputs.iter().any(|o| o.tensor == found.tensor);
        if let Some(s) = inner(found.tensor).filter(|_| !output) {
            share.add(compare(&found.values, s.chip.as_ref().unwrap_or(&s.exact))?);
        }
    }
    Ok(share)
}

fn compare(found: &ArrayD<i32>, expected: &ArrayD<i64>) -> Result<Share, Failed> {
    if found.shape() != expected.shape() {
        return Err(format!("{:?} integers, not {:?}", found.shape(), expected.shape()).into());
    }
    let equal = found.iter().zip(expected).filter(|(a, b)| i64::from(**a) == **b).count();
    Ok(Share { equal, all: found.len() })
}
