//! Limits of a model: wide enough for every chip, narrow enough that sums of a layer cannot overflow 64 bits.
//!
//! Largest sum: 2^20 weights of a filter x 2^7 x 2^8, over the 2^26 positions of a global pool: 2^61.

/// Largest height, width or number of channels.
pub const DIMENSION: usize = 65_535;
/// Most elements of a tensor.
pub const ELEMENTS: usize = 1 << 26;
/// Largest edge of a kernel or pooling window, stride and padding.
pub const WINDOW: usize = 255;
/// Most weights of one filter.
pub const FILTER_WEIGHTS: usize = 1 << 20;
/// Most frames of a FIFO.
pub const FIFO: usize = 64;
/// Smallest and largest k of S_out = 2^k (quantization.md 7.3).
pub const SCALE_SHIFT: (i32, i32) = (-31, 32);
/// Largest left shift of an operand of an addition.
pub const ADD_SHIFT: i32 = 24;

/// Widths of Akida 1.0 activation parameters (quantization.md 6.3).
#[derive(Clone, Copy, Debug)]
pub struct StepLimits {
    /// Bits of a signed threshold.
    pub threshold_bits: u32,
    /// Largest step, in 1/16.
    pub step_16ths: u32,
}

/// Of an input convolution.
pub const INPUT_STEPS: StepLimits = StepLimits { threshold_bits: 24, step_16ths: ((1 << 20) - 1) * 16 + 15 };
/// Of any other layer.
pub const STEPS: StepLimits = StepLimits { threshold_bits: 20, step_16ths: ((1 << 16) - 1) * 16 + 15 };
