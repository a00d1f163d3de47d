//! Rewrites that only make sense because of the hardware (quantization.md 1.4, 22 to 25).

mod even_kernel;
mod identity_conv;
mod split_concat;
mod split_depthwise;

use super::{Rewrite, StepError, edit};

/// Name and rewrite of each step.
pub const STEPS: &[(&str, Rewrite)] = &[
    ("Concat and Sum of two", split_concat::apply),
    ("odd kernels", even_kernel::apply),
    ("large strided depthwise kernels in two", split_depthwise::apply),
    ("convolutions behind Add and Concat", identity_conv::behind_merges),
    ("operands of Add and Concat from different tensors", identity_conv::different_operands),
    ("one reader of the input layer", identity_conv::behind_input_layer),
    ("at most two readers of a tensor", identity_conv::two_readers),
];
