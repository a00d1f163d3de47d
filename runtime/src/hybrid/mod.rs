//! Networks that a board computes in part: board parts, which are whole [`Model`]s, and host segments in floating point,
//! in the order in which they run.
//!
//! What is in a segment is not known here: bytes, with named inputs and outputs. Whoever opens a [`HybridSession`] brings
//! the [`HostEngine`] that understands them. Parts meet in float tensors, by name: a board part quantizes what it takes
//! and dequantizes what it gives, as the network it was made from does at these places.

mod boundaries;
mod engine;
mod file;
mod ready;
mod results;
mod session;
#[cfg(test)]
mod tests;
mod validate;

pub use boundaries::{Boundary, Direction};
pub use engine::{HostEngine, HostError, HostProgram, HostValues};
pub use ready::{HybridAnswers, HybridReady};
pub use results::{HybridOutputs, PartResults};
pub use session::{HybridError, HybridSession, refuse_segments};
pub use validate::limits;

use crate::model::{Blob, Model, Target};

/// A network of board parts and host segments.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HybridModel {
    /// Name of the network.
    pub name: String,
    /// What its board parts were made for.
    pub target: Target,
    /// What it takes.
    pub input: Port,
    /// In the order in which they run: what one takes, one before it gives. At least one is a board part.
    pub parts: Vec<Part>,
    /// What it gives: tensors of its parts, in this order.
    pub outputs: Vec<Port>,
}

/// A part of a network that runs in one place.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// On the board, with layers on the host where the mapping says so; all of it in integers.
    Board(Box<Model>),
    /// On the host, in floating point.
    Host(Segment),
}

/// A float tensor at the border of a part.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name in the network.
    pub name: String,
    /// Its dimensions for one sample, the batch of 1 included.
    pub dims: Vec<usize>,
    /// Its elements.
    pub elements: Elements,
}

/// Elements of a tensor outside the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Elements {
    /// 32-bit floats.
    F32,
    /// Integers, as indices are.
    I64,
}

/// A host segment.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Its name in reports.
    pub name: String,
    /// What its bytes are, for an engine to know: `onnx`.
    pub format: String,
    /// What it takes, in this order.
    pub inputs: Vec<Port>,
    /// What it gives, in this order.
    pub outputs: Vec<Port>,
    /// What it computes and why here.
    pub operations: Vec<Operation>,
    /// For the engine. Not part of the metadata: a model file keeps them in a blob.
    #[serde(skip)]
    pub data: Blob,
}

/// An operation of a segment, for reports.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Name of the node.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The rule that keeps it off the board.
    pub rule: String,
    /// What was found instead.
    pub found: String,
}

impl Port {
    /// A float tensor with these dimensions, the batch of 1 included.
    pub fn floats(name: impl Into<String>, dims: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), dims: dims.into(), elements: Elements::F32 }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of one sample.
    pub fn bytes(&self) -> usize {
        self.len() * if self.elements == Elements::F32 { 4 } else { 8 }
    }
}

impl Part {
    /// Its name: of the segment, or of the model.
    pub fn name(&self) -> &str {
        match self {
            Part::Board(model) => &model.name,
            Part::Host(segment) => &segment.name,
        }
    }

    /// What it takes.
    pub fn inputs(&self) -> Vec<Port> {
        match self {
            Part::Board(model) => vec![board_port(model, None)],
            Part::Host(segment) => segment.inputs.clone(),
        }
    }

    /// What it gives.
    pub fn outputs(&self) -> Vec<Port> {
        match self {
            Part::Board(model) => (0..model.outputs.len()).map(|output| board_port(model, Some(output))).collect(),
            Part::Host(segment) => segment.outputs.clone(),
        }
    }
}

/// The float side of a model's input, or of an output.
fn board_port(model: &Model, output: Option<usize>) -> Port {
    let (name, layout, shape) = match output.map(|n| &model.outputs[n]) {
        None => (&model.input.name, model.input.layout, model.input.tensor.shape),
        Some(output) => {
            let tensor = model.tensor(output.tensor);
            (&output.name, tensor.layout, tensor.shape)
        }
    };
    let dims: Vec<usize> = [1].into_iter().chain(layout.dims(shape)).collect();
    Port::floats(name, dims)
}

impl HybridModel {
    /// A network of one board part.
    pub fn of(model: Model) -> Self {
        let part = Part::Board(Box::new(model.clone()));
        Self {
            name: model.name.clone(),
            target: model.target,
            input: board_port(&model, None),
            outputs: part.outputs(),
            parts: vec![part],
        }
    }

    /// The board parts with their numbers.
    pub fn boards(&self) -> impl Iterator<Item = (usize, &Model)> {
        self.parts.iter().enumerate().filter_map(|(number, part)| match part {
            Part::Board(model) => Some((number, &**model)),
            Part::Host(_) => None,
        })
    }

    /// The host segments with their numbers.
    pub fn segments(&self) -> impl Iterator<Item = (usize, &Segment)> {
        self.parts.iter().enumerate().filter_map(|(number, part)| match part {
            Part::Board(_) => None,
            Part::Host(segment) => Some((number, segment)),
        })
    }

    /// The model, when a board computes all of it.
    pub fn whole(&self) -> Option<&Model> {
        match self.parts.as_slice() {
            [Part::Board(model)] => Some(model),
            _ => None,
        }
    }
}
