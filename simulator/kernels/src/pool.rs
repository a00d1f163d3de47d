//! Layers that end with a pool.

use crate::finish::Activation;
use crate::layer::Scratch;
use crate::operator::at_least;
use crate::stage::Staged;
use crate::{Layer, Output};

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

impl Layer {
    /// Maxima of outputs, where the end of the layer keeps their order: bytes instead of sums.
    pub(crate) fn run_max_of_outputs(
        &self,
        input: Staged<'_>,
        scratch: &mut Scratch,
        output: &mut [u8],
        window: Window,
    ) {
        let filters = self.tile.filters.len();
        let kernels = self.context.kernels;
        let (conv, columns) = (self.context.geometry.conv, &self.context.conv[1]);
        let row_len = columns.len() * filters;
        let room = self.operator.room_for(&self.context, 1);
        let Scratch { room: inner, sums, bytes, rows, slots, .. } = scratch;
        let sums = at_least(sums, room);
        let used = columns.len() * self.operator.width();
        // Finished rows of the convolution; row y lives in slot y % size, and their maximum behind them.
        let ring = at_least(rows, (window.size[0] + 1) * row_len);
        let (ring, highest) = ring.split_at_mut(window.size[0] * row_len);
        let slots = at_least(slots, window.size[0]);
        slots.fill(None);
        let signed = self.ending.signed();
        let out_len = self.tile.columns.len() * filters;
        for (at, output) in self.tile.rows.clone().zip(output.chunks_exact_mut(out_len)) {
            let under = window.under(0, at, conv[0]);
            for y in under.clone() {
                let slot = y % window.size[0];
                let finished = &mut ring[slot * row_len..][..row_len];
                if slots[slot] != Some(y) {
                    self.operator.rows(&self.context, input, y..y + 1, inner, sums);
                    self.ending.rows(kernels, &sums[..used], &mut Output::Bytes(finished), 0, bytes);
                    slots[slot] = Some(y);
                }
                if y == under.start {
                    highest.copy_from_slice(finished)
                } else {
                    kernels.largest(highest, finished, signed)
                }
            }
            for (column, output) in self.tile.columns.clone().zip(output.chunks_exact_mut(filters)) {
                let under = window.under(1, column, conv[1]);
                let mut pixels =
                    highest[(under.start - columns.start) * filters..][..under.len() * filters].chunks_exact(filters);
                if let Some(first) = pixels.next() {
                    output.copy_from_slice(first);
                }
                pixels.for_each(|pixel| kernels.largest(output, pixel, signed));
            }
        }
    }

    /// Maxima of sums.
    pub(crate) fn run_max(&self, input: Staged<'_>, scratch: &mut Scratch, output: &mut Output<'_>, window: Window) {
        let width = self.operator.width();
        let (conv, columns) = (self.context.geometry.conv, &self.context.conv[1]);
        let row_len = columns.len() * width;
        let room = self.operator.room_for(&self.context, 1);
        let Scratch { room: inner, sums, bytes, slots, pooled, .. } = scratch;
        let rows = at_least(sums, window.size[0] * room);
        let slots = at_least(slots, window.size[0]);
        slots.fill(None);
        let pooled = at_least(pooled, self.tile.columns.len() * width);
        let out_len = self.tile.columns.len() * self.tile.filters.len();
        for (i, at) in self.tile.rows.clone().enumerate() {
            pooled.fill(i32::MIN);
            for y in window.under(0, at, conv[0]) {
                let slot = y % window.size[0];
                let sums = &mut rows[slot * room..][..room];
                if slots[slot] != Some(y) {
                    self.operator.rows(&self.context, input, y..y + 1, inner, sums);
                    slots[slot] = Some(y);
                }
                for (pooled, column) in pooled.chunks_exact_mut(width).zip(self.tile.columns.clone()) {
                    let under = window.under(1, column, conv[1]);
                    let first = (under.start - columns.start) * width;
                    for sums in sums[..row_len][first..][..under.len() * width].chunks_exact(width) {
                        pooled.iter_mut().zip(sums).for_each(|(p, &s)| *p = s.max(*p));
                    }
                }
            }
            self.ending.rows(self.context.kernels, pooled, output, i * out_len, bytes);
        }
    }

    /// The sum over the map, of activated values or before the activation.
    pub(crate) fn run_global(&self, input: Staged<'_>, scratch: &mut Scratch, output: &mut Output<'_>, after: bool) {
        let (filters, width) = (self.tile.filters.len(), self.operator.width());
        let finisher = self.ending.finisher();
        let conv = self.context.conv[0].clone();
        let at_once = self.operator.rows_at_once(&self.context).min(conv.len());
        let Scratch { room, sums, totals, .. } = scratch;
        let sums = at_least(sums, self.operator.room_for(&self.context, at_once));
        let totals = at_least(totals, filters);
        totals.fill(0);
        let (low, high) = finisher.sum_bounds();
        let finish = finisher.parts().1;
        for y in conv.clone().step_by(at_once) {
            let rows = y..conv.end.min(y + at_once);
            let used = rows.len() * self.context.conv[1].len() * width;
            self.operator.rows(&self.context, input, rows, room, sums);
            for sums in sums[..used].chunks_exact(width) {
                let held = totals.iter_mut().zip(sums).map(|(t, &s)| (t, i64::from(s).clamp(low, high)));
                match (after, &finish.activation) {
                    (false, _) if finish.bias.is_empty() => held.for_each(|(t, s)| *t += s),
                    // The bias belongs to every position.
                    (false, _) => held.enumerate().for_each(|(f, (t, s))| *t += finisher.biased(s, f)),
                    (true, Activation::Relu) if finish.bias.len() == filters => {
                        held.zip(&finish.bias).for_each(|((t, s), &b)| *t += (s + i64::from(b)).max(0));
                    }
                    (true, Activation::Clipped(max)) if finish.bias.len() == filters => {
                        let filters = held.zip(finish.bias.iter().zip(max));
                        filters.for_each(|((t, s), (&b, &max))| *t += (s + i64::from(b)).min(max.into()).max(0));
                    }
                    (true, _) => held.enumerate().for_each(|(f, (t, s))| *t += finisher.activate(s, f)),
                }
            }
        }
        for (f, &total) in totals.iter().enumerate() {
            let y = finisher.emit(if after { total } else { finisher.activation(total, f) }, f);
            match output {
                Output::Bytes(bytes) => bytes[f] = y as u8,
                Output::Words(words) => words[f] = y,
            }
        }
    }
}
