//! Every filter over all channels: standard and transposed convolutions, dense layers.

use std::ops::Range;

use super::Context;
use crate::Geometry;
use crate::isa::{Packed, Panel};
use crate::stage::Staged;

/// Sums that are made at once, about: a part of a first-level cache.
const SUMS: usize = 8192;
/// Fewest positions that are made at once where rows may be joined.
const POSITIONS: usize = 14;

/// Dot products straight from the input: positions of a row lie in equal steps, and the rows of a kernel are runs of
/// bytes. A transposed convolution with stride s is s * s convolutions with stride 1, one for each phase of the output
/// position; others have one phase.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    phases: Vec<Phase>,
}

#[derive(Clone, Debug)]
struct Phase {
    kernel: [usize; 2],
    packed: Packed,
    start: Vec<i32>,
}

impl Phase {
    fn new(context: &Context, weights: &[i8], filters: usize, kernel: [usize; 2]) -> Self {
        let packed = Packed::new(weights, filters, kernel[0]);
        let start = packed.start(context.inputs.offset());
        Self { kernel, packed, start }
    }
}

impl Matrix {
    pub(super) fn new(context: &Context, weights: &[i8], filters: usize) -> Self {
        let Geometry { input: [_, _, channels], kernel, stride, .. } = context.geometry;
        if !context.transposed {
            return Self { phases: vec![Phase::new(context, weights, filters, kernel)] };
        }
        let mut phases = Vec::with_capacity(stride[0] * stride[1]);
        for v in 0..stride[0] {
            for h in 0..stride[1] {
                // Taps v, v + s, v + 2s ... lie on inputs q, q - 1, q - 2 ...: taken backwards they are a plain kernel.
                let taps = |first: usize, axis: usize| (first..kernel[axis]).step_by(stride[axis]).rev();
                let mut phase = Vec::new();
                for filter in 0..filters {
                    for ky in taps(v, 0) {
                        for kx in taps(h, 1) {
                            let start = ((filter * kernel[0] + ky) * kernel[1] + kx) * channels;
                            phase.extend_from_slice(&weights[start..start + channels]);
                        }
                    }
                }
                let kernel = [taps(v, 0).count(), taps(h, 1).count()];
                phases.push(Phase::new(context, &phase, filters, kernel));
            }
        }
        Self { phases }
    }

    pub(super) fn width(&self) -> usize {
        self.phases[0].packed.width()
    }

    /// Rows of a 1x1 kernel may be joined to long ones.
    pub(super) fn rows_at_once(&self, context: &Context) -> usize {
        let Geometry { kernel, stride, .. } = context.geometry;
        if context.transposed || kernel != [1, 1] || stride != [1, 1] {
            return 1;
        }
        let columns = context.conv[1].len();
        ((SUMS / self.width()).max(POSITIONS) / columns).max(1)
    }

    pub(super) fn rows(&self, context: &Context, input: Staged<'_>, rows: Range<usize>, sums: &mut [i32]) {
        let width = self.width();
        let columns = context.conv[1].len();
        if context.transposed {
            for (y, sums) in rows.zip(sums.chunks_mut(columns * width)) {
                self.transposed_row(context, input, y, sums);
            }
            return;
        }
        let Geometry { input: [_, _, channels], stride, .. } = context.geometry;
        let phase = &self.phases[0];
        let row = |y: usize| &input.data[(y - context.conv[0].start) * stride[0] * input.row_step..];
        let panel = |data, count| Panel { data, step: stride[1] * channels, run_step: input.row_step, count };
        if rows.len() > 1 && phase.kernel == [1, 1] && stride == [1, 1] && input.row_step == columns * channels {
            let all = panel(row(rows.start), rows.len() * columns);
            return context.kernels.multiply(&all, &phase.packed, &phase.start, sums, width);
        }
        for (y, sums) in rows.zip(sums.chunks_mut(columns * width)) {
            context.kernels.multiply(&panel(row(y), columns), &phase.packed, &phase.start, sums, width);
        }
    }

    fn transposed_row(&self, context: &Context, input: Staged<'_>, y: usize, sums: &mut [i32]) {
        let Geometry { input: [_, _, channels], kernel, stride, pad, .. } = context.geometry;
        let (width, columns) = (self.width(), &context.conv[1]);
        // Where kernels of a phase begin, against the stage's origin.
        let begin = |axis: usize, o: usize, taps: usize| {
            let origin = (context.conv[axis].start + pad[axis]) / stride[axis];
            (o + pad[axis]) / stride[axis] - origin + kernel[axis].div_ceil(stride[axis]) - taps
        };
        let v = (y + pad[0]) % stride[0];
        for h in 0..stride[1] {
            let phase = &self.phases[v * stride[1] + h];
            // The first column of this phase.
            let skip = (h + stride[1] - (columns.start + pad[1]) % stride[1]) % stride[1];
            let positions = (columns.start + skip..columns.end).step_by(stride[1]);
            let Some(first) = positions.clone().next() else { continue };
            let top = begin(0, y, phase.kernel[0]);
            let left = begin(1, first, phase.kernel[1]);
            // A phase without weights meets nothing.
            let data = input.data.get(top * input.row_step + left * channels..).unwrap_or_default();
            let panel = Panel { data, step: channels, run_step: input.row_step, count: positions.len() };
            let sums = &mut sums[skip * width..];
            context.kernels.multiply(&panel, &phase.packed, &phase.start, sums, stride[1] * width);
        }
    }
}
