//! What ONNX Runtime's basic optimizations do for convolutional networks (quantization.md 1.3).

mod add_gemm;
mod batch_norm;
mod constants;
mod conv_scale;
mod defaults;
mod fold;
mod gelu;
mod no_ops;
mod order;
mod pad;
mod relu_clip;

pub use batch_norm::{Affine, scale_axis};
pub use pad::pads as pad_values;

use super::StepError;
use super::edit;
use crate::onnx::Graph;

/// Simplifies the graph until nothing changes.
pub fn simplify(graph: &mut Graph) -> Result<(), StepError> {
    constants::apply(graph)?;
    let mut changed = constants::shared(graph);
    loop {
        let mut round = false;
        for rewrite in [
            fold::apply,
            no_ops::apply,
            batch_norm::apply,
            conv_scale::apply,
            pad::apply,
            add_gemm::apply,
            relu_clip::apply,
            gelu::apply,
        ] {
            super::infer(graph).map_err(|e| StepError(e.to_string()))?;
            round |= rewrite(graph)?;
        }
        round |= edit::sweep(graph);
        changed |= round;
        if !round {
            break;
        }
    }
    order::apply(graph);
    if changed {
        defaults::apply(graph);
    }
    super::infer(graph).map_err(|e| StepError(e.to_string()))
}
