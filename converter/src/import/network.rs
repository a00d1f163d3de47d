//! Quantized graphs with float operators to networks of several parts.
//!
//! Everything between an `InputQuantizer` and its dequantizers is a board part; float operators become host segments, as
//! few as the order allows: whatever can be computed before the next board part is one segment.

use std::collections::{HashMap, HashSet};

use akida_runtime::hybrid::{HybridModel, Operation, Part, Port, Segment};
use akida_runtime::model::Blob;

use super::{ImportError, ImportOptions, import};
use crate::calibrate::spelled_out;
use crate::host::{self, FORMAT};
use crate::onnx::{BRAINCHIP, DType, Dim, Graph, Value, ValueType};
use crate::quantize::{is_float, why};

/// Reads a quantized graph with all its float operators. A graph without any becomes a network of one part.
///
/// # Errors
/// As [`import`], and when the host cannot compute a float operator.
pub fn import_network(graph: &Graph, options: ImportOptions) -> Result<HybridModel, ImportError> {
    let regions = regions(graph)?;
    let floats: Vec<usize> = (0..graph.nodes.len()).filter(|&n| is_float(&graph.nodes[n])).collect();
    if floats.is_empty() && regions.len() <= 1 {
        return Ok(HybridModel::of(import(graph, options)?.model));
    }
    let mut builder = Builder::new(graph, options)?;
    let mut left_regions: Vec<Vec<usize>> = regions;
    let mut left_floats = floats;
    while !left_regions.is_empty() || !left_floats.is_empty() {
        let (ready, waiting): (Vec<_>, Vec<_>) =
            left_regions.into_iter().partition(|nodes| builder.has(graph.nodes[nodes[0]].input(0)));
        left_regions = waiting;
        let mut progress = !ready.is_empty();
        for nodes in ready {
            builder.board(&nodes)?;
        }
        let taken = builder.computable(&left_floats);
        if !taken.is_empty() {
            left_floats.retain(|n| !taken.contains(n));
            builder.host(taken)?;
            progress = true;
        }
        if !progress {
            let stuck = left_floats.first().copied().or_else(|| left_regions.first().map(|nodes| nodes[0]));
            let node = &graph.nodes[stuck.unwrap_or(0)];
            return Err(ImportError::node(node, "takes a tensor that nothing before it makes"));
        }
    }
    builder.finish()
}

/// Numbers of the quantized nodes of each region, the quantizer first.
fn regions(graph: &Graph) -> Result<Vec<Vec<usize>>, ImportError> {
    let mut regions: Vec<Vec<usize>> = Vec::new();
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (number, node) in graph.nodes.iter().enumerate().filter(|(_, node)| !is_float(node)) {
        let region = match node.op.as_str() {
            "InputQuantizer" => {
                regions.push(Vec::new());
                regions.len() - 1
            }
            _ => match node.inputs.iter().find_map(|name| makers.get(name.as_str())) {
                Some(&region) => region,
                None => return Err(ImportError::node(node, "takes no tensor that a quantized node makes")),
            },
        };
        regions[region].push(number);
        if !node.op.starts_with("Dequantizer") {
            makers.extend(node.outputs.iter().map(|name| (name.as_str(), region)));
        }
    }
    Ok(regions)
}

struct Builder<'a> {
    graph: &'a Graph,
    options: ImportOptions,
    input: Port,
    parts: Vec<Part>,
    /// Float tensors there are.
    ports: HashMap<String, Port>,
}

impl<'a> Builder<'a> {
    fn new(graph: &'a Graph, options: ImportOptions) -> Result<Self, ImportError> {
        let [value] = graph.inputs.as_slice() else {
            let reason = "it does not have exactly one input";
            return Err(ImportError::NotQuantized { graph: graph.name.clone(), reason });
        };
        let Some(dims) = value.ty.without_batch() else {
            let reason = "the dimensions of its input after the batch are not all known";
            return Err(ImportError::NotQuantized { graph: graph.name.clone(), reason });
        };
        let dims: Vec<usize> = [1].into_iter().chain(dims).collect();
        let input = Port::floats(&value.name, dims);
        let ports = HashMap::from([(input.name.clone(), input.clone())]);
        Ok(Self { graph, options, input, parts: Vec::new(), ports })
    }

    fn has(&self, tensor: Option<&str>) -> bool {
        tensor.is_some_and(|name| self.ports.contains_key(name))
    }

    /// Those of these float nodes that can be computed now, with what they make for one another.
    fn computable(&self, floats: &[usize]) -> Vec<usize> {
        let mut made: HashSet<&str> = HashSet::new();
        let mut taken = Vec::new();
        for &number in floats {
            let node = &self.graph.nodes[number];
            let there = |name: &String| {
                name.is_empty()
                    || made.contains(name.as_str())
                    || self.ports.contains_key(name)
                    || self.graph.initializers.contains_key(name)
            };
            if node.inputs.iter().all(there) {
                made.extend(node.outputs.iter().map(String::as_str));
                taken.push(number);
            }
        }
        taken
    }

    /// Tensors that these nodes make and others, or the network's outputs, read.
    fn read_elsewhere(&self, nodes: &[usize]) -> Vec<String> {
        let inside: HashSet<usize> = nodes.iter().copied().collect();
        let outside = self.graph.nodes.iter().enumerate().filter(|(number, _)| !inside.contains(number));
        let read: HashSet<&String> = outside
            .flat_map(|(_, node)| &node.inputs)
            .chain(self.graph.outputs.iter().map(|output| &output.name))
            .collect();
        let made = nodes.iter().flat_map(|&n| &self.graph.nodes[n].outputs);
        made.filter(|name| !name.is_empty() && read.contains(name)).cloned().collect()
    }

    /// These nodes as a graph of their own.
    fn cut(&self, name: String, nodes: &[usize]) -> Graph {
        let mut out = Graph { name, ir_version: self.graph.ir_version, ..Graph::default() };
        out.opsets = self.graph.opsets.clone();
        for node in nodes.iter().map(|&n| &self.graph.nodes[n]) {
            for name in &node.inputs {
                if let Some(constant) = self.graph.initializers.get(name) {
                    out.initializers.insert(name.clone(), constant.clone());
                }
            }
            for name in node.outputs.iter().chain(&node.inputs) {
                if let Some(ty) = self.graph.values.get(name) {
                    out.values.insert(name.clone(), ty.clone());
                }
            }
            if let Some(function) = self.graph.function(BRAINCHIP, &node.op).filter(|_| node.domain == BRAINCHIP)
                && out.function(BRAINCHIP, &node.op).is_none()
            {
                out.functions.push(function.clone());
            }
            out.nodes.push(node.clone());
        }
        out
    }

    fn board(&mut self, nodes: &[usize]) -> Result<(), ImportError> {
        let count = self.parts.iter().filter(|part| matches!(part, Part::Board(_))).count();
        let mut graph = self.cut(format!("{} board part {}", self.graph.name, count + 1), nodes);
        let taken = self.graph.nodes[nodes[0]].input(0).unwrap_or_default();
        let port = &self.ports[taken];
        graph.inputs = match self.graph.inputs.iter().find(|input| input.name == taken) {
            // As it is declared: its integers may enter as they are.
            Some(input) => vec![input.clone()],
            None => {
                let dims: Vec<Dim> = port.dims.iter().map(|&dim| Dim::Fixed(dim)).collect();
                vec![Value { name: taken.to_owned(), ty: ValueType::new(DType::F32, dims) }]
            }
        };
        let outputs = self.read_elsewhere(nodes).into_iter();
        graph.outputs = outputs.map(|name| Value { name, ty: ValueType::default() }).collect();
        let mut model = import(&graph, self.options)?.model;
        // The batch belongs to the call; a port has its dimensions with a batch of 1.
        model.input.name = taken.to_owned();
        let part = Part::Board(Box::new(model));
        for port in part.outputs() {
            self.ports.insert(port.name.clone(), port);
        }
        self.parts.push(part);
        Ok(())
    }

    fn host(&mut self, nodes: Vec<usize>) -> Result<(), ImportError> {
        let count = self.parts.iter().filter(|part| matches!(part, Part::Host(_))).count();
        let name = format!("host segment {}", count + 1);
        let first = &self.graph.nodes[nodes[0]];
        let fail = |reason: String| ImportError::node(first, format!("the host cannot compute {name}: {reason}"));
        let graph = self.cut(name.clone(), &nodes);
        let plain = spelled_out(&graph).map_err(|e| fail(e.to_string()))?;
        if let Some(memory) = plain.memories.first() {
            let reason = format!("'{}' keeps frames of a stream, which only a board part does", memory.tensor);
            return Err(fail(reason));
        }
        let mut graph = plain.graph;
        graph.values.clear();
        let made: HashSet<&String> = graph.nodes.iter().flat_map(|node| &node.outputs).collect();
        let mut inputs: Vec<Port> = Vec::new();
        for name in graph.nodes.iter().flat_map(|node| &node.inputs) {
            let inside = name.is_empty() || made.contains(name) || graph.initializers.contains_key(name);
            if !inside && !inputs.iter().any(|port| port.name == *name) {
                inputs.extend(self.ports.get(name).cloned());
            }
        }
        let wanted = self.read_elsewhere(&nodes);
        graph.inputs = inputs.iter().map(host::value).collect();
        graph.outputs = wanted.iter().map(|name| Value { name: name.clone(), ty: ValueType::default() }).collect();
        let found = host::trial(&graph, &inputs, &wanted).map_err(|e| fail(e.to_string()))?;
        let outputs: Vec<Port> = wanted.iter().filter_map(|name| found.get(name).cloned()).collect();
        graph.outputs = outputs.iter().map(host::value).collect();
        let operation = |&number: &usize| {
            let node = &self.graph.nodes[number];
            let (rule, found) = why(self.graph, number);
            // Preparation has one operator for all activations with a table.
            let op = node.string("main_op_type").unwrap_or(&node.op).to_owned();
            Operation { name: node.name.clone(), op, rule, found }
        };
        let operations = nodes.iter().map(operation).collect();
        let data = Blob::new(graph.to_bytes()?);
        let segment = Segment { name, format: FORMAT.to_owned(), inputs, outputs, operations, data };
        for port in &segment.outputs {
            self.ports.insert(port.name.clone(), port.clone());
        }
        self.parts.push(Part::Host(segment));
        Ok(())
    }

    fn finish(self) -> Result<HybridModel, ImportError> {
        let target = self.parts.iter().find_map(|part| match part {
            Part::Board(model) => Some(model.target),
            Part::Host(_) => None,
        });
        let Some(target) = target else {
            let reason = "it has no quantized operators";
            return Err(ImportError::NotQuantized { graph: self.graph.name.clone(), reason });
        };
        let outputs = self.graph.outputs.iter().map(|output| match self.ports.get(&output.name) {
            Some(port) => Ok(port.clone()),
            None => {
                let reason = "an output of it is made by none of its operators";
                Err(ImportError::NotQuantized { graph: self.graph.name.clone(), reason })
            }
        });
        let network = HybridModel {
            name: self.graph.name.clone(),
            target,
            input: self.input,
            outputs: outputs.collect::<Result<_, _>>()?,
            parts: self.parts,
        };
        network.validate()?;
        Ok(network)
    }
}
