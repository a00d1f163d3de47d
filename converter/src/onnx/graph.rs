//! The graph as the rest of the converter sees it.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::{DType, Nodes, Tensor};

/// Domain of the fused integer operators of quantization.md 2.2.
pub const BRAINCHIP: &str = "com.brainchip";

/// A whole ONNX model: one graph without sub-graphs, its constants, operator sets and model-local functions.
///
/// Nodes are in an order in which every tensor is made before it is used; all nodes have a name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Name of the graph.
    pub name: String,
    /// ONNX IR version.
    pub ir_version: i64,
    /// Version of each operator set; the standard one is `""`.
    pub opsets: IndexMap<String, i64>,
    /// Inputs, without those that are initializers.
    pub inputs: Vec<Value>,
    /// Outputs.
    pub outputs: Vec<Value>,
    /// What is known of tensors between nodes.
    pub values: IndexMap<String, ValueType>,
    /// Constants.
    pub initializers: IndexMap<String, Tensor>,
    /// Nodes.
    pub nodes: Nodes,
    /// Model-local functions.
    pub functions: Vec<Function>,
}

/// A named tensor and its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: ValueType,
}

/// Element type and shape of a tensor, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValueType {
    /// Element type.
    pub dtype: Option<DType>,
    /// Dimensions; None when even their number is unknown.
    pub shape: Option<Vec<Dim>>,
}

impl ValueType {
    /// A tensor with this type and shape.
    pub fn new(dtype: DType, shape: impl Into<Vec<Dim>>) -> Self {
        Self { dtype: Some(dtype), shape: Some(shape.into()) }
    }

    /// The dimensions after the first, when all of them are known.
    pub fn without_batch(&self) -> Option<Vec<usize>> {
        let (_, rest) = self.shape.as_ref()?.split_first()?;
        rest.iter().map(Dim::fixed).collect()
    }
}

/// A dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Known.
    Fixed(usize),
    /// Known by name only, for example the batch `N`.
    Named(String),
    /// Not known.
    Unknown,
}

impl Dim {
    /// The size, when known.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Dim::Fixed(size) => Some(*size),
            _ => None,
        }
    }
}

impl From<usize> for Dim {
    fn from(size: usize) -> Self {
        Dim::Fixed(size)
    }
}

/// An operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Name; that of the first output when the file has none.
    pub name: String,
    /// Operator.
    pub op: String,
    /// Operator set; the standard one is `""`.
    pub domain: String,
    /// Names of the inputs; an empty name is an optional input left out.
    pub inputs: Vec<String>,
    /// Names of the outputs; an empty name is an optional output left out.
    pub outputs: Vec<String>,
    /// Attributes, in the file's order.
    pub attributes: IndexMap<String, Attribute>,
}

impl Node {
    /// A node of the standard operator set, named after its output.
    pub fn new(op: &str, inputs: &[&str], output: &str) -> Self {
        Self {
            name: output.to_owned(),
            op: op.to_owned(),
            inputs: inputs.iter().map(|&s| s.to_owned()).collect(),
            outputs: vec![output.to_owned()],
            ..Self::default()
        }
    }

    /// The same node with an attribute more.
    pub fn with(mut self, name: &str, value: impl Into<Attribute>) -> Self {
        self.attributes.insert(name.to_owned(), value.into());
        self
    }

    /// Whether this is operator `op` of the standard set.
    pub fn is(&self, op: &str) -> bool {
        self.op == op && self.domain.is_empty()
    }

    /// Input number `index`; None when it is absent or left out.
    pub fn input(&self, index: usize) -> Option<&str> {
        self.inputs.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The first output; nodes read from a file have one.
    pub fn output(&self) -> &str {
        self.outputs.first().map_or("", String::as_str)
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attributes.get(name) {
            Some(Attribute::Int(value)) => Some(*value),
            _ => None,
        }
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        match self.attributes.get(name) {
            Some(Attribute::Float(value)) => Some(*value),
            _ => None,
        }
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name) {
            Some(Attribute::Ints(values)) => Some(values),
            _ => None,
        }
    }

    /// A string attribute.
    pub fn string(&self, name: &str) -> Option<&str> {
        match self.attributes.get(name) {
            Some(Attribute::String(value)) => Some(value),
            _ => None,
        }
    }

    /// A tensor attribute.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        match self.attributes.get(name) {
            Some(Attribute::Tensor(value)) => Some(value),
            _ => None,
        }
    }
}

/// Value of a node's attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// One float.
    Float(f32),
    /// One integer.
    Int(i64),
    /// Text.
    String(String),
    /// A constant tensor.
    Tensor(Tensor),
    /// Floats.
    Floats(Vec<f32>),
    /// Integers.
    Ints(Vec<i64>),
    /// Texts.
    Strings(Vec<String>),
    /// In a function body: the attribute of this name of the node that calls it; of the ONNX attribute type given.
    Reference {
        /// Name of the caller's attribute.
        name: String,
        /// ONNX's number of its type.
        kind: i32,
    },
}

macro_rules! attribute_from {
    ($($t:ty: $variant:ident),*) => {$(
        impl From<$t> for Attribute {
            fn from(value: $t) -> Self {
                Attribute::$variant(value)
            }
        }
    )*};
}
attribute_from!(f32: Float, i64: Int, String: String, Tensor: Tensor, Vec<f32>: Floats, Vec<i64>: Ints);

impl From<&str> for Attribute {
    fn from(value: &str) -> Self {
        Attribute::String(value.to_owned())
    }
}

/// A model-local function: an operator defined by nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Function {
    /// Operator it defines.
    pub name: String,
    /// Operator set it belongs to.
    pub domain: String,
    /// Names of the inputs.
    pub inputs: Vec<String>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// Attributes a caller must give.
    pub attributes: Vec<String>,
    /// Attributes with a default.
    pub defaults: IndexMap<String, Attribute>,
    /// Its body.
    pub nodes: Vec<Node>,
    /// Operator sets the body uses.
    pub opsets: IndexMap<String, i64>,
}

impl Graph {
    /// The node with this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Number of the node that makes `tensor`.
    pub fn producer(&self, tensor: &str) -> Option<usize> {
        self.nodes.producer(tensor)
    }

    /// Numbers of the nodes that use `tensor`, each once.
    pub fn consumers(&self, tensor: &str) -> Vec<usize> {
        self.nodes.consumers(tensor)
    }

    /// Whether `tensor` is an output of the graph.
    pub fn is_output(&self, tensor: &str) -> bool {
        self.outputs.iter().any(|output| output.name == tensor)
    }

    /// How often each tensor is used, by nodes and as an output of the graph.
    pub fn uses(&self) -> HashMap<&str, usize> {
        let mut uses = HashMap::new();
        let inputs = self.nodes.iter().flat_map(|node| &node.inputs);
        for name in inputs.chain(self.outputs.iter().map(|output| &output.name)) {
            *uses.entry(name.as_str()).or_default() += 1;
        }
        uses
    }

    /// Type of a tensor: of an initializer, an input, an output or between nodes.
    pub fn value_type(&self, tensor: &str) -> Option<ValueType> {
        if let Some(constant) = self.initializers.get(tensor) {
            let shape: Vec<Dim> = constant.dims().iter().map(|&d| Dim::Fixed(d)).collect();
            return Some(ValueType::new(constant.dtype(), shape));
        }
        if let Some(ty) = self.values.get(tensor) {
            return Some(ty.clone());
        }
        self.inputs.iter().chain(&self.outputs).find(|value| value.name == tensor).map(|value| value.ty.clone())
    }

    /// The function that defines operator `op` of `domain`.
    pub fn function(&self, domain: &str, op: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.domain == domain && function.name == op)
    }
}
