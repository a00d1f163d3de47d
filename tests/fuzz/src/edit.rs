//! Networks from networks. Mutated bytes of a protobuf file rarely get beyond its reader; edits of the graph do: each
//! input of the fuzzer chooses a network of the tests' data and is read as a list of changes to it.

use std::path::Path;
use std::sync::OnceLock;

use akida_converter::onnx::{Attribute, DType, Dim, Graph, Node, Tensor, load};
use libfuzzer_sys::arbitrary::{Result, Unstructured};

/// Operators put in the place of others.
const OPS: &[&str] = &[
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "Relu",
    "Clip",
    "Add",
    "Mul",
    "Sub",
    "Div",
    "Concat",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "BatchNormalization",
    "Pad",
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Identity",
    "Cast",
    "Shape",
    "Gather",
    "Slice",
    "Split",
    "ReduceMean",
    "Resize",
    "Upsample",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Gelu",
    "Erf",
    "Softmax",
    "Constant",
    "ConstantOfShape",
    "Expand",
    "Sqrt",
    "Pow",
    "Tanh",
    "Dropout",
    "Min",
    "Max",
    "QuantizeLinear",
    "DequantizeLinear",
    "BufferTempConv",
    "InputQuantizer",
];
/// Attributes that operators look for.
const ATTRIBUTES: &[&str] = &[
    "kernel_shape",
    "strides",
    "pads",
    "dilations",
    "group",
    "auto_pad",
    "axis",
    "axes",
    "perm",
    "alpha",
    "beta",
    "transA",
    "transB",
    "keepdims",
    "ceil_mode",
    "count_include_pad",
    "epsilon",
    "value",
    "mode",
    "allowzero",
    "to",
    "output_padding",
    "output_shape",
    "fifo_size",
    "min",
    "max",
    "noop_with_empty_axes",
    "storage_order",
];
const NUMBERS: &[i64] =
    &[0, 1, 2, 3, 4, 5, 7, 8, 16, 17, -1, -2, -3, 100, 127, 128, 255, 256, 65_535, 65_536, 1 << 31, i64::MAX, i64::MIN];
const FLOATS: &[f32] =
    &[0.0, 1.0, -1.0, 0.5, 6.0, 1e-30, 1e30, f32::MAX, f32::MIN_POSITIVE, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
/// Elements of a constant that an edit makes.
const CONSTANT: usize = 4096;

/// Networks that edits begin with.
pub struct Source {
    /// Folder in the tests' data.
    folder: &'static str,
    /// Bytes of the largest file: small enough to be tried thousands of times.
    largest: u64,
    networks: OnceLock<Vec<Graph>>,
}

/// Float and quantized networks of the conformance data.
pub static CONFORMANCE: Source = Source { folder: "conformance", largest: 24_000, networks: OnceLock::new() };
/// Networks with QuantizeLinear and DequantizeLinear.
pub static QDQ: Source = Source { folder: "qdq", largest: 80_000, networks: OnceLock::new() };

fn networks(source: &'static Source) -> &'static [Graph] {
    source.networks.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data").join(source.folder);
        let mut found = Vec::new();
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("the data of the tests").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "onnx")
                    && entry.metadata().is_ok_and(|m| m.len() < source.largest)
                    && let Ok(graph) = load(&path)
                {
                    found.push((path, graph));
                }
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        assert!(found.len() >= 10, "{} networks", found.len());
        found.into_iter().map(|(_, graph)| graph).collect()
    })
}

/// The network that these bytes stand for.
pub fn network(source: &'static Source, bytes: &[u8]) -> Graph {
    let mut input = Unstructured::new(bytes);
    let networks = networks(source);
    let number = input.int_in_range(0..=networks.len() - 1).unwrap_or(0);
    let mut graph = networks[number].clone();
    for _ in 0..16 {
        if input.is_empty() || edit(&mut graph, &mut input).is_err() {
            break;
        }
    }
    graph
}

fn one<T: Copy>(input: &mut Unstructured, of: &[T]) -> Result<T> {
    input.choose(of).copied()
}

/// Any tensor's name.
fn tensor(graph: &Graph, input: &mut Unstructured) -> Result<String> {
    let inputs = graph.inputs.iter().map(|value| &value.name);
    let made = graph.nodes.iter().flat_map(|node| &node.outputs);
    let names: Vec<&String> = inputs.chain(made).chain(graph.initializers.keys()).collect();
    input.choose(&names).map(|name| (*name).clone())
}

fn dims(input: &mut Unstructured, limit: usize) -> Result<Vec<usize>> {
    let mut dims = Vec::new();
    for _ in 0..input.int_in_range(0..=5)? {
        dims.push(one(input, &[0, 1, 1, 2, 3, 4, 5, 8, 16, 17])?);
    }
    while dims.iter().product::<usize>() > limit {
        dims.pop();
    }
    Ok(dims)
}

fn constant(input: &mut Unstructured) -> Result<Tensor> {
    let dims = dims(input, CONSTANT)?;
    let count = dims.iter().product();
    Ok(match input.int_in_range(0..=5)? {
        0 => Tensor::new(dims, &vec![one(input, NUMBERS)?; count]),
        1 => Tensor::new(dims, &vec![one(input, NUMBERS)? as i8; count]),
        2 => Tensor::new(dims, &vec![one(input, NUMBERS)? as u8; count]),
        3 => Tensor::new(dims, &vec![one(input, NUMBERS)? as i32; count]),
        _ => Tensor::new(dims, &vec![one(input, FLOATS)?; count]),
    })
}

fn attribute(input: &mut Unstructured) -> Result<Attribute> {
    Ok(match input.int_in_range(0..=6)? {
        0 => Attribute::Int(one(input, NUMBERS)?),
        1 => Attribute::Float(one(input, FLOATS)?),
        2 => {
            Attribute::String(one(input, &["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "nearest", "linear"])?.into())
        }
        3 => Attribute::Tensor(constant(input)?),
        _ => {
            let mut values = Vec::new();
            for _ in 0..input.int_in_range(0..=8)? {
                values.push(one(input, NUMBERS)?);
            }
            Attribute::Ints(values)
        }
    })
}

/// Small edits that keep a network plausible are drawn most often.
fn edit(graph: &mut Graph, input: &mut Unstructured) -> Result<()> {
    if graph.nodes.is_empty() {
        return Ok(());
    }
    let at = input.int_in_range(0..=graph.nodes.len() - 1)?;
    match input.int_in_range(0..=15)? {
        // One number of a list.
        0..=3 => {
            let lists = graph.nodes[at].attributes.values_mut().filter_map(|value| match value {
                Attribute::Ints(values) if !values.is_empty() => Some(values),
                _ => None,
            });
            let mut lists: Vec<&mut Vec<i64>> = lists.collect();
            if !lists.is_empty() {
                let list = input.int_in_range(0..=lists.len() - 1)?;
                let place = input.int_in_range(0..=lists[list].len() - 1)?;
                lists[list][place] = one(input, NUMBERS)?;
            }
        }
        4 => {
            let name = one(input, ATTRIBUTES)?.to_owned();
            let value = attribute(input)?;
            graph.nodes[at].attributes.insert(name, value);
        }
        5 => {
            let count = graph.nodes[at].attributes.len();
            if count > 0 {
                graph.nodes[at].attributes.shift_remove_index(input.int_in_range(0..=count - 1)?);
            }
        }
        6 => graph.nodes[at].op = one(input, OPS)?.to_owned(),
        7 => {
            let name = tensor(graph, input)?;
            let inputs = &mut graph.nodes[at].inputs;
            match inputs.len() {
                0 => inputs.push(name),
                count => inputs[input.int_in_range(0..=count - 1)?] = name,
            }
        }
        8 => {
            let inputs = &mut graph.nodes[at].inputs;
            if input.ratio(1, 2)? {
                inputs.pop();
            } else {
                inputs.push(String::new());
            }
        }
        // A node out of the way: who used what it made uses what it took.
        9 => {
            let node = graph.nodes.remove(at);
            if let (Some(from), Some(to)) = (node.outputs.first(), node.inputs.first()) {
                for name in graph.nodes.iter_mut().flat_map(|node| &mut node.inputs).filter(|name| *name == from) {
                    name.clone_from(to);
                }
                for output in graph.outputs.iter_mut().filter(|output| output.name == *from) {
                    output.name.clone_from(to);
                }
            }
        }
        // A node more, between a node and those that use it.
        10 | 11 => {
            let Some(from) = graph.nodes[at].outputs.first().cloned() else { return Ok(()) };
            let made = format!("more{}", graph.nodes.len());
            let mut node = Node::new(one(input, OPS)?, &[&from], &made);
            if input.ratio(1, 2)? {
                let name = format!("constant{}", graph.initializers.len());
                graph.initializers.insert(name.clone(), constant(input)?);
                node.inputs.push(name);
            }
            for name in graph.nodes.iter_mut().flat_map(|node| &mut node.inputs).filter(|name| **name == from) {
                name.clone_from(&made);
            }
            for output in graph.outputs.iter_mut().filter(|output| output.name == from) {
                output.name.clone_from(&made);
            }
            graph.nodes.insert(at + 1, node);
        }
        // Other constants; or one value of those there are.
        12 | 13 => {
            if graph.initializers.is_empty() {
                return Ok(());
            }
            let place = input.int_in_range(0..=graph.initializers.len() - 1)?;
            let value = one(input, FLOATS)?;
            let Some((_, tensor)) = graph.initializers.get_index_mut(place) else { return Ok(()) };
            match tensor.values::<f32>("") {
                Ok(mut values) if !values.is_empty() && input.ratio(2, 3)? => {
                    let element = input.int_in_range(0..=values.len() - 1)?;
                    values[element] = value;
                    *tensor = Tensor::new(tensor.dims(), &values);
                }
                _ => *tensor = constant(input)?,
            }
        }
        14 => {
            let name = tensor(graph, input)?;
            let ty = graph.value_type(&name).unwrap_or_default();
            graph.outputs.push(akida_converter::onnx::Value { name, ty });
        }
        _ => {
            let Some(value) = graph.inputs.first_mut() else { return Ok(()) };
            if input.ratio(1, 8)? {
                value.ty.dtype = Some(one(input, &DType::ALL)?);
            } else if let Some(shape) = value.ty.shape.as_mut().filter(|shape| !shape.is_empty()) {
                let place = input.int_in_range(0..=shape.len() - 1)?;
                let sizes = [0, 1, 2, 3, 5, 16, 17, 31, 33, 64, 65_536, usize::MAX >> 1];
                shape[place] = if input.ratio(1, 6)? { Dim::Unknown } else { Dim::Fixed(one(input, &sizes)?) };
            }
        }
    }
    Ok(())
}
