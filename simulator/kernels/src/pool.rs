//! Layers that end with a pool.

use crate::ending::Ending;
use crate::finish::Activation;
use crate::isa::{BLOCK, Terms, Windows};
use crate::layer::Scratch;
use crate::operator::{Context, Input};
use crate::{Layer, Output, Pool};

/// Bytes of finished rows that are held at once, about.
const ROWS: usize = 48 << 10;

/// A window's size, step and padding.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub size: [usize; 2],
    pub stride: [usize; 2],
    pub pad: [usize; 2],
}

impl Window {
    /// Positions of the convolution under output `at`; `count` is how many there are.
    fn under(&self, axis: usize, at: usize, count: usize) -> std::ops::Range<usize> {
        let start = (at * self.stride[axis]).saturating_sub(self.pad[axis]);
        start..(at * self.stride[axis] + self.size[axis] - self.pad[axis]).min(count)
    }
}

/// What a sum over the map is made of, where 32 bits hold it whatever the input.
pub(crate) fn terms(context: &Context, ending: &Ending, pool: Pool, largest: &[i64]) -> Option<Terms> {
    let Pool::Global { after_activation } = pool else { return None };
    let (filters, finish) = ending.finisher().parts();
    let bias = |f: usize| finish.bias.get(f).copied().unwrap_or(0);
    let (floor, ceiling): (i32, Vec<i32>) = match (after_activation, &finish.activation) {
        (false, _) | (_, Activation::None) => (i32::MIN, vec![i32::MAX; filters]),
        (true, Activation::Relu) => (0, vec![i32::MAX; filters]),
        (true, Activation::Clipped(max)) => (0, max.clone()),
        (true, _) => return None,
    };
    let positions = (context.geometry.conv[0] * context.geometry.conv[1]) as i64;
    let fits = (0..filters).all(|f| {
        let term = largest[f] + i64::from(bias(f)).abs();
        i32::try_from(term.saturating_mul(positions)).is_ok()
    });
    let (low, high) = ending.finisher().sum_bounds();
    let bound = |v: i64| v.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
    let width = filters.next_multiple_of(BLOCK);
    let mut all = Terms { low: bound(low), high: bound(high), bias: (0..filters).map(bias).collect(), floor, ceiling };
    all.bias.resize(width, 0);
    all.ceiling.resize(width, 0);
    fits.then_some(all)
}

/// Positions that meet weights together at least, where they are no more than a map has.
const POSITIONS: usize = 64;

impl Layer {
    /// Maxima of outputs, where the end of the layer keeps their order: bytes instead of sums.
    pub(crate) fn run_max_of_outputs(
        &self,
        mut input: Input<'_>,
        scratch: &mut Scratch,
        output: &mut [u8],
        window: Window,
    ) {
        let filters = self.tile.filters.len();
        let kernels = self.context.kernels;
        let (conv, columns) = (self.context.geometry.conv, &self.context.conv[1]);
        let row_len = columns.len() * filters;
        let Scratch { room, rows, highest, .. } = scratch;
        let highest = highest.at_least(row_len);
        let signed = self.ending.signed();
        let out_len = self.tile.columns.len() * filters;
        // Windows begin inside the columns that are made, or before them.
        let first = self.tile.columns.start * window.stride[1];
        let before = (window.pad[1] + columns.start).saturating_sub(first);
        let windows = Windows { filters, size: window.size[1], stride: window.stride[1], before, signed };
        let at_once = (ROWS / (row_len * window.stride[0])).max(1);
        for band in self.tile.rows.clone().step_by(at_once) {
            let band = band..self.tile.rows.end.min(band + at_once);
            let made = window.under(0, band.start, conv[0]).start..window.under(0, band.end - 1, conv[0]).end;
            let finished = rows.at_least(made.len() * row_len);
            let mut bytes = Output::Bytes(finished);
            self.operator.outputs(&self.context, &self.ending, &mut input, made.clone(), room, (&mut bytes, 0));
            let finished = rows.at_least(made.len() * row_len);
            for at in band {
                let out = &mut output[(at - self.tile.rows.start) * out_len..][..out_len];
                let under = window.under(0, at, conv[0]);
                let row = |y: usize| &finished[(y - made.start) * row_len..][..row_len];
                highest.copy_from_slice(row(under.start));
                for y in under.start + 1..under.end {
                    kernels.largest(highest, row(y), signed);
                }
                kernels.pool(highest, windows, out);
            }
        }
    }

    /// Maxima of sums.
    pub(crate) fn run_max(&self, mut input: Input<'_>, scratch: &mut Scratch, output: &mut Output<'_>, window: Window) {
        let width = self.operator.width();
        let (conv, columns) = (self.context.geometry.conv, &self.context.conv[1]);
        let row_len = columns.len() * width;
        let Scratch { room, pooled, .. } = scratch;
        let mut rows = std::mem::take(&mut room.sums);
        let pooled = pooled.at_least(self.tile.columns.len() * width);
        let filters = self.tile.filters.len();
        let out_len = self.tile.columns.len() * filters;
        for (i, at) in self.tile.rows.clone().enumerate() {
            pooled.fill(i32::MIN);
            let under = window.under(0, at, conv[0]);
            let sums = rows.at_least(under.len() * row_len);
            self.operator.sums(&self.context, &mut input, under, room, sums);
            for row in sums.chunks_exact(row_len) {
                for (pooled, column) in pooled.chunks_exact_mut(width).zip(self.tile.columns.clone()) {
                    let under = window.under(1, column, conv[1]);
                    let first = (under.start - columns.start) * width;
                    for sums in row[first..][..under.len() * width].chunks_exact(width) {
                        pooled.iter_mut().zip(sums).for_each(|(p, &s)| *p = s.max(*p));
                    }
                }
            }
            self.ending.emit(self.context.kernels, (pooled, width), 0..filters, output, i * out_len);
        }
        room.sums = rows;
    }

    /// The sum over the map, of activated values or before the activation.
    pub(crate) fn run_global(&self, mut input: Input<'_>, scratch: &mut Scratch, output: &mut Output<'_>, after: bool) {
        let (filters, width) = (self.tile.filters.len(), self.operator.width());
        let finisher = self.ending.finisher();
        let conv = self.context.conv[0].clone();
        // Weights are read for each of these groups of rows: of as many positions as a product needs.
        let needed = POSITIONS.div_ceil(self.context.conv[1].len().max(1));
        let at_once = self.operator.rows_of_sums(&self.context).max(needed).min(conv.len());
        let Scratch { room, totals, .. } = scratch;
        let mut held = std::mem::take(&mut room.sums);
        let narrow = totals.narrow.at_least(filters);
        let wide = totals.wide.at_least(filters);
        narrow.fill(0);
        wide.fill(0);
        for y in conv.clone().step_by(at_once) {
            let rows = y..conv.end.min(y + at_once);
            let sums = held.at_least(rows.len() * self.context.conv[1].len() * width);
            self.operator.sums(&self.context, &mut input, rows, room, sums);
            if let Some(terms) = &self.terms {
                self.context.kernels.totals(sums, width, terms, 0..filters, narrow);
                continue;
            }
            for sums in sums.chunks_exact(width) {
                for (f, (total, &sum)) in wide.iter_mut().zip(sums).enumerate() {
                    let sum = finisher.saturate(sum);
                    // The bias belongs to every position.
                    *total += if after { finisher.activate(sum, f) } else { finisher.biased(sum, f) };
                }
            }
        }
        room.sums = held;
        for f in 0..filters {
            let total = wide[f] + i64::from(narrow[f]);
            let y = finisher.emit(if after { total } else { finisher.activation(total, f) }, f);
            match output {
                Output::Bytes(bytes) => bytes[f] = y as u8,
                Output::Words(words) => words[f] = y,
            }
        }
    }
}
