//! Transposed depthwise convolutions: tap by tap.

use super::Context;
use crate::Geometry;
use crate::stage::Staged;

#[derive(Clone, Debug)]
pub(crate) struct Spread {
    /// (kernel row, kernel column, filter).
    taps: Vec<i32>,
    /// First channel.
    first: usize,
    filters: usize,
}

impl Spread {
    /// `weights` is (filter, tap).
    pub(super) fn new(weights: &[i8], first: usize, filters: usize, taps: usize) -> Self {
        let taps = (0..taps).flat_map(|t| (0..filters).map(move |f| i32::from(weights[f * taps + t]))).collect();
        Self { taps, first, filters }
    }

    pub(super) fn filters(&self) -> usize {
        self.filters
    }

    /// Row `y`, (column, filter).
    pub(super) fn row(&self, context: &Context, input: Staged<'_>, y: usize, sums: &mut [i32]) {
        sums.fill(0);
        let Geometry { input: [height, width, channels], kernel, stride, pad, .. } = context.geometry;
        let offset = context.inputs.offset();
        // The input that tap k of output o meets, if it meets one, against the stage's origin. There is nothing beyond
        // the input, not even padding.
        let at = |axis: usize, o: usize, k: usize, size: usize| -> Option<usize> {
            let i = (o + pad[axis]).checked_sub(k)?;
            let origin = (context.conv[axis].start + pad[axis]) / stride[axis] + 1;
            let i = i.is_multiple_of(stride[axis]).then_some(i / stride[axis]).filter(|i| *i < size)?;
            Some(i + kernel[axis].div_ceil(stride[axis]) - origin)
        };
        for ky in 0..kernel[0] {
            let Some(row) = at(0, y, ky, height) else { continue };
            for (x, sums) in context.conv[1].clone().zip(sums.chunks_exact_mut(self.filters)) {
                for kx in 0..kernel[1] {
                    let Some(column) = at(1, x, kx, width) else { continue };
                    let pixel = &input.data[row * input.row_step + column * channels + self.first..][..self.filters];
                    let taps = &self.taps[(ky * kernel[1] + kx) * self.filters..][..self.filters];
                    for ((sum, &x), &w) in sums.iter_mut().zip(pixel).zip(taps) {
                        *sum += (i32::from(x) - offset) * w;
                    }
                }
            }
        }
    }
}
