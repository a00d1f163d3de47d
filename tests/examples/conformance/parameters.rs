//! Quantizing the float networks of the cases, and how many numbers are those of the reference.

use akida_converter::calibrate::{Calibration, Ranges, load_ranges};
use akida_converter::onnx::{self, BRAINCHIP, Graph};
use akida_converter::quantize::{InputType, QuantizeOptions};
use akida_converter::{Quantized, quantize};
use akida_tests::conformance::Case;

use crate::Failed;

/// How many of all numbers are equal, bit for bit.
#[derive(Clone, Copy, Default)]
pub struct Share {
    pub equal: usize,
    pub all: usize,
}

impl Share {
    pub fn percent(self) -> f64 {
        100.0 * self.equal as f64 / self.all.max(1) as f64
    }

    pub fn is_whole(self) -> bool {
        self.equal == self.all && self.all > 0
    }

    pub fn add(&mut self, other: Self) {
        self.equal += other.equal;
        self.all += other.all;
    }
}

fn options(case: &Case) -> QuantizeOptions {
    let parameters = &case.json["quantization_params"];
    let dims = case.json["input"]["float_shape"].as_array();
    QuantizeOptions {
        input_dtype: if parameters["input_dtype"] == "int8" { InputType::I8 } else { InputType::U8 },
        per_tensor: parameters["per_tensor_activations"] == true,
        last_output_bits: parameters["last_output_bits"].as_u64().map(|bits| bits as u32),
        quantize_until: case.json["quantize_kwargs"]["quantize_until"].as_str().map(str::to_owned),
        further_regions: false,
        input_shape: dims.map(|dims| dims.iter().filter_map(|d| d.as_u64()).map(|d| d as usize).collect()),
        ..QuantizeOptions::default()
    }
}

fn float(case: &Case) -> Result<Graph, Failed> {
    Ok(onnx::load(&case.path(case.json["model_file"].as_str().unwrap_or("model.onnx")))?)
}

/// With the ranges of the reference.
pub fn with_given_ranges(case: &Case) -> Result<Quantized, Failed> {
    let mut ranges = Ranges::new();
    for (name, range) in load_ranges(&case.path("calibration_ranges.npz"))?.iter() {
        ranges.insert(without_random_part(name), range.clone());
    }
    Ok(quantize(float(case)?, &Calibration::Ranges(&ranges), &options(case), &mut |_, _| {})?)
}

/// With ranges observed here, on the reference's samples.
pub fn with_own_ranges(case: &Case) -> Result<Quantized, Failed> {
    let samples = case.calibration();
    Ok(quantize(float(case)?, &Calibration::Samples(samples.view()), &options(case), &mut |_, _| {})?)
}

/// The reference draws the names of some tensors, as a UUID at the end.
fn without_random_part(name: &str) -> &str {
    let uuid = |tail: &[u8]| {
        tail.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
    };
    match name.len().checked_sub(36).filter(|&at| uuid(&name.as_bytes()[at..])) {
        Some(at) => name[..at].trim_end_matches('_'),
        None => name,
    }
}

/// How two quantized graphs compare.
pub struct Compared {
    /// Weights, biases, multipliers, shifts, zero points, tables and padding values.
    pub integers: Share,
    /// Float scales of the quantizer and the dequantizer.
    pub scales: Share,
}

/// Compares all constants of all integer nodes, position by position: names are not compared, operators are.
pub fn compare(ours: &Graph, reference: &Graph) -> Result<Compared, Failed> {
    fn integer(graph: &Graph) -> impl Iterator<Item = &onnx::Node> {
        graph.nodes.iter().filter(|node| node.domain == BRAINCHIP)
    }
    if integer(ours).count() != integer(reference).count() {
        return Err(format!("{} layers, not {}", integer(ours).count(), integer(reference).count()).into());
    }
    let mut compared = Compared { integers: Share::default(), scales: Share::default() };
    for (mine, theirs) in integer(ours).zip(integer(reference)) {
        if mine.op != theirs.op || mine.inputs.len() != theirs.inputs.len() {
            return Err(format!("'{}' is {}, not {}", theirs.name, mine.op, theirs.op).into());
        }
        let edge = theirs.op == "InputQuantizer" || theirs.op.starts_with("Dequantizer");
        for (mine, theirs) in mine.inputs.iter().zip(&theirs.inputs) {
            let Some(expected) = reference.initializers.get(theirs) else { continue };
            let found = ours.initializers.get(mine).ok_or_else(|| format!("'{mine}' is no constant"))?;
            if (found.dtype(), found.dims()) != (expected.dtype(), expected.dims()) {
                return Err(format!("'{theirs}' has another type or shape").into());
            }
            // Shifts of layers are powers of two in floats: exact.
            let scale = edge && expected.dtype().is_float();
            let share = if scale { &mut compared.scales } else { &mut compared.integers };
            let (found, expected, size) = (found.bytes()?, expected.bytes()?, expected.dtype().size());
            share.all += expected.len() / size;
            share.equal += found.chunks(size).zip(expected.chunks(size)).filter(|(a, b)| a == b).count();
        }
    }
    Ok(compared)
}
