//! One kernel per channel. Four neighbours of a channel make a quad, so that a row of a kernel is one or two dot products
//! of quads; the quads of an input row are made once and serve every row of the kernel.

use std::ops::Range;

use super::{Context, at_least};
use crate::isa::{BLOCK, Quads};
use crate::stage::Staged;
use crate::{Geometry, Tile};

/// Weights repeat themselves after at least so many elements, so that rows of few channels are long ones.
const PERIOD: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Depthwise {
    /// First channel.
    first: usize,
    filters: usize,
    /// Rows of the kernel, and taps of a row.
    kernel: [usize; 2],
    /// Bytes from a tap to the next.
    tap: usize,
    /// (kernel row, quad of the row, element), elements repeating themselves.
    weights: Vec<u32>,
    /// What sums start with, by element.
    start: Vec<i32>,
}

/// Elements after which filters repeat themselves in whole blocks.
pub(crate) fn period(filters: usize) -> usize {
    let mut period = filters;
    while !period.is_multiple_of(BLOCK) {
        period += filters;
    }
    period * PERIOD.div_ceil(period)
}

impl Depthwise {
    /// `weights` is (filter, kernel row, kernel column).
    pub(super) fn new(context: &Context, weights: &[i8], filters: Range<usize>) -> Self {
        let Geometry { input: [_, _, channels], kernel, .. } = context.geometry;
        Self::pack(context, weights, filters, kernel, channels)
    }

    /// `weights` is (filter, frame); frames lie one after another in the channels.
    pub(super) fn temporal(context: &Context, weights: &[i8], tile: &Tile, frames: usize) -> Self {
        Self::pack(context, weights, tile.filters.clone(), [1, frames], context.geometry.input[2] / frames.max(1))
    }

    fn pack(context: &Context, weights: &[i8], filters: Range<usize>, kernel: [usize; 2], tap: usize) -> Self {
        let (first, filters) = (filters.start, filters.len());
        let [rows, taps] = kernel;
        let period = period(filters);
        let quad = |filter: usize, row: usize, quad: usize| {
            let row = &weights[(filter * rows + row) * taps..][..taps];
            let mut bytes = [0; 4];
            bytes.iter_mut().zip(&row[quad * 4..]).for_each(|(b, w)| *b = w.cast_unsigned());
            u32::from_le_bytes(bytes)
        };
        let rows_of_quads = (0..rows).flat_map(|r| (0..taps.div_ceil(4)).map(move |q| (r, q)));
        let packed = rows_of_quads.flat_map(|(r, q)| (0..period).map(move |i| quad(i % filters, r, q))).collect();
        let sum = |filter: usize| weights[filter * rows * taps..][..rows * taps].iter().map(|&w| i32::from(w)).sum();
        let offset = context.inputs.offset();
        let start = (0..period)
            .map(|i| {
                let sum: i32 = sum(i % filters);
                -offset * sum
            })
            .collect();
        Self { first, filters, kernel, tap, weights: packed, start }
    }

    pub(super) fn filters(&self) -> usize {
        self.filters
    }

    /// Row `y`, (column, filter); `sums` has room for whole blocks.
    pub(super) fn row(
        &self,
        context: &Context,
        input: Staged<'_>,
        y: usize,
        quads: &mut Vec<u32>,
        held: &mut Vec<Option<usize>>,
        sums: &mut [i32],
    ) {
        let Geometry { input: [_, _, channels], stride, .. } = context.geometry;
        let [rows, taps] = self.kernel;
        let per_row = taps.div_ceil(4);
        let columns = context.conv[1].len();
        let len = (columns * self.filters).next_multiple_of(BLOCK);
        let quads = at_least(quads, rows * per_row * len);
        let held = at_least(held, rows);
        let top = (y - context.conv[0].start) * stride[0];
        // Quads of row r of the input are in slot r % rows.
        for r in top..top + rows {
            let slot = r % rows;
            if held[slot] == Some(r) {
                continue;
            }
            held[slot] = Some(r);
            for q in 0..per_row {
                let used = (taps - q * 4).min(4);
                let from = &input.data[r * input.row_step + q * 4 * self.tap + self.first..];
                let place =
                    Quads { tap: self.tap, step: stride[1] * channels, count: self.filters, positions: columns, used };
                context.kernels.interleave(from, place, &mut quads[(slot * per_row + q) * len..][..len]);
            }
        }
        let all: Rows<'_> = (top..top + rows)
            .flat_map(|r| (0..per_row).map(move |q| (r % rows) * per_row + q))
            .map(|at| &quads[at * len..][..len])
            .collect();
        context.kernels.depthwise(all.as_slice(), &self.weights, &self.start, &mut sums[..len]);
    }
}

/// Slices without an allocation where they are few, as they are.
struct Rows<'a> {
    few: [&'a [u32]; 16],
    many: Vec<&'a [u32]>,
    len: usize,
}

impl<'a> FromIterator<&'a [u32]> for Rows<'a> {
    fn from_iter<I: IntoIterator<Item = &'a [u32]>>(rows: I) -> Self {
        let mut all = Self { few: [&[]; 16], many: Vec::new(), len: 0 };
        for row in rows {
            if all.len == all.few.len() && all.many.is_empty() {
                all.many.extend_from_slice(&all.few);
            }
            if all.len < all.few.len() {
                all.few[all.len] = row
            } else {
                all.many.push(row)
            }
            all.len += 1;
        }
        all
    }
}

impl<'a> Rows<'a> {
    fn as_slice(&self) -> &[&'a [u32]] {
        if self.many.is_empty() { &self.few[..self.len] } else { &self.many }
    }
}
