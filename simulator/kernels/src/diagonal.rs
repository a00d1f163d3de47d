//! Convolutions of 1x1 that meet no channel but their own, as those that QuantizeML puts behind sums: every output is made of one byte.

use crate::finish::Finisher;
use crate::isa::{Bytewise, CHUNK};
use crate::operator::Inputs;

/// Right shift of results at most: those of a byte then fit 16 bits.
const MOST: u8 = 7;
/// Elements after which vectors of a rule begin anew, at least.
const AT_ONCE: usize = 8 * CHUNK;
/// Factors that are tried, from the nearest: one may be exact where that is not.
const FACTORS: [i64; 5] = [0, 1, -1, 2, -2];

/// The weight of each channel where others are 0; `weights` is (filter, channel), as many of both.
pub(crate) fn weights(weights: &[i8], channels: usize) -> Option<Vec<i8>> {
    let filters = || weights.chunks_exact(channels.max(1)).enumerate();
    let alone = || filters().all(|(f, row)| row.iter().enumerate().all(|(c, &w)| w == 0 || c == f));
    (weights.len() == channels * channels && alone()).then(|| filters().map(|(f, row)| row[f]).collect())
}

/// A rule that gives what products and ends would, for every byte that an input can be; none where no factors of 16 bits do.
pub(crate) fn rule(weights: &[i8], inputs: Inputs, finisher: &Finisher) -> Option<Bytewise> {
    if finisher.output_bits() > 8 {
        return None;
    }
    let scale = finisher.parts().1.scale.as_ref()?;
    // Bytes without a sign that have all their bits: less 128, by their highest bit.
    let inverted = if !inputs.signed && inputs.largest > i8::MAX.into() { 0x80 } else { 0 };
    let least = if inputs.signed { -inputs.largest } else { 0 };
    let most = if inputs.signed { inputs.largest - 1 } else { inputs.largest };
    let bounds = finisher.byte_bounds();
    let byte = |x: i64| (x as u8 ^ inverted).cast_signed();
    let curve = |(filter, &w): (usize, &i8)| Curve {
        points: (least..=most).map(|x| (byte(x), finisher.whole(x as i32 * i32::from(w), filter))).collect(),
        bounds,
        slope: f64::from(w) * f64::from(scale.m[filter]) * f64::from(-scale.k[filter]).exp2(),
    };
    let curves: Vec<_> = weights.iter().enumerate().map(curve).collect();
    let lines = |k: u8| Some((k, curves.iter().map(|curve| curve.line(k)).collect::<Option<Vec<_>>>()?));
    let (k, lines) = (0..=MOST).rev().find_map(lines)?;
    let period = weights.len() * AT_ONCE.div_ceil(weights.len().max(1));
    let each = |get: fn(&(i16, i16)) -> i16| lines.iter().cycle().take(period).map(get).collect();
    let (low, high) = (bounds.0 as i16, bounds.1 as i16);
    Some(Bytewise { inverted, a: each(|l| l.0), b: each(|l| l.1), k, low, high })
}

/// What a channel makes of bytes.
struct Curve {
    /// Every byte and its output.
    points: Vec<(i8, i32)>,
    /// Where outputs saturate.
    bounds: (i64, i64),
    /// By how much they rise from one byte to the next, where they do not.
    slope: f64,
}

impl Curve {
    /// A factor, and what is added, that give every point with this shift.
    fn line(&self, k: u8) -> Option<(i16, i16)> {
        let nearest = (self.slope * f64::from(1u32 << (8 + k))).round();
        let near = |by: i64| i16::try_from(nearest as i64 + by).ok();
        FACTORS.into_iter().filter_map(near).find_map(|a| Some((a, self.added(a, k)?)))
    }

    /// What gives every point if it is added to products with this factor.
    fn added(&self, a: i16, k: u8) -> Option<i16> {
        let (mut from, mut to) = (i32::MIN, i32::MAX);
        for &(x, y) in &self.points {
            let product = i32::from(Bytewise::product(x, a));
            // Sums fit 16 bits.
            (from, to) = (from.max(i32::from(i16::MIN) - product), to.min(i32::from(i16::MAX) - product));
            if i64::from(y) > self.bounds.0 {
                from = from.max((y << k) - product);
            }
            if i64::from(y) < self.bounds.1 {
                to = to.min(((y + 1) << k) - 1 - product);
            }
            if from > to {
                return None;
            }
        }
        i16::try_from((from + to).div_euclid(2)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, Arithmetic, Finish, Scale};

    /// Scales as converted networks have them.
    #[test]
    fn usual_scales_have_rules() {
        let mut none = 0;
        for (activation, signed) in [(Activation::None, true), (Activation::Relu, true), (Activation::Relu, false)] {
            for m in 128..=255 {
                for (k, w) in [(14, 127), (14, 64), (15, 100), (13, -30)] {
                    let finish = Finish {
                        arithmetic: Arithmetic::Chip { accumulator_bits: 28 },
                        bias: vec![i32::from(m) * 3],
                        activation: activation.clone(),
                        scale: Some(Scale { m: vec![m], k: vec![k] }),
                        output_bits: 8,
                        output_signed: signed,
                    };
                    let finisher = Finisher::new(finish, 1).expect("a finish");
                    for inputs in [Inputs { signed: true, largest: 128 }, Inputs { signed: false, largest: 255 }] {
                        none += usize::from(rule(&[w], inputs, &finisher).is_none());
                    }
                }
            }
        }
        assert!(none < 3 * 128 * 8 / 20, "{none} without a rule");
    }

    #[test]
    fn filters_of_other_channels_have_none() {
        assert_eq!(weights(&[5, 0, 0, 7], 2), Some(vec![5, 7]));
        assert_eq!(weights(&[5, 1, 0, 7], 2), None);
        assert_eq!(weights(&[5, 0], 2), None);
    }
}
