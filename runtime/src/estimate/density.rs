//! How many elements of each tensor are not 0.

use crate::model::{Model, TensorId};
use crate::session::{HostNetwork, SessionError, Values};

use super::REFERENCE_DENSITY;

/// Share of elements that are not 0, by tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Densities {
    shares: Vec<f64>,
    /// Samples they were measured on; 0: assumed.
    pub samples: usize,
}

impl Densities {
    /// [`REFERENCE_DENSITY`] everywhere.
    pub fn assumed(model: &Model) -> Self {
        Self { shares: vec![REFERENCE_DENSITY; model.layers.len() + 1], samples: 0 }
    }

    /// Of these samples, computed on the host with the kernels that simulated NPs have: a board shows no inner tensors.
    /// Samples are bytes in (height, width, channels) order; frames of a stream follow each other.
    ///
    /// # Errors
    /// Those of [`HostNetwork`].
    pub fn measure<'s>(model: &Model, samples: impl IntoIterator<Item = &'s [u8]>) -> Result<Self, SessionError> {
        let mut network = HostNetwork::prepare(model)?;
        let (mut count, mut set) = (0, vec![0u64; model.layers.len() + 1]);
        for sample in samples {
            network.run(sample)?;
            for (set, values) in set.iter_mut().zip(network.tensors()) {
                *set += match values {
                    Values::Bytes(v) => v.iter().filter(|b| **b != 0).count() as u64,
                    Values::Words(v) => v.iter().filter(|w| **w != 0).count() as u64,
                };
            }
            count += 1;
        }
        if count == 0 {
            return Ok(Self::assumed(model));
        }
        let share =
            |(tensor, set): (TensorId, u64)| set as f64 / (count * model.tensor(tensor).elements()).max(1) as f64;
        Ok(Self { shares: set.into_iter().enumerate().map(share).collect(), samples: count })
    }

    /// Of a tensor, 0 to 1.
    pub fn of(&self, tensor: TensorId) -> f64 {
        self.shares.get(tensor).copied().unwrap_or(REFERENCE_DENSITY)
    }

    /// These densities, all changed by a factor.
    pub fn scaled(&self, factor: f64) -> Self {
        Self { shares: self.shares.iter().map(|d| (d * factor).clamp(0.0, 1.0)).collect(), samples: self.samples }
    }
}
