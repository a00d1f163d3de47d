//! The order of nodes: breadth first from the input on, as ONNX Runtime writes them.

use std::collections::{HashMap, VecDeque};

use crate::onnx::Graph;

/// Sorts the nodes: each goes into a queue when its last input is made.
pub fn apply(graph: &mut Graph) {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (number, node) in graph.nodes.iter().enumerate() {
        makers.extend(node.outputs.iter().map(|output| (output.as_str(), number)));
    }
    let mut missing = vec![0usize; graph.nodes.len()];
    let mut readers = vec![Vec::new(); graph.nodes.len()];
    for (number, node) in graph.nodes.iter().enumerate() {
        for maker in node.inputs.iter().filter_map(|input| makers.get(input.as_str())) {
            missing[number] += 1;
            readers[*maker].push(number);
        }
    }
    let mut queue: VecDeque<usize> = (0..graph.nodes.len()).filter(|&n| missing[n] == 0).collect();
    let mut order = Vec::with_capacity(graph.nodes.len());
    while let Some(number) = queue.pop_front() {
        order.push(number);
        for &reader in &readers[number] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                queue.push_back(reader);
            }
        }
    }
    let mut nodes: Vec<Option<_>> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
    graph.nodes = order.into_iter().filter_map(|number| nodes[number].take()).collect();
}
