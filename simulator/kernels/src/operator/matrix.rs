//! Every filter over all channels: standard and transposed convolutions, dense layers.

use std::ops::Range;

use super::{Context, Room, SUMS};
use crate::ending::Ending;
use crate::isa::{BLOCK, Packed, Panel};
use crate::stage::Staged;
use crate::{Aligned, Geometry, Output};

/// Blocks of filters whose sums are made together, of many positions.
const BLOCKS: usize = 2;
/// Bytes of a filter's weights of which two blocks do not fit a first-level cache beside inputs.
const MANY: usize = 1024;

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
    start: Aligned<i32>,
}

impl Phase {
    fn new(context: &Context, weights: &[i8], filters: usize, kernel: [usize; 2]) -> Self {
        let packed = Packed::new(weights, filters, kernel[0]).for_inputs_up_to(context.inputs.most());
        // A dense layer of one sample meets its weights once, and takes as long as reading them.
        let dense = context.conv.iter().all(|range| range.len() == 1);
        let packed = if dense { packed.for_few_positions() } else { packed };
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

    pub(super) fn filters(&self) -> usize {
        self.phases[0].packed.filters()
    }

    /// Positions whose sums are made together, about: fewer where weights come from a second-level cache anyway, so that inputs and
    /// sums stay in the first.
    pub(super) fn positions(&self) -> usize {
        let filters = self.width().min(BLOCKS * BLOCK);
        let many = self.phases[0].packed.len() > MANY;
        SUMS / filters / if many { 4 } else { 1 }
    }

    /// Rows of the convolution.
    pub(super) fn panel<'a>(&self, context: &Context, input: Staged<'a>, rows: Range<usize>) -> Panel<'a> {
        let Geometry { input: [_, _, channels], stride, .. } = context.geometry;
        Panel {
            data: &input.data[(rows.start - context.conv[0].start) * stride[0] * input.row_step..],
            step: stride[1] * channels,
            count: context.conv[1].len(),
            row_step: stride[0] * input.row_step,
            rows: rows.len(),
            run_step: input.row_step,
        }
    }

    /// Sums of some blocks of filters.
    pub(super) fn multiply(
        &self,
        context: &Context,
        panel: &Panel<'_>,
        blocks: Range<usize>,
        sums: &mut [i32],
        step: usize,
    ) {
        let phase = &self.phases[0];
        context.kernels.multiply(panel, &phase.packed, blocks, &phase.start, sums, step);
    }

    /// Outputs of all filters, from `start` on, where kernels have a way to make them at once; else false.
    pub(super) fn ended(
        &self,
        context: &Context,
        ending: &Ending,
        panel: &Panel<'_>,
        output: &mut Output<'_>,
        start: usize,
    ) -> bool {
        let (phase, Some(end), Output::Bytes(out)) = (&self.phases[0], ending.lines(), output) else { return false };
        context.kernels.ended(panel, &phase.packed, &phase.start, end, &mut out[start..])
    }

    /// Outputs of all filters, from `start` on.
    pub(super) fn outputs(
        &self,
        context: &Context,
        ending: &Ending,
        panel: &Panel<'_>,
        room: &mut Room,
        output: &mut Output<'_>,
        start: usize,
    ) {
        let positions = panel.rows * panel.count;
        let (blocks, filters) = (self.width() / BLOCK, self.phases[0].packed.filters());
        let at_once = (SUMS / (positions * BLOCK).max(1)).max(BLOCKS).next_multiple_of(BLOCKS);
        let sums = room.sums.at_least(positions * at_once.min(blocks) * BLOCK);
        for first in (0..blocks).step_by(at_once) {
            let some = first..blocks.min(first + at_once);
            let step = some.len() * BLOCK;
            let sums = &mut sums[..positions * step];
            self.multiply(context, panel, some.clone(), sums, step);
            let some = some.start * BLOCK..filters.min(some.end * BLOCK);
            ending.emit(context.kernels, (sums, step), some, output, start);
        }
    }

    /// The same of every position of a map, or of several that lie together.
    pub(crate) fn flat(
        &self,
        context: &Context,
        ending: &Ending,
        data: &[u8],
        positions: usize,
        room: &mut Room,
        output: &mut Output<'_>,
    ) {
        let channels = context.geometry.input[2];
        let panel = Panel { data, step: channels, count: positions, row_step: 0, rows: 1, run_step: 0 };
        if self.ended(context, ending, &panel, output, 0) {
            return;
        }
        let at_once = self.positions();
        for first in (0..positions).step_by(at_once) {
            let data = &data[first * channels..];
            let count = at_once.min(positions - first);
            let panel = Panel { data, count, ..panel };
            self.outputs(context, ending, &panel, room, output, first * self.phases[0].packed.filters());
        }
    }

    pub(super) fn transposed_row(&self, context: &Context, input: Staged<'_>, y: usize, sums: &mut [i32]) {
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
            let run_step = input.row_step;
            let panel = Panel { data, step: channels, count: positions.len(), row_step: 0, rows: 1, run_step };
            let sums = &mut sums[skip * width..];
            context.kernels.multiply(&panel, &phase.packed, 0..width / BLOCK, &phase.start, sums, stride[1] * width);
        }
    }
}
