//! Weights for sums of 16 bits: products of several quads are added before they become 32, where inputs are small enough for that.
//!
//! Such a sum is exact modulo 2^16, and lies between two bounds, which its weights and the largest input give. Where these are less than
//! 2^16 apart it is known: sums start with the opposite of the middle between them, end as what is within 2^15 of 0, and the middles of all
//! groups are added to the sum of 32 bits. Of weights that are too large for their group a part is taken, which is multiplied apart.

use std::ops::Range;

use super::pack::{BLOCK, Line};

/// Sums of 16 bits of a line: halves of its quads.
pub(crate) const HALVES: usize = 2 * BLOCK;

/// Quads of a group that are tried. Absolute weights of the most of them sum to no more than 16 bits.
const SIZES: [usize; 13] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 32, 64, 128];

/// Where sums of 16 bits start.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Starts(pub(crate) [i16; HALVES]);

/// Weights of a layer in groups of quads.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    /// Quads of a group. The last of a run may have fewer.
    pub(crate) each: usize,
    /// The layer's lines without the rest; empty where nothing is taken from them.
    pub(crate) lines: Vec<Line>,
    /// By block, run and group.
    pub(crate) starts: Vec<Starts>,
    /// By filter, what takes all of them back.
    pub(crate) back: Vec<i32>,
    /// Lines of the rest that one sum of 16 bits holds.
    pub(crate) rest_each: usize,
    /// By block, where its rest begins, and where that of the last ends.
    pub(crate) first: Vec<usize>,
    /// Run and quad of each line of the rest.
    pub(crate) places: Vec<[u32; 2]>,
    /// What is taken from weights.
    pub(crate) rest: Vec<Line>,
}

/// What weights of a group sum to, by half, those above 0 and those below.
#[derive(Clone, Copy)]
struct Totals {
    above: [u16; HALVES],
    below: [u16; HALVES],
    /// The largest of two weights that are added to nothing else.
    pair: u16,
}

/// Largest sums of absolute weights.
#[derive(Clone, Copy)]
struct Bounds {
    /// Two of one sign: an instruction saturates what they give.
    pair: u16,
    /// Those of a half.
    half: u16,
}

impl Bounds {
    /// For inputs up to `most`. Half of what is between two bounds, rounded, fits 15 bits.
    fn new(most: u16) -> Self {
        Self { pair: i16::MAX.cast_unsigned() / most, half: (u16::MAX - 2) / most }
    }
}

impl Totals {
    #[inline]
    fn of(group: &[Line]) -> Self {
        let (mut above, mut below, mut pair) = ([0u16; HALVES], [0u16; HALVES], [0u16; HALVES]);
        for line in group {
            for (i, two) in line.0.as_flattened().as_chunks::<2>().0.iter().enumerate() {
                let [a, b] = two.map(i16::from);
                let [more, less] = [a.max(0) + b.max(0), -(a.min(0) + b.min(0))].map(i16::cast_unsigned);
                above[i] += more;
                below[i] += less;
                pair[i] = pair[i].max(more).max(less);
            }
        }
        Self { above, below, pair: pair.into_iter().fold(0, u16::max) }
    }

    #[inline]
    fn exceed(&self, bounds: Bounds) -> bool {
        let mut largest = 0;
        for i in 0..HALVES {
            largest = (self.above[i] + self.below[i]).max(largest);
        }
        largest > bounds.half || self.pair > bounds.pair
    }
}

/// A group of which something is taken.
struct Held<'a> {
    group: &'a mut [Line],
    rest: Vec<Option<Line>>,
    bounds: Bounds,
}

impl Held<'_> {
    /// How much can be taken from a weight, so that no pair of the rest exceeds its bound; of those of the other sign nothing, if one is
    /// meant.
    fn size(&self, half: usize, (i, tap): (usize, usize), sign: Option<i8>) -> u16 {
        let weight = self.group[i].0.as_flattened()[2 * half + tap];
        if sign.is_some_and(|sign| sign != weight.signum()) {
            return 0;
        }
        let taken = self.rest[i].map_or([0; 2], |rest| [0, 1].map(|tap| rest.0.as_flattened()[2 * half + tap]));
        let alike = taken.into_iter().filter(|taken| taken.signum() == weight.signum());
        let alike: u16 = alike.map(|taken| u16::from(taken.unsigned_abs())).sum();
        u16::from(weight.unsigned_abs()).min(self.bounds.pair.saturating_sub(alike))
    }

    /// Takes the excess from weights of a half in some of the lines. False where they have not so much.
    fn take(&mut self, half: usize, lines: Range<usize>, sign: Option<i8>, mut excess: u16) -> bool {
        while excess > 0 {
            // From a line that something is taken from already, if it has enough, or else the largest.
            let by = |&(i, tap): &(usize, usize)| {
                let size = self.size(half, (i, tap), sign);
                (self.rest[i].is_some() && size >= excess, size)
            };
            let Some((i, tap)) = lines.clone().flat_map(|i| [(i, 0), (i, 1)]).max_by_key(by) else { return false };
            let much = self.size(half, (i, tap), sign).min(excess);
            if much == 0 {
                return false;
            }
            let weight = &mut self.group[i].0.as_flattened_mut()[2 * half + tap];
            let part = much.cast_signed() * i16::from(weight.signum());
            let rest = self.rest[i].get_or_insert(Line([[0; 4]; BLOCK]));
            // Both are between 0 and the weight.
            rest.0.as_flattened_mut()[2 * half + tap] += part as i8;
            *weight = (i16::from(*weight) - part) as i8;
            excess -= much;
        }
        true
    }
}

/// Takes so much from weights that no pair and no half of a group exceeds its bound; what is taken, for each line it is taken from. False
/// where that cannot be: of a single line it always can.
fn taken(group: &mut [Line], bounds: Bounds, mut each: impl FnMut(usize, Line)) -> bool {
    let totals = Totals::of(group);
    if !totals.exceed(bounds) {
        return true;
    }
    let (all, mut can) = (0..group.len(), true);
    let mut held = Held { rest: vec![None; group.len()], group, bounds };
    if totals.pair > bounds.pair {
        for i in all.clone() {
            let alone = Totals::of(&held.group[i..=i]);
            for half in 0..HALVES {
                can &= held.take(half, i..i + 1, Some(1), alone.above[half].saturating_sub(bounds.pair));
                can &= held.take(half, i..i + 1, Some(-1), alone.below[half].saturating_sub(bounds.pair));
            }
        }
    }
    let totals = Totals::of(held.group);
    for half in 0..HALVES {
        let excess = (totals.above[half] + totals.below[half]).saturating_sub(bounds.half);
        can &= held.take(half, all.clone(), None, excess);
    }
    for (i, rest) in held.rest.into_iter().enumerate() {
        if let Some(rest) = rest {
            each(i, rest);
        }
    }
    can
}

/// About how long some lines take, in instructions of a register of sums: a product is made and added, a group becomes 32 bits and is
/// added to what is in memory, and so is the rest. None where that is more than `least`, or groups are too large.
fn cost(lines: &[Line], quads: usize, each: usize, bounds: Bounds, least: usize) -> Option<usize> {
    let mut cost = 2 * lines.len() + 3 * (lines.len() / quads) * quads.div_ceil(each);
    let mut group = Vec::with_capacity(each);
    for run in lines.chunks_exact(quads) {
        for lines in run.chunks(each) {
            if Totals::of(lines).exceed(bounds) {
                group.clear();
                group.extend_from_slice(lines);
                if !taken(&mut group, bounds, |_, _| cost += 4) {
                    return None;
                }
            }
        }
        if cost > least {
            return None;
        }
    }
    Some(cost)
}

/// Lines that groups are chosen by, about: whole blocks.
const SAMPLE: usize = 1024;

/// Instructions of a register for a line in 32 bits: two products of halves, each added, and what makes 16 bits of bytes.
const PAIRS: usize = 4;

/// Sizes of groups that are better than products in 32 bits, the best first, by some of the blocks.
fn sizes(lines: &[Line], block: usize, quads: usize, bounds: Bounds) -> Vec<usize> {
    let step = (lines.len() / SAMPLE).clamp(1, lines.len() / block);
    let sample: Vec<Line> = lines.chunks_exact(block).step_by(step).flatten().copied().collect();
    let (mut sizes, mut least) = (Vec::new(), PAIRS * sample.len() + 1);
    for size in SIZES {
        match cost(&sample, quads, size, bounds, least) {
            Some(cost) if cost < least => {
                sizes.push(size);
                least = cost;
            }
            // As many groups as before, or fewer than there may be.
            _ if sizes.is_empty() || sizes.last().is_some_and(|&last| quads.div_ceil(last) == quads.div_ceil(size)) => {
            }
            _ => break,
        }
    }
    sizes.reverse();
    sizes
}

impl Words {
    /// For inputs up to `most`. `lines` are (block, run, quad) of so many blocks. None where products in 32 bits are as good.
    pub(crate) fn new(lines: &[Line], (blocks, runs, quads): (usize, usize, usize), most: u8) -> Option<Self> {
        if lines.is_empty() {
            return None;
        }
        let (most, block) = (u16::from(most.max(1)), runs * quads);
        let bounds = Bounds::new(most);
        let sizes = sizes(lines, block, quads, bounds);
        sizes.into_iter().find_map(|each| Self::in_groups(lines, (blocks, block, quads), most, each))
    }

    /// In groups of so many quads. None where there is a group that cannot be held.
    fn in_groups(
        lines: &[Line],
        (blocks, block, quads): (usize, usize, usize),
        most: u16,
        each: usize,
    ) -> Option<Self> {
        let bounds = Bounds::new(most);
        let mut held = lines.to_vec();
        let (mut starts, mut back) = (Vec::with_capacity(lines.len() / each + 1), vec![0i32; blocks * BLOCK]);
        let (mut first, mut places, mut rest) = (vec![0], Vec::new(), Vec::new());
        for (lines, back) in held.chunks_exact_mut(block).zip(back.chunks_exact_mut(BLOCK)) {
            for (run, lines) in lines.chunks_exact_mut(quads).enumerate() {
                for (at, group) in lines.chunks_mut(each).enumerate() {
                    let can = taken(group, bounds, |i, line| {
                        places.push([run as u32, (at * each + i) as u32]);
                        rest.push(line);
                    });
                    if !can {
                        return None;
                    }
                    let totals = Totals::of(group);
                    let middle = |i: usize| {
                        let [above, below] = [totals.above[i], totals.below[i]].map(i32::from);
                        (above - below) * i32::from(most) / 2
                    };
                    (0..HALVES).for_each(|i| back[i / 2] += middle(i));
                    starts.push(Starts(std::array::from_fn(|i| -middle(i) as i16)));
                }
            }
            first.push(rest.len());
        }
        if rest.is_empty() {
            held = Vec::new();
        }
        let fit = |&size: &usize| {
            let blocks = first.windows(2).map(|w| &rest[w[0]..w[1]]);
            blocks.flat_map(|rest| rest.chunks(size)).all(|some| {
                let totals = Totals::of(some);
                totals.above.iter().chain(&totals.below).all(|&total| u32::from(total) * u32::from(most) <= 0x7fff)
            })
        };
        // One always does.
        let rest_each = [8, 4, 2].into_iter().find(fit).unwrap_or(1);
        Some(Self { each, lines: held, starts, back, rest_each, first, places, rest })
    }
}
