//! Host segments in the float runtime.

use akida_runtime::hybrid::{Elements, HostEngine, HostError, HostProgram, HostValues, Segment};
use ndarray::{ArrayD, IxDyn};
use rten::{Model, ModelOptions, NodeId, Value, ValueOrView};
use rten_tensor::prelude::*;

use crate::contained::contained;

/// What the bytes of a segment are: an ONNX file.
pub const FORMAT: &str = "onnx";

/// Runs host segments with rten, in pure Rust, on the host's processor.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnnxEngine;

impl HostEngine for OnnxEngine {
    fn name(&self) -> String {
        "rten".to_owned()
    }

    fn prepare(&self, segment: &Segment) -> Result<Box<dyn HostProgram>, HostError> {
        if segment.format != FORMAT {
            return Err(HostError(format!("its bytes are '{}', and this engine takes '{FORMAT}'", segment.format)));
        }
        let inputs: Vec<&str> = segment.inputs.iter().map(|port| port.name.as_str()).collect();
        let outputs: Vec<&str> = segment.outputs.iter().map(|port| port.name.as_str()).collect();
        Ok(Box::new(Program::load(segment.data.as_bytes().to_vec(), &inputs, &outputs)?))
    }
}

/// A loaded ONNX file, and what is fed to it and taken from it.
pub struct Program {
    model: Model,
    inputs: Vec<NodeId>,
    outputs: Vec<NodeId>,
}

impl Program {
    /// Loads a file and finds its tensors.
    pub fn load(bytes: Vec<u8>, inputs: &[&str], outputs: &[&str]) -> Result<Self, HostError> {
        Self::read(bytes, inputs, outputs, true)
    }

    /// The same, computing nothing before it runs.
    pub(super) fn plain(bytes: Vec<u8>, inputs: &[&str], outputs: &[&str]) -> Result<Self, HostError> {
        Self::read(bytes, inputs, outputs, false)
    }

    fn read(bytes: Vec<u8>, inputs: &[&str], outputs: &[&str], optimize: bool) -> Result<Self, HostError> {
        let load = || {
            let mut options = ModelOptions::with_all_ops();
            options.enable_optimization(optimize).load(bytes).map_err(|e| e.to_string())
        };
        let model = contained(load).map_err(HostError)?;
        let find = |names: &[&str]| {
            let id = |name: &&str| model.node_id(name).map_err(|e| HostError(e.to_string()));
            names.iter().map(id).collect::<Result<Vec<_>, _>>()
        };
        let (inputs, outputs) = (find(inputs)?, find(outputs)?);
        Ok(Self { inputs, outputs, model })
    }
}

impl HostProgram for Program {
    fn run(&mut self, inputs: &[&HostValues]) -> Result<Vec<HostValues>, HostError> {
        let fail = |reason: &dyn std::fmt::Display| HostError(reason.to_string());
        let mut fed: Vec<(NodeId, ValueOrView)> = Vec::with_capacity(inputs.len());
        for (id, values) in self.inputs.iter().zip(inputs) {
            let dims = values.dims().to_vec();
            let value = match values {
                HostValues::F32(array) => {
                    Value::from_shape(dims, array.iter().copied().collect::<Vec<f32>>()).map_err(|e| fail(&e))?
                }
                HostValues::I64(array) => {
                    // The runtime holds every integer in 32 bits.
                    let narrow = |&v: &i64| v.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
                    Value::from_shape(dims, array.iter().map(narrow).collect::<Vec<i32>>()).map_err(|e| fail(&e))?
                }
            };
            fed.push((*id, value.into()));
        }
        let run = || self.model.run(fed, &self.outputs, None).map_err(|e| e.to_string());
        let outputs = contained(run).map_err(HostError)?;
        outputs.into_iter().map(taken).collect()
    }
}

/// A value of the runtime as one of ours.
fn taken(value: Value) -> Result<HostValues, HostError> {
    let shaped = || HostError("a tensor contradicts its shape".to_owned());
    match value {
        Value::FloatTensor(tensor) => {
            let dims = IxDyn(tensor.shape());
            ArrayD::from_shape_vec(dims, tensor.to_vec()).map(HostValues::F32).map_err(|_| shaped())
        }
        Value::Int32Tensor(tensor) => {
            let dims = IxDyn(tensor.shape());
            let values = tensor.iter().map(|&v| i64::from(v)).collect();
            ArrayD::from_shape_vec(dims, values).map(HostValues::I64).map_err(|_| shaped())
        }
        _ => Err(HostError("a tensor is neither of 32-bit floats nor of integers".to_owned())),
    }
}

/// Zeros for a port.
pub(super) fn zeros(dims: &[usize], elements: Elements) -> HostValues {
    match elements {
        Elements::F32 => HostValues::F32(ArrayD::zeros(dims)),
        Elements::I64 => HostValues::I64(ArrayD::zeros(dims)),
    }
}
