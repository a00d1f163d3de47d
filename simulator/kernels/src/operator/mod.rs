//! Sums of products, some rows of the convolution at a time.

mod depthwise;
mod matrix;
mod separable;
mod spread;

use std::ops::Range;

use crate::isa::Kernels;
use crate::stage::{Stage, Staged};
use crate::{Geometry, Kind, PrepareError, Tile, Weights};

use depthwise::Depthwise;
use matrix::Matrix;
use separable::Separable;
use spread::Spread;

/// Room for intermediate values; grows to what a layer needs and stays.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) quads: Vec<u32>,
    pub(crate) held: Vec<Option<usize>>,
    pub(crate) middle: Vec<i32>,
    pub(crate) panel: Vec<u8>,
    pub(crate) high: Vec<i32>,
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

impl Inputs {
    /// By how much staged bytes are larger than values.
    fn offset(self) -> i32 {
        if self.signed { 128 } else { 0 }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Operator {
    /// Every filter over all channels.
    Matrix(Matrix),
    /// One kernel per channel.
    Depthwise(Depthwise),
    /// The same, transposed.
    Spread(Spread),
    /// Depthwise, then 1x1.
    Separable(Separable),
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
                    Kind::DepthwiseTemporal => Operator::Depthwise(Depthwise::temporal(context, main, tile, frames)),
                    _ => Operator::Depthwise(Depthwise::new(context, main, tile.filters.clone())),
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
                Ok(Operator::Separable(Separable::new(depthwise, weights.pointwise, filters, channels, middle)))
            }
        }
    }

    /// How the input gets ready.
    pub(crate) fn stage(&self, context: &Context, pad_pixel: &[u8]) -> Stage {
        let Context { geometry, transposed, conv, inputs, .. } = context;
        let run = geometry.kernel[1] * geometry.input[2];
        let whole_quads = !matches!(self, Operator::Matrix(_)) || (run.is_multiple_of(4) && !transposed);
        Stage::new(geometry, *transposed, conv, inputs.signed, pad_pixel, whole_quads)
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

    /// How many rows at once are best.
    pub(crate) fn rows_at_once(&self, context: &Context) -> usize {
        match self {
            Operator::Matrix(matrix) => matrix.rows_at_once(context),
            _ => 1,
        }
    }

    /// Sums that `rows` rows need room for.
    pub(crate) fn room_for(&self, context: &Context, rows: usize) -> usize {
        (rows * context.conv[1].len() * self.width()).next_multiple_of(crate::isa::BLOCK)
    }

    /// Called before the first row of a run.
    pub(crate) fn begin(&self, room: &mut Room) {
        room.held.fill(None);
    }

    /// The sums of rows of the convolution, (row, column, [`Operator::width`]), into `sums`, which has
    /// [`Operator::room_for`] them.
    pub(crate) fn rows(
        &self,
        context: &Context,
        input: Staged<'_>,
        rows: Range<usize>,
        room: &mut Room,
        sums: &mut [i32],
    ) {
        match self {
            Operator::Matrix(matrix) => matrix.rows(context, input, rows, sums),
            Operator::Depthwise(depthwise) => {
                rows.for_each(|y| depthwise.row(context, input, y, &mut room.quads, &mut room.held, sums));
            }
            Operator::Spread(spread) => rows.for_each(|y| spread.row(context, input, y, sums)),
            Operator::Separable(separable) => rows.for_each(|y| separable.row(context, input, y, room, sums)),
        }
    }
}
