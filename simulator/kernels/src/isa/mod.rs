//! Inner loops, one set per instruction set.
//!
//! The only way to have a value of a kernel set is its constructor, which succeeds where the machine has the
//! instructions: holding the value proves that they may be used. Every set takes the same packed weights and gives the
//! same bits as [`Scalar`].
//!
//! Inputs are unsigned bytes. A signed layer's bytes have their sign bits inverted, which makes every value larger by 128;
//! what that adds to a sum depends on the filter's weights only, and sums start with its opposite ([`Packed::start`]).

mod choose;
mod loops;
mod pack;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod tile;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;

use std::fmt::Debug;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512Vnni;
#[cfg(target_arch = "x86_64")]
pub use avxvnni::AvxVnni;
pub use choose::{UnknownKernels, VARIABLE, available, best, forced, scalar};
pub use pack::{BLOCK, Packed, Panel};
pub use scalar::Scalar;

/// `(clamp(sum, low, high) * m + add) >> k`, by filter, in 32 bits: bias, saturation, activation, scale and rounding in
/// one. All vectors have one length, a multiple of the filters of a position.
#[derive(Clone, Debug, Default)]
pub struct Affine {
    /// Sums below give what this one gives.
    pub low: Vec<i32>,
    /// Sums above give what this one gives.
    pub high: Vec<i32>,
    /// Factor.
    pub m: Vec<i32>,
    /// Bias times factor, and half of what is shifted out.
    pub add: Vec<i32>,
    /// Right shift, 0..=31.
    pub k: Vec<i32>,
}

/// Where quads of a depthwise convolution come from: tap t of channel c at position p is byte `p * step + t * tap + c`.
#[derive(Clone, Copy, Debug)]
pub struct Quads {
    /// Bytes from a tap to the next.
    pub tap: usize,
    /// Bytes from a position to the next.
    pub step: usize,
    /// Channels.
    pub count: usize,
    /// Positions.
    pub positions: usize,
    /// Taps of a quad that weights meet, 1..=4.
    pub used: usize,
}

/// The inner loops of one instruction set. Sums are exact modulo 2^32: the caller sees to it that they fit.
pub trait Kernels: Debug + Send + Sync {
    /// `ARCHITECTURE-TYPES-VARIANT`, for logs and benchmarks.
    fn name(&self) -> &'static str;

    /// Dot products: `out[p * out_step + f] = start[f] + sum over i of x[p][i] * w[f][i]`, for every filter of every block.
    ///
    /// # Panics
    /// When x has fewer bytes than w meets, or `out` or `start` have no place for every filter.
    fn multiply(&self, x: &Panel<'_>, w: &Packed, start: &[i32], out: &mut [i32], out_step: usize);

    /// Nothing but multiply-adds, `rounds` of them, from registers to registers; gives how many there were. For the roof
    /// that measurements are held against.
    fn peak(&self, rounds: u64) -> u64;

    /// Depthwise sums: `out[i] = start[i] + sum over rows r of x[r][i] . w[r][i]`, dot products of quads. `w` is (row, i);
    /// `w` and `start` repeat themselves after `start.len()` elements. Lengths are multiples of [`BLOCK`].
    ///
    /// # Panics
    /// When lengths do not fit together.
    fn depthwise(&self, x: &[&[u32]], w: &[u32], start: &[i32], out: &mut [i32]);

    /// Neighbours of each channel as quads, (position, channel).
    fn interleave(&self, x: &[u8], quads: Quads, out: &mut [u32]);

    /// Sums to bytes; sums and output have one length.
    fn affine(&self, sums: &[i32], affine: &Affine, out: &mut [u8]);

    /// How many of its filter's edges lie below each sum; `edges` is (edge, filter), `period` filters.
    fn steps(&self, sums: &[i32], edges: &[i32], period: usize, out: &mut [u8]);

    /// The larger of two bytes, into the first.
    fn largest(&self, held: &mut [u8], new: &[u8], signed: bool);

    /// Bytes with inverted sign bits.
    fn offset(&self, bytes: &[u8], out: &mut [u8]);
}

/// What the rows of a depthwise sum must look like.
fn check_depthwise(x: &[&[u32]], w: &[u32], start: &[i32], out: &[i32]) {
    let period = start.len();
    assert!(period > 0 && period.is_multiple_of(BLOCK) && out.len().is_multiple_of(BLOCK), "whole blocks");
    assert!(w.len() == x.len() * period, "weights for every row");
    assert!(x.iter().all(|row| row.len() >= out.len()), "inputs for every sum");
}
