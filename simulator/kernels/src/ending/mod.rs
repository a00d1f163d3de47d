//! A [`Finisher`] in the form kernels take: one multiplication and shift between two limits, where that gives the same.
//!
//! Everything behind the sum of products is monotone but for look-up tables: no step of it turns a larger sum into a
//! smaller output. So there are a smallest and a largest sum beyond which nothing changes, all saturations and clips
//! happen outside them, and between them is one line: `(sum * m + bias * m + half) >> k`. Both limits are looked for with
//! the exact rule among the sums that weights and inputs can make, and the line is compared with it at both. Equal steps are a line too, whose slope is a fraction: it is
//! compared with the rule before and behind each step, between which nothing changes. There floating point does too, with less work
//! than integers, since no sum needs a limit and one multiplication is enough for any size of steps. So it does for scales whose shift is
//! so small that 24 bits hold all of a result that becomes an output of its own. A look-up table has a line before it,
//! to the place that is looked at, and one behind.

mod line;
mod lookup;

use std::ops::Range;

use line::{Line, affine, fractions, limits, line, slope, step_line, wide};

use crate::finish::{Activation, Finish, Finisher};
use crate::isa::{Affine, End, Kernels, Slope, Wide};
use crate::{Output, PrepareError};

#[derive(Clone, Debug)]
enum Fast {
    Affine(Affine),
    /// And the same in integers, where these hold it.
    Slope(Slope, Option<Affine>),
    Wide(Wide),
    /// Lines to a place of a table, and from what is there to bytes.
    Lookup(lookup::Ends),
    /// (edge, filter), and filters.
    Steps(Vec<i32>, usize),
    /// Potentials that never saturate: nothing but this bias is added.
    Potentials(Vec<i32>),
    /// Every sum by the rule.
    None,
}

/// The end of a layer; on its own it ends layers whose sums were made elsewhere.
#[derive(Clone, Debug)]
pub struct Ending {
    finisher: Finisher,
    filters: usize,
    fast: Fast,
}

impl Ending {
    /// Of sums that are no farther from 0 than `largest`.
    pub fn prepare(finish: Finish, filters: usize, largest: i64) -> Result<Self, PrepareError> {
        Ok(Self::new(Finisher::new(finish, filters)?, &vec![largest; filters]))
    }

    /// No sum of filter f is farther from 0 than `largest[f]`.
    pub(crate) fn new(finisher: Finisher, largest: &[i64]) -> Self {
        let (filters, finish) = finisher.parts();
        let limits = |f: usize| limits(|sum| finisher.whole(sum, f), largest[f]);
        let bounds = finisher.byte_bounds();
        let lines = |wide: bool| -> Option<Vec<Line>> {
            match (&finish.scale, &finish.activation) {
                (None, Activation::Steps(_)) if finish.bias.is_empty() => {
                    (0..filters).map(|f| step_line(&finisher, f, limits(f), wide)).collect()
                }
                (Some(scale), Activation::None | Activation::Relu | Activation::Clipped(_)) => (0..filters)
                    .map(|f| {
                        let line = line(scale, f, finisher.bias(f), limits(f));
                        line.filter(|l| l.is_narrow(bounds) || wide && l.is_wide())
                    })
                    .collect(),
                _ => None,
            }
        };
        let narrow = lines(false);
        let long = if narrow.is_none() { lines(true) } else { None };
        let whole = narrow.as_ref().or(long.as_ref());
        let floats = slope(&finisher, largest).or_else(|| fractions(whole?, bounds, largest));
        let narrow = narrow.map(|lines| affine(&lines, bounds, largest));
        let fast = if let Some(slope) = floats {
            Fast::Slope(slope, narrow)
        } else if let Some(affine) = narrow {
            Fast::Affine(affine)
        } else if let Some(lines) = long {
            Fast::Wide(wide(&lines))
        } else if let Some(lookup) = lookup::prepare(&finisher, largest) {
            Fast::Lookup(lookup)
        } else {
            steps(&finisher).or_else(|| potentials(&finisher, largest)).unwrap_or(Fast::None)
        };
        Self { filters, finisher, fast }
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

    /// The end as one line in 32 bits for each filter.
    pub(crate) fn affine(&self) -> Option<&Affine> {
        match &self.fast {
            Fast::Affine(affine) | Fast::Slope(_, Some(affine)) => Some(affine),
            _ => None,
        }
    }

    /// The end in floating point.
    pub(crate) fn slope(&self) -> Option<&Slope> {
        if let Fast::Slope(slope, _) = &self.fast { Some(slope) } else { None }
    }

    /// Positions with all filters each, from sums of products to output elements.
    ///
    /// # Panics
    /// When the output has not as many elements as there are sums.
    pub fn row(&self, kernels: &dyn Kernels, sums: &[i32], output: &mut Output<'_>) {
        assert!(sums.len() == output.len(), "{} sums for {} outputs", sums.len(), output.len());
        self.emit(kernels, (sums, self.filters), 0..self.filters, output, 0);
    }

    /// The end as one line for each filter.
    pub(crate) fn lines(&self) -> Option<End<'_>> {
        match &self.fast {
            Fast::Affine(end) => Some(End::Affine(end)),
            Fast::Slope(end, _) => Some(End::Slope(end)),
            Fast::Wide(end) => Some(End::Wide(end)),
            _ => None,
        }
    }

    /// Sums of some filters, `step` a position, to output elements; the first position's first filter of all is at `start`.
    pub(crate) fn emit(
        &self,
        kernels: &dyn Kernels,
        (sums, step): (&[i32], usize),
        filters: Range<usize>,
        output: &mut Output<'_>,
        start: usize,
    ) {
        let all = self.filters;
        let start = start + filters.start;
        match (&self.fast, output) {
            (Fast::Affine(end), Output::Bytes(out)) => {
                kernels.affine(sums, step, end, filters, &mut out[start..], all);
            }
            (Fast::Slope(end, _), Output::Bytes(out)) => {
                kernels.slope(sums, step, end, filters, &mut out[start..], all);
            }
            (Fast::Wide(end), Output::Bytes(out)) => kernels.wide(sums, step, end, filters, &mut out[start..], all),
            (Fast::Lookup(ends), Output::Bytes(out)) => {
                ends.emit(kernels, (sums, step), filters, &mut out[start..], all);
            }
            (Fast::Steps(edges, width), Output::Bytes(out)) => {
                kernels.steps(sums, step, (edges, *width), filters, &mut out[start..], all);
            }
            (Fast::Potentials(bias), Output::Words(out)) => {
                for (sums, out) in sums.chunks_exact(step).zip(out[start..].chunks_mut(all)) {
                    let biased = sums.iter().zip(&bias[filters.clone()]).map(|(sum, bias)| sum + bias);
                    out.iter_mut().zip(biased).for_each(|(out, y)| *out = y);
                }
            }
            (_, output) => {
                let len = output.len() - start;
                self.finisher.each(sums, step, filters, &mut output.part(start, len));
            }
        }
    }
}

/// Steps edge by edge.
fn steps(finisher: &Finisher) -> Option<Fast> {
    let (filters, finish) = finisher.parts();
    if !matches!(finish.activation, Activation::Steps(_)) || !finish.bias.is_empty() {
        return None;
    }
    // An edge at or above what a held sum can be is never passed. Below the lowest sum there is nothing: such an edge is
    // always passed, which `>` on 32 bits cannot say.
    let (low, high) = finisher.sum_bounds();
    if finisher.edges().iter().any(|&e| i64::from(e) < low) {
        return None;
    }
    let edge = |&e: &i32| if i64::from(e) >= high { i32::MAX } else { e };
    Some(Fast::Steps(finisher.edges().iter().map(edge).collect(), filters))
}

/// Potentials that are their sum and bias, if no sum there can be saturates.
fn potentials(finisher: &Finisher, largest: &[i64]) -> Option<Fast> {
    let (filters, finish) = finisher.parts();
    if finish.output_bits != 32 || finish.scale.is_some() || finish.activation != Activation::None {
        return None;
    }
    let bias: Vec<i32> = (0..filters).map(|f| finish.bias.get(f).copied().unwrap_or(0)).collect();
    let (_, most) = finisher.sum_bounds();
    let saturates =
        |(&bias, &largest): (&i32, &i64)| largest > most || largest + i64::from(bias).abs() > i32::MAX.into();
    (!bias.iter().zip(largest).any(saturates)).then_some(Fast::Potentials(bias))
}
