//! What rewrites have in common: looking around in a graph and changing it.

use std::collections::{BTreeSet, HashMap, HashSet};

use ndarray::{ArrayD, IxDyn};

use crate::onnx::{Attribute, Dim, Graph, Node, Tensor};

/// Names for new tensors and nodes of one rewrite: `val_0`, `node_Conv_1`, ... as the reference numbers them.
#[derive(Default)]
pub struct Names {
    values: usize,
    nodes: usize,
}

impl Names {
    /// A tensor name that is not used yet.
    pub fn value(&mut self, graph: &Graph) -> String {
        loop {
            let name = format!("val_{}", self.values);
            self.values += 1;
            let known = graph.initializers.contains_key(&name)
                || graph.inputs.iter().any(|input| input.name == name)
                || graph.producer(&name).is_some();
            if !known {
                return name;
            }
        }
    }

    /// A node name that is not used yet.
    pub fn node(&mut self, graph: &Graph, op: &str) -> String {
        loop {
            let name = format!("node_{op}_{}", self.nodes);
            self.nodes += 1;
            if graph.node(&name).is_none() {
                return name;
            }
        }
    }
}

/// The one node that reads `tensor`, when there is exactly one and the tensor is not an output of the graph.
pub fn only_consumer(graph: &Graph, tensor: &str) -> Option<usize> {
    if graph.is_output(tensor) {
        return None;
    }
    match graph.consumers(tensor)[..] {
        [only] => Some(only),
        _ => None,
    }
}

/// The node that makes input `index` of node `node`, when nothing else reads it and it is not a graph output.
pub fn only_producer(graph: &Graph, node: usize, index: usize) -> Option<usize> {
    let tensor = graph.nodes[node].input(index)?;
    only_consumer(graph, tensor)?;
    graph.producer(tensor)
}

/// A constant's values as an array.
pub fn array(graph: &Graph, name: &str) -> Option<ArrayD<f32>> {
    let tensor = graph.initializers.get(name)?;
    ArrayD::from_shape_vec(IxDyn(tensor.dims()), tensor.values::<f32>(name).ok()?).ok()
}

/// A constant's values.
pub fn floats(graph: &Graph, name: &str) -> Option<Vec<f32>> {
    graph.initializers.get(name)?.values::<f32>(name).ok()
}

/// A constant's values.
pub fn integers(graph: &Graph, name: &str) -> Option<Vec<i64>> {
    graph.initializers.get(name)?.values::<i64>(name).ok()
}

/// An array as a constant.
pub fn tensor(array: &ArrayD<f32>) -> Tensor {
    Tensor::new(array.shape().to_vec(), &array.iter().copied().collect::<Vec<_>>())
}

/// `f` of two arrays, element by element with broadcasting; None when they do not fit.
pub fn broadcast(a: &ArrayD<f32>, b: &ArrayD<f32>, f: impl Fn(f32, f32) -> f32) -> Option<ArrayD<f32>> {
    let rank = a.ndim().max(b.ndim());
    let size = |array: &ArrayD<f32>, axis: usize| {
        (axis + array.ndim()).checked_sub(rank).map_or(1, |axis| array.shape()[axis])
    };
    let mut dims = Vec::with_capacity(rank);
    for axis in 0..rank {
        dims.push(match (size(a, axis), size(b, axis)) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return None,
        });
    }
    let (a, b) = (a.broadcast(IxDyn(&dims))?, b.broadcast(IxDyn(&dims))?);
    Some(ndarray::Zip::from(&a).and(&b).map_collect(|&a, &b| f(a, b)))
}

/// Dimensions of a tensor.
pub fn dims(graph: &Graph, tensor: &str) -> Option<Vec<Dim>> {
    graph.value_type(tensor)?.shape
}

/// The index of the operand of a two-operand node that is constant, when exactly one is.
pub fn constant_operand(graph: &Graph, node: &Node) -> Option<usize> {
    let constant = |index: usize| node.input(index).is_some_and(|name| graph.initializers.contains_key(name));
    match (node.inputs.len(), constant(0), constant(1)) {
        (2, true, false) => Some(0),
        (2, false, true) => Some(1),
        _ => None,
    }
}

/// Makes all readers of `old` read `new` instead; outputs of the graph stay.
pub fn redirect(graph: &mut Graph, old: &str, new: &str) {
    for input in graph.nodes.iter_mut().flat_map(|node| &mut node.inputs).filter(|input| *input == old) {
        *input = new.to_owned();
    }
}

/// Takes a node out that passes input 0 on to its output. False, and nothing is changed, when that would need a graph
/// input to be renamed.
pub fn bypass(graph: &mut Graph, node: usize) -> bool {
    let (source, output) = (graph.nodes[node].inputs[0].clone(), graph.nodes[node].output().to_owned());
    if graph.is_output(&output) {
        let Some(maker) = graph.producer(&source) else { return false };
        if graph.is_output(&source) {
            return false;
        }
        redirect(graph, &source, &output);
        for name in graph.nodes[maker].outputs.iter_mut().filter(|name| **name == source) {
            *name = output.clone();
        }
        graph.nodes.remove(node);
    } else {
        graph.nodes.remove(node);
        redirect(graph, &output, &source);
    }
    true
}

/// Removes the nodes with these numbers.
pub fn remove(graph: &mut Graph, numbers: &[usize]) {
    let mut number = 0;
    graph.nodes.retain(|_| {
        number += 1;
        !numbers.contains(&(number - 1))
    });
}

/// Adds a constant; a name that is taken by another value gets a number.
pub fn add_constant(graph: &mut Graph, name: &str, tensor: Tensor) -> String {
    let mut free = name.to_owned();
    let mut number = 0;
    while graph.initializers.contains_key(&free) || graph.producer(&free).is_some() {
        number += 1;
        free = format!("{name}_{number}");
    }
    graph.initializers.insert(free.clone(), tensor);
    free
}

/// Gives node `node` a new constant for input `index`. The name stays when nothing else reads the old one.
pub fn replace_constant(graph: &mut Graph, node: usize, index: usize, tensor: Tensor) {
    let name = graph.nodes[node].inputs[index].clone();
    if graph.uses().get(name.as_str()) == Some(&1) {
        graph.initializers.insert(name, tensor);
    } else {
        graph.nodes[node].inputs[index] = add_constant(graph, &name, tensor);
    }
}

/// Removes nodes nothing depends on, then constants nothing reads. Returns whether a node went.
pub fn sweep(graph: &mut Graph) -> bool {
    let mut needed: HashSet<String> = graph.outputs.iter().map(|output| output.name.clone()).collect();
    let mut keep = vec![false; graph.nodes.len()];
    for (number, node) in graph.nodes.iter().enumerate().rev() {
        if node.outputs.iter().any(|output| needed.contains(output)) {
            keep[number] = true;
            needed.extend(node.inputs.iter().cloned());
        }
    }
    let before = graph.nodes.len();
    let mut kept = keep.into_iter();
    graph.nodes.retain(|_| kept.next().unwrap_or(true));
    graph.initializers.retain(|name, _| needed.contains(name));
    graph.nodes.len() != before
}

/// An integer list attribute, or `default` for each of `len` axes.
pub fn ints(node: &Node, name: &str, len: usize, default: i64) -> Vec<i64> {
    node.ints(name).map_or_else(|| vec![default; len], <[i64]>::to_vec)
}

/// Sets an integer list attribute.
pub fn set_ints(node: &mut Node, name: &str, values: Vec<i64>) {
    node.attributes.insert(name.to_owned(), Attribute::Ints(values));
}

/// Puts the nodes into an order in which every tensor is made before it is read, changing as little as possible.
/// False when there is none.
pub fn sort(graph: &mut Graph) -> bool {
    let made: HashSet<String> =
        graph.initializers.keys().chain(graph.inputs.iter().map(|input| &input.name)).cloned().collect();
    // For each node how many of its inputs are not made yet, and who waits for a tensor.
    let mut missing = Vec::with_capacity(graph.nodes.len());
    let mut waiting: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut ready = BTreeSet::new();
    for (number, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<&String> =
            node.inputs.iter().filter(|name| !name.is_empty() && !made.contains(*name)).collect();
        missing.push(inputs.len());
        if inputs.is_empty() {
            ready.insert(number);
        }
        inputs.into_iter().for_each(|name| waiting.entry(name).or_default().push(number));
    }
    let mut order = Vec::with_capacity(graph.nodes.len());
    while let Some(number) = ready.pop_first() {
        order.push(number);
        for output in &graph.nodes[number].outputs {
            for reader in waiting.remove(output.as_str()).unwrap_or_default() {
                missing[reader] -= 1;
                if missing[reader] == 0 {
                    ready.insert(reader);
                }
            }
        }
    }
    let done = order.len() == graph.nodes.len();
    if !order.is_sorted() || !done {
        let left: Vec<usize> = (0..missing.len()).filter(|&number| missing[number] > 0).collect();
        let mut nodes: Vec<Option<Node>> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
        graph.nodes = order.into_iter().chain(left).filter_map(|number| nodes[number].take()).collect();
    }
    done
}
