//! A look at the raw bytes before anything is decoded.
//!
//! Decoding turns a two-byte empty message into a structure of some hundred bytes, and a nested message into a nested
//! call. Both are bounded here, with a walk that allocates nothing, so that a hostile file costs no more memory than
//! an honest one of its size.

use super::OnnxError;

/// Bytes of a model file; what protobuf itself allows.
pub const MAX_FILE_BYTES: u64 = 2 << 30;
/// Messages (nodes, attributes, tensors, dimensions...) in a model.
pub const MAX_MESSAGES: u64 = 1_000_000;
/// Messages inside one another. A model with functions needs 5; sub-graphs add 3 each.
pub const MAX_DEPTH: u64 = 24;
/// Bytes of integers stored one by one (`int32_data`, `int64_data`) rather than as raw data: each may grow eightfold.
pub const MAX_VARINT_BYTES: u64 = 64 << 20;
/// Strings and single numbers repeated in a model.
pub const MAX_REPEATED: u64 = 4_000_000;

/// Where in the schema the walk is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    Shape,
    Function,
    Leaf,
}

/// The message in field `field` of a `kind`, if it is one.
fn child(kind: Kind, field: u64) -> Option<Kind> {
    Some(match (kind, field) {
        (Kind::Model, 7) => Kind::Graph,
        (Kind::Model, 25) => Kind::Function,
        (Kind::Model, 8 | 14 | 20 | 26) => Kind::Leaf,
        (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
        (Kind::Graph, 5) => Kind::Tensor,
        (Kind::Graph, 11..=13) | (Kind::Function, 12) => Kind::Value,
        (Kind::Graph, 14..=16) | (Kind::Function, 9 | 14) => Kind::Leaf,
        (Kind::Function, 11) | (Kind::Node, 5) => Kind::Attribute,
        (Kind::Attribute, 5 | 10) => Kind::Tensor,
        (Kind::Attribute, 6 | 11) => Kind::Graph,
        (Kind::Attribute, 14 | 15) | (Kind::Value, 2) => Kind::Type,
        (Kind::Type, 1) => Kind::TensorType,
        (Kind::TensorType, 2) => Kind::Shape,
        (Kind::Shape, 1) | (Kind::Tensor, 13) => Kind::Leaf,
        _ => return None,
    })
}

struct Walk<'a> {
    file: &'a str,
    messages: u64,
    repeated: u64,
    varint_bytes: u64,
}

impl Walk<'_> {
    fn limit(&self, what: &str, limit: u64, value: u64) -> Result<(), OnnxError> {
        if value <= limit {
            return Ok(());
        }
        Err(OnnxError::Limit { file: self.file.to_owned(), what: what.to_owned(), limit, value })
    }

    fn broken(&self, reason: &str) -> OnnxError {
        OnnxError::NotOnnx { file: self.file.to_owned(), reason: reason.to_owned() }
    }

    fn varint(&self, bytes: &mut &[u8]) -> Result<u64, OnnxError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let Some((&byte, rest)) = bytes.split_first() else { return Err(self.broken("it ends inside a number")) };
            *bytes = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.broken("a number has more than ten bytes"))
    }

    fn message(&mut self, mut bytes: &[u8], kind: Kind, depth: u64) -> Result<(), OnnxError> {
        self.messages += 1;
        self.limit("the number of messages", MAX_MESSAGES, self.messages)?;
        self.limit("the depth of nested messages", MAX_DEPTH, depth)?;
        while !bytes.is_empty() {
            let key = self.varint(&mut bytes)?;
            let (field, wire) = (key >> 3, key & 7);
            let skip = match wire {
                0 => {
                    self.varint(&mut bytes)?;
                    self.repeated += 1;
                    0
                }
                1 => 8,
                2 => {
                    let len = self.varint(&mut bytes)?;
                    let len = usize::try_from(len).ok().filter(|&len| len <= bytes.len()).ok_or_else(|| {
                        self.broken(&format!("a field of {len} bytes where {} are left", bytes.len()))
                    })?;
                    if let Some(inner) = child(kind, field) {
                        self.message(&bytes[..len], inner, depth + 1)?;
                    } else if matches!((kind, field), (Kind::Tensor, 1 | 5 | 7 | 11) | (Kind::Attribute, 8)) {
                        self.varint_bytes += len as u64;
                    } else {
                        self.repeated += 1;
                    }
                    len
                }
                5 => 4,
                _ => return Err(self.broken(&format!("wire type {wire} does not occur in ONNX"))),
            };
            bytes = bytes.get(skip..).ok_or_else(|| self.broken("it ends inside a field"))?;
            self.limit("the number of strings and single values", MAX_REPEATED, self.repeated)?;
            self.limit("the size of integers stored one by one", MAX_VARINT_BYTES, self.varint_bytes)?;
        }
        Ok(())
    }
}

/// Checks a whole `ModelProto` against the limits of this module. Nothing is allocated unless it fails.
pub fn check(bytes: &[u8], file: &str) -> Result<(), OnnxError> {
    let mut walk = Walk { file, messages: 0, repeated: 0, varint_bytes: 0 };
    walk.limit("the file's size in bytes", MAX_FILE_BYTES, bytes.len() as u64)?;
    walk.message(bytes, Kind::Model, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_graphs_are_refused_before_decoding() {
        let fields = [7u8].into_iter().chain([1, 5, 6].into_iter().cycle().take(200)); // graph, node, attribute, graph...
        let mut bytes = Vec::new();
        for field in fields.collect::<Vec<_>>().into_iter().rev() {
            let mut outer = vec![(field << 3) | 2];
            prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
            outer.append(&mut bytes);
            bytes = outer;
        }
        let error = check(&bytes, "deep").unwrap_err();
        assert!(matches!(error, OnnxError::Limit { limit: MAX_DEPTH, .. }), "{error}");
    }

    #[test]
    fn empty_messages_do_not_multiply() {
        let nodes = [0x0a, 0].repeat(MAX_MESSAGES as usize + 1);
        let mut model = vec![(7 << 3) | 2];
        prost::encoding::encode_varint(nodes.len() as u64, &mut model);
        model.extend(nodes);
        let error = check(&model, "many").unwrap_err();
        assert!(matches!(error, OnnxError::Limit { limit: MAX_MESSAGES, .. }), "{error}");
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        assert!(matches!(check(&[0x3a, 0xff, 0xff, 0x7f, 0], "cut"), Err(OnnxError::NotOnnx { .. })));
        assert!(matches!(check(&[0x08], "cut"), Err(OnnxError::NotOnnx { .. })));
    }
}
