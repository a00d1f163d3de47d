//! A fused layer before it has integers: what it is made of and the rules it must keep (quantization.md 2.2, 2.3).

use super::bits::Widths;
use super::patterns::Builder;
use crate::onnx::{Graph, Node};

/// What a layer computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Convolution over all channels; `input` when its input is the unsigned input of the model.
    Conv {
        /// Directly after an unsigned input quantizer.
        input: bool,
    },
    /// One kernel per channel.
    Depthwise,
    /// Transposed convolution.
    ConvTranspose,
    /// Transposed, one kernel per channel.
    DepthwiseTranspose,
    /// Matrix product.
    Dense {
        /// With a Flatten before it.
        flatten: bool,
    },
    /// Sum of two tensors.
    Add,
    /// Channels of two tensors after each other.
    Concat,
    /// Convolution over a FIFO of frames.
    TemporalConv,
    /// Same, one kernel per channel.
    DepthwiseTemporalConv,
}

/// Pooling inside a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Pool {
    /// None.
    None,
    /// Maximum, before the activation.
    Max,
    /// Global average, after the activation.
    GlobalAverage,
}

/// Activation inside a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    /// None.
    None,
    /// Rectifier.
    Relu,
    /// Rectifier with a maximum: the name of the constant.
    Clip(String),
    /// Look-up table; the number of the node.
    Lut(usize),
}

/// A chain of float nodes that becomes one integer node.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// What it computes.
    pub kind: Kind,
    /// Numbers of its float nodes, first to last.
    pub nodes: Vec<usize>,
    /// Number of the main one (Conv, Gemm, Add...).
    pub main: usize,
    /// Number of the Pad before it, if there is one.
    pub pad: Option<usize>,
    /// Number of the MaxPool inside it, if there is one.
    pub max_pool: Option<usize>,
    /// Pooling.
    pub pool: Pool,
    /// Activation.
    pub activation: Activation,
    /// Tensors it reads, without constants.
    pub inputs: Vec<String>,
    /// Tensor it makes.
    pub output: String,
    /// Whether the output is reduced to 8 bits.
    pub scaled: bool,
    /// Whether the output scale must be a power of two.
    pub power_of_two: bool,
    /// Bits of its integers.
    pub widths: Widths,
}

/// Why a chain is not a layer; the branch stays float.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsuitable {
    /// What must hold.
    pub rule: String,
    /// What was found.
    pub found: String,
}

impl std::fmt::Display for Unsuitable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rule, self.found)
    }
}

fn refuse<T>(rule: impl Into<String>, found: impl std::fmt::Display) -> Result<T, Unsuitable> {
    Err(Unsuitable { rule: rule.into(), found: found.to_string() })
}

impl Layer {
    /// Makes a layer of the nodes `nodes` of `graph`, or says which rule they break.
    pub fn build(builder: Builder, graph: &Graph, nodes: Vec<usize>) -> Result<Self, Unsuitable> {
        let is_main = |&&n: &&usize| {
            matches!(
                graph.nodes[n].op.as_str(),
                "Conv" | "Gemm" | "Add" | "Concat" | "ConvTranspose" | "BufferTempConv" | "DepthwiseBufferTempConv"
            )
        };
        let find = |op: &str| nodes.iter().copied().find(|&n| graph.nodes[n].op == op);
        let main = *nodes.iter().find(is_main).unwrap_or(&nodes[0]);
        let node = &graph.nodes[main];
        let kind = match builder {
            Builder::Conv => conv(graph, node)?,
            Builder::Depthwise => depthwise(graph, node)?,
            Builder::Dense => dense(graph, node, find("Flatten"))?,
            Builder::Add => add(graph, node)?,
            Builder::Concat => concat(graph, node)?,
            Builder::ConvTranspose => conv_transpose(graph, node)?,
            Builder::TemporalConv => Kind::TemporalConv,
            Builder::DepthwiseTemporalConv => Kind::DepthwiseTemporalConv,
        };
        let weights = if matches!(kind, Kind::Add | Kind::Concat) { None } else { node.input(1) };
        if let Some(name) = weights.filter(|name| !graph.initializers.contains_key(*name)) {
            return refuse("weights must be constant", format!("'{name}' is computed"));
        }
        let activation = match (find("Relu"), find("Clip"), find("activation")) {
            (Some(_), _, _) => Activation::Relu,
            (_, Some(clip), _) => Activation::Clip(clip_maximum(graph, &graph.nodes[clip])?),
            (_, _, Some(lut)) => Activation::Lut(lut),
            _ => Activation::None,
        };
        let max_pool = find("MaxPool");
        if let Some(dilations) = max_pool.and_then(|n| graph.nodes[n].ints("dilations"))
            && dilations.iter().any(|&d| d != 1)
        {
            return refuse("a pooling window must not be dilated", format!("dilations {dilations:?}"));
        }
        if let Some(1) = max_pool.and_then(|n| graph.nodes[n].int("ceil_mode")) {
            return refuse("a pooling window must lie inside its input", "ceil_mode 1");
        }
        let pool = match (max_pool, find("GlobalAveragePool")) {
            (Some(_), _) => Pool::Max,
            (_, Some(_)) => Pool::GlobalAverage,
            _ => Pool::None,
        };
        let first = &graph.nodes[nodes[0]];
        let constant = |name: &&String| !name.is_empty() && !graph.initializers.contains_key(*name);
        let inputs = first.inputs.iter().filter(constant).cloned().collect();
        let output = graph.nodes[nodes[nodes.len() - 1]].output().to_owned();
        let scaled = match kind {
            Kind::Dense { .. } | Kind::Add => activation != Activation::None,
            Kind::Concat => false,
            _ => true,
        };
        let pad = find("BRNPad");
        Ok(Self {
            kind,
            main,
            pad,
            max_pool,
            pool,
            activation,
            inputs,
            output,
            scaled,
            power_of_two: false,
            widths: Widths::EIGHT,
            nodes,
        })
    }

    /// Name of the fused operator (quantization.md 2.2).
    pub fn op(&self, biased: bool) -> String {
        let base = match self.kind {
            Kind::Conv { input: true } => "QuantizedInputConv2D",
            Kind::Conv { input: false } => "QuantizedConv2D",
            Kind::Depthwise => "QuantizedDepthwise2D",
            Kind::ConvTranspose => "QuantizedConv2DTranspose",
            Kind::DepthwiseTranspose => "QuantizedDepthwise2DTranspose",
            Kind::Dense { flatten: true } => "QuantizedDense1DFlatten",
            Kind::Dense { flatten: false } => "QuantizedDense1D",
            Kind::Add => "QuantizedAdd",
            Kind::Concat => return "QuantizedConcat".to_owned(),
            Kind::TemporalConv => "QuantizedBufferTempConv",
            Kind::DepthwiseTemporalConv => "QuantizedDepthwiseBufferTempConv",
        };
        let pool = match self.pool {
            Pool::None => "",
            Pool::Max => "MaxPool",
            Pool::GlobalAverage => "GlobalAvgPool",
        };
        let activation = match self.activation {
            Activation::None => "",
            Activation::Relu => "ReLU",
            Activation::Clip(_) => "ReLUClipped",
            Activation::Lut(_) => "LUT",
        };
        let (biased, scaled) = (if biased { "Biased" } else { "" }, if self.scaled { "Scaled" } else { "" });
        format!("{base}{biased}{pool}{activation}{scaled}")
    }
}

fn conv(graph: &Graph, node: &Node) -> Result<Kind, Unsuitable> {
    let group = node.int("group").unwrap_or(1);
    if group != 1 {
        return refuse("a convolution over all channels has group 1", format!("group {group}"));
    }
    convolution_attributes(graph, node)?;
    Ok(Kind::Conv { input: false })
}

fn depthwise(graph: &Graph, node: &Node) -> Result<Kind, Unsuitable> {
    let group = node.int("group").unwrap_or(1);
    if group == 1 {
        return refuse("a depthwise convolution has as many groups as channels", "group 1");
    }
    let dims = weight_dims(graph, node)?;
    if dims.len() != 4 || dims[0] as i64 != group || dims[1] != 1 {
        let rule =
            format!("a convolution with {group} groups must be depthwise, its kernel ({group}, 1, height, width)");
        return refuse(rule, format!("kernel {dims:?}"));
    }
    convolution_attributes(graph, node)?;
    Ok(Kind::Depthwise)
}

fn convolution_attributes(graph: &Graph, node: &Node) -> Result<(), Unsuitable> {
    let dims = weight_dims(graph, node)?;
    if dims.len() != 4 {
        return refuse("the kernel of a convolution must have 4 dimensions", format!("{dims:?}"));
    }
    if let Some(dilations) = node.ints("dilations").filter(|d| *d != [1, 1]) {
        return refuse("dilations must be [1, 1]", format!("dilations {dilations:?}"));
    }
    match node.string("auto_pad") {
        None | Some("NOTSET") => Ok(()),
        Some(other) => refuse("pads must be given by numbers", format!("auto_pad {other}")),
    }
}

fn dense(graph: &Graph, node: &Node, flatten: Option<usize>) -> Result<Kind, Unsuitable> {
    for (name, expected) in [("alpha", 1.0), ("beta", 1.0)] {
        let value = node.float(name).unwrap_or(1.0);
        if value != expected {
            return refuse(format!("{name} of a Gemm must be 1"), value);
        }
    }
    if node.int("transA").unwrap_or(0) != 0 || node.int("transB").unwrap_or(0) != 1 {
        return refuse("a Gemm must have transA 0 and transB 1", "other values");
    }
    if let Some(axis) = flatten.and_then(|n| graph.nodes[n].int("axis")).filter(|&axis| axis != 1) {
        return refuse("a Flatten before a Gemm must keep the batch, axis 1", format!("axis {axis}"));
    }
    let weights = weight_dims(graph, node)?;
    if let Some(name) = node.input(2)
        && graph.initializers.get(name).is_none_or(|bias| bias.len() != weights[0])
    {
        return refuse("the bias of a Gemm must be a constant with one value per unit", format!("'{name}'"));
    }
    Ok(Kind::Dense { flatten: flatten.is_some() })
}

fn add(graph: &Graph, node: &Node) -> Result<Kind, Unsuitable> {
    if let Some(constant) = node.inputs.iter().find(|name| graph.initializers.contains_key(*name)) {
        return refuse("both operands of an Add must be tensors", format!("'{constant}' is constant"));
    }
    Ok(Kind::Add)
}

fn concat(graph: &Graph, node: &Node) -> Result<Kind, Unsuitable> {
    let axis = node.int("axis").unwrap_or(1);
    if axis != 1 {
        return refuse("a Concat must be along the channels, axis 1", format!("axis {axis}"));
    }
    if node.inputs.len() != 2 || node.inputs.iter().any(|name| graph.initializers.contains_key(name)) {
        return refuse("a Concat must have two tensors", format!("{} operands", node.inputs.len()));
    }
    for name in &node.inputs {
        let rank = graph.value_type(name).and_then(|ty| ty.shape).map(|shape| shape.len());
        if rank.is_some_and(|rank| rank != 4) {
            return refuse("operands of a Concat must have 4 dimensions", format!("'{name}' has {rank:?}"));
        }
    }
    Ok(Kind::Concat)
}

fn conv_transpose(graph: &Graph, node: &Node) -> Result<Kind, Unsuitable> {
    for name in ["output_padding", "output_shape"] {
        if let Some(value) = node.ints(name).filter(|v| v.iter().any(|&v| v != 0)) {
            return refuse(format!("a transposed convolution must not have {name}"), format!("{value:?}"));
        }
    }
    convolution_attributes(graph, node)?;
    let (group, dims) = (node.int("group").unwrap_or(1), weight_dims(graph, node)?);
    match group {
        1 => Ok(Kind::ConvTranspose),
        _ if dims.len() == 4 && dims[0] as i64 == group && dims[1] == 1 => Ok(Kind::DepthwiseTranspose),
        _ => {
            refuse("a transposed convolution with groups must be depthwise", format!("group {group}, kernel {dims:?}"))
        }
    }
}

fn weight_dims<'a>(graph: &'a Graph, node: &Node) -> Result<&'a [usize], Unsuitable> {
    match node.input(1).and_then(|name| graph.initializers.get(name)) {
        Some(weights) => Ok(weights.dims()),
        None => refuse("weights must be constant", format!("'{}'", node.input(1).unwrap_or_default())),
    }
}

fn clip_maximum(graph: &Graph, node: &Node) -> Result<String, Unsuitable> {
    let constant = |index: usize| {
        let name = node.input(index)?;
        let value = graph.initializers.get(name)?.values::<f32>(name).ok()?;
        Some((name.to_owned(), *value.first()?))
    };
    match constant(1) {
        None => return refuse("a Clip must have a constant minimum of 0", "none"),
        Some((_, minimum)) if minimum != 0.0 => return refuse("the minimum of a Clip must be 0", minimum),
        Some(_) => {}
    }
    match constant(2) {
        Some((name, _)) => Ok(name),
        None => refuse("a Clip must have a constant maximum", "none"),
    }
}
