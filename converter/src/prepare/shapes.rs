//! The shape of the input (quantization.md 1.1).

use super::{PrepareError, infer};
use crate::onnx::{Dim, Graph};

/// Sets the input's dimensions and infers all others.
pub fn set(graph: &mut Graph, shape: Option<&[usize]>) -> Result<(), PrepareError> {
    let [input] = graph.inputs.as_slice() else {
        let names = graph.inputs.iter().map(|input| input.name.clone()).collect();
        return Err(PrepareError::Inputs { graph: graph.name.clone(), names });
    };
    let name = input.name.clone();
    let readers = graph.consumers(&name);
    if readers.len() != 1 {
        let nodes = readers.iter().map(|&n| graph.nodes[n].name.clone()).collect();
        return Err(PrepareError::InputReaders { input: name, nodes });
    }
    let dims = input.ty.shape.clone();
    let open = dims.as_ref().is_none_or(|dims| dims.iter().skip(1).any(|d| d.fixed().is_none()));
    let shape: Vec<Dim> = match (shape, dims) {
        (Some(given), Some(dims)) => {
            let mut given = given.to_vec();
            if dims.len() == 5 && given.len() == 3 {
                given.insert(1, 1); // one frame at a time
            }
            if given.len() + 1 != dims.len() {
                return Err(PrepareError::Rank { input: name, expected: dims.len().saturating_sub(1), given });
            }
            [Dim::Named("N".into())].into_iter().chain(given.into_iter().map(Dim::Fixed)).collect()
        }
        (Some(given), None) => {
            [Dim::Named("N".into())].into_iter().chain(given.iter().copied().map(Dim::Fixed)).collect()
        }
        (None, Some(dims)) if !open => dims,
        (None, dims) => {
            let text = |dim: &Dim| match dim {
                Dim::Fixed(size) => size.to_string(),
                Dim::Named(name) => name.clone(),
                Dim::Unknown => "?".to_owned(),
            };
            let dims = dims.unwrap_or_default();
            let found = format!("({})", dims.iter().map(text).collect::<Vec<_>>().join(", "));
            return Err(PrepareError::OpenShape { input: name, found });
        }
    };
    graph.inputs[0].ty.shape = Some(shape);
    for output in &mut graph.outputs {
        output.ty.shape = None;
    }
    infer(graph)?;
    Ok(())
}
