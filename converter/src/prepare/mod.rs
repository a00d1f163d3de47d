//! From an exported float graph to one whose chains of nodes are layers of the chip (quantization.md 1).
//!
//! Each rewrite has its own file, with a test that shows a graph before and after it. A rewrite works on a copy and is
//! adopted as a whole or not at all; what it cannot do becomes a warning.

mod base;
mod edit;
mod error;
mod hardware;
mod infer;
mod opset;
mod shapes;
mod simplify;
#[cfg(test)]
mod testing;

pub use error::{PrepareError, StepError};
pub use infer::{ShapeError, infer};

pub(crate) use edit::{sort, sweep};
pub(crate) use infer::axis;

use crate::onnx::{BRAINCHIP, DType, Graph, Value};
use crate::quantize::Warning;
use crate::stages::Stage;

/// Operator set of prepared graphs.
pub const OPSET: i64 = 21;

/// A rewrite: changes the graph and says whether it did.
type Rewrite = fn(&mut Graph) -> Result<bool, StepError>;

/// Prepares `graph`. `input_shape` are the dimensions of the input without the batch, when the graph leaves them open
/// or others are wanted; the batch then becomes symbolic. None leaves the input as it is.
pub fn prepare(graph: Graph, input_shape: Option<&[usize]>) -> Result<(Graph, Vec<Warning>), PrepareError> {
    prepare_observed(graph, input_shape, &mut |_, _| {})
}

/// The same; `observe` is shown the graph after each group of rewrites, at each [`Stage`].
pub fn prepare_observed(
    mut graph: Graph,
    input_shape: Option<&[usize]>,
    observe: &mut dyn FnMut(Stage, &Graph),
) -> Result<(Graph, Vec<Warning>), PrepareError> {
    let mut warnings = Vec::new();
    observe(Stage::Imported, &graph);
    let outputs = graph.outputs.clone();
    opset::upgrade(&mut graph)?;
    shapes::set(&mut graph, input_shape)?;
    observe(Stage::Shaped, &with_shapes(&graph, &outputs));
    let groups =
        [[Stage::Simplified1, Stage::Base1, Stage::Hardware1], [Stage::Simplified2, Stage::Base2, Stage::Hardware2]];
    for [simplified, base, hardware] in groups {
        // The operators preparation makes itself are not known to what this stands for, which then leaves the graph as
        // it is (quantization.md 1.2).
        if graph.nodes.iter().all(|node| node.domain != BRAINCHIP) {
            step(&mut graph, &mut warnings, "simplification", |graph| simplify::simplify(graph).map(|()| true));
        }
        observe(simplified, &graph);
        check_float_input(&graph)?;
        for (stage, steps) in [(base, base::STEPS), (hardware, hardware::STEPS)] {
            for (name, rewrite) in steps {
                step(&mut graph, &mut warnings, name, rewrite);
            }
            observe(stage, &graph);
        }
    }
    infer(&mut graph)?;
    observe(Stage::Prepared, &graph);
    Ok((graph, warnings))
}

/// The graph with the declared type of each output whose shape is not known before constants are folded: checkers want
/// one.
fn with_shapes(graph: &Graph, declared: &[Value]) -> Graph {
    let mut graph = graph.clone();
    for output in graph.outputs.iter_mut().filter(|output| output.ty.shape.is_none()) {
        if let Some(declared) = declared.iter().find(|d| d.name == output.name) {
            output.ty = declared.ty.clone();
        }
    }
    graph
}

/// Does one step on a copy.
fn step(
    graph: &mut Graph,
    warnings: &mut Vec<Warning>,
    name: &'static str,
    rewrite: impl Fn(&mut Graph) -> Result<bool, StepError>,
) {
    let mut copy = graph.clone();
    let done = rewrite(&mut copy).and_then(|changed| {
        if changed {
            edit::sweep(&mut copy);
            if !edit::sort(&mut copy) {
                return Err(StepError("it would make a cycle".into()));
            }
            infer(&mut copy).map_err(|e| StepError(e.to_string()))?;
        }
        Ok(changed)
    });
    match done {
        Ok(true) => {
            log::debug!("graph preparation: {name}");
            *graph = copy;
        }
        Ok(false) => {}
        Err(StepError(reason)) => {
            let warning = Warning::StepFailed { step: name, reason };
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
}

/// The input must be float, or be made float first.
fn check_float_input(graph: &Graph) -> Result<(), PrepareError> {
    let Some(input) = graph.inputs.first() else { return Ok(()) };
    let first = graph.consumers(&input.name).first().map(|&n| &graph.nodes[n]);
    let cast = first.filter(|node| node.is("Cast"));
    match (cast, input.ty.dtype) {
        (Some(cast), _) if cast.int("to") == Some(DType::F32 as i64) => Ok(()),
        (None, Some(DType::F32) | None) => Ok(()),
        (_, dtype) => Err(PrepareError::InputType {
            input: input.name.clone(),
            found: dtype.map_or_else(|| "an unknown type".to_owned(), |d| d.to_string()),
        }),
    }
}
