//! Sums of products, some rows of the convolution at a time.

mod depthwise;
mod matrix;
mod separable;
mod spread;

use std::ops::Range;

use crate::ending::Ending;
use crate::isa::{BLOCK, Kernels};
use crate::planes::{Planar, Planes};
use crate::stage::{Stage, Staged};
use crate::{Aligned, Bytes, Geometry, Kind, Output, PrepareError, Tile, View, Weights};

use depthwise::Depthwise;
use matrix::Matrix;
use separable::Separable;
use spread::Spread;

/// Sums that are made at once, about: a part of a first-level cache.
pub(crate) const SUMS: usize = 8192;

/// Room for intermediate values; grows to what a layer needs and stays.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) sums: Aligned<i32>,
    pub(crate) middle: Aligned<i32>,
    pub(crate) panel: Bytes,
    pub(crate) high: Aligned<i32>,
}

/// How a layer's input gets ready.
#[derive(Clone, Debug)]
pub(crate) enum Ready {
    Stage(Stage),
    Planes(Planes),
}

/// A layer's input that is ready.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    Staged(Staged<'a>),
    Planar(Planar<'a>),
}

impl Ready {
    pub(crate) fn input<'a>(&'a self, view: &View<'a>, kernels: &dyn Kernels, buffer: &'a mut Bytes) -> Input<'a> {
        match self {
            Ready::Stage(stage) => Input::Staged(stage.ready(view, kernels, buffer)),
            Ready::Planes(planes) => Input::Planar(planes.ready(view, buffer)),
        }
    }
}

/// What inputs can be: sign, and bounds for overflow proofs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs {
    pub(crate) signed: bool,
    pub(crate) largest: i64,
}

impl Inputs {
    /// By how much staged bytes are larger than values.
    fn offset(self) -> i32 {
        if self.signed { 128 } else { 0 }
    }

    /// The largest staged byte.
    fn most(self) -> u8 {
        if self.signed { u8::MAX } else { self.largest.try_into().unwrap_or(u8::MAX) }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Operator {
    /// Every filter over all channels.
    Matrix(Matrix),
    /// One kernel per channel.
    Depthwise(Box<Depthwise>),
    /// The same, transposed.
    Spread(Spread),
    /// Depthwise, then 1x1.
    Separable(Box<Separable>),
}

/// Everything about a layer that its operators share.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) kernels: &'static dyn Kernels,
    pub(crate) geometry: Geometry,
    pub(crate) transposed: bool,
    pub(crate) inputs: Inputs,
    /// Rows and columns of the convolution that are computed.
    pub(crate) conv: [Range<usize>; 2],
}

fn range(what: &'static str, value: i64, min: i64, max: i64) -> Result<(), PrepareError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(PrepareError::Range { what, value, min, max }) }
}

fn largest(weights: &[i8]) -> i64 {
    weights.iter().fold(0, |most, w| w.unsigned_abs().max(most)).into()
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
        let first = tile.filters.start;
        match kind {
            Kind::Standard | Kind::Transposed => {
                length("weights", main.len(), filters * taps * channels)?;
                bound(taps * channels, main)?;
                Ok(Operator::Matrix(Matrix::new(context, main, filters)))
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
                Ok(match kind {
                    Kind::DepthwiseTransposed => Operator::Spread(Spread::new(main, first, filters, taps)),
                    Kind::DepthwiseTemporal => {
                        Operator::Depthwise(Box::new(Depthwise::temporal(context, main, tile.filters.clone(), frames)))
                    }
                    _ => Operator::Depthwise(Box::new(Depthwise::new(context, main, tile.filters.clone()))),
                })
            }
            Kind::Separable => {
                length("depthwise weights", main.len(), channels * taps)?;
                length("pointwise weights", weights.pointwise.len(), filters * channels)?;
                let middle = taps as i64 * context.inputs.largest * largest(main);
                range("largest possible depthwise sum", middle, 0, i16::MAX.into())?;
                let sum = channels as i64 * middle * largest(weights.pointwise);
                range("largest possible sum of products", sum, 0, i32::MAX.into())?;
                let depthwise = Depthwise::new(context, main, 0..channels);
                let separable = Separable::new(depthwise, weights.pointwise, filters, channels, middle);
                Ok(Operator::Separable(Box::new(separable)))
            }
        }
    }

    /// What follows the sums. Some make it part of their own.
    pub(crate) fn end_with(&mut self, ending: &Ending) {
        if let Operator::Depthwise(depthwise) = self {
            depthwise.end_with(ending);
        }
    }

    /// What no sum of products of each filter exceeds, up or down.
    pub(crate) fn largest_sums(&self, context: &Context, weights: Weights<'_>) -> Vec<i64> {
        let filters = match self {
            Operator::Matrix(matrix) => matrix.filters(),
            Operator::Depthwise(depthwise) => depthwise.filters(),
            Operator::Spread(spread) => return vec![i32::MAX.into(); spread.filters()],
            Operator::Separable(separable) => return vec![i32::MAX.into(); separable.filters()],
        };
        let row = weights.main.len() / filters.max(1);
        // 32 bits hold them even times inputs, see `new`.
        let row = |f: usize| weights.main[f * row..][..row].iter().map(|w| u32::from(w.unsigned_abs())).sum::<u32>();
        (0..filters).map(|f| i64::from(row(f)) * context.inputs.largest).collect()
    }

    /// How the input gets ready; `pooled` says whether sums are asked for beside outputs.
    pub(crate) fn ready(&self, context: &Context, pad_pixel: &[u8], pooled: bool) -> Ready {
        let Context { geometry, transposed, conv, inputs, .. } = context;
        match self {
            Operator::Depthwise(depthwise) => Ready::Planes(depthwise.planes(context, pad_pixel, !pooled)),
            Operator::Separable(separable) => Ready::Planes(separable.planes(context, pad_pixel)),
            Operator::Matrix(_) | Operator::Spread(_) => {
                let run = geometry.kernel[1] * geometry.input[2];
                let whole_quads = matches!(self, Operator::Spread(_)) || (run.is_multiple_of(4) && !transposed);
                Ready::Stage(Stage::new(geometry, *transposed, conv, inputs.signed, pad_pixel, whole_quads))
            }
        }
    }

    /// Sums of a position, of which those behind the last filter are padding.
    pub(crate) fn width(&self) -> usize {
        match self {
            Operator::Matrix(matrix) => matrix.width(),
            Operator::Depthwise(depthwise) => depthwise.filters(),
            Operator::Spread(spread) => spread.filters(),
            Operator::Separable(separable) => separable.width(),
        }
    }

    /// The matrix product that the layer is, if it is nothing else: a 1x1 kernel that meets every position of a map.
    pub(crate) fn flat(&self, context: &Context) -> Option<&Matrix> {
        let Context { geometry, conv, transposed, .. } = context;
        let inside = (0..2).all(|a| conv[a].len() == geometry.input_range(a, &conv[a], false).len());
        match self {
            Operator::Matrix(m) if !transposed && geometry.kernel == [1, 1] && geometry.stride == [1, 1] && inside => {
                Some(m)
            }
            _ => None,
        }
    }

    /// The sums of rows of the convolution, (row, column, [`Operator::width`]).
    pub(crate) fn sums(
        &self,
        context: &Context,
        input: &mut Input<'_>,
        rows: Range<usize>,
        room: &mut Room,
        sums: &mut [i32],
    ) {
        let width = self.width();
        let row_len = context.conv[1].len() * width;
        match (self, input) {
            (Operator::Matrix(matrix), Input::Staged(input)) if context.transposed => {
                rows.zip(sums.chunks_mut(row_len))
                    .for_each(|(y, sums)| matrix.transposed_row(context, *input, y, sums));
            }
            (Operator::Matrix(matrix), Input::Staged(input)) => {
                matrix.multiply(context, &matrix.panel(context, *input, rows), 0..width / BLOCK, sums, width);
            }
            (Operator::Depthwise(depthwise), Input::Planar(input)) => {
                rows.zip(sums.chunks_mut(row_len)).for_each(|(y, sums)| depthwise.sums(context, input, y, sums));
            }
            (Operator::Spread(spread), Input::Staged(input)) => {
                rows.zip(sums.chunks_mut(row_len)).for_each(|(y, sums)| spread.row(context, *input, y, sums));
            }
            (Operator::Separable(separable), Input::Planar(input)) => {
                rows.zip(sums.chunks_mut(row_len)).for_each(|(y, sums)| separable.row(context, input, y, room, sums));
            }
            // Inputs are made by `ready`.
            _ => {}
        }
    }

    /// How many rows of the convolution are made at once, where sums of all filters are held.
    pub(crate) fn rows_of_sums(&self, context: &Context) -> usize {
        (SUMS / (context.conv[1].len() * self.width()).max(1)).max(1)
    }

    /// Rows of the convolution, ended, (row, column, filter), output elements from `start` on.
    pub(crate) fn outputs(
        &self,
        context: &Context,
        ending: &Ending,
        input: &mut Input<'_>,
        rows: Range<usize>,
        room: &mut Room,
        (output, start): (&mut Output<'_>, usize),
    ) {
        let columns = context.conv[1].len();
        let filters = ending.finisher().parts().0;
        let row_len = columns * filters;
        if let (Operator::Matrix(matrix), Input::Staged(input), false) = (self, &mut *input, context.transposed) {
            if matrix.ended(context, ending, &matrix.panel(context, *input, rows.clone()), output, start) {
                return;
            }
            let at_once = (matrix.positions() / columns).max(1);
            for y in rows.clone().step_by(at_once) {
                let band = y..rows.end.min(y + at_once);
                let panel = matrix.panel(context, *input, band);
                matrix.outputs(context, ending, &panel, room, output, start + (y - rows.start) * row_len);
            }
            return;
        }
        if let (Operator::Depthwise(depthwise), Input::Planar(input), Output::Bytes(out)) =
            (self, &mut *input, &mut *output)
            && depthwise.bytes(context, input, rows.start, &mut out[start..][..rows.len() * row_len])
        {
            return;
        }
        let at_once = self.rows_of_sums(context).min(rows.len());
        let width = self.width();
        let mut sums = std::mem::take(&mut room.sums);
        for y in rows.clone().step_by(at_once) {
            let band = y..rows.end.min(y + at_once);
            let sums = sums.at_least(band.len() * columns * width);
            self.sums(context, input, band, room, sums);
            ending.emit(context.kernels, (sums, width), 0..filters, output, start + (y - rows.start) * row_len);
        }
        room.sums = sums;
    }
}
