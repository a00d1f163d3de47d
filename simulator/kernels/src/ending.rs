//! A [`Finisher`] in the form kernels take: one multiplication and shift between two limits, where that gives the same.
//!
//! Everything behind the sum of products is monotone but for look-up tables: no step of it turns a larger sum into a
//! smaller output. So there are a smallest and a largest sum beyond which nothing changes, all saturations and clips
//! happen outside them, and between them is one line: `(sum * m + bias * m + half) >> k`. Both limits are looked for with
//! the exact rule, and the line is compared with it at both.

use crate::finish::{Activation, Finisher};
use crate::isa::{Affine, Kernels};
use crate::operator::at_least;
use crate::{Output, PrepareError};

/// A repetition of filters is at least so long: short loops cost more than long ones.
const PERIOD: usize = 64;

#[derive(Clone, Debug)]
enum Fast {
    Affine(Affine),
    /// (edge, element), and elements after which filters repeat themselves.
    Steps(Vec<i32>, usize),
    /// Every sum by the rule.
    None,
}

/// The end of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    finisher: Finisher,
    filters: usize,
    /// Sums of a position, with padding.
    width: usize,
    fast: Fast,
}

impl Ending {
    /// `width` sums a position, of which those behind the last filter are padding.
    pub(crate) fn new(finisher: Finisher, width: usize) -> Result<Self, PrepareError> {
        let (filters, finish) = finisher.parts();
        if width < filters {
            return Err(PrepareError::Contradiction("a position has a sum for every filter"));
        }
        let period = width * PERIOD.div_ceil(width);
        let fast = match (&finish.scale, &finish.activation) {
            (None, Activation::Steps(_)) if finish.bias.is_empty() => {
                // An edge at or above what a held sum can be is never passed; none is below the lowest.
                let (low, high) = finisher.sum_bounds();
                let edge = |e: i32| match i64::from(e) {
                    e if e >= high => i32::MAX,
                    e if e < low => i32::MIN,
                    e => e as i32,
                };
                let edges = finisher.edges().chunks_exact(filters);
                let row = |edges: &[i32], i: usize| edges.get(i % width).map_or(i32::MAX, |e| edge(*e));
                let all = edges.flat_map(|edges| (0..period).map(move |i| row(edges, i))).collect();
                // Below the lowest sum there is nothing: such an edge is always passed, which `>` on 32 bits cannot say.
                let below = finisher.edges().iter().any(|&e| i64::from(e) < low);
                if below { Fast::None } else { Fast::Steps(all, period) }
            }
            (Some(_), Activation::None | Activation::Relu | Activation::Clipped(_)) => {
                let lines: Option<Vec<Line>> = (0..filters).map(|f| line(&finisher, f)).collect();
                lines.map_or(Fast::None, |lines| Fast::Affine(repeat(&lines, width, period)))
            }
            _ => Fast::None,
        };
        Ok(Self { finisher, filters, width, fast })
    }

    pub(crate) fn finisher(&self) -> &Finisher {
        &self.finisher
    }

    /// Whether a larger sum never gives a smaller output, and outputs are bytes: then maxima may be taken of outputs.
    pub(crate) fn keeps_order(&self) -> bool {
        self.finisher.output_bits() <= 8 && !matches!(self.finisher.parts().1.activation, Activation::Lut { .. })
    }

    /// Whether output bytes are signed.
    pub(crate) fn signed(&self) -> bool {
        self.finisher.parts().1.output_signed
    }

    /// Sums of whole positions to output elements from `start` on.
    pub(crate) fn rows(
        &self,
        kernels: &dyn Kernels,
        sums: &[i32],
        output: &mut Output<'_>,
        start: usize,
        room: &mut Vec<u8>,
    ) {
        let len = sums.len() / self.width * self.filters;
        let (Fast::Affine(_) | Fast::Steps(..), Output::Bytes(bytes)) = (&self.fast, &mut *output) else {
            return self.finisher.padded(sums, self.width, output, start);
        };
        let out = &mut bytes[start..][..len];
        if self.width == self.filters {
            return self.bytes(kernels, sums, out);
        }
        let padded = at_least(room, sums.len());
        self.bytes(kernels, sums, padded);
        let (width, filters) = (self.width, self.filters);
        match filters {
            8 => squeeze::<8>(padded, width, out),
            _ => {
                let rows = padded.chunks_exact(width).zip(out.chunks_exact_mut(filters));
                rows.for_each(|(padded, out)| out.copy_from_slice(&padded[..filters]));
            }
        }
    }

    fn bytes(&self, kernels: &dyn Kernels, sums: &[i32], out: &mut [u8]) {
        match &self.fast {
            Fast::Affine(affine) => kernels.affine(sums, affine, out),
            Fast::Steps(edges, period) => kernels.steps(sums, edges, *period, out),
            Fast::None => {}
        }
    }
}

/// The first `N` bytes of every `width`; copies of known length are one instruction.
fn squeeze<const N: usize>(padded: &[u8], width: usize, out: &mut [u8]) {
    for (padded, out) in padded.chunks_exact(width).zip(out.as_chunks_mut::<N>().0) {
        out.copy_from_slice(&padded[..N]);
    }
}

/// One filter's line.
#[derive(Clone, Copy, Debug)]
struct Line {
    low: i32,
    high: i32,
    m: i32,
    add: i32,
    k: i32,
}

/// None where 32 bits are too few, or the line misses a limit.
fn line(finisher: &Finisher, filter: usize) -> Option<Line> {
    let (_, finish) = finisher.parts();
    let scale = finish.scale.as_ref()?;
    let (least, most) = (finisher.whole(i32::MIN, filter), finisher.whole(i32::MAX, filter));
    if least == most {
        return Some(Line { low: 0, high: 0, m: 0, add: least, k: 0 });
    }
    // The first sum of all for which the rule gives at least so much.
    let first = |at_least: i32| -> i64 {
        let (mut below, mut there) = (i64::from(i32::MIN), i64::from(i32::MAX));
        while there - below > 1 {
            let middle = (below + there).div_euclid(2);
            if finisher.whole(middle as i32, filter) >= at_least { there = middle } else { below = middle }
        }
        there
    };
    let low = first(least + 1) - 1;
    let high = first(most);
    let (m, k, bias) = (i64::from(scale.m[filter]), scale.k[filter], finish.bias.get(filter).map_or(0, |&b| b.into()));
    let (m, half, k) = match k {
        1..=31 => (m, 1i64 << (k - 1), k),
        // A left shift is a larger factor.
        -22..=0 => (m << -k, 0, 0),
        _ => return None,
    };
    let add = bias * m + half;
    let fits = |v: i64| i32::try_from(v).ok();
    let at = |sum: i64| fits(sum * m + add).map(|v| v >> k);
    if at(low)? != least || at(high)? != most {
        return None;
    }
    // Whatever is between two 32-bit ends is one itself, and sums of it are taken modulo 2^32.
    let wrapped = add as i32;
    Some(Line { low: fits(low)?, high: fits(high)?, m: fits(m)?, add: wrapped, k: k.into() })
}

fn repeat(lines: &[Line], width: usize, period: usize) -> Affine {
    let nothing = Line { low: 0, high: 0, m: 0, add: 0, k: 0 };
    let all: Vec<Line> = (0..period).map(|i| lines.get(i % width).copied().unwrap_or(nothing)).collect();
    let field = |get: fn(&Line) -> i32| all.iter().map(get).collect();
    Affine {
        low: field(|l| l.low),
        high: field(|l| l.high),
        m: field(|l| l.m),
        add: field(|l| l.add),
        k: field(|l| l.k),
    }
}
