//! Who computes host segments.

use ndarray::ArrayD;

use super::{Elements, Port, Segment};

/// Understands the bytes of host segments.
pub trait HostEngine: Send + Sync {
    /// Its name and version, for reports.
    fn name(&self) -> String;

    /// Gets a segment ready.
    ///
    /// # Errors
    /// When its bytes or one of its operations is none of this engine.
    fn prepare(&self, segment: &Segment) -> Result<Box<dyn HostProgram>, HostError>;
}

/// A host segment, ready to run.
pub trait HostProgram: Send {
    /// Computes one sample: a batch of 1. Values are those of the segment's ports, in their order.
    ///
    /// # Errors
    /// When an operation fails.
    fn run(&mut self, inputs: &[&HostValues]) -> Result<Vec<HostValues>, HostError>;
}

/// What an engine says when it fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostError(pub String);

/// A tensor outside the board, the batch first.
#[derive(Clone, Debug, PartialEq)]
pub enum HostValues {
    /// 32-bit floats.
    F32(ArrayD<f32>),
    /// Integers.
    I64(ArrayD<i64>),
}

impl HostValues {
    /// Its dimensions.
    pub fn dims(&self) -> &[usize] {
        match self {
            HostValues::F32(array) => array.shape(),
            HostValues::I64(array) => array.shape(),
        }
    }

    /// What its elements are.
    pub fn elements(&self) -> Elements {
        match self {
            HostValues::F32(_) => Elements::F32,
            HostValues::I64(_) => Elements::I64,
        }
    }

    /// Whether this is what a port carries.
    pub fn fits(&self, port: &Port) -> bool {
        self.dims() == port.dims && self.elements() == port.elements
    }

    /// As floats; integers are rounded to the nearest where they have more than 24 bits.
    pub fn to_floats(&self) -> ArrayD<f32> {
        match self {
            HostValues::F32(array) => array.clone(),
            HostValues::I64(array) => array.mapv(|v| v as f32),
        }
    }
}
