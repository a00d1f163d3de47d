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

use crate::Aligned;
use crate::finish::LUT_ENTRIES;

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
pub use scalar::Scalar;
pub use taps::{CHUNK, Taps, TapsEnd};

/// `(clamp(sum, low, high) * m + add) >> k`, by filter, in 32 bits, saturating to a byte: bias, saturation, activation, scale
/// and rounding in one. All vectors have one length, a multiple of [`BLOCK`].
#[derive(Clone, Debug, Default)]
pub struct Affine {
    /// Sums below give what this one gives.
    pub low: Aligned<i32>,
    /// Sums above give what this one gives.
    pub high: Aligned<i32>,
    /// Factor.
    pub m: Aligned<i32>,
    /// Bias times factor, and half of what is shifted out.
    pub add: Aligned<i32>,
    /// Right shift, 0..=31.
    pub k: Aligned<i32>,
    /// Whether results saturate as signed bytes.
    pub signed: bool,
    /// Where others saturate.
    pub ceiling: u8,
    /// Whether sums come near the limits at all: where they do not, nothing is changed by leaving them out.
    pub limited: bool,
}

/// `min(sum * a + b, ceiling)`, by filter, in floating point of 32 bits that is rounded once, without its fraction, saturating to an
/// unsigned byte. For steps, of which there are few: at each of them the result is looked at when a layer is prepared.
#[derive(Clone, Debug, Default)]
pub struct Slope {
    /// Factor.
    pub a: Aligned<f32>,
    /// Added.
    pub b: Aligned<f32>,
    /// Largest result.
    pub ceiling: Aligned<f32>,
}

/// The same as [`Affine`] in 64 bits, and the result between two limits, for scales and steps that 32 do not hold. Shifted products fit
/// 32 bits.
#[derive(Clone, Debug, Default)]
pub struct Wide {
    /// Sums below give what this one gives.
    pub low: Aligned<i32>,
    /// Sums above give what this one gives.
    pub high: Aligned<i32>,
    /// Factor.
    pub m: Aligned<i32>,
    /// Bias times factor, and half of what is shifted out.
    pub add: Aligned<i64>,
    /// Right shift, 0..=48.
    pub k: Aligned<i64>,
    /// Least result.
    pub floor: Aligned<i32>,
    /// Largest result.
    pub ceiling: Aligned<i32>,
}

/// What sums are looked up in: results of [`Wide`], of which the lowest bits are a place, and values by place.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// To the place.
    pub index: Wide,
    /// At places 0 to 1023, then at -1024 to -1.
    pub table: Box<[i32; LUT_ENTRIES]>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// In 32 bits.
    Affine(&'a Affine),
    /// In floating point.
    Slope(&'a Slope),
    /// In 64.
    Wide(&'a Wide),
}

impl End<'_> {
    /// Filters it is for, and those that fill the last block.
    pub fn width(&self) -> usize {
        match self {
            End::Affine(end) => end.low.len(),
            End::Slope(end) => end.a.len(),
            End::Wide(end) => end.low.len(),
        }
    }
}

/// What a sum over a map is made of, by filter: `clamp(clamp(sum, low, high) + bias, floor, ceiling)`.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Least sum that is held.
    pub low: i32,
    /// Largest.
    pub high: i32,
    /// Added.
    pub bias: Vec<i32>,
    /// Least term.
    pub floor: i32,
    /// Largest terms.
    pub ceiling: Vec<i32>,
}

/// `clamp(((a << a_shift) + (b << b_shift) + half) >> k, low, high)`, by channel. Vectors repeat themselves after a number
/// of elements that is a multiple of the channels.
#[derive(Clone, Debug, Default)]
pub struct Shifts {
    /// Left shift of the first operand.
    pub a: Vec<i32>,
    /// Left shift of the second.
    pub b: Vec<i32>,
    /// Half of what is shifted out.
    pub half: Vec<i32>,
    /// Right shift.
    pub k: Vec<i32>,
    /// Whether operands are signed bytes.
    pub signed: [bool; 2],
    /// Least result.
    pub low: i32,
    /// Largest result.
    pub high: i32,
    /// The same in 16 bits, where these hold every sum.
    pub pairs: Option<Box<Pairs>>,
}

/// [`Shifts`] in 16 bits, of operands that are both signed or both not: factors instead of left shifts, those of both operands next to
/// each other. Elements of a [`CHUNK`] are in the order of [`Pairs::element`].
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    /// Two factors an element.
    pub factors: Aligned<u8>,
    /// Half of what is shifted out.
    pub half: Aligned<i16>,
    /// Right shift.
    pub k: Aligned<i16>,
}

impl Pairs {
    /// The element in place `i`: eight of every sixteen, then the other eight, as bytes of two vectors are brought together.
    pub fn element(i: usize) -> usize {
        let (chunk, second, lane, place) = (i / CHUNK, i / (CHUNK / 2) % 2, i / 8 % 4, i % 8);
        chunk * CHUNK + lane * 16 + second * 8 + place
    }
}

/// Windows of a maximum over the columns of one row; column c of the row is at `c * filters`.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Channels of a column.
    pub filters: usize,
    /// Columns of a window.
    pub size: usize,
    /// Columns from a window to the next.
    pub stride: usize,
    /// How many columns of the first window lie before the row.
    pub before: usize,
    /// Whether elements are signed bytes.
    pub signed: bool,
}

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
