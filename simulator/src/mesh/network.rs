//! The network that a mesh was programmed with.

use super::{Mesh, MeshError, MeshInput, MeshOutput, Port, ReadMemory};

/// A network, ready to run.
#[derive(Debug)]
pub struct Network {
    input: Port,
    output: Port,
}

impl Network {
    pub(super) fn decode(_mesh: &Mesh) -> Result<Self, MeshError> {
        Err(MeshError::NothingConfigured)
    }

    /// What a job is given.
    pub fn input(&self) -> Port {
        self.input
    }

    /// What a job gives.
    pub fn output(&self) -> Port {
        self.output
    }

    /// Computes one job.
    pub fn run(&self, _input: MeshInput<'_>, _memory: &dyn ReadMemory) -> Result<MeshOutput, MeshError> {
        Err(MeshError::NothingConfigured)
    }
}
