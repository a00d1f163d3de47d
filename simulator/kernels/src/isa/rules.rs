//! What is done to sums and bytes, by filter or channel: rules that every kernel set follows.

use super::CHUNK;
use crate::Aligned;
use crate::finish::LUT_ENTRIES;

/// `(clamp(sum, low, high) * m + add) >> k`, by filter, in 32 bits, saturating to a byte: bias, saturation, activation, scale
/// and rounding in one. All vectors have one length, a multiple of [`BLOCK`](super::BLOCK).
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
/// unsigned byte.
#[derive(Clone, Debug, Default)]
pub struct Slope {
    /// Factor.
    pub a: Aligned<f32>,
    /// Added.
    pub b: Aligned<f32>,
    /// Largest result.
    pub ceiling: Aligned<f32>,
    /// The largest of all.
    pub most: u8,
    /// Whether any result exceeds its own where bytes saturate at the largest of all, or 32 bits.
    pub limited: bool,
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

/// What bytes become, each by its channel, in 16 bits: `clamp((((x * 2^8 * a) >> 16) + b) >> k, low, high)`, x a byte with a sign or, with
/// some bits inverted, as one. Vectors repeat themselves after a number of elements that is a multiple of the channels.
#[derive(Clone, Debug, Default)]
pub struct Bytewise {
    /// Which bits are inverted.
    pub inverted: u8,
    /// Factor.
    pub a: Vec<i16>,
    /// Added to the product.
    pub b: Vec<i16>,
    /// Right shift, 0..=15.
    pub k: u8,
    /// Least result.
    pub low: i16,
    /// Largest result.
    pub high: i16,
}

impl Bytewise {
    /// `(x * 2^8 * a) >> 16`.
    #[inline(always)]
    pub fn product(x: i8, a: i16) -> i16 {
        (((i32::from(x) << 8) * i32::from(a)) >> 16) as i16
    }
}
