//! Weights of depthwise convolutions, as kernels take them.

use std::sync::OnceLock;

use super::pack::Line;
use super::{Affine, Slope};
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
///
/// What only some kernel sets read is made when it is first asked for.
#[derive(Clone, Debug)]
pub struct Taps {
    taps: usize,
    period: usize,
    /// (tap, element), as they come.
    plain: Vec<i8>,
    /// (chunk, quad of taps, register).
    quads: OnceLock<Vec<Line>>,
    /// (chunk, pair of taps, half of the chunk, register): eight filters, two taps each.
    pairs: OnceLock<Vec<[[i16; 2]; 8]>>,
    /// Largest input.
    most: u8,
    grouped: OnceLock<Option<Grouped>>,
    start: Aligned<i32>,
    lanes: Aligned<i32>,
}

/// Pairs of taps for sums of 16 bits, which become 32 two at once. Sums are exact as those of [`Words`](super::words::Words) are.
#[derive(Clone, Debug)]
pub(super) struct Grouped {
    /// Pairs of each sum of 16 bits.
    pub(super) groups: &'static [usize],
    /// (half of a chunk, pair of taps, half of a lane): sixteen filters, two taps each. Elements of a half of a lane are neighbours.
    pub(super) pairs: Vec<[[i8; 2]; LANE]>,
    /// (half of a chunk, group, half of a lane): where sums of 16 bits start.
    pub(super) starts: Vec<[i16; LANE]>,
    /// What sums of 32 bits start with, in the order of registers.
    pub(super) begin: Aligned<i32>,
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
    /// The same in floating point, in the same order, of sums that begin with 0 anyway.
    pub(super) floats: Option<Slope>,
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
        let plain: Vec<i8> =
            (0..taps).flat_map(|t| (0..period).map(move |i| weights[i % filters * taps + t])).collect();
        let sum = |i: usize| (0..taps).map(|t| i32::from(plain[t * period + i])).fold(0, i32::wrapping_add);
        let start: Aligned<i32> = (0..period).map(|i| sum(i).wrapping_mul(-offset)).collect();
        let lanes = (0..period).map(|i| start[element(i)]).collect();
        let (quads, pairs, grouped) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { taps, period, plain, quads, pairs, most: u8::MAX, grouped, start, lanes }
    }

    /// The same for input bytes up to `most`: products of smaller ones may be added in fewer bits.
    #[must_use]
    pub fn for_inputs_up_to(mut self, most: u8) -> Self {
        self.most = most;
        self
    }

    /// A weight; 0 behind the last tap.
    fn weight(&self, element: usize, tap: usize) -> i8 {
        self.plain.get(tap * self.period + element).copied().unwrap_or_default()
    }

    /// Rows that a sum is made of.
    pub fn taps(&self) -> usize {
        self.taps
    }

    /// Elements after which weights repeat themselves.
    pub fn period(&self) -> usize {
        self.period
    }

    /// The end of a layer of so many filters, for [`Kernels::depthwise`](super::Kernels::depthwise), and the same in floating point where
    /// there is one.
    pub fn end(&self, filters: usize, affine: &Affine, slope: Option<&Slope>) -> TapsEnd {
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
        let floats = |by_filter: &[f32]| (0..self.period).map(|i| by_filter[element(i) % filters]).collect();
        let floats = slope.filter(|_| self.start.iter().all(|&start| start == 0)).map(|slope| Slope {
            a: floats(&slope.a),
            b: floats(&slope.b),
            ceiling: floats(&slope.ceiling),
            most: slope.most,
            limited: slope.limited,
        });
        TapsEnd { plain: ordered(|i| i), lanes, begun, floats }
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
        self.quads.get_or_init(|| {
            let mut quads = Vec::with_capacity(self.period / LANE * self.taps.div_ceil(4));
            for chunk in (0..self.period).step_by(CHUNK) {
                for quad in 0..self.taps.div_ceil(4) {
                    for register in 0..4 {
                        let filter = |i: usize| chunk + element(register * LANE + i);
                        let four = |i: usize| std::array::from_fn(|t| self.weight(filter(i), quad * 4 + t));
                        quads.push(Line(std::array::from_fn(four)));
                    }
                }
            }
            quads
        })
    }

    /// (chunk, pair of taps, half of the chunk, register).
    pub(super) fn pairs(&self) -> &[[[i16; 2]; 8]] {
        self.pairs.get_or_init(|| {
            let mut pairs = Vec::with_capacity(self.period * self.taps.div_ceil(2) / 8);
            for chunk in (0..self.period).step_by(CHUNK) {
                for pair in 0..self.taps.div_ceil(2) {
                    for (half, register) in (0..2).flat_map(|half| (0..4).map(move |register| (half, register))) {
                        let filter = |i: usize| chunk + element(register * LANE + half * 8 + i);
                        let two = |i: usize| [0, 1].map(|t| i16::from(self.weight(filter(i), pair * 2 + t)));
                        pairs.push(std::array::from_fn(two));
                    }
                }
            }
            pairs
        })
    }

    /// For sums of 16 bits; none where inputs are too large for two products in them.
    pub(super) fn grouped(&self) -> Option<&Grouped> {
        self.grouped.get_or_init(|| Grouped::new(self)).as_ref()
    }

    /// What sums start with, in the order of registers.
    pub(super) fn lanes(&self) -> &[i32] {
        &self.lanes
    }
}

impl Grouped {
    /// Taps there are kernels for.
    pub(super) const TAPS: usize = 9;

    /// How pairs of taps make groups, what is fastest first. The last always can be: four taps are within 2^16.
    const GROUPS: [&[usize]; 3] = [&[2, 3], &[3, 2], &[2, 2, 1]];

    /// None where inputs are too large, or taps not as many as there are kernels for.
    fn new(w: &Taps) -> Option<Self> {
        let most = i32::from(w.most.max(1));
        if w.taps != Self::TAPS || 4 * 128 * most >= i32::from(u16::MAX) - 1 {
            return None;
        }
        let pairs = w.taps.div_ceil(2);
        let absolute = |e: usize, tap: usize| i32::from(w.weight(e, tap)).abs();
        let taps = |groups: &[usize], group: usize| {
            let first = 2 * groups[..group].iter().sum::<usize>();
            first..first + 2 * groups[group]
        };
        let fit = |groups: &[usize]| {
            (0..groups.len()).all(|group| {
                let taps = taps(groups, group);
                (0..w.period)
                    .all(|e| taps.clone().map(|tap| absolute(e, tap)).sum::<i32>() * most < i32::from(u16::MAX) - 1)
            })
        };
        let groups = Self::GROUPS.into_iter().find(|groups| fit(groups))?;
        // A half of a lane: eight neighbours of both lanes of a register.
        let of = |half: usize, side: usize, i: usize| half * 2 * LANE + i / 8 * LANE + side * 8 + i % 8;
        let each = |many: usize| {
            let halves = 0..w.period / LANE / 2;
            halves.flat_map(move |half| (0..many).flat_map(move |one| [0, 1].map(|side| (half, one, side))))
        };
        let weights = each(pairs).map(|(half, pair, side)| {
            std::array::from_fn(|i| [0, 1].map(|t| w.weight(of(half, side, i), 2 * pair + t)))
        });
        // Half of what is between the bounds of a group.
        let middle = |e: usize, group: usize| {
            let sum: i32 = taps(groups, group).map(|tap| i32::from(w.weight(e, tap))).sum();
            sum * most / 2
        };
        let starts = each(groups.len());
        let starts =
            starts.map(|(half, group, side)| std::array::from_fn(|i| -middle(of(half, side, i), group) as i16));
        let back = |e: usize| (0..groups.len()).map(|group| middle(e, group)).sum::<i32>();
        let begin = (0..w.period).map(|i| w.lanes[i].wrapping_add(back(element(i)))).collect();
        let (pairs, starts) = (weights.collect(), starts.collect());
        Some(Self { pairs, starts, begin, groups })
    }
}
