//! One run of a float graph, to know that the host can compute it and how large its tensors are: shapes of arbitrary
//! operators are learned from who computes them, not from a second table.

use std::collections::HashMap;

use akida_runtime::hybrid::{Elements, HostError, HostProgram, Port};

use super::bound::bounded;
use super::engine::{Program, zeros};
use crate::onnx::{DType, Dim, Graph, Value, ValueType};
use crate::prepare::infer;

/// Elements of all tensors of a graph that runs in a moment.
const QUICK: usize = 1 << 22;
/// What a trial found out of a tensor: its dimensions for a batch of 1, and its elements.
pub(crate) type Made = HashMap<String, Port>;

/// Runs `graph` on zeros for a batch of 1, with `inputs` as they are declared, and says how `wanted` came out.
pub(crate) fn trial(graph: &Graph, inputs: &[Port], wanted: &[String]) -> Result<Made, HostError> {
    let mut graph = graph.clone();
    graph.inputs = inputs.iter().map(value).collect();
    let mut sized = graph.clone();
    infer(&mut sized).map_err(|e| HostError(e.to_string()))?;
    let bytes = graph.to_bytes().map_err(|e| HostError(e.to_string()))?;
    let names: Vec<&str> = inputs.iter().map(|port| port.name.as_str()).collect();
    let zeros: Vec<_> = inputs.iter().map(|port| zeros(&port.dims, port.elements)).collect();
    let fed: Vec<_> = zeros.iter().collect();
    // Nodes are in order: what makes the tensors that are looked at is bounded by then.
    let mut look = |tensors: &[&str]| Program::plain(bytes.clone(), &names, tensors)?.run(&fed);
    sized.nodes.iter().try_for_each(|node| bounded(&sized, node, &mut look))?;
    let outputs: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let mut program = Program::load(bytes, &names, &outputs)?;
    if let Some(made) = large(&sized, wanted) {
        return Ok(made);
    }
    let made = program.run(&fed)?;
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

/// A port as ONNX declares it.
pub(crate) fn value(port: &Port) -> Value {
    let dtype = match port.elements {
        Elements::F32 => DType::F32,
        Elements::I64 => DType::I64,
    };
    let dims: Vec<Dim> = port.dims.iter().map(|&dim| Dim::Fixed(dim)).collect();
    Value { name: port.name.clone(), ty: ValueType::new(dtype, dims) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Node, Tensor};

    #[test]
    fn sizes_that_are_computed_are_bounded_too() {
        for (factor, fits) in [(2i64, true), (1 << 24, false)] {
            let mut graph = Graph { name: "sizes".into(), ir_version: 8, ..Graph::default() };
            graph.opsets.insert(String::new(), 17);
            graph.initializers.insert("factor".into(), Tensor::new([1], &[factor]));
            graph.nodes = vec![
                Node::new("Relu", &["x"], "y"),
                Node::new("NonZero", &["y"], "some"),
                Node::new("Shape", &["some"], "sizes"),
                Node::new("Add", &["sizes", "factor"], "repeats"),
                Node::new("Tile", &["y", "repeats"], "out"),
            ]
            .into();
            graph.outputs = vec![Value { name: "out".into(), ty: ValueType::default() }];
            let input = Port { name: "x".into(), dims: vec![1, 4], elements: Elements::F32 };
            let found = trial(&graph, &[input], &["out".into()]);
            match found {
                Ok(made) => assert!(fits && made["out"].dims == [4, 8], "{made:?}"),
                Err(error) => assert!(!fits && error.to_string().contains("Tile"), "{error}"),
            }
        }
    }
}
