//! The quantized graph (quantization.md 2.5).

use std::collections::HashSet;

use super::functions;
use super::input::InputQuantizer;
use super::layer::{Kind, Layer, Pool};
use super::parameters::Parameters;
use super::scale::Scale;
use super::search::Entry;
use crate::onnx::{Attribute, BRAINCHIP, DType, Function, Graph, Node, Tensor, Value, ValueType};

/// Name of the integer input.
const INPUT: &str = "quantize";
/// Name of the node that gives floats back.
const DEQUANTIZER: &str = "dequantizer";

/// Puts together the quantized graph while layers come in.
pub struct Assembly<'a> {
    float: &'a Graph,
    graph: Graph,
    /// Numbers of the float nodes that are inside a layer.
    inside: HashSet<usize>,
    /// Name of the float tensor behind the integer input.
    input: String,
    /// Integer tensors with their scale, in the order they are made.
    tensors: Vec<(String, Scale)>,
}

impl<'a> Assembly<'a> {
    /// Starts with the input quantizer.
    pub fn new(float: &'a Graph, entry: &Entry, input: &InputQuantizer, unsigned: bool) -> Self {
        let mut graph = Graph { inputs: float.inputs.clone(), ir_version: 11, ..Graph::default() };
        graph.name = if float.name.is_empty() { "quantized_model".to_owned() } else { float.name.clone() };
        graph.opsets.insert(String::new(), crate::prepare::OPSET);
        graph.opsets.insert(BRAINCHIP.to_owned(), 1);
        let len = input.zero_point.len();
        let zero = if unsigned {
            Tensor::new([len], &input.zero_point.iter().map(|&z| z as u8).collect::<Vec<_>>())
        } else {
            Tensor::new([len], &input.zero_point.iter().map(|&z| z as i8).collect::<Vec<_>>())
        };
        graph.initializers.insert("quantize_scale".into(), Tensor::new([len], &input.onnx_scale));
        graph.initializers.insert("quantize_zp".into(), zero);
        let mut assembly =
            Self { float, graph, inside: HashSet::new(), input: entry.tensor.clone(), tensors: Vec::new() };
        let source = &float.inputs[0].name;
        let node = fused(INPUT, "InputQuantizer", &[source, "quantize_scale", "quantize_zp"], INPUT)
            .with("perm", entry.perm.clone())
            .with("scale", scale_attribute(&input.scale));
        let dtype = if unsigned { DType::U8 } else { DType::I8 };
        assembly.describe(INPUT, dtype, &entry.tensor);
        assembly.graph.nodes.push(node);
        assembly.graph.functions.push(functions::input_quantizer());
        assembly.inside.extend(&entry.nodes);
        assembly.tensors.push((entry.tensor.clone(), input.scale.clone()));
        assembly
    }

    /// Scale of an integer tensor.
    pub fn scale(&self, tensor: &str) -> Option<&Scale> {
        self.tensors.iter().find(|(name, _)| name == tensor).map(|(_, scale)| scale)
    }

    /// Defines an operator, unless it is defined already.
    fn define(&mut self, function: Function) {
        if self.graph.function(BRAINCHIP, &function.name).is_none() {
            self.graph.functions.push(function);
        }
    }

    /// Adds a layer whose inputs are there.
    pub fn push(&mut self, layer: &Layer, parameters: Parameters) {
        let main = &self.float.nodes[layer.main];
        let ints = |values: &[i64]| Attribute::Ints(values.to_vec());
        let mut inputs: Vec<String> =
            layer.inputs.iter().map(|name| if *name == self.input { INPUT.to_owned() } else { name.clone() }).collect();
        for (suffix, tensor) in parameters.tensors {
            let name = format!("{}_{suffix}", main.name);
            self.graph.initializers.insert(name.clone(), tensor);
            inputs.push(name);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let mut node = fused(&main.name, &layer.op(parameters.biased), &inputs, &layer.output);
        if matches!(layer.kind, Kind::Conv { .. } | Kind::Depthwise | Kind::ConvTranspose | Kind::DepthwiseTranspose) {
            node = node.with("strides", ints(main.ints("strides").unwrap_or(&[1, 1])));
        }
        if let (Pool::Max, Some(pool)) = (&layer.pool, layer.max_pool) {
            let pool = &self.float.nodes[pool];
            node = node
                .with("pool_size", ints(pool.ints("kernel_shape").unwrap_or(&[1, 1])))
                .with("pool_strides", ints(pool.ints("strides").unwrap_or(&[1, 1])))
                .with("pool_pads", ints(pool.ints("pads").unwrap_or(&[0, 0, 0, 0])));
        }
        if matches!(layer.kind, Kind::Depthwise | Kind::DepthwiseTranspose) {
            node = node.with("groups", main.int("group").unwrap_or(1));
        }
        if matches!(layer.kind, Kind::ConvTranspose | Kind::DepthwiseTranspose) {
            node = node.with("pads", ints(main.ints("pads").unwrap_or(&[0, 0, 0, 0])));
        }
        if matches!(layer.kind, Kind::TemporalConv | Kind::DepthwiseTemporalConv) {
            let text = |name: &str| main.string(name).unwrap_or_default().to_owned();
            node = node
                .with("fifo_name", text("fifo_name"))
                .with("fifo_size", main.int("fifo_size").unwrap_or(0))
                .with("model_id", format!("{}_quantized", text("model_id")));
        }
        node = node.with("scale", scale_attribute(&parameters.scale));
        // Ours: the reference's graphs have 8 bits throughout.
        if layer.widths.weights != 8 {
            node = node.with("weights_bits", i64::from(layer.widths.weights));
        }
        if layer.widths.output != 8 {
            node = node.with("output_bits", i64::from(layer.widths.output));
            node = node.with("output_signed", i64::from(layer.widths.signed));
        }
        let dtype = match (layer.scaled, &layer.kind) {
            (_, Kind::Concat) | (true, _) => DType::I8,
            (false, _) => DType::I32,
        };
        self.define(functions::layer(layer, parameters.biased));
        self.describe(&layer.output, dtype, &layer.output);
        self.graph.nodes.push(node);
        self.inside.extend(&layer.nodes);
        self.tensors.push((layer.output.clone(), parameters.scale));
    }

    /// Ends with the dequantizer and the nodes that stay float.
    pub fn finish(mut self) -> Graph {
        let float = self.float;
        let left: Vec<&Node> =
            float.nodes.iter().enumerate().filter(|(n, _)| !self.inside.contains(n)).map(|(_, node)| node).collect();
        let integer = |name: &String| self.tensors.iter().any(|(tensor, _)| tensor == name);
        let mut needed: Vec<String> = Vec::new();
        let reads = left.iter().flat_map(|node| &node.inputs);
        for name in reads.chain(float.outputs.iter().map(|output| &output.name)).filter(|name| integer(name)) {
            if !needed.contains(name) {
                needed.push(name.clone());
            }
        }
        self.dequantize(&needed);
        let renamed = |name: &String| if needed.contains(name) { dequantized(name) } else { name.clone() };
        for node in &left {
            let inputs = node.inputs.iter().map(renamed).collect();
            self.graph.nodes.push(Node { inputs, ..(*node).clone() });
            for output in &node.outputs {
                if let Some(ty) = float.values.get(output) {
                    self.graph.values.insert(output.clone(), ty.clone());
                }
            }
        }
        if !left.is_empty() {
            self.graph.name = format!("{0}_Extracted from {{{0}}}", self.graph.name); // as the reference names it
        }
        let used: HashSet<&String> = left.iter().flat_map(|node| &node.inputs).collect();
        let kept: Vec<_> = float.initializers.iter().filter(|(name, _)| used.contains(name)).collect();
        self.graph.initializers.extend(kept.into_iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
        self.graph.outputs =
            float.outputs.iter().map(|output| Value { name: renamed(&output.name), ty: output.ty.clone() }).collect();
        self.graph
    }

    fn dequantize(&mut self, needed: &[String]) {
        let mut inputs = Vec::new();
        for (index, name) in needed.iter().enumerate() {
            let Some(scale) = self.scale(name).cloned() else { continue };
            let constant = match needed.len() {
                1 => "dequantizer_scale".to_owned(),
                _ => format!("dequantizer_scale_{}", index + 1),
            };
            let values: Vec<f32> = scale.values.iter().map(|s| (1.0 / s) as f32).collect();
            self.graph.initializers.insert(constant.clone(), Tensor::new(scale.dims(), &values));
            let ty = self.float.value_type(name).unwrap_or_default();
            if !self.float.is_output(name) {
                self.graph.values.insert(dequantized(name), ty);
            }
            inputs.extend([if *name == self.input { INPUT.to_owned() } else { name.clone() }, constant]);
        }
        let op = if needed.len() == 1 { "Dequantizer".to_owned() } else { format!("Dequantizer{}", needed.len()) };
        self.define(functions::dequantizer(&op, needed.len()));
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let mut node = fused(DEQUANTIZER, &op, &inputs, "");
        node.outputs = needed.iter().map(dequantized).collect();
        self.graph.nodes.push(node);
    }

    /// Notes type and shape of an integer tensor: the shape of the float tensor it stands for.
    fn describe(&mut self, tensor: &str, dtype: DType, float: &str) {
        let shape = self.float.value_type(float).and_then(|ty| ty.shape);
        self.graph.values.insert(tensor.to_owned(), ValueType { dtype: Some(dtype), shape });
    }
}

fn dequantized(name: impl AsRef<str>) -> String {
    format!("{}/dequantize", name.as_ref())
}

fn fused(name: &str, op: &str, inputs: &[&str], output: &str) -> Node {
    Node { name: name.to_owned(), domain: BRAINCHIP.to_owned(), ..Node::new(op, inputs, output) }
}

fn scale_attribute(scale: &Scale) -> Tensor {
    Tensor::new(scale.dims(), &scale.values)
}
