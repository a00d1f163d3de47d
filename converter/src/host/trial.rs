//! One run of a float graph, to know that the host can compute it and how large its tensors are: shapes of arbitrary
//! operators are learned from who computes them, not from a second table.

use std::collections::HashMap;

use akida_runtime::hybrid::{Elements, HostError, HostProgram, Port};

use super::engine::{Program, zeros};
use crate::onnx::{DType, Dim, Graph, Value, ValueType};

/// What a trial found out of a tensor: its dimensions for a batch of 1, and its elements.
pub(crate) type Made = HashMap<String, Port>;

/// Runs `graph` on zeros for a batch of 1, with `inputs` as they are declared, and says how `wanted` came out.
pub(crate) fn trial(graph: &Graph, inputs: &[Port], wanted: &[String]) -> Result<Made, HostError> {
    let mut graph = graph.clone();
    graph.inputs = inputs.iter().map(value).collect();
    let bytes = graph.to_bytes().map_err(|e| HostError(e.to_string()))?;
    let names: Vec<&str> = inputs.iter().map(|port| port.name.as_str()).collect();
    let outputs: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let mut program = Program::load(bytes, &names, &outputs)?;
    let zeros: Vec<_> = inputs.iter().map(|port| zeros(&port.dims, port.elements)).collect();
    let made = program.run(&zeros.iter().collect::<Vec<_>>())?;
    let port = |(name, values): (&String, akida_runtime::hybrid::HostValues)| {
        (name.clone(), Port { name: name.clone(), dims: values.dims().to_vec(), elements: values.elements() })
    };
    Ok(wanted.iter().zip(made).map(port).collect())
}

/// A port as ONNX declares it.
pub(crate) fn value(port: &Port) -> Value {
    let dtype = match port.elements {
        Elements::F32 => DType::F32,
        Elements::I64 => DType::I64,
    };
    let dims: Vec<Dim> = port.dims.iter().map(|&dim| Dim::Fixed(dim)).collect();
    Value { name: port.name.clone(), ty: ValueType::new(dtype, dims) }
}
