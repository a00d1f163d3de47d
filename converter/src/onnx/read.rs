//! From a file to a [`Graph`].

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use indexmap::IndexMap;
use prost::Message;

use super::proto::{self, attribute_type};
use super::tensor::byte_size;
use super::{Attribute, DType, Dim, Function, Graph, Node, OnnxError, Tensor, Value, ValueType};
use super::{check, external, limits};

/// Reads and checks an ONNX file. Tensor data in other files must be in the same folder and stays there until used.
pub fn load(path: &Path) -> Result<Graph, OnnxError> {
    let fail = |source| OnnxError::Io { path: path.to_owned(), action: "reading the model", source };
    let file = std::fs::File::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    let name = path.display().to_string();
    if size > limits::MAX_FILE_BYTES {
        let what = "the file's size in bytes".to_owned();
        return Err(OnnxError::Limit { file: name, what, limit: limits::MAX_FILE_BYTES, value: size });
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // A pipe or device has no size of its own: the limit holds for what really comes.
    file.take(limits::MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    let folder = path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    parse(bytes.into(), &name, folder)
}

/// Reads and checks the bytes of an ONNX file. `file` names it in errors; without a `folder`, external data is refused.
/// Large tensors share the memory of `bytes`.
pub fn parse(bytes: Bytes, file: &str, folder: Option<&Path>) -> Result<Graph, OnnxError> {
    limits::check(&bytes, file)?;
    let not_onnx = |reason: String| OnnxError::NotOnnx { file: file.to_owned(), reason };
    let model = proto::ModelProto::decode(bytes).map_err(|e| not_onnx(e.to_string()))?;
    let reader = Reader { file, folder };
    let graph = model.graph.ok_or_else(|| not_onnx("it holds no graph".into()))?;
    let ir_version = model.ir_version.ok_or_else(|| not_onnx("it does not say its IR version".into()))?;
    let mut functions = Vec::with_capacity(model.functions.len());
    for function in model.functions {
        functions.push(reader.function(function)?);
    }
    let graph = Graph { ir_version, opsets: opsets(model.opset_import), functions, ..reader.graph(graph)? };
    check::check(&graph, file)?;
    Ok(graph)
}

fn opsets(list: Vec<proto::OperatorSetIdProto>) -> IndexMap<String, i64> {
    list.into_iter().map(|o| (domain(o.domain), o.version.unwrap_or(0))).collect()
}

/// `ai.onnx` and the empty name are the same domain.
fn domain(name: Option<String>) -> String {
    name.filter(|name| name != "ai.onnx").unwrap_or_default()
}

struct Reader<'a> {
    file: &'a str,
    folder: Option<&'a Path>,
}

impl Reader<'_> {
    fn graph(&self, graph: proto::GraphProto) -> Result<Graph, OnnxError> {
        let name = graph.name.unwrap_or_default();
        let mut initializers = IndexMap::with_capacity(graph.initializer.len());
        for tensor in graph.initializer {
            let tensor_name = tensor.name.clone().unwrap_or_default();
            let tensor = self.tensor(tensor, &tensor_name)?;
            if initializers.insert(tensor_name.clone(), tensor).is_some() {
                return Err(self.bad_tensor(&tensor_name, "two initializers have this name"));
            }
        }
        let values = |list: Vec<proto::ValueInfoProto>| -> Result<Vec<Value>, OnnxError> {
            list.into_iter().map(|value| self.value(value)).collect()
        };
        let mut inputs = values(graph.input)?;
        // Before IR version 4 every initializer was an input too.
        inputs.retain(|input| !initializers.contains_key(&input.name));
        let outputs = values(graph.output)?;
        let value_info = values(graph.value_info)?.into_iter().map(|v| (v.name, v.ty)).collect();
        let nodes = graph.node.into_iter().map(|node| self.node(node)).collect::<Result<_, _>>()?;
        Ok(Graph { name, inputs, outputs, values: value_info, initializers, nodes, ..Graph::default() })
    }

    fn function(&self, function: proto::FunctionProto) -> Result<Function, OnnxError> {
        let name = function.name.unwrap_or_default();
        let mut defaults = IndexMap::new();
        for attribute in function.attribute_proto {
            let (key, value) = self.attribute(attribute, &name, "function")?;
            defaults.insert(key, value);
        }
        Ok(Function {
            domain: domain(function.domain),
            inputs: function.input,
            outputs: function.output,
            attributes: function.attribute,
            defaults,
            nodes: function.node.into_iter().map(|node| self.node(node)).collect::<Result<_, _>>()?,
            opsets: opsets(function.opset_import),
            name,
        })
    }

    fn node(&self, node: proto::NodeProto) -> Result<Node, OnnxError> {
        let op = node.op_type.unwrap_or_default();
        let named = node.name.filter(|name| !name.is_empty());
        let name = named.or_else(|| node.output.first().cloned()).unwrap_or_default();
        let mut attributes = IndexMap::with_capacity(node.attribute.len());
        for attribute in node.attribute {
            let (key, value) = self.attribute(attribute, &name, &op)?;
            if attributes.insert(key.clone(), value).is_some() {
                return Err(self.bad_node(&name, &op, format!("attribute '{key}' is given twice")));
            }
        }
        Ok(Node { domain: domain(node.domain), inputs: node.input, outputs: node.output, name, op, attributes })
    }

    fn attribute(&self, a: proto::AttributeProto, node: &str, op: &str) -> Result<(String, Attribute), OnnxError> {
        let key = a.name.unwrap_or_default();
        let bad = |reason: String| self.bad_node(node, op, format!("attribute '{key}' {reason}"));
        let text = |bytes: Bytes| String::from_utf8(bytes.into()).map_err(|_| bad("is not UTF-8 text".into()));
        // Files older than IR version 2 give no type: then the field that is present tells.
        let kind = a.r#type.filter(|&kind| kind != 0).unwrap_or(match () {
            () if a.f.is_some() => attribute_type::FLOAT,
            () if a.i.is_some() => attribute_type::INT,
            () if a.s.is_some() => attribute_type::STRING,
            () if a.t.is_some() => attribute_type::TENSOR,
            () if !a.floats.is_empty() => attribute_type::FLOATS,
            () if !a.strings.is_empty() => attribute_type::STRINGS,
            () => attribute_type::INTS,
        });
        if let Some(name) = a.ref_attr_name.filter(|name| !name.is_empty()) {
            return Ok((key, Attribute::Reference { name, kind }));
        }
        let value = match kind {
            attribute_type::FLOAT => Attribute::Float(a.f.unwrap_or(0.0)),
            attribute_type::INT => Attribute::Int(a.i.unwrap_or(0)),
            attribute_type::STRING => Attribute::String(text(a.s.unwrap_or_default())?),
            attribute_type::TENSOR => {
                let tensor = a.t.ok_or_else(|| bad("should hold a tensor and does not".into()))?;
                Attribute::Tensor(self.tensor(tensor, &format!("{node}.{key}"))?)
            }
            attribute_type::FLOATS => Attribute::Floats(a.floats),
            attribute_type::INTS => Attribute::Ints(a.ints),
            attribute_type::STRINGS => Attribute::Strings(a.strings.into_iter().map(text).collect::<Result<_, _>>()?),
            attribute_type::GRAPH => {
                return Err(
                    bad("holds a sub-graph; control flow is not supported, export the model without it".into()),
                );
            }
            other => return Err(bad(format!("has ONNX type {other}, which is not supported"))),
        };
        Ok((key, value))
    }

    fn tensor(&self, tensor: proto::TensorProto, name: &str) -> Result<Tensor, OnnxError> {
        let bad = |reason: String| self.bad_tensor(name, reason);
        let number = tensor.data_type.unwrap_or(0);
        let dtype = DType::from_onnx(number).ok_or_else(|| {
            bad(format!("elements of ONNX type {} are not supported as constants", type_name(number)))
        })?;
        let mut dims = Vec::with_capacity(tensor.dims.len());
        for &dim in &tensor.dims {
            dims.push(usize::try_from(dim).map_err(|_| bad(format!("dimension {dim} is negative")))?);
        }
        let need = byte_size(dtype, &dims).ok_or_else(|| bad(format!("dimensions {dims:?} overflow 64 bits")))?;
        if tensor.data_location == Some(1) {
            let (path, offset) = external::locate(&tensor.external_data, self.folder, need).map_err(bad)?;
            return Ok(Tensor::external(dtype, dims, path, offset));
        }
        let bytes = tensor.raw_data.unwrap_or_default();
        let typed = [
            tensor.float_data.len(),
            tensor.int32_data.len(),
            tensor.int64_data.len(),
            tensor.double_data.len(),
            tensor.uint64_data.len(),
        ];
        if !bytes.is_empty() && typed.iter().any(|&len| len > 0) {
            return Err(bad("has both raw data and typed data".into()));
        }
        let have = if bytes.is_empty() {
            typed.iter().sum::<usize>() as u64 * dtype.size() as u64
        } else {
            bytes.len() as u64
        };
        let short = || bad(format!("dimensions {dims:?} of {dtype} need {need} bytes, it has {have}"));
        if have != need {
            return Err(short());
        }
        let bytes = if bytes.is_empty() && need > 0 {
            // Each element type has one field that may hold it.
            match dtype {
                DType::F32 => pack(&tensor.float_data, |v| v.to_le_bytes()),
                DType::F64 => pack(&tensor.double_data, |v| v.to_le_bytes()),
                DType::I64 => pack(&tensor.int64_data, |v| v.to_le_bytes()),
                DType::U64 => pack(&tensor.uint64_data, |v| v.to_le_bytes()),
                DType::U32 => pack(&tensor.uint64_data, |v| (v as u32).to_le_bytes()),
                DType::I32 => pack(&tensor.int32_data, |v| v.to_le_bytes()),
                DType::I16 | DType::U16 | DType::F16 | DType::BF16 => {
                    pack(&tensor.int32_data, |v| (v as u16).to_le_bytes())
                }
                DType::I8 | DType::U8 | DType::Bool => pack(&tensor.int32_data, |v| [v as u8]),
            }
        } else {
            bytes
        };
        if bytes.len() as u64 != need {
            return Err(bad(format!("{dtype} values are not in the field that holds them")));
        }
        Tensor::from_bytes(dtype, dims.clone(), bytes).ok_or_else(short)
    }

    fn value(&self, value: proto::ValueInfoProto) -> Result<Value, OnnxError> {
        let name = value.name.unwrap_or_default();
        let tensor = value.r#type.and_then(|ty| ty.tensor_type).unwrap_or_default();
        let dim = |dim: proto::DimensionProto| match (dim.dim_value, dim.dim_param) {
            (Some(size), _) => usize::try_from(size)
                .map(Dim::Fixed)
                .map_err(|_| self.bad_tensor(&name, format!("dimension {size} is negative"))),
            (None, Some(symbol)) if !symbol.is_empty() => Ok(Dim::Named(symbol)),
            _ => Ok(Dim::Unknown),
        };
        let shape = tensor.shape.map(|shape| shape.dim.into_iter().map(dim).collect::<Result<_, _>>()).transpose()?;
        Ok(Value { ty: ValueType { dtype: tensor.elem_type.and_then(DType::from_onnx), shape }, name })
    }

    fn bad_tensor(&self, tensor: &str, reason: impl Into<String>) -> OnnxError {
        OnnxError::Tensor { file: self.file.to_owned(), tensor: tensor.to_owned(), reason: reason.into() }
    }

    fn bad_node(&self, node: &str, op: &str, reason: String) -> OnnxError {
        OnnxError::Node { file: self.file.to_owned(), node: node.to_owned(), op: op.to_owned(), reason }
    }
}

/// The name of a type that no [`DType`] stands for, or its number.
fn type_name(number: i32) -> String {
    match number {
        8 => "STRING".to_owned(),
        14 => "COMPLEX64".to_owned(),
        15 => "COMPLEX128".to_owned(),
        17..=20 => format!("FLOAT8 ({number})"),
        21 => "UINT4".to_owned(),
        22 => "INT4".to_owned(),
        23 => "FLOAT4".to_owned(),
        _ => number.to_string(),
    }
}

fn pack<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Bytes {
    values.iter().flat_map(|&value| bytes(value)).collect::<Vec<u8>>().into()
}
