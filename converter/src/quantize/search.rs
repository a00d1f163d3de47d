//! Finding the layers of a prepared graph, from the input on (quantization.md 2.1, 2.4).

use std::collections::{HashMap, HashSet, VecDeque};

use super::layer::{Activation, Kind, Layer};
use super::{QuantizeError, Warning, patterns};
use crate::onnx::Graph;

/// The nodes the input quantizer takes over, and the tensor they end in.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Numbers of a leading Cast and Transpose.
    pub nodes: Vec<usize>,
    /// The axes after the Transpose.
    pub perm: Vec<i64>,
    /// The float tensor that becomes the integer input.
    pub tensor: String,
}

/// Everything that is quantized.
pub struct Found {
    /// The input.
    pub entry: Entry,
    /// Layers, in the order they were found: each after those it reads.
    pub layers: Vec<Layer>,
    /// Chains that look like a layer and are not.
    pub warnings: Vec<Warning>,
}

/// Finds the input quantizer's part and all layers that can be reached through quantized tensors. `several`: whether
/// several nodes may read the input.
pub fn search(graph: &Graph, unsigned_input: bool, until: Option<&str>, several: bool) -> Result<Found, QuantizeError> {
    let entry = entry(graph, several)?;
    let mut quantized: HashSet<String> = HashSet::from([entry.tensor.clone()]);
    let mut queue: VecDeque<usize> = graph.consumers(&entry.tensor).into();
    let (mut layers, mut warnings): (Vec<Layer>, Vec<Warning>) = (Vec::new(), Vec::new());
    let mut refused = HashSet::new();
    while let Some(first) = queue.pop_front() {
        let ready =
            |name: &String| name.is_empty() || quantized.contains(name) || graph.initializers.contains_key(name);
        if !graph.nodes[first].inputs.iter().all(ready) || quantized.contains(graph.nodes[first].output()) {
            continue;
        }
        let Some((pattern, nodes)) = patterns::find(graph, first, until) else { continue };
        if layers.iter().any(|layer| layer.nodes.contains(&first)) || refused.contains(&first) {
            continue;
        }
        let mut reasons = Vec::new();
        let mut built = None;
        for &builder in pattern.builders {
            match Layer::build(builder, graph, nodes.clone()) {
                Ok(layer) => {
                    built = Some(layer);
                    break;
                }
                Err(reason) => reasons.push(reason),
            }
        }
        let Some(mut layer) = built else {
            refused.insert(first);
            let names = |&n: &usize| (graph.nodes[n].name.clone(), graph.nodes[n].op.clone());
            warnings.push(Warning::NotALayer { nodes: nodes.iter().map(names).collect(), reasons });
            continue;
        };
        if unsigned_input && layer.inputs.contains(&entry.tensor) {
            match layer.kind {
                Kind::Conv { .. } => layer.kind = Kind::Conv { input: true },
                _ => return Err(not_on_unsigned(graph, &layer)),
            }
        }
        quantized.insert(layer.output.clone());
        if until != Some(layer.output.as_str()) {
            queue.extend(graph.consumers(&layer.output));
        }
        layers.push(layer);
    }
    if layers.is_empty() {
        let found = match warnings.first() {
            Some(warning) => warning.to_string(),
            None => match graph.consumers(&entry.tensor).first().map(|&n| &graph.nodes[n]) {
                Some(node) => {
                    format!("the input feeds node '{}' ({}), which no pattern starts with", node.name, node.op)
                }
                None => "nothing reads the input".to_owned(),
            },
        };
        return Err(QuantizeError::Graph {
            graph: graph.name.clone(),
            rule: "the first operator must be quantizable",
            found,
            remedy: "Start the network with a convolution (int8 input: or a fully connected layer)",
        });
    }
    demand_scales(&mut layers);
    Ok(Found { entry, layers, warnings })
}

/// Dense and Add layers reduce their output to 8 bits when another layer reads it; what an Add reads must be on a
/// power-of-two scale.
fn demand_scales(layers: &mut [Layer]) {
    let makers: HashMap<String, usize> =
        layers.iter().enumerate().map(|(n, layer)| (layer.output.clone(), n)).collect();
    for reader in 0..layers.len() {
        let is_add = layers[reader].kind == Kind::Add;
        for input in layers[reader].inputs.clone() {
            if let Some(&maker) = makers.get(&input) {
                let maker = &mut layers[maker];
                maker.scaled |= maker.kind != Kind::Concat;
                maker.power_of_two |= is_add;
            }
        }
    }
}

/// A leading Cast, Transpose, or both, become part of the input quantizer.
fn entry(graph: &Graph, several: bool) -> Result<Entry, QuantizeError> {
    let refuse = |rule, found: String, remedy| QuantizeError::Graph { graph: graph.name.clone(), rule, found, remedy };
    let [input] = graph.inputs.as_slice() else {
        let names: Vec<_> = graph.inputs.iter().map(|input| input.name.as_str()).collect();
        let found = format!("{} inputs ({})", names.len(), names.join(", "));
        return Err(refuse("a model must have one input", found, "Export the network with a single input"));
    };
    let mut entry = Entry { nodes: Vec::new(), perm: Vec::new(), tensor: input.name.clone() };
    for op in ["Cast", "Transpose"] {
        if let [only] = graph.consumers(&entry.tensor)[..]
            && graph.nodes[only].is(op)
            && !graph.is_output(graph.nodes[only].output())
        {
            let node = &graph.nodes[only];
            entry.nodes.push(only);
            entry.tensor = node.output().to_owned();
            if let Some(perm) = node.ints("perm") {
                entry.perm = perm.to_vec();
            }
        }
    }
    if entry.perm.is_empty() {
        let rank = input.ty.shape.as_ref().map_or(0, Vec::len) as i64;
        entry.perm = (0..rank).collect();
    }
    let uses = graph.consumers(&input.name).len();
    if uses != 1 && !several {
        let found = format!("'{}' is read by {uses} nodes", input.name);
        return Err(refuse("the model's input must be read by exactly one node", found, "Insert a 1x1 convolution"));
    }
    Ok(entry)
}

fn not_on_unsigned(graph: &Graph, layer: &Layer) -> QuantizeError {
    let node = &graph.nodes[layer.main];
    let group = node.int("group").unwrap_or(1);
    QuantizeError::Node {
        node: node.name.clone(),
        op: node.op.clone(),
        rule: "the first layer on a uint8 input must be a convolution with group 1".into(),
        found: if node.op == "Conv" { format!("group {group}") } else { format!("a {}", node.op) },
        remedy: "Use --input-dtype int8, or start the network with a convolution",
    }
}

impl Layer {
    /// The tensor that enters the activation.
    pub fn activation_input<'a>(&self, graph: &'a Graph) -> Option<&'a str> {
        match self.activation {
            Activation::Lut(node) => graph.nodes[node].input(0),
            _ => None,
        }
    }
}
