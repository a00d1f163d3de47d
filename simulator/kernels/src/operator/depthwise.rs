//! One kernel per channel: every tap of the kernel meets a row of bytes, one for each position and channel.

use std::ops::Range;

use super::Context;
use crate::Geometry;
use crate::isa::{Affine, Taps, TapsEnd};
use crate::planes::{Planar, Planes};

#[derive(Clone, Debug)]
pub(crate) struct Depthwise {
    /// Rows of the kernel, and taps of a row.
    kernel: [usize; 2],
    temporal: bool,
    filters: Range<usize>,
    frames: usize,
    taps: Taps,
    end: Option<TapsEnd>,
}

impl Depthwise {
    /// `weights` is (filter, kernel row, kernel column).
    pub(super) fn new(context: &Context, weights: &[i8], filters: Range<usize>) -> Self {
        let kernel = context.geometry.kernel;
        let taps = Taps::new(weights, filters.len(), kernel[0] * kernel[1], context.inputs.offset());
        Self { kernel, temporal: false, filters, frames: 1, taps, end: None }
    }

    /// `weights` is (filter, frame); frames lie one after another in the channels.
    pub(super) fn temporal(context: &Context, weights: &[i8], filters: Range<usize>, frames: usize) -> Self {
        let taps = Taps::new(weights, filters.len(), frames, context.inputs.offset());
        Self { kernel: [1, frames], temporal: true, filters, frames, taps, end: None }
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
    fn taps<'a>(&self, context: &Context, input: Planar<'a>, y: usize) -> Rows<'a> {
        let Geometry { stride, .. } = context.geometry;
        let top = (y - context.conv[0].start) * stride[0];
        let [rows, across] = self.kernel;
        let taps = (0..rows).flat_map(|r| (0..across).map(move |t| (r, t)));
        taps.map(|(r, t)| match self.temporal {
            true => input.from(top + r, t, 0),
            false => input.from(top + r, t % stride[1], t / stride[1]),
        })
        .collect()
    }

    /// Row `y`, (column, filter).
    pub(super) fn sums(&self, context: &Context, input: Planar<'_>, y: usize, sums: &mut [i32]) {
        let len = context.conv[1].len() * self.filters.len();
        context.kernels.depthwise_sums(self.taps(context, input, y).as_slice(), &self.taps, &mut sums[..len]);
    }

    /// Row `y`, ended; false where there is no end.
    pub(super) fn bytes(&self, context: &Context, input: Planar<'_>, y: usize, out: &mut [u8]) -> bool {
        let Some(end) = &self.end else { return false };
        context.kernels.depthwise(self.taps(context, input, y).as_slice(), &self.taps, end, out);
        true
    }
}

/// Slices without an allocation where they are few, as they are.
struct Rows<'a> {
    few: [&'a [u8]; 25],
    many: Vec<&'a [u8]>,
    len: usize,
}

impl<'a> FromIterator<&'a [u8]> for Rows<'a> {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(rows: I) -> Self {
        let mut all = Self { few: [&[]; 25], many: Vec::new(), len: 0 };
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
    fn as_slice(&self) -> &[&'a [u8]] {
        if self.many.is_empty() { &self.few[..self.len] } else { &self.many }
    }
}
