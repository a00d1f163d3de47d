//! What must hold of a network of several parts.

use std::collections::HashMap;

use super::{Elements, HybridModel, Part, Port, Segment};
use crate::model::{ModelError, Problem, limits as model_limits};

/// Limits of a network, far above what any has.
pub mod limits {
    /// Most parts.
    pub const PARTS: usize = 4096;
    /// Most inputs and outputs of a part.
    pub const PORTS: usize = 4096;
    /// Most dimensions of a tensor.
    pub const RANK: usize = 8;
    /// Most operations that a segment lists.
    pub const OPERATIONS: usize = 1 << 20;
    /// Most bytes of a segment.
    pub const BYTES: usize = 1 << 31;
}

fn range(place: &str, field: &'static str, value: usize, min: usize, max: usize) -> Result<(), ModelError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let problem = Problem::Range { value: value as i64, min: min as i64, max: max as i64 };
    Err(ModelError::new(place, field, problem))
}

fn rule<T>(place: &str, field: &'static str, rule: &'static str) -> Result<T, ModelError> {
    Err(ModelError::new(place, field, Problem::Rule(rule)))
}

impl HybridModel {
    /// Checks every invariant: sizes within [`limits`], parts that are valid by themselves, tensors made once and before
    /// they are taken, with the same dimensions and elements on both sides.
    ///
    /// # Errors
    /// The first broken one, with its place.
    pub fn validate(&self) -> Result<(), ModelError> {
        range("network", "parts", self.parts.len(), 1, limits::PARTS)?;
        range("network", "outputs", self.outputs.len(), 1, limits::PORTS)?;
        if self.boards().next().is_none() {
            return rule("network", "parts", "are all on the host: there must be one for the board");
        }
        self.input.check("network input")?;
        batched("network input", &self.input)?;
        let mut made: HashMap<&str, Port> = HashMap::from([(self.input.name.as_str(), self.input.clone())]);
        for (number, part) in self.parts.iter().enumerate() {
            let place = format!("part {number} ({})", part.name());
            match part {
                Part::Board(model) => {
                    model.validate()?;
                    if model.target != self.target {
                        return rule(&place, "target", "is another than the network's");
                    }
                }
                Part::Host(segment) => segment.check(&place)?,
            }
            for port in part.inputs() {
                fits(&place, "input", &port, made.get(port.name.as_str()), part, &self.input)?;
            }
            let names: Vec<&str> = match part {
                Part::Board(model) => model.outputs.iter().map(|output| output.name.as_str()).collect(),
                Part::Host(segment) => segment.outputs.iter().map(|port| port.name.as_str()).collect(),
            };
            for (name, port) in names.into_iter().zip(part.outputs()) {
                if made.insert(name, port).is_some() {
                    return rule(&format!("{place}, output {name}"), "name", "is that of another tensor");
                }
            }
        }
        for port in &self.outputs {
            let place = format!("network output {}", port.name);
            port.check(&place)?;
            batched(&place, port)?;
            if made.get(port.name.as_str()) != Some(port) {
                return rule(&place, "tensor", "is none of a part, or has other dimensions there");
            }
        }
        Ok(())
    }
}

/// Results of samples are put together along the first dimension.
fn batched(place: &str, port: &Port) -> Result<(), ModelError> {
    match port.dims.first() {
        Some(1) => Ok(()),
        _ => rule(place, "dimensions", "do not begin with a batch of 1"),
    }
}

/// What a part takes must be there as it wants it. The network's input may be integers where a board part takes it.
fn fits(
    place: &str,
    field: &'static str,
    port: &Port,
    made: Option<&Port>,
    part: &Part,
    input: &Port,
) -> Result<(), ModelError> {
    let place = format!("{place}, {field} {}", port.name);
    match made {
        None => rule(&place, "tensor", "is made by no part before it"),
        Some(made) if made == port => Ok(()),
        Some(made) if matches!(part, Part::Board(_)) && made == input && made.dims == port.dims => Ok(()),
        Some(_) => rule(&place, "tensor", "has other dimensions or elements where it is made"),
    }
}

impl Port {
    fn check(&self, place: &str) -> Result<(), ModelError> {
        if self.name.is_empty() {
            return rule(place, "name", "is empty");
        }
        range(place, "number of dimensions", self.dims.len(), 0, limits::RANK)?;
        let elements = self.dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        range(place, "elements", elements.unwrap_or(usize::MAX), 1, model_limits::ELEMENTS)
    }
}

impl Segment {
    fn check(&self, place: &str) -> Result<(), ModelError> {
        if self.name.is_empty() || self.format.is_empty() {
            return rule(place, "name or format", "is empty");
        }
        range(place, "inputs", self.inputs.len(), 0, limits::PORTS)?;
        range(place, "outputs", self.outputs.len(), 1, limits::PORTS)?;
        range(place, "operations", self.operations.len(), 0, limits::OPERATIONS)?;
        range(place, "bytes", self.data.len(), 1, limits::BYTES)?;
        for port in self.inputs.iter().chain(&self.outputs) {
            port.check(&format!("{place}, tensor {}", port.name))?;
        }
        Ok(())
    }
}

impl Elements {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Elements::F32 => "float32",
            Elements::I64 => "int64",
        }
    }
}
