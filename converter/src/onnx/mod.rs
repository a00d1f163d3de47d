//! Reading, checking, printing and writing ONNX files.
//!
//! [`load`] turns a file into a [`Graph`] or an [`OnnxError`] that names the place; it trusts nothing in the file.
//! The protobuf messages themselves stay inside this module.

mod check;
mod error;
mod external;
mod graph;
mod limits;
mod nodes;
mod print;
mod proto;
mod read;
mod tensor;
mod write;

pub use error::OnnxError;
pub use graph::{Attribute, BRAINCHIP, Dim, Function, Graph, Node, Value, ValueType};
pub use nodes::Nodes;
pub use print::node as print_node;
pub use read::{load, parse};
pub(crate) use write::write_whole;

pub use tensor::{DType, Element, Tensor};
