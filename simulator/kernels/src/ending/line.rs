//! One filter's rule as a line between two limits.

use crate::Aligned;
use crate::aligned::Number;
use crate::finish::{Activation, Finisher, Scale};
use crate::isa::{Affine, BLOCK, Slope, Wide, slope_of};

/// One filter's line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    low: i32,
    high: i32,
    m: i32,
    add: i64,
    k: u8,
    /// Least and largest output.
    floor: i32,
    ceiling: i32,
}

impl Line {
    fn constant(y: i32) -> Self {
        Self { low: 0, high: 0, m: 0, add: y.into(), k: 0, floor: y, ceiling: y }
    }

    fn product(&self, sum: impl Into<i64>) -> i64 {
        sum.into() * i64::from(self.m) + self.add
    }

    fn at(&self, sum: i32) -> i64 {
        let scaled = self.product(sum.clamp(self.low, self.high)) >> self.k;
        scaled.clamp(self.floor.into(), self.ceiling.into())
    }

    /// Whether what is shifted fits 32 bits, which kernels rely on.
    pub(super) fn is_wide(&self) -> bool {
        [self.low, self.high].into_iter().all(|sum| i32::try_from(self.product(sum) >> self.k).is_ok())
    }

    /// Whether 32 bits do, and no limit on the result but those bytes have. What is between two 32-bit ends is one itself, and
    /// sums of it are taken modulo 2^32.
    pub(super) fn is_narrow(&self, (least, most): (i64, i64)) -> bool {
        let fits = |sum: i32, y: i32| {
            let product = self.product(sum);
            i32::try_from(product).is_ok() && (product >> self.k).clamp(least, most) == y.into()
        };
        self.k <= 31 && fits(self.low, self.floor) && fits(self.high, self.ceiling)
    }

    /// Whether sums that are no farther from 0 than `largest` need the limits: the line is what it is between them without.
    fn is_limited(&self, (least, most): (i64, i64), largest: i64) -> bool {
        let free = |sum: i64, y: i32| {
            let product = sum.saturating_mul(self.m.into()).saturating_add(self.add);
            i32::try_from(product).is_ok() && (product >> self.k).clamp(least, most) == y.into()
        };
        // A constant has no line; its factor is 0.
        self.m < 0 || !free(-largest, self.floor) || !free(largest, self.ceiling)
    }
}

/// The last sum that gives the least output and the first that gives the largest, with these outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    low: i32,
    high: i32,
    least: i32,
    most: i32,
}

/// Of a rule that gives no less for a larger sum, among sums that are no farther from 0 than `largest`; the output, where all give the same.
pub(super) fn limits(rule: impl Fn(i32) -> i32, largest: i64) -> Result<Limits, i32> {
    let largest = largest.min(i32::MAX.into());
    let whole = |sum: i64| rule(sum as i32);
    let (least, most) = (whole(-largest), whole(largest));
    if least == most {
        return Err(least);
    }
    // The first sum of all for which the rule gives at least so much.
    let first = |at_least: i32| -> i32 {
        let (mut below, mut there) = (-largest, largest);
        while there - below > 1 {
            let middle = (below + there).div_euclid(2);
            if whole(middle) >= at_least { there = middle } else { below = middle }
        }
        there as i32
    };
    Ok(Limits { low: first(least + 1) - 1, high: first(most), least, most })
}

/// None where the line misses a limit.
pub(super) fn line(scale: &Scale, filter: usize, bias: i64, limits: Result<Limits, i32>) -> Option<Line> {
    let Limits { low, high, least, most } = match limits {
        Ok(limits) => limits,
        Err(y) => return Some(Line::constant(y)),
    };
    // A filter that is nearly always 0 has a scale beyond all others, which no line is needed for.
    if low.checked_add(1) == Some(high) {
        let m = most - least;
        let add = i64::from(least) - i64::from(low) * i64::from(m);
        return Some(Line { low, high, m, add, k: 0, floor: least, ceiling: most });
    }
    let (m, k) = (i32::from(scale.m[filter]), scale.k[filter]);
    let (m, half, k) = match k {
        1..=32 => (m, 1i64 << (k - 1), k.cast_unsigned()),
        // A left shift is a larger factor; beyond this one every sum but 0 is beyond the limits.
        _ => (m << (-k).min(22), 0, 0),
    };
    let line = Line { low, high, m, add: bias * i64::from(m) + half, k, floor: least, ceiling: most };
    (line.at(low) == least.into() && line.at(high) == most.into()).then_some(line)
}

/// The line of equal steps: `ceil(16 * (sum - threshold) / size)` with a slope in so many bits as 32 (or 64) hold.
pub(super) fn step_line(finisher: &Finisher, filter: usize, limits: Result<Limits, i32>, wide: bool) -> Option<Line> {
    let (filters, finish) = finisher.parts();
    let Activation::Steps(steps) = &finish.activation else { return None };
    let Limits { low, high, least, most } = match limits {
        Ok(limits) => limits,
        Err(y) => return Some(Line::constant(y)),
    };
    let size = i64::from(steps.step_16ths[filter]) << 4u8.checked_sub(finish.output_bits)?;
    let threshold = i64::from(steps.threshold[filter]);
    let exact = |line: &Line| {
        let same = |sum: i32| {
            let sum = sum.clamp(low, high);
            line.at(sum) == finisher.whole(sum, filter).into()
        };
        let edges = finisher.edges().iter().skip(filter).step_by(filters);
        (line.is_narrow(finisher.byte_bounds()) || wide && line.is_wide())
            && edges.clone().all(|&e| same(e) && same(e.saturating_add(1)))
    };
    if size == 0 {
        let m = most - least;
        let line = Line {
            low,
            high,
            m,
            add: i64::from(least) - i64::from(low) * i64::from(m),
            k: 0,
            floor: least,
            ceiling: most,
        };
        return Some(line).filter(exact);
    }
    (0..=if wide { 48 } else { 26 }).rev().find_map(|k: u8| {
        // Slope and start rounded up: never too little, and not too much where an integer is passed too late by less than
        // the smallest fraction there is.
        let m = i32::try_from(((16i64 << k) + size - 1) / size).ok()?;
        let start = ((i128::from(size - 1) << k) + i128::from(size - 1)) / i128::from(size);
        let start = i64::try_from(start).ok()?;
        let line = Line { low, high, m, add: start - threshold * i64::from(m), k, floor: least, ceiling: most };
        Some(line).filter(exact)
    })
}

/// Sums below this one are floats exactly.
const EXACT: i64 = 1 << 24;

/// So many quarters of the smallest fraction are tried to either side of where a line is.
const NEAR: i32 = 40;

/// Equal steps in floating point, which is compared with the rule at the farthest sums and before and behind each step.
pub(super) fn slope(finisher: &Finisher, largest: &[i64]) -> Option<Slope> {
    let (filters, finish) = finisher.parts();
    let Activation::Steps(steps) = &finish.activation else { return None };
    if finish.scale.is_some() || !finish.bias.is_empty() || largest.iter().any(|&l| l >= EXACT) {
        return None;
    }
    let mut made = Vec::with_capacity(filters);
    for (f, &largest) in largest.iter().enumerate() {
        let (a, b, most) = match limits(|sum| finisher.whole(sum, f), largest) {
            Err(y) => (0.0, f64::from(y), y),
            Ok(Limits { low, most, .. }) => {
                let size = i64::from(steps.step_16ths[f]) << 4u8.checked_sub(finish.output_bits)?;
                // All of what is rounded up, but for half the smallest fraction there is: so both sides have as much room.
                match size {
                    0 => (f64::from(most), -f64::from(low) * f64::from(most), most),
                    _ => {
                        let (size, threshold) = (size as f64, f64::from(steps.threshold[f]));
                        (16.0 / size, (size - 0.5 - 16.0 * threshold) / size, most)
                    }
                }
            }
        };
        let (a, b, ceiling) = (a as f32, b as f32, most as f32);
        let farthest = i32::try_from(largest).ok()?;
        let same = |sum: i32| {
            let sum = sum.clamp(-farthest, farthest);
            i32::from(slope_of(sum, a, b, ceiling)) == finisher.whole(sum, f)
        };
        let edges = finisher.edges().iter().skip(f).step_by(filters);
        if ![-farthest, farthest].into_iter().chain(edges.flat_map(|&e| [e, e.saturating_add(1)])).all(same) {
            return None;
        }
        made.push((a, b, ceiling));
    }
    Some(slopes(&made, finisher.byte_bounds().1, largest))
}

/// Lines in floating point, where this gives the same.
pub(super) fn fractions(lines: &[Line], (least, most): (i64, i64), largest: &[i64]) -> Option<Slope> {
    if least != 0 || largest.iter().any(|&l| l >= EXACT) {
        return None;
    }
    let made: Option<Vec<_>> = lines.iter().zip(largest).map(|(line, &largest)| line.fraction(most, largest)).collect();
    Some(slopes(&made?, most, largest))
}

impl Line {
    /// Factor, sum and ceiling in floating point, for bytes without a sign up to `most`.
    fn fraction(&self, most: i64, largest: i64) -> Option<(f32, f32, f32)> {
        let fraction = |value: i64, k: u8| value as f32 * (-f32::from(k)).exp2();
        let (a, b, ceiling) = (fraction(self.m.into(), self.k), fraction(self.add, self.k), self.ceiling as f32);
        if self.has_room() && (self.product(-largest) >> self.k).clamp(0, most) == self.floor.into() {
            return Some((a, b, ceiling));
        }
        let same = |&(a, b): &(f32, f32)| self.steps_as(|sum| slope_of(sum, a, b, ceiling).into(), largest);
        if self.low.checked_add(1) == Some(self.high) {
            // One step, which may be as steep as one likes, halfway between two sums.
            let a = f32::from(u8::MAX) + 1.0;
            return Some((a, (self.low as f32 + 0.5) * -a)).filter(same).map(|(a, b)| (a, b, ceiling));
        }
        // Half the smallest fraction there is leaves as much room on both sides of a step. Others round otherwise.
        let near = |quarters: i32| (a, fraction(4 * self.add + i64::from(quarters), self.k + 2));
        let (a, b) = (0..=NEAR).flat_map(|q| [2 + q, 2 - q]).map(near).find(same)?;
        Some((a, b, ceiling))
    }

    /// Whether nothing need be looked at: what is shifted is a fraction, which 24 bits hold wherever it is no larger than the largest
    /// output. Beyond that rounding leaves it beyond.
    fn has_room(&self) -> bool {
        let exact = |value: i64| value as f32 as i64 == value;
        let room = self.k <= 24 && EXACT >> self.k > self.ceiling.into();
        room && self.m >= 0 && exact(self.m.into()) && exact(self.add)
    }

    /// Whether a rule that gives no less for a larger sum gives the same for all that are no farther from 0 than `largest`: at both ends,
    /// and before and behind each step, those to the largest outputs first, where fractions have the fewest bits.
    fn steps_as(&self, rule: impl Fn(i32) -> i32, largest: i64) -> bool {
        let rule = |sum: i64| rule(sum as i32);
        let m = i64::from(self.m);
        let same = |y: i32| {
            // The first sum that gives so much.
            let first = ((i64::from(y) << self.k) - self.add + m - 1).div_euclid(m);
            let (before, there) = (first > -largest, first <= largest);
            (!before || rule((first - 1).min(largest)) < y) && (!there || rule(first.max(-largest)) >= y)
        };
        let ends = m > 0 && rule(-largest) == self.floor && rule(largest) == self.ceiling;
        ends && (self.floor + 1..=self.ceiling).rev().all(same)
    }
}

/// Of factors, sums and ceilings, by filter; outputs are no larger than `most`, and `largest` sums are floats.
fn slopes(made: &[(f32, f32, f32)], most: i64, largest: &[i64]) -> Slope {
    /// Results from here on are no integers of 32 bits.
    const TOO_LARGE: f32 = (1u32 << 31) as f32;
    let limited = |(&(a, b, ceiling), &largest): (&(f32, f32, f32), &i64)| {
        let farthest = (largest as f32).mul_add(a, b);
        farthest >= TOO_LARGE || farthest.min(most as f32).trunc() > ceiling
    };
    Slope {
        a: whole_blocks(made.iter().map(|made| made.0)),
        b: whole_blocks(made.iter().map(|made| made.1)),
        ceiling: whole_blocks(made.iter().map(|made| made.2)),
        most: most.clamp(0, u8::MAX.into()) as u8,
        limited: made.iter().zip(largest).any(limited),
    }
}

/// Every filter's value.
fn each<T: Number + Default>(lines: &[Line], get: impl Fn(&Line) -> T) -> Aligned<T> {
    whole_blocks(lines.iter().map(get))
}

/// Values by filter, and nothing for those that fill the last block.
fn whole_blocks<T: Number + Default>(values: impl ExactSizeIterator<Item = T>) -> Aligned<T> {
    let fill = values.len().next_multiple_of(BLOCK) - values.len();
    values.chain(std::iter::repeat_with(T::default).take(fill)).collect()
}

pub(super) fn affine(lines: &[Line], bounds: (i64, i64), largest: &[i64]) -> Affine {
    Affine {
        low: each(lines, |l| l.low),
        high: each(lines, |l| l.high),
        m: each(lines, |l| l.m),
        // Modulo 2^32, see `Line::is_narrow`.
        add: each(lines, |l| l.add as i32),
        k: each(lines, |l| l.k.into()),
        signed: bounds.0 < 0,
        ceiling: bounds.1 as u8,
        limited: lines.iter().zip(largest).any(|(line, &largest)| line.is_limited(bounds, largest)),
    }
}

pub(super) fn wide(lines: &[Line]) -> Wide {
    Wide {
        low: each(lines, |l| l.low),
        high: each(lines, |l| l.high),
        m: each(lines, |l| l.m),
        add: each(lines, |l| l.add),
        k: each(lines, |l| l.k.into()),
        floor: each(lines, |l| l.floor),
        ceiling: each(lines, |l| l.ceiling),
    }
}
