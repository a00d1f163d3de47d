//! What AVX2 and AVX-VNNI share: vectors of 256 bits.

mod depthwise;
mod ends;
mod lanes;
pub(super) mod winograd;

pub(super) use depthwise::depthwise;
pub(super) use ends::{affine, slope};
pub(super) use lanes::{Dot, Eights};
