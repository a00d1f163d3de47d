//! Which chains of float nodes become one integer operator (quantization.md 2.1): a table, and how it is matched.

use crate::onnx::{BRAINCHIP, Graph, Node};

/// What makes a layer of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builder {
    /// Convolution over all channels.
    Conv,
    /// One kernel per channel.
    Depthwise,
    /// Matrix product, after a Flatten or not.
    Dense,
    /// Sum of two tensors.
    Add,
    /// Channels of two tensors after each other.
    Concat,
    /// Transposed convolution of either kind.
    ConvTranspose,
    /// Convolution over a FIFO of frames.
    TemporalConv,
    /// Same, one kernel per channel.
    DepthwiseTemporalConv,
}

use Builder::*;

/// A chain of operators, each with its alternatives, and the builders to try in order.
pub struct Pattern {
    /// Operators from first to last; several names stand for "any of these".
    pub ops: &'static [&'static [&'static str]],
    /// Tried in this order.
    pub builders: &'static [Builder],
}

const CONV: &[Builder] = &[Depthwise, Conv];

/// All patterns, in the order they are compared.
pub const PATTERNS: &[Pattern] = &[
    Pattern { ops: &[&["BRNPad"], &["Conv"], &["MaxPool"], &["Relu", "Clip"]], builders: &[Conv] },
    Pattern { ops: &[&["BRNPad"], &["Conv"], &["activation", "Relu", "Clip"]], builders: &[Conv] },
    Pattern { ops: &[&["BRNPad"], &["Conv"]], builders: &[Conv] },
    Pattern { ops: &[&["Conv"], &["Relu"], &["GlobalAveragePool"]], builders: CONV },
    Pattern { ops: &[&["Conv"], &["MaxPool"], &["Relu"]], builders: CONV },
    Pattern { ops: &[&["Conv"], &["GlobalAveragePool"]], builders: CONV },
    Pattern { ops: &[&["Conv"], &["Relu"]], builders: CONV },
    Pattern { ops: &[&["Conv"], &["Clip"], &["GlobalAveragePool"]], builders: CONV },
    Pattern { ops: &[&["Conv"], &["MaxPool"], &["Clip"]], builders: CONV },
    Pattern { ops: &[&["Conv"], &["activation"], &["GlobalAveragePool"]], builders: CONV },
    Pattern { ops: &[&["Conv"], &["Clip"]], builders: CONV },
    Pattern { ops: &[&["Conv"], &["activation"]], builders: CONV },
    Pattern { ops: &[&["Conv"]], builders: CONV },
    Pattern { ops: &[&["Flatten"], &["Gemm"], &["Relu", "Clip"]], builders: &[Dense] },
    Pattern { ops: &[&["Flatten"], &["Gemm"]], builders: &[Dense] },
    Pattern { ops: &[&["Gemm"], &["Relu", "Clip"]], builders: &[Dense] },
    Pattern { ops: &[&["Gemm"]], builders: &[Dense] },
    Pattern { ops: &[&["Add"]], builders: &[Add] },
    Pattern { ops: &[&["Concat"]], builders: &[Concat] },
    Pattern { ops: &[&["ConvTranspose"], &["Clip", "Relu", "activation"]], builders: &[ConvTranspose] },
    Pattern { ops: &[&["ConvTranspose"]], builders: &[ConvTranspose] },
    Pattern { ops: &[&["BufferTempConv"], &["Relu"]], builders: &[TemporalConv] },
    Pattern { ops: &[&["BufferTempConv"]], builders: &[TemporalConv] },
    Pattern { ops: &[&["DepthwiseBufferTempConv"], &["Relu"]], builders: &[DepthwiseTemporalConv] },
    Pattern { ops: &[&["DepthwiseBufferTempConv"]], builders: &[DepthwiseTemporalConv] },
];

/// Operators that float models do not have: graph preparation makes them, in their own domain.
pub const PREPARED_OPS: [&str; 4] = ["BRNPad", "activation", "BufferTempConv", "DepthwiseBufferTempConv"];

/// Whether a node is operator `op` of a pattern: standard, or one of those that preparation makes.
fn is(node: &Node, op: &str) -> bool {
    let domain = if PREPARED_OPS.contains(&op) { BRAINCHIP } else { "" };
    node.op == op && node.domain == domain
}

/// The chain of `len` nodes from node `first` on: each has one consumer, none makes a graph output or the tensor
/// `until`, except the last. None when there are not so many.
fn chain(graph: &Graph, first: usize, len: usize, until: Option<&str>) -> Option<Vec<usize>> {
    let mut nodes = vec![first];
    while nodes.len() < len {
        let output = graph.nodes[nodes[nodes.len() - 1]].output();
        if graph.is_output(output) || until == Some(output) {
            return None;
        }
        match graph.consumers(output).as_slice() {
            [only] => nodes.push(*only),
            _ => return None,
        }
    }
    Some(nodes)
}

/// The first pattern that the nodes from `first` on are, and the nodes.
pub fn find(graph: &Graph, first: usize, until: Option<&str>) -> Option<(&'static Pattern, Vec<usize>)> {
    PATTERNS.iter().find_map(|pattern| {
        let starts = pattern.ops[0].iter().any(|op| is(&graph.nodes[first], op));
        if !starts {
            return None;
        }
        let nodes = chain(graph, first, pattern.ops.len(), until)?;
        let fits = nodes.iter().zip(pattern.ops).all(|(&n, ops)| ops.iter().any(|op| is(&graph.nodes[n], op)));
        fits.then_some((pattern, nodes))
    })
}
