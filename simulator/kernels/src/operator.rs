//! Sums of products, one row of the convolution at a time.

use std::ops::Range;

use crate::isa::{Kernels, Packed};
use crate::{Geometry, Kind, PrepareError, Tile, View, Weights};

/// Values of a panel of gathered inputs: what fits a first-level cache besides the weights.
const PANEL: usize = 16 * 1024;

/// Room for intermediate values; grows to what a layer needs and stays.
#[derive(Debug, Default)]
pub(crate) struct Room {
    panel: Vec<i16>,
    block: Vec<i32>,
    middle: Vec<i32>,
}

/// A vector with at least `len` elements, of which the first `len` are given.
pub(crate) fn at_least<T: Clone + Default>(vector: &mut Vec<T>, len: usize) -> &mut [T] {
    if vector.len() < len {
        vector.resize(len, T::default());
    }
    &mut vector[..len]
}

/// What inputs can be: sign, and bounds for overflow proofs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs {
    pub(crate) signed: bool,
    pub(crate) largest: i64,
}

/// Dot products over gathered inputs: standard and transposed convolutions. A transposed convolution with stride s is
/// s * s convolutions with stride 1, one for each phase of the output position; others have one phase.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    phases: Vec<Phase>,
}

#[derive(Clone, Debug)]
struct Phase {
    kernel: [usize; 2],
    packed: Packed,
}

/// One kernel per channel.
#[derive(Clone, Debug)]
pub(crate) struct PerChannel {
    /// (kernel row, kernel column, filter).
    taps: Vec<i16>,
    /// First input channel.
    first: usize,
    filters: usize,
    /// Frames that lie one after another in the channels.
    frames: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Operator {
    Matrix(Matrix),
    PerChannel(PerChannel),
    Separable(PerChannel, Packed),
}

/// Everything about a layer that its operators share.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) kernels: &'static dyn Kernels,
    pub(crate) geometry: Geometry,
    pub(crate) transposed: bool,
    pub(crate) inputs: Inputs,
    /// What padding is made of, per input channel, as stored bytes.
    pub(crate) pad_pixel: Vec<u8>,
}

fn range(what: &'static str, value: i64, min: i64, max: i64) -> Result<(), PrepareError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(PrepareError::Range { what, value, min, max }) }
}

fn largest(weights: &[i8]) -> i64 {
    weights.iter().map(|w| i64::from(*w).abs()).max().unwrap_or(0)
}

impl Operator {
    pub(crate) fn new(kind: Kind, context: &Context, tile: &Tile, weights: Weights<'_>) -> Result<Self, PrepareError> {
        let Geometry { input: [_, _, channels], kernel, .. } = context.geometry;
        let taps = kernel[0] * kernel[1];
        let filters = tile.filters.len();
        let length = |what, got: usize, expected: usize| {
            if got == expected { Ok(()) } else { Err(PrepareError::Length { what, got, expected }) }
        };
        let bound = |row: usize, weights: &[i8]| {
            // Sums are made in 32 bits; this is the proof that they fit.
            let sum = row as i64 * context.inputs.largest * largest(weights);
            range("largest possible sum of products", sum, 0, i32::MAX.into())
        };
        let main = weights.main;
        match kind {
            Kind::Standard | Kind::Transposed => {
                length("weights", main.len(), filters * taps * channels)?;
                bound(taps * channels, main)?;
                Ok(Operator::Matrix(Matrix::new(kind, context, main, filters)))
            }
            Kind::Depthwise | Kind::DepthwiseTransposed | Kind::DepthwiseTemporal => {
                let frames = if kind == Kind::DepthwiseTemporal {
                    // Weights of a filter are its frames, oldest first.
                    let frames = main.len() / filters.max(1);
                    length("channels", channels, channels / frames.max(1) * frames)?;
                    if taps != 1 {
                        return Err(PrepareError::Contradiction("a temporal kernel is 1x1"));
                    }
                    frames
                } else {
                    1
                };
                length("weights", main.len(), filters * taps * frames)?;
                let available = channels / frames.max(1);
                range("last filter of the tile", tile.filters.end as i64, 0, available as i64)?;
                bound(taps * frames, main)?;
                let first = tile.filters.start;
                Ok(Operator::PerChannel(PerChannel::new(main, first, filters, taps * frames, frames)))
            }
            Kind::Separable => {
                length("depthwise weights", main.len(), channels * taps)?;
                length("pointwise weights", weights.pointwise.len(), filters * channels)?;
                let middle = taps as i64 * context.inputs.largest * largest(main);
                range("largest possible depthwise sum", middle, 0, i16::MAX.into())?;
                let sum = channels as i64 * middle * largest(weights.pointwise);
                range("largest possible sum of products", sum, 0, i32::MAX.into())?;
                let depthwise = PerChannel::new(main, 0, channels, taps, 1);
                Ok(Operator::Separable(depthwise, context.kernels.pack(weights.pointwise, filters)))
            }
        }
    }

    /// The sums of row `y` of the convolution in `columns`, all filters of each position, into `sums`.
    pub(crate) fn row(
        &self,
        context: &Context,
        input: &View<'_>,
        y: usize,
        columns: Range<usize>,
        room: &mut Room,
        sums: &mut [i32],
    ) {
        match self {
            Operator::Matrix(matrix) => matrix.row(context, input, y, columns, room, sums),
            Operator::PerChannel(depthwise) => depthwise.row(context, input, y, columns, sums),
            Operator::Separable(depthwise, pointwise) => {
                let channels = depthwise.filters;
                let middle = at_least(&mut room.middle, columns.len() * channels);
                depthwise.row(context, input, y, columns.clone(), middle);
                let depth = pointwise.depth();
                let panel = at_least(&mut room.panel, columns.len() * depth);
                for (row, middle) in panel.chunks_exact_mut(depth).zip(middle.chunks_exact(channels)) {
                    // Bounded when the layer was prepared.
                    row.iter_mut().zip(middle).for_each(|(x, &m)| *x = m as i16);
                    row[channels..].fill(0);
                }
                context.kernels.multiply(panel, pointwise, sums);
            }
        }
    }
}

impl Matrix {
    fn new(kind: Kind, context: &Context, weights: &[i8], filters: usize) -> Self {
        let Geometry { input: [_, _, channels], kernel, stride, .. } = context.geometry;
        if kind == Kind::Standard {
            return Self { phases: vec![Phase { kernel, packed: context.kernels.pack(weights, filters) }] };
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
                phases.push(Phase { kernel, packed: context.kernels.pack(&phase, filters) });
            }
        }
        Self { phases }
    }

    fn row(
        &self,
        context: &Context,
        input: &View<'_>,
        y: usize,
        columns: Range<usize>,
        room: &mut Room,
        sums: &mut [i32],
    ) {
        let Geometry { stride, pad, .. } = context.geometry;
        if !context.transposed {
            let phase = &self.phases[0];
            let filters = phase.packed.rows();
            let top = (y * stride[0]) as isize - pad[0] as isize;
            let left = |x: usize| (x * stride[1]) as isize - pad[1] as isize;
            let block = (PANEL / phase.packed.depth().max(1)).clamp(4, 64);
            for (i, sums) in sums.chunks_mut(block * filters).enumerate() {
                let first = columns.start + i * block;
                let count = sums.len() / filters;
                let panel = at_least(&mut room.panel, count * phase.packed.depth());
                for (j, row) in panel.chunks_exact_mut(phase.packed.depth().max(1)).enumerate() {
                    context.gather(input, phase.kernel, top, left(first + j), row);
                }
                context.kernels.multiply(panel, &phase.packed, sums);
            }
            return;
        }
        let (v, row) = ((y + pad[0]) % stride[0], ((y + pad[0]) / stride[0]) as isize);
        for h in 0..stride[1] {
            let phase = &self.phases[v * stride[1] + h];
            let (filters, depth) = (phase.packed.rows(), phase.packed.depth());
            let top = row + 1 - phase.kernel[0] as isize;
            // The first column of this phase.
            let skip = (h + stride[1] - (columns.start + pad[1]) % stride[1]) % stride[1];
            let positions = (columns.start + skip..columns.end).step_by(stride[1]);
            let count = positions.len();
            let panel = at_least(&mut room.panel, count * depth);
            for (x, row) in positions.clone().zip(panel.chunks_exact_mut(depth.max(1))) {
                let left = ((x + pad[1]) / stride[1]) as isize + 1 - phase.kernel[1] as isize;
                context.gather(input, phase.kernel, top, left, row);
            }
            let block = at_least(&mut room.block, count * filters);
            context.kernels.multiply(panel, &phase.packed, block);
            for (x, block) in positions.zip(block.chunks_exact(filters)) {
                sums[(x - columns.start) * filters..][..filters].copy_from_slice(block);
            }
        }
    }
}

impl PerChannel {
    /// `weights` is (filter, tap); taps are packed (tap, filter).
    fn new(weights: &[i8], first: usize, filters: usize, taps: usize, frames: usize) -> Self {
        let taps = (0..taps).flat_map(|t| (0..filters).map(move |f| i16::from(weights[f * taps + t]))).collect();
        Self { taps, first, filters, frames }
    }

    fn row(&self, context: &Context, input: &View<'_>, y: usize, columns: Range<usize>, sums: &mut [i32]) {
        sums.fill(0);
        let Geometry { input: [height, width, channels], kernel, stride, pad, .. } = context.geometry;
        let frame = channels / self.frames;
        // Where tap k of output o lies, None between inputs of a transposed convolution.
        let at = |axis: usize, o: usize, k: usize| -> Option<isize> {
            let (s, p) = (stride[axis] as isize, pad[axis] as isize);
            let (o, k) = (o as isize, k as isize);
            if !context.transposed {
                return Some(o * s + k - p);
            }
            let i = o + p - k;
            (i % s == 0).then(|| i.div_euclid(s))
        };
        let inside = |i: isize, size: usize| (i >= 0 && (i as usize) < size).then_some(i as usize);
        for ky in 0..kernel[0] {
            let Some(row) = at(0, y, ky) else { continue };
            for (x, sums) in columns.clone().zip(sums.chunks_exact_mut(self.filters)) {
                for kx in 0..kernel[1] {
                    let Some(column) = at(1, x, kx) else { continue };
                    let pixel = match (inside(row, height), inside(column, width)) {
                        (Some(row), Some(column)) => input.pixels(row, column, 1),
                        // A transposed convolution has nothing beyond its input, not even padding.
                        _ if context.transposed => continue,
                        _ => &context.pad_pixel,
                    };
                    for t in 0..self.frames {
                        let tap = (ky * kernel[1] + kx) * self.frames + t;
                        let weights = &self.taps[tap * self.filters..][..self.filters];
                        let x = &pixel[t * frame + self.first..][..self.filters];
                        context.multiply_add(x, weights, sums);
                    }
                }
            }
        }
    }
}

impl Context {
    /// The inputs under a kernel whose first tap is at (top, left), row after row, zeros behind.
    fn gather(&self, input: &View<'_>, kernel: [usize; 2], top: isize, left: isize, into: &mut [i16]) {
        let [height, width, channels] = self.geometry.input;
        let row_len = kernel[1] * channels;
        let (body, rest) = into.split_at_mut(kernel[0] * row_len);
        rest.fill(0);
        for (ky, into) in body.chunks_exact_mut(row_len.max(1)).enumerate() {
            let row = top + ky as isize;
            let row = (row >= 0 && (row as usize) < height).then_some(row as usize);
            // Columns of the map under this kernel row.
            let start = (-left).clamp(0, kernel[1] as isize) as usize;
            let end = (width as isize - left).clamp(start as isize, kernel[1] as isize) as usize;
            let (start, end) = if row.is_some() { (start, end) } else { (0, 0) };
            let (before, into) = into.split_at_mut(start * channels);
            let (into, after) = into.split_at_mut((end - start) * channels);
            for pad in before.chunks_exact_mut(channels).chain(after.chunks_exact_mut(channels)) {
                self.widen(&self.pad_pixel, pad);
            }
            if let Some(row) = row
                && end > start
            {
                self.widen(input.pixels(row, (left + start as isize) as usize, end - start), into);
            }
        }
    }

    fn widen(&self, bytes: &[u8], into: &mut [i16]) {
        if self.inputs.signed {
            into.iter_mut().zip(bytes).for_each(|(x, &b)| *x = b.cast_signed().into());
        } else {
            into.iter_mut().zip(bytes).for_each(|(x, &b)| *x = b.into());
        }
    }

    fn multiply_add(&self, x: &[u8], weights: &[i16], sums: &mut [i32]) {
        if self.inputs.signed {
            self.kernels.multiply_add_signed(as_signed(x), weights, sums);
        } else {
            self.kernels.multiply_add_unsigned(x, weights, sums);
        }
    }
}

/// The same bytes, read as signed.
fn as_signed(bytes: &[u8]) -> &[i8] {
    zerocopy::transmute_ref!(bytes)
}
