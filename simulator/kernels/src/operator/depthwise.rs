//! One kernel per channel: every tap of the kernel meets a row of bytes, one for each position and channel.

use std::ops::Range;

use super::Context;
use crate::Geometry;
use crate::isa::{Affine, Taps, TapsEnd};
use crate::planes::{Planar, Planes};

#[derive(Clone, Debug)]
pub(crate) struct Depthwise {
    /// Rows of the kernel.
    rows: usize,
    /// What the taps of a row meet first: a plane, and a column of it.
    columns: Vec<(usize, usize)>,
    filters: Range<usize>,
    frames: usize,
    taps: Taps,
    /// For two rows of the convolution at once, see [`Two`].
    two: Option<Two>,
    end: Option<TapsEnd>,
}

/// A kernel of three rows that moves by one: two rows of the convolution meet four of the input, and four bytes of a column are what
/// one instruction takes. The kernel of the first has zeros in its last row, that of the second in its first. Taps are (column, row).
#[derive(Clone, Debug)]
struct Two([Taps; 2]);

impl Two {
    const ROWS: usize = 4;

    fn new(context: &Context, weights: &[i8], filters: usize) -> Option<Self> {
        let Geometry { kernel: [rows, across], stride, .. } = context.geometry;
        if rows != Self::ROWS - 1 || stride[0] != 1 {
            return None;
        }
        let taps = |shift: usize| {
            let mut moved = vec![0; filters * across * Self::ROWS];
            for (i, &w) in weights.iter().enumerate() {
                let (filter, row, column) = (i / (rows * across), i / across % rows, i % across);
                moved[(filter * across + column) * Self::ROWS + row + shift] = w;
            }
            Taps::new(&moved, filters, across * Self::ROWS, context.inputs.offset())
        };
        Some(Self([taps(0), taps(1)]))
    }
}

impl Depthwise {
    /// `weights` is (filter, kernel row, kernel column).
    pub(super) fn new(context: &Context, weights: &[i8], filters: Range<usize>) -> Self {
        let Geometry { kernel: [rows, across], stride: [_, stride], .. } = context.geometry;
        let taps = Taps::new(weights, filters.len(), rows * across, context.inputs.offset());
        let two = Two::new(context, weights, filters.len());
        let columns = (0..across).map(|t| (t % stride, t / stride)).collect();
        Self { rows, columns, filters, frames: 1, taps, two, end: None }
    }

    /// `weights` is (filter, frame); frames lie one after another in the channels.
    pub(super) fn temporal(context: &Context, weights: &[i8], filters: Range<usize>, frames: usize) -> Self {
        let taps = Taps::new(weights, filters.len(), frames, context.inputs.offset());
        let columns = (0..frames).map(|frame| (frame, 0)).collect();
        Self { rows: 1, columns, filters, frames, taps, two: None, end: None }
    }

    pub(super) fn filters(&self) -> usize {
        self.filters.len()
    }

    /// Ends its sums with this from now on.
    pub(super) fn end_with(&mut self, affine: &Affine) {
        self.end = Some(self.taps.end(self.filters.len(), affine));
    }

    pub(super) fn planes(&self, context: &Context, pad_pixel: &[u8]) -> Planes {
        let Context { geometry, conv, inputs, .. } = context;
        Planes::new(geometry, conv, self.filters.clone(), self.frames, inputs.signed, pad_pixel)
    }

    /// What the taps meet in row `y` of the convolution.
    fn taps<'a>(&self, context: &Context, input: &'a mut Planar<'_>, y: usize) -> Rows<'a> {
        let top = (y - context.conv[0].start) * context.geometry.stride[0];
        let rows = self.rows;
        input.meet(top..top + rows);
        let input = &*input;
        let mut taps = Rows::new();
        for row in top..top + rows {
            let row = input.row(row);
            self.columns.iter().for_each(|&(plane, column)| taps.push(&row[input.place(plane, column)..]));
        }
        taps
    }

    /// Row `y`, (column, filter).
    pub(super) fn sums(&self, context: &Context, input: &mut Planar<'_>, y: usize, sums: &mut [i32]) {
        let len = context.conv[1].len() * self.filters.len();
        context.kernels.depthwise_sums(self.taps(context, input, y).as_slice(), &self.taps, &mut sums[..len]);
    }

    /// Rows from `y` on, ended, until the output is full; false where there is no end.
    pub(super) fn bytes(&self, context: &Context, input: &mut Planar<'_>, y: usize, out: &mut [u8]) -> bool {
        let Some(end) = &self.end else { return false };
        let row_len = context.conv[1].len() * self.filters.len();
        for (y, out) in (y..).step_by(2).zip(out.chunks_mut(2 * row_len)) {
            if out.len() == 2 * row_len && self.two_rows(context, input, y, end, out) {
                continue;
            }
            for (y, out) in (y..).zip(out.chunks_mut(row_len)) {
                context.kernels.depthwise(self.taps(context, input, y).as_slice(), &self.taps, end, out);
            }
        }
        true
    }

    /// Rows `y` and the next, where kernels have a way to make them at once; else false.
    fn two_rows(&self, context: &Context, input: &mut Planar<'_>, y: usize, end: &TapsEnd, out: &mut [u8]) -> bool {
        let Some(Two([first, second])) = &self.two else { return false };
        let top = y - context.conv[0].start;
        input.meet(top..top + Two::ROWS);
        let input = &*input;
        let rows: [&[u8]; Two::ROWS] = std::array::from_fn(|r| input.row(top + r));
        let mut taps = Rows::new();
        for &(plane, column) in &self.columns {
            let place = input.place(plane, column);
            rows.iter().for_each(|row| taps.push(&row[place..]));
        }
        let (above, below) = out.split_at_mut(out.len() / 2);
        context.kernels.depthwise_two(taps.as_slice(), [first, second], end, [above, below])
    }
}

/// Slices without an allocation where they are few, as they are.
struct Rows<'a> {
    few: [&'a [u8]; 25],
    many: Vec<&'a [u8]>,
    len: usize,
}

impl<'a> Rows<'a> {
    fn new() -> Self {
        Self { few: [&[]; 25], many: Vec::new(), len: 0 }
    }

    #[inline]
    fn push(&mut self, row: &'a [u8]) {
        if let Some(place) = self.few.get_mut(self.len) {
            *place = row;
        } else {
            if self.many.is_empty() {
                self.many.extend_from_slice(&self.few);
            }
            self.many.push(row);
        }
        self.len += 1;
    }

    fn as_slice(&self) -> &[&'a [u8]] {
        if self.many.is_empty() { &self.few[..self.len] } else { &self.many }
    }
}
