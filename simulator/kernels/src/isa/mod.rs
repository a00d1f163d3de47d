//! Inner loops, one set per instruction set.
//!
//! The only way to have a value of a kernel set is its constructor, which succeeds where the machine has the
//! instructions: holding the value proves that they may be used. Every set takes the same packed weights and gives the
//! same bits as [`Scalar`].
//!
//! Inputs are unsigned bytes. A signed layer's bytes have their sign bits inverted, which makes every value larger by 128;
//! what that adds to a sum depends on the filter's weights only, and sums start with its opposite ([`Packed::start`]).

// Layers are prepared for all sets alike, and some of it only those of x86-64 read.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

mod choose;
mod loops;
mod pack;
mod pairs;
mod rules;
mod scalar;
mod taps;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tile;
mod winograd;
mod words;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
#[cfg(target_arch = "x86_64")]
mod methods;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod ymm;

use std::fmt::Debug;
use std::ops::Range;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub use amx::Amx;
#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512Vnni;
#[cfg(target_arch = "x86_64")]
pub use avxvnni::AvxVnni;
pub use choose::{UnknownKernels, VARIABLE, available, best, forced, scalar};
pub use loops::slope_of;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use pack::{BLOCK, Packed, Panel};
pub use rules::{Affine, Bytewise, End, Lookup, Pairs, Shifts, Slope, Terms, Wide, Windows};
pub use scalar::Scalar;
pub use taps::{CHUNK, Taps, TapsEnd};

/// The inner loops of one instruction set. Sums are exact modulo 2^32: the caller sees to it that they fit.
pub trait Kernels: Debug + Send + Sync {
    /// `ARCHITECTURE-TYPES-VARIANT`, for logs and benchmarks.
    fn name(&self) -> &'static str;

    /// Dot products of every position of `x`, in rows, with the filters of `blocks`:
    /// `out[position * out_step + f] = start[first + f] + sum over i of x[position][i] * w[first + f][i]`, `first` the first
    /// filter of the blocks. What stands behind the last filter of the last block is unspecified.
    ///
    /// # Panics
    /// When x has fewer bytes than w meets, or `out` or `start` have no place for every filter.
    fn multiply(
        &self,
        x: &Panel<'_>,
        w: &Packed,
        blocks: Range<usize>,
        start: &[i32],
        out: &mut [i32],
        out_step: usize,
    );

    /// The same with all filters, ended: `out[position * filters + f]`. Nothing is done and false is given where this is no better
    /// than [`multiply`](Self::multiply) and [`affine`](Self::affine) or its like, one after the other.
    ///
    /// # Panics
    /// As these.
    fn ended(&self, x: &Panel<'_>, w: &Packed, start: &[i32], end: End<'_>, out: &mut [u8]) -> bool {
        let _ = (x, w, start, end, out);
        false
    }

    /// Nothing but multiply-adds, `rounds` of them, from registers to registers; gives how many there were. For the roof
    /// that measurements are held against.
    fn peak(&self, rounds: u64) -> u64;

    /// The same with bytes that change from one to the next, as those of layers do, read from a first-level cache where that costs no
    /// time: processors whose power is bounded run slower then. Without an own measurement, [`peak`](Self::peak).
    fn peak_of_bytes(&self, rounds: u64) -> u64 {
        self.peak(rounds)
    }

    /// A depthwise convolution: element i of the output is made of element i of every tap's row. Rows have whole
    /// [`CHUNK`]s for every element.
    ///
    /// # Panics
    /// When lengths do not fit together.
    fn depthwise(&self, x: &[&[u8]], w: &Taps, end: &TapsEnd, out: &mut [u8]);

    /// Two of them on the same rows, by kernels of as many filters. Nothing is done and false is given where this is no better than
    /// one after the other.
    ///
    /// # Panics
    /// As [`depthwise`](Self::depthwise).
    fn depthwise_two(&self, x: &[&[u8]], w: [&Taps; 2], end: &TapsEnd, out: [&mut [u8]; 2]) -> bool {
        let _ = (x, w, end, out);
        false
    }

    /// Depthwise convolutions of columns that lie where they are, where there is a way for them.
    fn columns(&self) -> Option<&dyn ColumnKernels> {
        None
    }

    /// The same, sums.
    ///
    /// # Panics
    /// As [`depthwise`](Self::depthwise).
    fn depthwise_sums(&self, x: &[&[u8]], w: &Taps, out: &mut [i32]);

    /// Sums to bytes: `out[p * out_step + f]` of `sums[p * step + f]`, for the filters given, of which the first is a
    /// multiple of [`BLOCK`].
    ///
    /// # Panics
    /// When `affine` has not all filters, or the output has no place for all.
    fn affine(
        &self,
        sums: &[i32],
        step: usize,
        affine: &Affine,
        filters: Range<usize>,
        out: &mut [u8],
        out_step: usize,
    );

    /// The same in floating point.
    ///
    /// # Panics
    /// As [`affine`](Self::affine).
    fn slope(&self, sums: &[i32], step: usize, slope: &Slope, filters: Range<usize>, out: &mut [u8], out_step: usize);

    /// The same in 64 bits.
    ///
    /// # Panics
    /// As [`affine`](Self::affine).
    fn wide(&self, sums: &[i32], step: usize, wide: &Wide, filters: Range<usize>, out: &mut [u8], out_step: usize);

    /// What is looked up for each sum: `values[p * filters.len() + f]` of `sums[p * step + f]`, for the filters given.
    ///
    /// # Panics
    /// When there are fewer sums than values, or `lookup` has not all filters.
    fn looked_up(&self, sums: &[i32], step: usize, lookup: &Lookup, filters: Range<usize>, values: &mut [i32]);

    /// How many of its filter's edges lie below each sum; `edges` is (edge, filter), `width` filters.
    ///
    /// # Panics
    /// As [`affine`](Self::affine).
    fn steps(
        &self,
        sums: &[i32],
        step: usize,
        edges: (&[i32], usize),
        filters: Range<usize>,
        out: &mut [u8],
        out_step: usize,
    );

    /// Adds the terms of every position to the totals of the filters given.
    fn totals(&self, sums: &[i32], step: usize, terms: &Terms, filters: Range<usize>, totals: &mut [i32]);

    /// Two tensors into one; all have one length.
    fn add(&self, a: &[u8], b: &[u8], shifts: &Shifts, out: &mut [u8]);

    /// Bytes to bytes.
    ///
    /// # Panics
    /// When lengths differ.
    fn bytewise(&self, x: &[u8], rule: &Bytewise, out: &mut [u8]);

    /// The larger of two bytes, into the first.
    fn largest(&self, held: &mut [u8], new: &[u8], signed: bool);

    /// The largest of each window.
    fn pool(&self, row: &[u8], windows: Windows, out: &mut [u8]);

    /// Bytes with inverted sign bits.
    fn offset(&self, bytes: &[u8], out: &mut [u8]);
}

/// What a depthwise kernel of three columns and up to four rows meets, of as many channels as it has filters, whole [`CHUNK`]s.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// Rows, from their first column on; none where all of one is padding.
    pub rows: [Option<&'a [u8]>; 4],
    /// Bytes from a column to the next.
    pub step: usize,
    /// Columns of padding that come first, and columns there are. Behind them is padding.
    pub before: usize,
    /// Columns there are.
    pub there: usize,
    /// Columns from a position to the next, 1 or 2.
    pub stride: usize,
    /// A column of padding.
    pub pad: &'a [u8],
    /// What is met next, as far as that is known: it may be asked for meanwhile.
    pub next: &'a [u8],
}

impl Columns<'_> {
    /// Columns of a kernel.
    pub const ACROSS: usize = 3;

    /// Whether all that a kernel meets is there.
    fn check(&self, w: &Taps, end: &TapsEnd, len: usize) {
        let period = w.period();
        assert!(w.taps() == self.rows.len() * Self::ACROSS, "{} taps of three columns of four rows", w.taps());
        assert!(period == self.pad.len() && end.width() == period, "an end and padding for each of {period} filters");
        assert!(len.is_multiple_of(period), "{len} outputs of {period} filters");
        assert!(matches!(self.stride, 1 | 2), "columns {} apart", self.stride);
        if let Some(last) = self.there.checked_sub(1) {
            let needed = last * self.step + period;
            assert!(self.rows.iter().flatten().all(|row| row.len() >= needed), "{needed} bytes of every row");
        }
    }
}

/// Depthwise convolutions of [`Columns`]; taps are (column, row), of four rows.
pub trait ColumnKernels {
    /// A row of positions.
    ///
    /// # Panics
    /// When lengths do not fit together.
    fn one_row(&self, x: &Columns<'_>, w: &Taps, end: &TapsEnd, out: &mut [u8]);

    /// Two rows of the same columns.
    ///
    /// # Panics
    /// As [`one_row`](Self::one_row).
    fn two_rows(&self, x: &Columns<'_>, w: [&Taps; 2], end: &TapsEnd, out: [&mut [u8]; 2]);
}

/// What the rows of a depthwise layer must look like.
fn check_depthwise(x: &[&[u8]], w: &Taps, len: usize) {
    assert!(x.len() == w.taps(), "{} rows for {} taps", x.len(), w.taps());
    let needed = len.next_multiple_of(CHUNK);
    assert!(x.iter().all(|row| row.len() >= needed), "inputs for every sum");
}

/// What the sums and outputs of an ending must look like; gives how many positions there are.
fn check_ending(sums: &[i32], step: usize, width: usize, filters: &Range<usize>, out: &[u8], out_step: usize) -> usize {
    let positions = sums.len() / step.max(1);
    assert!(
        filters.start.is_multiple_of(BLOCK) && filters.len() <= step && filters.end <= width,
        "filters of the layer"
    );
    assert!(
        positions == 0 || (positions - 1) * out_step + filters.len() <= out.len(),
        "{positions} positions {out_step} apart do not fit {} bytes",
        out.len()
    );
    positions
}
