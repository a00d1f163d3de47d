//! From a prepared float graph to a chain of Akida 1.0 layers, or the rule that stands in the way.

use akida_runtime::model::{OnnxLayout, Pool, Shape};

use super::chain::{Chain, Kernel, Layer, Operator, Window};
use super::entry::Pad;
use super::report::Note;
use crate::onnx::{Graph, Node};
use crate::quantize::QuantizeError;

const UNBRANCH: &str =
    "Akida 1.0 runs one chain of layers: remove the branch (train without the skip), or convert for akida2";
const RELU: &str = "Put a ReLU (bounded if possible) after it and train again, or convert for akida2";
pub const CHANGE: &str = "Change the network, end it before this node with --quantize-until, or convert for akida2";
const AVERAGE: &str = "Put the ReLU behind the average pooling (the order of Akida 1.0), or a Linear layer behind it";
const EXPORT: &str = "Export the network again with constant weights and fixed sizes";

/// Reads the chain from the input of `graph` on, as far as tensor `until` or the output.
pub fn read(graph: &Graph, until: Option<&str>) -> Result<(Chain, Vec<Note>), QuantizeError> {
    let input = graph.inputs.first().ok_or_else(|| QuantizeError::Graph {
        graph: graph.name.clone(),
        rule: "a model has one input",
        found: "none".into(),
        remedy: EXPORT,
    })?;
    let dims = input.ty.without_batch().unwrap_or_default();
    let (layout, shape) = match dims[..] {
        [channels] => (OnnxLayout::Flat, [1, 1, channels]),
        [channels, height, width] => (OnnxLayout::Nchw, [height, width, channels]),
        _ => {
            return Err(QuantizeError::Graph {
                graph: graph.name.clone(),
                rule: "the input has channels, height and width",
                found: format!("dimensions {dims:?} after the batch"),
                remedy: EXPORT,
            });
        }
    };
    let mut reader = Reader { graph, until, at: input.name.clone(), shape, flat: dims.len() == 1, notes: Vec::new() };
    let (channels_last, mut pad) = reader.entry()?;
    let (layout, shape) = (channels_last.unwrap_or(layout), reader.shape);
    let mut layers: Vec<Layer> = Vec::new();
    while let Some(node) = reader.take()? {
        let layer = reader.layer(node, layers.is_empty(), pad.take())?;
        if let Some(before) = layers.last().filter(|before| before.bound.is_empty()) {
            let found = format!("'{}' comes after it", layer.name);
            let rule = "a layer without rectifier is the last one: activations are unsigned";
            return Err(refuse_layer(graph, before, rule, found, RELU));
        }
        layers.push(layer);
    }
    if layers.is_empty() {
        return Err(QuantizeError::Graph {
            graph: graph.name.clone(),
            rule: "a model has at least one layer",
            found: "none".into(),
            remedy: CHANGE,
        });
    }
    let Reader { at: output, notes, .. } = reader;
    Ok((Chain { name: graph.name.clone(), input: input.name.clone(), layout, shape, layers, output }, notes))
}

pub fn refuse(node: &Node, rule: &str, found: impl Into<String>, remedy: &'static str) -> QuantizeError {
    let (name, op) = (node.name.clone(), node.op.clone());
    QuantizeError::Node { node: name, op, rule: rule.into(), found: found.into(), remedy }
}

fn refuse_layer(graph: &Graph, layer: &Layer, rule: &str, found: String, remedy: &'static str) -> QuantizeError {
    let op = graph.node(&layer.name).map_or_else(String::new, |node| node.op.clone());
    QuantizeError::Node { node: layer.name.clone(), op, rule: rule.into(), found, remedy }
}

/// Walks the chain.
pub struct Reader<'g> {
    pub graph: &'g Graph,
    until: Option<&'g str>,
    /// The tensor reached.
    at: String,
    /// Its (height, width, channels).
    pub shape: Shape,
    /// Whether the tensor reached has two dimensions.
    flat: bool,
    notes: Vec<Note>,
}

impl<'g> Reader<'g> {
    /// The node that reads the tensor reached; None at the end.
    pub fn peek(&self) -> Result<Option<&'g Node>, QuantizeError> {
        if self.until == Some(self.at.as_str()) {
            return Ok(None);
        }
        let readers = self.graph.consumers(&self.at);
        match readers.as_slice() {
            [] => Ok(None),
            [only] if !self.graph.is_output(&self.at) => Ok(Some(&self.graph.nodes[*only])),
            _ => {
                let node = &self.graph.nodes[readers[0]];
                let names: Vec<&str> = readers.iter().map(|&n| self.graph.nodes[n].name.as_str()).collect();
                let output = if self.graph.is_output(&self.at) { ", and it is an output" } else { "" };
                let found = format!("'{}' is read by {}{output}", self.at, names.join(", "));
                Err(refuse(node, "a tensor has one reader", found, UNBRANCH))
            }
        }
    }

    pub fn take(&mut self) -> Result<Option<&'g Node>, QuantizeError> {
        let node = self.peek()?;
        if let Some(node) = node {
            self.at = node.output().to_owned();
        }
        Ok(node)
    }

    /// The next node if it has this operator.
    pub fn take_if(&mut self, ops: &[&str]) -> Result<Option<&'g Node>, QuantizeError> {
        match self.peek()? {
            Some(node) if ops.iter().any(|op| node.is(op)) => self.take(),
            _ => Ok(None),
        }
    }

    /// The layer that begins with `node`, up to the tensor the next one reads.
    fn layer(&mut self, node: &'g Node, first: bool, pad: Option<Pad>) -> Result<Layer, QuantizeError> {
        let mut layer = match node.op.as_str() {
            "Conv" if node.domain.is_empty() => self.conv(node, first)?,
            "Flatten" | "Reshape" | "Squeeze" | "Gemm" if node.domain.is_empty() => self.dense(node)?,
            "GlobalAveragePool" if node.domain.is_empty() && !first => self.average_dense(node)?,
            "Add" | "Concat" | "Sub" | "Mul" => {
                return Err(refuse(node, "Akida 1.0 has no layers with two inputs", "one", UNBRANCH));
            }
            _ => {
                let found = format!("operator {}", node.op);
                return Err(refuse(node, "a layer begins with a Conv or a Gemm", found, CHANGE));
            }
        };
        if let Some(pad) = pad {
            layer = pad.into_layer(layer)?;
        }
        if !self.flat {
            if let Some(pool) = self.take_if(&["MaxPool"])? {
                layer.pool = max_pool(pool)?;
            } else if self.take_if(&["GlobalAveragePool"])?.is_some() {
                layer.pool = Pool::Global;
            }
        }
        if let Some(node) = self.take_if(&["Relu", "Clip"])? {
            layer.bound = vec![self.bound(node)?; layer.bias.len()];
        }
        layer.tensor.clone_from(&self.at);
        let Some(layer) = layer.sized() else {
            return Err(refuse(node, "the kernel fits its padded input", "it does not", CHANGE));
        };
        self.shape = layer.output;
        Ok(layer)
    }

    fn conv(&mut self, node: &'g Node, first: bool) -> Result<Layer, QuantizeError> {
        let channels = self.shape[2];
        let (weights, window, group) = self.conv_parts(node)?;
        let bias = self.bias(node, weights.shape[0])?;
        if group == 1 {
            return Ok(self.new_layer(node, Operator::Conv { weights, window }, bias));
        }
        if group != channels || weights.shape[0] != channels {
            let found = format!("{group} groups for {channels} channels and {} filters", weights.shape[0]);
            let remedy = "Use group 1, or as many groups as channels and filters (depthwise)";
            return Err(refuse(node, "a convolution is whole or depthwise", found, remedy));
        }
        if let Some((pointwise, mut folded)) = self.pointwise_after()? {
            // Constant inputs of the pointwise part: exact, because it neither pads nor rectifies before.
            for (filter, folded) in folded.iter_mut().enumerate() {
                *folded += pointwise.filter(filter).iter().zip(&bias).map(|(w, b)| w * b).sum::<f64>();
            }
            let operator = if first {
                self.notes.push(Note::Multiplied { layer: node.name.clone() });
                Operator::Conv { weights: product(&weights, &pointwise), window }
            } else {
                Operator::Separable { depthwise: weights, pointwise, window }
            };
            return Ok(self.new_layer(node, operator, folded));
        }
        self.notes.push(Note::DepthwiseAsStandard { layer: node.name.clone(), channels });
        Ok(self.new_layer(node, Operator::Conv { weights: spread(&weights), window }, bias))
    }

    /// The pointwise convolution that follows, with its bias.
    fn pointwise_after(&mut self) -> Result<Option<(Kernel, Vec<f64>)>, QuantizeError> {
        let Some(node) = self.peek()?.filter(|node| node.is("Conv")) else { return Ok(None) };
        let (weights, window, group) = self.conv_parts(node)?;
        if group != 1 || window != (Window { kernel: [1, 1], stride: [1, 1], pads: [0; 4] }) {
            return Ok(None);
        }
        let bias = self.bias(node, weights.shape[0])?;
        self.take()?;
        Ok(Some((weights, bias)))
    }

    fn new_layer(&self, node: &Node, operator: Operator, bias: Vec<f64>) -> Layer {
        let (name, tensor) = (node.name.clone(), node.output().to_owned());
        let name = if name.is_empty() { tensor.clone() } else { name };
        let (pool, bound) = (Pool::None, Vec::new());
        Layer {
            name,
            tensor,
            operator,
            bias,
            pool,
            bound,
            padding: 0.0,
            input: self.shape,
            conv: [0; 2],
            output: [0; 3],
        }
    }

    /// Weights as (filters, height, width, channels), windows and groups.
    fn conv_parts(&self, node: &Node) -> Result<(Kernel, Window, usize), QuantizeError> {
        let (dims, values) = self.constant(node, 1)?;
        let [filters, depth, height, width] = dims[..] else {
            return Err(refuse(node, "a convolution has two spatial axes", format!("weights {dims:?}"), CHANGE));
        };
        if node.ints("dilations").is_some_and(|d| d.iter().any(|&d| d != 1)) {
            return Err(refuse(node, "kernels are not dilated", format!("{:?}", node.ints("dilations")), CHANGE));
        }
        if node.string("auto_pad").is_some() {
            return Err(refuse(node, "pads are numbers", "auto_pad", EXPORT));
        }
        let group = node.int("group").and_then(|g| usize::try_from(g).ok()).unwrap_or(1);
        if depth.checked_mul(group) != Some(self.shape[2]) {
            let found = format!("weights {dims:?} with {group} groups on {} channels", self.shape[2]);
            return Err(refuse(node, "weights fit the input's channels", found, EXPORT));
        }
        let mut kernel = Kernel { shape: [filters, height, width, depth], values: Vec::with_capacity(values.len()) };
        for filter in values.chunks(depth * height * width) {
            let positions = height * width;
            kernel.values.extend((0..positions).flat_map(|p| (0..depth).map(move |c| filter[c * positions + p])));
        }
        let window = Window {
            kernel: [height, width],
            stride: sizes(node, "strides", [1, 1])?,
            pads: sizes(node, "pads", [0; 4])?,
        };
        Ok((kernel, window, group))
    }

    /// A dense layer with the flattening before it.
    fn dense(&mut self, mut node: &'g Node) -> Result<Layer, QuantizeError> {
        while !node.is("Gemm") {
            self.check_flatten(node)?;
            self.flat = true;
            let next = self.take()?;
            node = next.ok_or_else(|| refuse(node, "a Gemm follows a Flatten", "the end of the network", CHANGE))?;
            if !["Gemm", "Flatten", "Reshape", "Squeeze"].iter().any(|op| node.is(op)) {
                return Err(refuse(node, "a Gemm follows a Flatten", format!("operator {}", node.op), CHANGE));
            }
        }
        let weights = self.gemm(node)?;
        let bias = self.bias(node, weights.shape[0])?;
        self.flat = true;
        Ok(self.new_layer(node, Operator::Dense { weights }, bias))
    }

    /// The mean over all positions of an activation, which the chip does not have: the dense layer behind it takes all
    /// positions with the same weights.
    fn average_dense(&mut self, node: &'g Node) -> Result<Layer, QuantizeError> {
        let input = self.shape;
        self.shape = [1, 1, input[2]];
        let rule = "an average of activations feeds a dense layer, which absorbs it";
        let next = self.take()?.filter(|next| ["Gemm", "Flatten", "Reshape", "Squeeze"].iter().any(|op| next.is(op)));
        let next = next.ok_or_else(|| refuse(node, rule, "it does not", AVERAGE))?;
        let mut layer = self.dense(next)?;
        if let Operator::Dense { weights } = layer.operator {
            layer.operator = Operator::AverageDense { weights };
        }
        layer.input = input;
        self.notes.push(Note::AverageInDense { layer: layer.name.clone(), positions: input[0] * input[1] });
        Ok(layer)
    }

    /// That a node makes (batch, elements) of its input.
    fn check_flatten(&self, node: &Node) -> Result<(), QuantizeError> {
        let made = self.graph.value_type(node.output()).and_then(|ty| ty.without_batch());
        if made == Some(vec![self.shape.iter().product()]) {
            return Ok(());
        }
        let found = format!("dimensions {made:?} after the batch");
        Err(refuse(node, "before a dense layer a tensor is flattened whole", found, CHANGE))
    }

    /// Weights of a Gemm as (units, height, width, channels).
    fn gemm(&self, node: &Node) -> Result<Kernel, QuantizeError> {
        if node.int("transA").unwrap_or(0) != 0 {
            return Err(refuse(node, "the input of a Gemm is not transposed", "transA", EXPORT));
        }
        let alpha = f64::from(node.float("alpha").unwrap_or(1.0));
        let (dims, values) = self.constant(node, 1)?;
        let transposed = node.int("transB").unwrap_or(0) != 0;
        let [height, width, channels] = self.shape;
        let inputs = height * width * channels;
        let units = match dims[..] {
            [units, length] if transposed && length == inputs => units,
            [length, units] if !transposed && length == inputs => units,
            _ => {
                let found = format!("weights {dims:?} on {inputs} elements");
                return Err(refuse(node, "weights fit the input", found, EXPORT));
            }
        };
        let at = |unit: usize, input: usize| {
            alpha * values[if transposed { unit * inputs + input } else { input * units + unit }]
        };
        let mut kernel = Kernel { shape: [units, height, width, channels], values: Vec::with_capacity(values.len()) };
        for unit in 0..units {
            let positions = height * width;
            // ONNX flattens (channel, row, column).
            kernel.values.extend((0..inputs).map(|i| at(unit, (i % channels) * positions + i / channels)));
        }
        Ok(kernel)
    }

    fn bias(&self, node: &Node, filters: usize) -> Result<Vec<f64>, QuantizeError> {
        if node.input(2).is_none() {
            return Ok(vec![0.0; filters]);
        }
        let (dims, values) = self.constant(node, 2)?;
        let beta = if node.is("Gemm") { f64::from(node.float("beta").unwrap_or(1.0)) } else { 1.0 };
        match values.len() {
            len if len == filters => Ok(values.iter().map(|b| b * beta).collect()),
            1 => Ok(vec![values[0] * beta; filters]),
            _ => Err(refuse(node, "there is one bias for each filter", format!("bias {dims:?}"), EXPORT)),
        }
    }

    pub fn constant(&self, node: &Node, index: usize) -> Result<(Vec<usize>, Vec<f64>), QuantizeError> {
        let name = node.input(index).unwrap_or_default();
        let Some(tensor) = self.graph.initializers.get(name) else {
            return Err(refuse(node, "weights are constant", format!("input {index} '{name}' is not"), EXPORT));
        };
        let values: Vec<f64> = tensor.values::<f32>(name)?.into_iter().map(f64::from).collect();
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok((tensor.dims().to_vec(), values)),
            Some(at) => {
                let found = format!("element {at} of '{name}' is {}", values[at]);
                Err(refuse(node, "weights are finite", found, "Train the network again"))
            }
        }
    }

    /// Upper bound of a rectifier.
    fn bound(&self, node: &Node) -> Result<f64, QuantizeError> {
        if node.is("Relu") {
            return Ok(f64::INFINITY);
        }
        let bound = |index: usize| node.input(index).map(|_| self.constant(node, index)).transpose();
        let one = |values: Option<(Vec<usize>, Vec<f64>)>| values.and_then(|(_, v)| v.first().copied());
        let (low, high) = (one(bound(1)?), one(bound(2)?));
        match (low, high) {
            (Some(low), high) if low == 0.0 && high.is_none_or(|high| high > 0.0) => Ok(high.unwrap_or(f64::INFINITY)),
            _ => {
                let found = format!("{low:?} to {high:?}");
                Err(refuse(node, "an activation is a rectifier: Clip from 0 to a positive bound", found, RELU))
            }
        }
    }
}

/// Non-negative numbers of an attribute.
fn sizes<const N: usize>(node: &Node, name: &str, default: [usize; N]) -> Result<[usize; N], QuantizeError> {
    let Some(values) = node.ints(name) else { return Ok(default) };
    let values: Option<Vec<usize>> = values.iter().map(|&v| usize::try_from(v).ok()).collect();
    let found =
        || refuse(node, "sizes are two-dimensional and not negative", format!("{name} {:?}", node.ints(name)), CHANGE);
    values.and_then(|v| <[usize; N]>::try_from(v).ok()).ok_or_else(found)
}

fn max_pool(node: &Node) -> Result<Pool, QuantizeError> {
    let size = sizes(node, "kernel_shape", [0, 0])?;
    let stride = sizes(node, "strides", [1, 1])?;
    let pads = sizes(node, "pads", [0; 4])?;
    if node.ints("dilations").is_some_and(|d| d.iter().any(|&d| d != 1)) || node.int("ceil_mode") == Some(1) {
        return Err(refuse(node, "pooling windows are plain", "dilations or ceil_mode", CHANGE));
    }
    Ok(Pool::Max { size, stride, pads })
}

/// Depthwise then pointwise in one kernel.
fn product(depthwise: &Kernel, pointwise: &Kernel) -> Kernel {
    let [channels, height, width, _] = depthwise.shape;
    let filters = pointwise.shape[0];
    let mut values = Vec::with_capacity(filters * channels * height * width);
    for filter in 0..filters {
        for tap in 0..height * width {
            values.extend((0..channels).map(|c| pointwise.filter(filter)[c] * depthwise.filter(c)[tap]));
        }
    }
    Kernel { shape: [filters, height, width, channels], values }
}

/// A depthwise kernel as one over all channels, with zeros.
fn spread(depthwise: &Kernel) -> Kernel {
    let [channels, height, width, _] = depthwise.shape;
    let mut kernel =
        Kernel { shape: [channels, height, width, channels], values: vec![0.0; channels * channels * height * width] };
    for channel in 0..channels {
        for tap in 0..height * width {
            kernel.filter_mut(channel)[tap * channels + channel] = depthwise.filter(channel)[tap];
        }
    }
    kernel
}
