//! A small language for graphs in tests, and what is left of a graph after a rewrite.

use crate::onnx::{DType, Dim, Graph, Node, Tensor, Value, ValueType, print_node};
use crate::prepare::{StepError, infer};

/// A graph from text: first line `INPUT: DIMS -> OUTPUTS`, then nodes `OUT = Op[name=1,2](INPUTS)`.
/// An input `#NAME:2x3=0.5,1` is a constant of that shape; its values repeat as needed; `#NAME:i:...` holds int64.
pub fn graph(text: &str) -> Graph {
    let mut lines = text.lines();
    let (input, outputs) = lines.next().unwrap().split_once(" -> ").unwrap();
    let (name, dims) = input.split_once(": ").unwrap();
    let dim = |text: &str| text.parse().map_or_else(|_| Dim::Named(text.to_owned()), Dim::Fixed);
    let ty = ValueType::new(DType::F32, dims.split(',').map(dim).collect::<Vec<_>>());
    let mut graph = Graph { name: "test".into(), ir_version: 11, ..Graph::default() };
    graph.opsets.insert(String::new(), 21);
    graph.inputs.push(Value { name: name.to_owned(), ty });
    graph.outputs = outputs.split(',').map(|o| Value { name: o.to_owned(), ty: ValueType::default() }).collect();
    for line in lines {
        let (outputs, call) = line.split_once(" = ").unwrap();
        let (head, arguments) = call.strip_suffix(')').unwrap().split_once('(').unwrap();
        let (op, attributes) = head.split_once('[').map_or((head, ""), |(op, a)| (op, a.trim_end_matches(']')));
        let mut node = Node { name: outputs.to_owned(), op: op.to_owned(), ..Node::default() };
        node.outputs = outputs.split(", ").map(str::to_owned).collect();
        for attribute in attributes.split(' ').filter(|a| !a.is_empty()) {
            let (key, value) = attribute.split_once('=').unwrap();
            node = match value.split(',').map(str::parse).collect::<Result<Vec<i64>, _>>() {
                Ok(values)
                    if matches!(key, "group" | "axis" | "transA" | "transB" | "to" | "ceil_mode" | "keepdims") =>
                {
                    node.with(key, values[0])
                }
                Ok(values) => node.with(key, values),
                Err(_) => match value.parse::<f32>() {
                    Ok(value) => node.with(key, value),
                    Err(_) => node.with(key, value),
                },
            };
        }
        for argument in arguments.split(", ") {
            let name = match argument.strip_prefix('#') {
                None => argument,
                Some(constant) => {
                    let (name, rest) = constant.split_once(':').unwrap();
                    let (integers, rest) = rest.strip_prefix("i:").map_or((false, rest), |rest| (true, rest));
                    let (dims, values) = rest.split_once('=').unwrap();
                    let dims: Vec<usize> =
                        dims.split('x').filter(|d| !d.is_empty()).map(|d| d.parse().unwrap()).collect();
                    let values: Vec<f32> = values.split(',').map(|v| v.parse().unwrap()).collect();
                    let all: Vec<f32> = values.into_iter().cycle().take(dims.iter().product()).collect();
                    let tensor = if integers {
                        Tensor::new(dims, &all.iter().map(|&v| v as i64).collect::<Vec<_>>())
                    } else {
                        Tensor::new(dims, &all)
                    };
                    graph.initializers.insert(name.to_owned(), tensor);
                    name
                }
            };
            node.inputs.push(name.to_owned());
        }
        graph.nodes.push(node);
    }
    infer(&mut graph).unwrap();
    graph
}

/// The nodes after a rewrite, one a line, without the `%` signs.
pub fn after(rewrite: impl Fn(&mut Graph) -> Result<bool, StepError>, mut graph: Graph) -> String {
    rewrite(&mut graph).unwrap();
    text(&graph)
}

/// The nodes, one a line.
pub fn text(graph: &Graph) -> String {
    graph.nodes.iter().map(|node| print_node(node).replace('%', "")).collect::<Vec<_>>().join("\n")
}

/// Values of a constant after a rewrite.
pub fn constant(graph: &Graph, name: &str) -> Vec<f32> {
    graph.initializers[name].values::<f32>(name).unwrap()
}
