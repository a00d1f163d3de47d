//! Rewrites that only make sense because of the hardware (quantization.md 1.4, 22 to 25).

use super::Rewrite;

/// Name and rewrite of each step.
pub const STEPS: &[(&str, Rewrite)] = &[];
