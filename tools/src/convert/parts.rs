//! What of a network runs where, for `quantize`, `show` and `map`: its parts, why operations are on the host, and what
//! crosses between host and board.

use std::fmt::Write;

use akida_runtime::hybrid::{Boundary, HybridModel, Operation, Part, Port};
use serde::Serialize;

/// A part, in a JSON document.
#[derive(Serialize)]
pub struct PartEntry<'m> {
    /// `board` or `host`.
    place: &'static str,
    name: &'m str,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// Layers of a board part.
    layers: Vec<&'m str>,
    /// Operations of a host segment, with the rule that keeps each off the board.
    operations: &'m [Operation],
    /// Bytes of a host segment.
    segment_bytes: usize,
}

/// Parts and boundaries, in a JSON document.
#[derive(Serialize)]
pub struct PartsEntry<'m> {
    parts: Vec<PartEntry<'m>>,
    /// What crosses for one inference.
    boundaries: Vec<Boundary>,
    /// All of it.
    bytes_per_inference: usize,
}

/// Parts and boundaries of a network.
pub fn entry(network: &HybridModel) -> PartsEntry<'_> {
    let boundaries = network.boundaries();
    PartsEntry {
        parts: network.parts.iter().map(part).collect(),
        bytes_per_inference: boundaries.iter().map(|b| b.bytes).sum(),
        boundaries,
    }
}

fn part(part: &Part) -> PartEntry<'_> {
    let (place, layers, operations, segment_bytes) = match part {
        Part::Board(model) => ("board", model.layers.iter().map(|l| l.name.as_str()).collect(), &[][..], 0),
        Part::Host(segment) => ("host", Vec::new(), segment.operations.as_slice(), segment.data.len()),
    };
    let (name, inputs, outputs) = (part.name(), part.inputs(), part.outputs());
    PartEntry { place, name, inputs, outputs, layers, operations, segment_bytes }
}

/// The same for people; nothing for a network that is one board part.
pub fn text(network: &HybridModel) -> String {
    let mut text = String::new();
    if network.whole().is_some() {
        return text;
    }
    let _ = writeln!(text, "parts");
    for (number, part) in network.parts.iter().enumerate() {
        match part {
            Part::Board(model) => {
                let _ = writeln!(text, "  {number} board: {} layers, {}", model.layers.len(), ends(model));
            }
            Part::Host(segment) => {
                let _ = writeln!(text, "  {number} host, in floating point: {}", operations(&segment.operations));
                for o in &segment.operations {
                    let _ =
                        writeln!(text, "      {} ({}): the board needs {}; found: {}", o.name, o.op, o.rule, o.found);
                }
            }
        }
    }
    let _ = writeln!(text, "moved for one inference");
    for b in network.boundaries() {
        let _ = writeln!(text, "  {}: {} bytes, '{}' at layer {}", b.direction, b.bytes, b.tensor, b.layer);
    }
    text
}

fn ends(model: &akida_runtime::model::Model) -> String {
    let name = |layer: Option<&akida_runtime::model::Layer>| layer.map_or("", |l| l.name.as_str()).to_owned();
    format!("{} to {}", name(model.layers.first()), name(model.layers.last()))
}

fn operations(all: &[Operation]) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for o in all {
        match kinds.iter_mut().find(|(op, _)| *op == o.op) {
            Some((_, count)) => *count += 1,
            None => kinds.push((&o.op, 1)),
        }
    }
    let kind = |(op, count): (&str, usize)| if count == 1 { op.to_owned() } else { format!("{count} {op}") };
    kinds.into_iter().map(kind).collect::<Vec<_>>().join(", ")
}
