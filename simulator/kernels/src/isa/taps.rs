//! Weights of depthwise convolutions, as kernels take them.

use super::Affine;
use super::pack::Line;
use crate::Aligned;

/// Elements of a chunk: a register of bytes on the widest machine.
pub const CHUNK: usize = 64;

/// Elements of a lane: what byte shuffles of every machine stay inside.
const LANE: usize = 16;

/// Kernels of a depthwise convolution, tap by tap. Elements are filters, which repeat themselves, over and over until that
/// ends with a chunk.
///
/// Shuffling four taps' bytes together gives, for each of four registers, four neighbouring filters of every lane:
/// register j of a chunk has filters `16 * lane + 4 * j ..` of it, and so have weights and everything else by filter.
#[derive(Clone, Debug)]
pub struct Taps {
    taps: usize,
    period: usize,
    /// (tap, element), as they come.
    plain: Vec<i8>,
    /// (chunk, quad of taps, register).
    quads: Vec<Line>,
    /// (chunk, pair of taps, half of the chunk, register): eight filters, two taps each.
    pairs: Vec<[[i16; 2]; 8]>,
    start: Aligned<i32>,
    lanes: Aligned<i32>,
}

/// What follows a depthwise sum, by element.
#[derive(Clone, Debug)]
pub struct TapsEnd {
    /// As elements come.
    pub(super) plain: Affine,
    /// In the order of registers.
    pub(super) lanes: Affine,
    /// What is added to products of sums that begin with 0, in the same order; only where nothing limits sums.
    pub(super) begun: Aligned<i32>,
}

impl TapsEnd {
    /// Elements it is for.
    pub(super) fn width(&self) -> usize {
        self.lanes.low.len()
    }
}

/// Elements after which filters repeat themselves in whole chunks.
fn period(filters: usize) -> usize {
    let mut period = filters.max(1);
    while !period.is_multiple_of(CHUNK) {
        period += filters.max(1);
    }
    period
}

/// The element that place i of a vector in the order of registers has.
fn element(i: usize) -> usize {
    let (chunk, register, lane, place) = (i / CHUNK, i / LANE % 4, i / 4 % 4, i % 4);
    chunk * CHUNK + lane * LANE + register * 4 + place
}

impl Taps {
    /// Packs (filter, tap); every input byte is larger than its value by `offset`.
    pub fn new(weights: &[i8], filters: usize, taps: usize, offset: i32) -> Self {
        let period = period(filters);
        let weight = |i: usize, tap: usize| {
            if tap < taps { weights[i % filters * taps + tap] } else { 0 }
        };
        let plain = (0..taps).flat_map(|t| (0..period).map(move |i| weight(i, t))).collect();
        let mut quads = Vec::with_capacity(period / LANE * taps.div_ceil(4));
        for chunk in (0..period).step_by(CHUNK) {
            for quad in 0..taps.div_ceil(4) {
                for register in 0..4 {
                    let filter = |i: usize| chunk + element(register * LANE + i);
                    quads.push(Line(std::array::from_fn(|i| std::array::from_fn(|t| weight(filter(i), quad * 4 + t)))));
                }
            }
        }
        let mut pairs = Vec::with_capacity(period * taps.div_ceil(2) / 8);
        for chunk in (0..period).step_by(CHUNK) {
            for pair in 0..taps.div_ceil(2) {
                for (half, register) in (0..2).flat_map(|half| (0..4).map(move |register| (half, register))) {
                    let filter = |i: usize| chunk + element(register * LANE + half * 8 + i);
                    let two = |i: usize| [0, 1].map(|t| i16::from(weight(filter(i), pair * 2 + t)));
                    pairs.push(std::array::from_fn(two));
                }
            }
        }
        let sum = |i: usize| (0..taps).map(|t| i32::from(weight(i, t))).fold(0, i32::wrapping_add);
        let start: Aligned<i32> = (0..period).map(|i| sum(i).wrapping_mul(-offset)).collect();
        let lanes = (0..period).map(|i| start[element(i)]).collect();
        Self { taps, period, plain, quads, pairs, start, lanes }
    }

    /// Rows that a sum is made of.
    pub fn taps(&self) -> usize {
        self.taps
    }

    /// Elements after which weights repeat themselves.
    pub fn period(&self) -> usize {
        self.period
    }

    /// The end of a layer of so many filters, for [`Kernels::depthwise`](super::Kernels::depthwise).
    pub fn end(&self, filters: usize, affine: &Affine) -> TapsEnd {
        let ordered = |place: fn(usize) -> usize| {
            let order = |by_filter: &[i32]| (0..self.period).map(|i| by_filter[place(i) % filters]).collect();
            Affine {
                low: order(&affine.low),
                high: order(&affine.high),
                m: order(&affine.m),
                add: order(&affine.add),
                k: order(&affine.k),
                signed: affine.signed,
                ceiling: affine.ceiling,
                limited: affine.limited,
            }
        };
        let lanes = ordered(element);
        // (start + sum) * m + add = sum * m + (start * m + add), also where 32 bits wrap.
        let begun = self.lanes.iter().zip(lanes.m.iter().zip(lanes.add.iter()));
        let begun = begun.map(|(start, (m, add))| start.wrapping_mul(*m).wrapping_add(*add)).collect();
        TapsEnd { plain: ordered(|i| i), lanes, begun }
    }

    /// (tap, element).
    pub(super) fn plain(&self) -> &[i8] {
        &self.plain
    }

    /// What sums start with, by element.
    pub(super) fn start(&self) -> &[i32] {
        &self.start
    }

    /// (chunk, quad of taps, register).
    pub(super) fn quads(&self) -> &[Line] {
        &self.quads
    }

    /// (chunk, pair of taps, half of the chunk, register).
    pub(super) fn pairs(&self) -> &[[[i16; 2]; 8]] {
        &self.pairs
    }

    /// What sums start with, in the order of registers.
    pub(super) fn lanes(&self) -> &[i32] {
        &self.lanes
    }
}
