//! Quantized graphs to models.
//!
//! Takes graphs of the fused operators of quantization.md 2.2, as QuantizeML writes them and as our quantizer does, and
//! believes nothing: every constant is checked for type, length and range, every operator for its function, and the
//! model as a whole by [`Model::validate`].

mod constants;
mod edges;
mod error;
mod layer;
mod network;
mod op;

pub use error::ImportError;
pub use network::import_network;

use std::collections::HashMap;

use akida_runtime::model::{Dequantizer, Input, Model, Target, TensorId};

use self::{constants::Constants, op::FusedOp};
use crate::onnx::{BRAINCHIP, Dim, Graph, Node};
use crate::quantize::is_float;

/// What is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// Whether float operations behind the dequantizer are left away ([`Imported::float_tail`]) instead of refused.
    pub allow_float_tail: bool,
    /// Whether every fused operator must be defined by a function, as in a file that others can run.
    pub require_functions: bool,
}

impl Default for ImportOptions {
    /// No float tail, functions required.
    fn default() -> Self {
        Self { allow_float_tail: false, require_functions: true }
    }
}

/// A model, and what of the graph is not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The board's part, valid. With a float tail its outputs are what the dequantizer gives to the tail.
    pub model: Model,
    /// Names and operators of the float operations behind it.
    pub float_tail: Vec<String>,
}

/// Reads a quantized graph.
///
/// # Errors
/// The first thing that is not as it must be, with the name of its node and initializer.
pub fn import(graph: &Graph, options: ImportOptions) -> Result<Imported, ImportError> {
    let not_quantized = |reason| ImportError::NotQuantized { graph: graph.name.clone(), reason };
    let mut quantizers = graph.nodes.iter().filter(|node| node.domain == BRAINCHIP && node.op == "InputQuantizer");
    let Some(quantizer) = quantizers.next() else { return Err(not_quantized("it has no InputQuantizer")) };
    if let Some(second) = quantizers.next() {
        return Err(ImportError::node(second, "is a second quantizer: the model must have one input"));
    }
    if graph.inputs.len() != 1 {
        return Err(ImportError::node(quantizer, format!("the graph has {} inputs, not one", graph.inputs.len())));
    }
    if options.require_functions {
        check_function(graph, quantizer, &["X", "scale", "zp"], &["Transpose", "QuantizeLinear"])?;
    }
    let input = edges::input(graph, quantizer)?;
    // Before anything is computed from its sizes.
    input.validate()?;
    let mut importer = Importer::new(graph, options, input);
    let mut float_tail = Vec::new();
    for node in &graph.nodes {
        match node.op.as_str() {
            _ if is_float(node) => float_tail.push(format!("{} ({})", node.name, node.op)),
            "InputQuantizer" => {}
            op if op.starts_with("Dequantizer") => importer.dequantize(node)?,
            _ => importer.layer(node)?,
        }
    }
    if importer.model.layers.is_empty() {
        return Err(not_quantized("it has no quantized operators"));
    }
    if !float_tail.is_empty() && !options.allow_float_tail {
        return Err(ImportError::FloatTail { nodes: float_tail });
    }
    let model = importer.finish(!float_tail.is_empty())?;
    Ok(Imported { model, float_tail })
}

struct Importer<'a> {
    graph: &'a Graph,
    options: ImportOptions,
    model: Model,
    /// Quantized tensors by ONNX name.
    tensors: HashMap<&'a str, TensorId>,
    /// What dequantizers make: name, quantized tensor, dequantizer.
    floats: Vec<(&'a str, TensorId, Dequantizer)>,
}

impl<'a> Importer<'a> {
    fn new(graph: &'a Graph, options: ImportOptions, input: Input) -> Self {
        let quantized = graph.nodes.iter().find(|node| node.output() == input.tensor.name);
        let tensors = quantized.iter().map(|node| (node.output(), 0)).collect();
        let model = Model::new(&graph.name, Target::Akida2, input);
        Self { graph, options, model, tensors, floats: Vec::new() }
    }

    fn layer(&mut self, node: &'a Node) -> Result<(), ImportError> {
        let Some(op) = FusedOp::parse(&node.op) else {
            return Err(ImportError::node(node, "is no operator of a quantized graph"));
        };
        let roles = op.inputs();
        if node.inputs.len() != roles.len() || node.outputs.len() != 1 {
            let reason = format!(
                "has {} inputs and {} outputs, not {} ({}) and 1",
                node.inputs.len(),
                node.outputs.len(),
                roles.len(),
                roles.join(", ")
            );
            return Err(ImportError::node(node, reason));
        }
        if self.options.require_functions {
            check_function(self.graph, node, &roles, &op.body())?;
        }
        let operands = if roles.get(1) == Some(&"Y") { 2 } else { 1 };
        let inputs = node.inputs[..operands].iter().map(|name| {
            let id = self.tensors.get(name.as_str()).copied();
            id.ok_or_else(|| {
                ImportError::node(node, format!("takes '{name}', which no quantized node before it makes"))
            })
        });
        let inputs: Vec<TensorId> = inputs.collect::<Result<_, _>>()?;
        let constants = Constants { graph: self.graph, node, roles: &roles };
        let (kind, bits) = layer::layer(op, &constants, self.model.tensor(inputs[0]))?;
        let id = self.model.push(&node.name, kind, &inputs, bits)?;

        let layer = &mut self.model.layers[id - 1];
        layer.op = node.op.clone();
        // Whether that may be is checked with the whole model.
        if bits == 4 && node.int("output_signed") == Some(0) {
            layer.output.signed = false;
        }
        layer.output.name = node.output().to_owned();
        self.tensors.insert(node.output(), id);
        self.check_declared(node, id)
    }

    /// What the graph says of the shape of an output, when it says something, must be what follows from the layers.
    fn check_declared(&self, node: &Node, id: TensorId) -> Result<(), ImportError> {
        let Some(declared) = self.graph.value_type(node.output()).and_then(|ty| ty.shape) else { return Ok(()) };
        let tensor = self.model.tensor(id);
        let computed = tensor.layout.dims(tensor.shape);
        let fits = |(dim, size): (&Dim, &usize)| dim.fixed().is_none_or(|dim| dim == *size);
        if declared.len() == computed.len() + 1 && declared[1..].iter().zip(&computed).all(fits) {
            return Ok(());
        }
        let reason =
            format!("makes '{}' of {computed:?} after the batch, but the graph declares {declared:?}", tensor.name);
        Err(ImportError::node(node, reason))
    }

    fn dequantize(&mut self, node: &'a Node) -> Result<(), ImportError> {
        let channels = |name: &str| self.tensors.get(name).map(|&id| self.model.tensor(id).shape[2]);
        let found = edges::dequantizers(self.graph, node, channels)?;
        if self.options.require_functions {
            let numbered = |number: usize| [format!("X{number}"), format!("scale_{number}")];
            let roles: Vec<String> = match found.len() {
                1 => vec!["X".into(), "scale".into()],
                count => (1..=count).flat_map(numbered).collect(),
            };
            let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
            check_function(self.graph, node, &roles, &vec!["DequantizeLinear"; found.len()])?;
        }
        for (quantized, float, dequantizer) in found {
            self.floats.push((float, self.tensors[quantized], dequantizer));
        }
        Ok(())
    }

    /// The model with its outputs: those of the graph in its order, or, with a tail, what the tail takes.
    fn finish(mut self, has_tail: bool) -> Result<Model, ImportError> {
        if has_tail {
            for (name, tensor, dequantizer) in self.floats {
                self.model.output(name, tensor, Some(dequantizer));
            }
        } else {
            for output in &self.graph.outputs {
                let float = self.floats.iter().find(|(name, ..)| *name == output.name);
                let (tensor, dequantizer) = match (float, self.tensors.get(output.name.as_str())) {
                    (Some((_, tensor, dequantizer)), _) => (*tensor, Some(dequantizer.clone())),
                    (None, Some(&tensor)) => (tensor, None),
                    (None, None) => {
                        let reason = "an output of it is made by no quantized operator";
                        return Err(ImportError::NotQuantized { graph: self.graph.name.clone(), reason });
                    }
                };
                self.model.output(&output.name, tensor, dequantizer);
            }
        }
        self.model.validate()?;
        Ok(self.model)
    }
}

/// A fused operator is what its function says: it must be there, with the inputs in the order of the specification, and
/// with the operations that its name says, in their order.
fn check_function(graph: &Graph, node: &Node, roles: &[&str], body: &[&str]) -> Result<(), ImportError> {
    let Some(function) = graph.function(BRAINCHIP, &node.op) else {
        return Err(ImportError::node(node, format!("no function of the file defines {BRAINCHIP}:{}", node.op)));
    };
    if function.inputs != roles {
        let reason = format!("its function takes ({}), not ({})", function.inputs.join(", "), roles.join(", "));
        return Err(ImportError::node(node, reason));
    }
    // What only changes types and shapes of constants says nothing about the arithmetic.
    let arithmetic = |op: &&str| !matches!(*op, "Cast" | "Constant" | "Unsqueeze" | "Identity");
    let found: Vec<&str> = function.nodes.iter().map(|node| node.op.as_str()).filter(arithmetic).collect();
    if found != body {
        let reason = format!("its function computes {}, and its name says {}", found.join(", "), body.join(", "));
        return Err(ImportError::node(node, reason));
    }
    Ok(())
}
