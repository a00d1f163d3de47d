//! What an NP of a given type and generation can be configured as (targets.md sections 1, 2 and 4.1).

use akida_hal::mesh::{NpAddress, NpTypes};
use akida_hal::np::{Activation, Inbound, NpLayer, Op, Source};

use super::super::MeshError;
use super::decode::{Configured, problem, range};

/// Elements of the largest tensor a simulated mesh computes with (ours). Real SRAM ends far below; this keeps a program
/// that asks for absurd shapes from taking the host's memory.
const LARGEST: usize = 1 << 27;

/// Refuses what hardware of this type and generation does not have.
pub(super) fn check(configured: &Configured<'_>, generation: u8) -> Result<(), MeshError> {
    let layer = &configured.layer;
    let id = layer.layer;
    if configured.np == NpAddress::HRC {
        hrc(layer)?;
    } else {
        let (needed, needs) = types(layer);
        if !configured.types.contains(needed) {
            let (np, types) = (configured.np, configured.types);
            return Err(MeshError::WrongType { np, types, layer: id, needs });
        }
        if layer.pad_value != [0; 3] {
            return problem(id, "only the HRC has padding values");
        }
    }
    if layer.output_bits == 32 && !layer.output_signed {
        return problem(id, "potentials are signed");
    }
    sizes(layer)?;
    if layer.op == Op::Merge {
        merge(layer)?;
    }
    if generation == 1 { first(configured) } else { second(configured) }
}

fn types(layer: &NpLayer) -> (NpTypes, &'static str) {
    match layer.op {
        Op::Conv | Op::Depthwise if layer.fifo > 0 => (NpTypes::TNP_B, "temporal convolutions run on a TNP_B"),
        Op::Conv | Op::Transposed | Op::Merge => (NpTypes::CNP1, "convolutions run on a CNP1"),
        Op::Depthwise | Op::DepthwiseTransposed | Op::Separable => {
            (NpTypes::CNP2, "depthwise and separable convolutions run on a CNP2")
        }
        Op::Dense if layer.external.is_some() => (NpTypes::FNP2, "external weights are read by an FNP2"),
        Op::Dense => (NpTypes::FNP3, "a dense layer with its weights in SRAM runs on an FNP3"),
    }
}

fn sizes(layer: &NpLayer) -> Result<(), MeshError> {
    let product = |factors: &[u16]| factors.iter().map(|&f| u64::from(f)).product::<u64>();
    let [height, width, channels] = layer.input;
    let [conv_height, conv_width] = layer.conv;
    let rows = layer.out_rows.origin.saturating_add(layer.out_rows.len);
    let columns = layer.out_columns.origin.saturating_add(layer.out_columns.len);
    let filters = layer.filters.origin.saturating_add(layer.filters.len);
    for (what, elements) in [
        ("input", product(&[height, width, channels]) * u64::from(layer.fifo.max(1))),
        ("convolution", product(&[conv_height, conv_width, layer.filters.len])),
        ("output", product(&[rows, columns, filters])),
        ("weights in device memory", product(&[layer.inputs.len, layer.filters.len])),
    ] {
        if elements > LARGEST as u64 {
            return problem(layer.layer, format!("{what} of {elements} elements, at most {LARGEST} are simulated"));
        }
    }
    Ok(())
}

/// A merge layer passes on what it holds.
fn merge(layer: &NpLayer) -> Result<(), MeshError> {
    let id = layer.layer;
    for (what, made, held) in
        [("rows", layer.out_rows, layer.in_rows), ("columns", layer.out_columns, layer.in_columns)]
    {
        let (made, held) = (range(made), range(held));
        if made.start < held.start || made.end > held.end {
            return problem(id, format!("passes on {what} {made:?} and holds {held:?}"));
        }
    }
    let same = (layer.output_bits, layer.output_signed) == (layer.input_bits, layer.input_signed);
    let sum = matches!(layer.inbound, Inbound::Add(..)) && layer.output_bits == 32;
    if same || sum { Ok(()) } else { problem(id, "a merge layer gives what it takes, or a 32-bit sum") }
}

fn hrc(layer: &NpLayer) -> Result<(), MeshError> {
    let id = layer.layer;
    if layer.op != Op::Conv || layer.fifo > 0 {
        return problem(id, "the HRC computes convolutions only");
    }
    if layer.inbound != Inbound::One(Source::Input) {
        return problem(id, "the HRC takes the job's input only");
    }
    if !matches!(layer.input[2], 1 | 3) {
        return problem(id, format!("the HRC takes 1 or 3 channels, not {}", layer.input[2]));
    }
    if layer.input_bits != 8 || layer.input_signed {
        return problem(id, "the HRC takes unsigned 8-bit inputs");
    }
    Ok(())
}

fn first(configured: &Configured<'_>) -> Result<(), MeshError> {
    let layer = &configured.layer;
    let id = layer.layer;
    let hrc = configured.np == NpAddress::HRC;
    if !matches!(layer.op, Op::Conv | Op::Separable | Op::Dense) || layer.fifo > 0 {
        return problem(id, format!("Akida 1.0 has no {:?} layers", layer.op));
    }
    if !matches!(layer.inbound, Inbound::One(_)) {
        return problem(id, "Akida 1.0 does not merge tensors");
    }
    if !hrc && (layer.input_bits > 4 || layer.input_signed) {
        return problem(id, "NPs of Akida 1.0 take unsigned inputs of 1, 2 or 4 bits");
    }
    if !hrc && (layer.weight_bits > 4 || layer.pointwise_bits > 4) {
        return problem(id, "NPs of Akida 1.0 have weights of 1, 2 or 4 bits");
    }
    match (layer.activation, layer.output_bits) {
        (Activation::Steps, 1 | 2 | 4) if !layer.output_signed => Ok(()),
        (Activation::None, 32) => Ok(()),
        _ => problem(id, "Akida 1.0 gives unsigned activations of 1, 2 or 4 bits in steps, or potentials"),
    }
}

fn second(configured: &Configured<'_>) -> Result<(), MeshError> {
    let layer = &configured.layer;
    let id = layer.layer;
    if layer.op == Op::Separable {
        return problem(id, "Akida 2.0 has no separable layers");
    }
    if layer.activation == Activation::Steps {
        return problem(id, "Akida 2.0 has no stepped activations");
    }
    let width = |bits: u8| matches!(bits, 4 | 8);
    if !width(layer.input_bits) || (!width(layer.weight_bits) && layer.op != Op::Merge) {
        return problem(id, "inputs and weights of Akida 2.0 have 4 or 8 bits");
    }
    if !width(layer.output_bits) && layer.output_bits != 32 {
        return problem(id, "outputs of Akida 2.0 have 4, 8 or 32 bits");
    }
    if layer.op == Op::Merge && layer.activation != Activation::None {
        return problem(id, "a merge layer has no activation");
    }
    Ok(())
}
