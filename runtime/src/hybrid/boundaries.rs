//! What crosses between host and board for one inference.

use super::{HybridModel, Part};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Floats are quantized, integers go to the board.
    HostToBoard,
    /// Integers come from the board and become floats.
    BoardToHost,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Direction::HostToBoard => "host -> board",
            Direction::BoardToHost => "board -> host",
        })
    }
}

/// A tensor that crosses.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Boundary {
    /// Number of the board part.
    pub part: usize,
    /// Which way.
    pub direction: Direction,
    /// Name of the float tensor.
    pub tensor: String,
    /// The layer that takes or makes its integers.
    pub layer: String,
    /// Bytes of integers for one inference: one an element, four for sums.
    pub bytes: usize,
}

impl HybridModel {
    /// Everything that crosses between host and board at the edges of board parts, in the order in which it does. What
    /// crosses inside a part, where its mapping puts layers on the host, is the mapping's.
    pub fn boundaries(&self) -> Vec<Boundary> {
        let mut all = Vec::new();
        for (part, model) in self.parts.iter().enumerate().filter_map(|(n, part)| match part {
            Part::Board(model) => Some((n, model)),
            Part::Host(_) => None,
        }) {
            let size = |id: usize| {
                let tensor = model.tensor(id);
                tensor.elements() * if tensor.bits > 8 { 4 } else { 1 }
            };
            let name = |id: usize| id.checked_sub(1).map_or("", |layer| model.layers[layer].name.as_str());
            let first = model.layers.iter().find(|layer| layer.inputs.contains(&0));
            all.push(Boundary {
                part,
                direction: Direction::HostToBoard,
                tensor: model.input.name.clone(),
                layer: first.map_or_else(String::new, |layer| layer.name.clone()),
                bytes: size(0),
            });
            all.extend(model.outputs.iter().map(|output| Boundary {
                part,
                direction: Direction::BoardToHost,
                tensor: output.name.clone(),
                layer: name(output.tensor).to_owned(),
                bytes: size(output.tensor),
            }));
        }
        all
    }
}
