//! One run of a float graph, to know that the host can compute it and how large its tensors are: shapes of arbitrary
//! operators are learned from who computes them, not from a second table.

use std::collections::HashMap;

use akida_runtime::hybrid::{Elements, HostError, HostProgram, Port};

use super::engine::{Program, zeros};
use crate::onnx::{DType, Dim, Graph, Node, Value, ValueType};
use crate::prepare::infer;

/// Elements of the largest tensor on the host, for one inference: 256 MiB of floats.
const LARGEST: usize = 1 << 26;
/// Elements of all tensors of a graph that runs in a moment.
const QUICK: usize = 1 << 22;
/// Operators that make more of little, where inference does not know how much.
const GROWING: [&str; 9] =
    ["ConstantOfShape", "Expand", "Tile", "Pad", "Range", "OneHot", "Resize", "Upsample", "EyeLike"];
/// Largest factor of a Resize.
const SCALE: f32 = 64.0;

/// What a trial found out of a tensor: its dimensions for a batch of 1, and its elements.
pub(crate) type Made = HashMap<String, Port>;

/// Runs `graph` on zeros for a batch of 1, with `inputs` as they are declared, and says how `wanted` came out.
pub(crate) fn trial(graph: &Graph, inputs: &[Port], wanted: &[String]) -> Result<Made, HostError> {
    let mut graph = graph.clone();
    graph.inputs = inputs.iter().map(value).collect();
    let mut sized = graph.clone();
    infer(&mut sized).map_err(|e| HostError(e.to_string()))?;
    sized.nodes.iter().try_for_each(|node| bounded(&sized, node))?;
    let bytes = graph.to_bytes().map_err(|e| HostError(e.to_string()))?;
    let names: Vec<&str> = inputs.iter().map(|port| port.name.as_str()).collect();
    let outputs: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let mut program = Program::load(bytes, &names, &outputs)?;
    if let Some(made) = large(&sized, wanted) {
        return Ok(made);
    }
    let zeros: Vec<_> = inputs.iter().map(|port| zeros(&port.dims, port.elements)).collect();
    let made = program.run(&zeros.iter().collect::<Vec<_>>())?;
    let port = |(name, values): (&String, akida_runtime::hybrid::HostValues)| {
        (name.clone(), Port { name: name.clone(), dims: values.dims().to_vec(), elements: values.elements() })
    };
    Ok(wanted.iter().zip(made).map(port).collect())
}

/// What inference says of the wanted tensors, where it knows all of them and the graph takes long to run.
fn large(sized: &Graph, wanted: &[String]) -> Option<Made> {
    let port = |name: &String| {
        let ty = sized.value_type(name)?;
        let elements = match ty.dtype? {
            DType::F32 => Elements::F32,
            DType::I64 => Elements::I64,
            _ => return None,
        };
        let dims = ty.shape?.iter().map(Dim::fixed).collect::<Option<_>>()?;
        Some(Port { name: name.clone(), dims, elements })
    };
    let made = sized.nodes.iter().flat_map(|node| &node.outputs);
    let elements = |port: Port| port.dims.iter().product::<usize>();
    if made.filter_map(port).map(elements).sum::<usize>() <= QUICK {
        return None;
    }
    wanted.iter().map(|name| Some((name.clone(), port(name)?))).collect()
}

/// That a node's outputs are of a size one would want: a run is no way to find out.
fn bounded(graph: &Graph, node: &Node) -> Result<(), HostError> {
    let refuse = |what: String| {
        let (name, op) = (&node.name, &node.op);
        Err(HostError(format!("node '{name}' ({op}) makes {what}, more than {LARGEST} elements are not computed")))
    };
    for output in &node.outputs {
        let shape = graph.value_type(output).and_then(|ty| ty.shape);
        if let Some(dims) = shape.and_then(|dims| dims.iter().map(Dim::fixed).collect::<Option<Vec<usize>>>()) {
            if dims.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim)).is_none_or(|n| n > LARGEST) {
                return refuse(format!("'{output}' of {dims:?}"));
            }
            continue;
        }
        if !GROWING.contains(&node.op.as_str()) {
            continue;
        }
        // What it is given decides: sizes as integers, or factors.
        for name in &node.inputs {
            let Some(tensor) = graph.initializers.get(name).filter(|tensor| tensor.dims().len() <= 1) else { continue };
            if let Ok(sizes) = tensor.values::<i64>(name) {
                let all = sizes.iter().try_fold(1u64, |n, &v| n.checked_mul(v.unsigned_abs().max(1)));
                if all.is_none_or(|n| n > LARGEST as u64) {
                    return refuse(format!("what '{name}' of {sizes:?} asks for"));
                }
            } else if node.is("Resize") || node.is("Upsample") {
                let factors = tensor.values::<f32>(name).unwrap_or_default();
                if factors.iter().any(|factor| factor.is_nan() || factor.abs() > SCALE) {
                    return refuse(format!("what '{name}' of {factors:?} asks for"));
                }
            }
        }
    }
    Ok(())
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
