//! One kernel per channel: every tap of the kernel meets a row of bytes, one for each position and channel.

use std::ops::Range;

use super::Context;
use crate::Geometry;
use crate::ending::Ending;
use crate::isa::{CHUNK, Columns, Taps, TapsEnd};
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
    /// For kernels of three rows.
    four: Option<Four>,
    /// Whether there are kernels for columns where they lie.
    by_column: bool,
    end: Option<TapsEnd>,
}

/// A kernel of three rows as one of four, since four bytes of a column are what one instruction takes: one with zeros in its last row,
/// and one in its first. Where kernels move by one, the two make two rows of the convolution of the same four of the input. Taps are
/// (column, row).
#[derive(Clone, Debug)]
struct Four([Taps; 2]);

impl Four {
    const ROWS: usize = 4;

    fn new(context: &Context, weights: &[i8], filters: usize) -> Option<Self> {
        let Geometry { kernel: [rows, across], .. } = context.geometry;
        if rows != Self::ROWS - 1 {
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
        let Geometry { kernel: [rows, across], stride: [down, stride], .. } = context.geometry;
        let taps = Taps::new(weights, filters.len(), rows * across, context.inputs.offset());
        let taps = taps.for_inputs_up_to(context.inputs.most());
        let columns = (0..across).map(|t| (t % stride, t / stride)).collect();
        let by_column = rows == Four::ROWS - 1
            && across == Columns::ACROSS
            && stride <= 2
            && filters.len().is_multiple_of(CHUNK)
            && context.kernels.columns().is_some();
        // Nobody else meets four rows.
        let four = (by_column || down == 1).then(|| Four::new(context, weights, filters.len())).flatten();
        Self { rows, columns, filters, frames: 1, taps, four, by_column, end: None }
    }

    /// `weights` is (filter, frame); frames lie one after another in the channels.
    pub(super) fn temporal(context: &Context, weights: &[i8], filters: Range<usize>, frames: usize) -> Self {
        let taps = Taps::new(weights, filters.len(), frames, context.inputs.offset());
        let taps = taps.for_inputs_up_to(context.inputs.most());
        let columns = (0..frames).map(|frame| (frame, 0)).collect();
        Self { rows: 1, columns, filters, frames, taps, four: None, by_column: false, end: None }
    }

    pub(super) fn filters(&self) -> usize {
        self.filters.len()
    }

    /// Ends its sums with this from now on, if it is one line for each filter.
    pub(super) fn end_with(&mut self, ending: &Ending) {
        self.end = ending.affine().map(|affine| self.taps.end(self.filters.len(), affine, ending.slope()));
    }

    /// How rows get ready; `ended` says whether nothing but outputs is asked for.
    pub(super) fn planes(&self, context: &Context, pad_pixel: &[u8], ended: bool) -> Planes {
        let Context { geometry, conv, inputs, .. } = context;
        let planes = Planes::new(geometry, conv, self.filters.clone(), self.frames, inputs.signed, pad_pixel);
        if self.by_column && ended && self.end.is_some() { planes.in_place() } else { planes }
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
        // Kernels that move by one meet enough rows for two.
        let at_once = if context.geometry.stride[0] == 1 { 2 } else { 1 };
        for (y, out) in (y..).step_by(at_once).zip(out.chunks_mut(at_once * row_len)) {
            if self.by_columns(context, input, y, end, (out, row_len)) {
                continue;
            }
            if out.len() == 2 * row_len && self.two_rows(context, input, y, end, out) {
                continue;
            }
            for (y, out) in (y..).zip(out.chunks_mut(row_len)) {
                context.kernels.depthwise(self.taps(context, input, y).as_slice(), &self.taps, end, out);
            }
        }
        true
    }

    /// Row `y`, and the next where there is room for it, of columns where they lie; false where that is no way.
    fn by_columns(
        &self,
        context: &Context,
        input: &mut Planar<'_>,
        y: usize,
        end: &TapsEnd,
        (out, row_len): (&mut [u8], usize),
    ) -> bool {
        let (true, Some(Four([first, second])), Some(kernels)) =
            (self.by_column, &self.four, context.kernels.columns())
        else {
            return false;
        };
        let [stride, across] = context.geometry.stride;
        let top = (y - context.conv[0].start) * stride;
        let (above, below) = out.split_at_mut(row_len);
        let rows = if below.is_empty() { Four::ROWS - 1 } else { Four::ROWS };
        // As many rows further on as there are rows of the output.
        let next = top + rows + if below.is_empty() { stride } else { 2 * stride };
        let Some(x) = input.columns(top..top + rows, next, across) else { return false };
        if below.is_empty() {
            kernels.one_row(&x, first, end, above);
        } else {
            kernels.two_rows(&x, [first, second], end, [above, below]);
        }
        true
    }

    /// Rows `y` and the next, where kernels have a way to make them at once; else false.
    fn two_rows(&self, context: &Context, input: &mut Planar<'_>, y: usize, end: &TapsEnd, out: &mut [u8]) -> bool {
        let Some(Four([first, second])) = &self.four else { return false };
        let top = y - context.conv[0].start;
        input.meet(top..top + Four::ROWS);
        let input = &*input;
        let rows: [&[u8]; Four::ROWS] = std::array::from_fn(|r| input.row(top + r));
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
