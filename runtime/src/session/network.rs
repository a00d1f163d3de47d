//! A whole model on the host, without a board: the layers of host sequences, one after another.

use super::error::SessionError;
use super::host::{HostWork, Room};
use super::values::{Operand, Values};
use crate::mapping::HostStep;
use crate::model::{Model, TensorId};
use crate::reference::InputError;

/// A model that runs on the host with the kernels of the simulated NPs, and gives the same integers. No result of it is
/// ever taken for a board's: it has its own type and is asked for by name.
pub struct HostNetwork {
    input: String,
    shape: [usize; 3],
    steps: Vec<HostWork>,
    outputs: Vec<TensorId>,
    /// Every tensor of the last sample.
    tensors: Vec<Values>,
    room: Room,
}

impl HostNetwork {
    /// Prepares every layer of a valid model.
    pub fn prepare(model: &Model) -> Result<Self, SessionError> {
        let steps = (0..model.layers.len()).map(|layer| HostWork::prepare(model, HostStep::Layer(layer)));
        Ok(Self {
            input: model.input.tensor.name.clone(),
            shape: model.input.tensor.shape,
            steps: steps.collect::<Result<_, _>>()?,
            outputs: model.outputs.iter().map(|o| o.tensor).collect(),
            tensors: Vec::with_capacity(model.layers.len() + 1),
            room: Room::default(),
        })
    }

    /// Name of the kernels that host layers and simulated NPs use.
    pub fn kernels() -> &'static str {
        akida_kernels::best().name()
    }

    /// The integers of the outputs for one sample; `sample` has one byte for each element in (height, width, channels)
    /// order. Streams go on from sample to sample ([`reset`](Self::reset)).
    pub fn run(&mut self, sample: &[u8]) -> Result<Vec<&Values>, SessionError> {
        let expected = self.shape.iter().product();
        if sample.len() != expected {
            let (name, found, shape) = (self.input.clone(), sample.len(), self.shape);
            let source = InputError::Length { name, found, expected, shape };
            return Err(SessionError::Input { sample: 0, source });
        }
        self.tensors.drain(..).for_each(|values| self.room.keep(values));
        self.tensors.push(Values::Bytes(sample.to_vec()));
        for work in &mut self.steps {
            // Layers come in order, so each finds its inputs.
            let inputs: Vec<Operand<'_>> =
                work.inputs().iter().filter_map(|&t| self.tensors.get(t)).map(Values::operand).collect();
            let made = work.run(&inputs, &mut self.room)?;
            self.tensors.push(made);
        }
        Ok(self.outputs.iter().map(|&t| &self.tensors[t]).collect())
    }

    /// Every tensor of the last sample, by its number; empty before the first one.
    pub fn tensors(&self) -> &[Values] {
        &self.tensors
    }

    /// Starts streams anew.
    pub fn reset(&mut self) {
        self.steps.iter_mut().for_each(HostWork::reset);
    }
}
