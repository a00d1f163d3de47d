//! From a [`Graph`] to a file.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use indexmap::IndexMap;
use prost::Message;

use super::proto::{self, attribute_type};
use super::{Attribute, Dim, Function, Graph, Node, OnnxError, Tensor, Value, ValueType};

impl Graph {
    /// Writes the model to `path`, whole or not at all. External data becomes part of the file.
    pub fn save(&self, path: &Path) -> Result<(), OnnxError> {
        let fail = |source| OnnxError::Io { path: path.to_owned(), action: "writing the model", source };
        let bytes = self.to_bytes()?;
        write_whole(path, &bytes).map_err(fail)
    }

    /// The model as an ONNX file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, OnnxError> {
        Ok(self.to_proto()?.encode_to_vec())
    }

    fn to_proto(&self) -> Result<proto::ModelProto, OnnxError> {
        let mut initializer = Vec::with_capacity(self.initializers.len());
        for (name, value) in &self.initializers {
            initializer.push(tensor(value, Some(name))?);
        }
        let value_info =
            self.values.iter().map(|(name, ty)| self::value(&Value { name: name.clone(), ty: ty.clone() })).collect();
        let graph = proto::GraphProto {
            node: self.nodes.iter().map(node).collect::<Result<_, _>>()?,
            name: Some(self.name.clone()),
            initializer,
            input: self.inputs.iter().map(value).collect(),
            output: self.outputs.iter().map(value).collect(),
            value_info,
        };
        Ok(proto::ModelProto {
            ir_version: Some(self.ir_version),
            producer_name: Some(env!("CARGO_PKG_NAME").to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(graph),
            opset_import: opsets(&self.opsets),
            metadata_props: Vec::new(),
            functions: self.functions.iter().map(function).collect::<Result<_, _>>()?,
        })
    }
}

/// Writes a file whole or not at all: under a temporary name, which it loses at the end.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let write = || {
        let mut file = std::fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&part); // what failed is reported; the leftover is ours
    })
}

fn opsets(map: &IndexMap<String, i64>) -> Vec<proto::OperatorSetIdProto> {
    map.iter()
        .map(|(domain, &version)| proto::OperatorSetIdProto { domain: Some(domain.clone()), version: Some(version) })
        .collect()
}

fn function(function: &Function) -> Result<proto::FunctionProto, OnnxError> {
    Ok(proto::FunctionProto {
        name: Some(function.name.clone()),
        input: function.inputs.clone(),
        output: function.outputs.clone(),
        attribute: function.attributes.clone(),
        node: function.nodes.iter().map(node).collect::<Result<_, _>>()?,
        opset_import: opsets(&function.opsets),
        domain: Some(function.domain.clone()),
        attribute_proto: function.defaults.iter().map(|(k, v)| attribute(k, v)).collect::<Result<_, _>>()?,
    })
}

fn node(node: &Node) -> Result<proto::NodeProto, OnnxError> {
    Ok(proto::NodeProto {
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        name: Some(node.name.clone()),
        op_type: Some(node.op.clone()),
        attribute: node.attributes.iter().map(|(k, v)| attribute(k, v)).collect::<Result<_, _>>()?,
        domain: Some(node.domain.clone()),
    })
}

fn attribute(name: &str, value: &Attribute) -> Result<proto::AttributeProto, OnnxError> {
    let empty = proto::AttributeProto { name: Some(name.to_owned()), ..Default::default() };
    let (kind, filled) = match value {
        Attribute::Float(v) => (attribute_type::FLOAT, proto::AttributeProto { f: Some(*v), ..empty }),
        Attribute::Int(v) => (attribute_type::INT, proto::AttributeProto { i: Some(*v), ..empty }),
        Attribute::String(v) => {
            (attribute_type::STRING, proto::AttributeProto { s: Some(Bytes::from(v.clone())), ..empty })
        }
        Attribute::Tensor(v) => (attribute_type::TENSOR, proto::AttributeProto { t: Some(tensor(v, None)?), ..empty }),
        Attribute::Floats(v) => (attribute_type::FLOATS, proto::AttributeProto { floats: v.clone(), ..empty }),
        Attribute::Ints(v) => (attribute_type::INTS, proto::AttributeProto { ints: v.clone(), ..empty }),
        Attribute::Strings(v) => {
            let strings = v.iter().map(|s| Bytes::from(s.clone())).collect();
            (attribute_type::STRINGS, proto::AttributeProto { strings, ..empty })
        }
        Attribute::Reference { name, kind } => {
            (*kind, proto::AttributeProto { ref_attr_name: Some(name.clone()), ..empty })
        }
    };
    Ok(proto::AttributeProto { r#type: Some(kind), ..filled })
}

fn tensor(tensor: &Tensor, name: Option<&str>) -> Result<proto::TensorProto, OnnxError> {
    Ok(proto::TensorProto {
        dims: tensor.dims().iter().map(|&d| d as i64).collect(),
        data_type: Some(tensor.dtype() as i32),
        name: name.map(str::to_owned),
        raw_data: Some(tensor.bytes()?),
        ..Default::default()
    })
}

fn value(value: &Value) -> proto::ValueInfoProto {
    proto::ValueInfoProto { name: Some(value.name.clone()), r#type: Some(value_type(&value.ty)) }
}

fn value_type(ty: &ValueType) -> proto::TypeProto {
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(size) => proto::DimensionProto { dim_value: Some(*size as i64), dim_param: None },
        Dim::Named(symbol) => proto::DimensionProto { dim_value: None, dim_param: Some(symbol.clone()) },
        Dim::Unknown => proto::DimensionProto::default(),
    };
    let shape = ty.shape.as_ref().map(|dims| proto::TensorShapeProto { dim: dims.iter().map(dim).collect() });
    proto::TypeProto { tensor_type: Some(proto::TensorTypeProto { elem_type: ty.dtype.map(|d| d as i32), shape }) }
}
