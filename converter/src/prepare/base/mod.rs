//! Rewrites towards the layers of the chip, in the order they are done (quantization.md 1.4, 1 to 21).

mod activation_pool;
mod unify_pads;

use super::{Rewrite, StepError, edit};

/// Name and rewrite of each step.
pub const STEPS: &[(&str, Rewrite)] =
    &[("explicit pads", unify_pads::apply), ("activations after max pooling", activation_pool::apply)];
