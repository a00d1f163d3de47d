//! What AVX2 and AVX-VNNI share: vectors of 256 bits.

mod depthwise;
mod ends;

pub(super) use depthwise::depthwise;
pub(super) use ends::{affine, slope};
