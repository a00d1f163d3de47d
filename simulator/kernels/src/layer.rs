//! A layer, or an NP's part of it: prepared once, run many times.

use std::ops::Range;

use crate::finish::Finisher;
use crate::isa::Kernels;
use crate::operator::{Context, Inputs, Operator, Room, at_least};
use crate::{Finish, Geometry, Kind, Output, Pool, PrepareError, RunError, Tile, View};

/// What a layer computes.
#[derive(Clone, Debug)]
pub struct LayerSpec {
    /// How weights meet inputs.
    pub kind: Kind,
    /// Where.
    pub geometry: Geometry,
    /// Bits of an input element, 1..=8.
    pub input_bits: u8,
    /// Whether input bytes are signed.
    pub input_signed: bool,
    /// What padding is made of, per input channel, as stored bytes; empty: zeros.
    pub pad_value: Vec<u8>,
    /// Pooling.
    pub pool: Pool,
    /// Which part of the output.
    pub tile: Tile,
    /// The rest; vectors for the filters of the tile.
    pub finish: Finish,
}

impl LayerSpec {
    /// Rows and columns of the input that its tile is made of.
    pub fn needed(&self) -> [Range<usize>; 2] {
        let conv = [(0, &self.tile.rows), (1, &self.tile.columns)];
        let conv = conv.map(|(a, r)| self.pool.conv_range(a, r, self.geometry.conv[a]));
        [0, 1].map(|a| self.geometry.input_range(a, &conv[a], self.kind.is_transposed()))
    }
}

/// Weights of the filters of a tile, one per byte.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// (filter, kernel row, kernel column, channel); (filter, kernel row, kernel column) when depthwise, for every
    /// *input* channel when separable; (filter, frame) when depthwise temporal.
    pub main: &'a [i8],
    /// (filter, channel), separable only.
    pub pointwise: &'a [i8],
}

/// Room for intermediate values. One can serve any number of layers, one run at a time; it grows to what the largest
/// needs and then stays.
#[derive(Debug, Default)]
pub struct Scratch {
    room: Room,
    rows: Vec<i32>,
    held: Vec<Option<usize>>,
    pooled: Vec<i32>,
    totals: Vec<i64>,
}

/// A prepared layer.
#[derive(Clone, Debug)]
pub struct Layer {
    context: Context,
    operator: Operator,
    pool: Pool,
    tile: Tile,
    finisher: Finisher,
    /// Rows and columns of the convolution behind the tile.
    conv: [Range<usize>; 2],
    /// Rows and columns of the input behind it.
    needed: [Range<usize>; 2],
}

impl Layer {
    /// Checks and packs.
    pub fn prepare(spec: LayerSpec, weights: Weights<'_>, kernels: &'static dyn Kernels) -> Result<Self, PrepareError> {
        let LayerSpec { kind, geometry, input_bits, input_signed, pad_value, pool, tile, finish } = spec;
        let [_, _, channels] = geometry.input;
        let sizes = [geometry.input.as_slice(), &geometry.kernel, &geometry.stride, &geometry.conv].concat();
        if let Some(&value) = sizes.iter().find(|&&s| s == 0 || s > 1 << 24) {
            let value = value as i64;
            return Err(PrepareError::Range { what: "size of a layer", value, min: 1, max: 1 << 24 });
        }
        if tile.filters.is_empty() {
            return Err(PrepareError::Contradiction("a tile has at least one filter"));
        }
        if !(1..=8).contains(&input_bits) {
            return Err(PrepareError::Range {
                what: "bits of an input element",
                value: input_bits.into(),
                min: 1,
                max: 8,
            });
        }
        pool.check(&tile, geometry.conv)?;
        let pad_pixel = if pad_value.is_empty() { vec![0; channels] } else { pad_value };
        if pad_pixel.len() != channels {
            return Err(PrepareError::Length { what: "padding values", got: pad_pixel.len(), expected: channels });
        }
        // Padding values are bytes even where inputs are narrower, so bounds are those of bytes unless they are zeros.
        let padded = pad_pixel.iter().any(|&p| p != 0);
        let bits = if padded { 8 } else { input_bits };
        let largest = if input_signed { 1 << (bits - 1) } else { (1 << bits) - 1 };
        let transposed = kind.is_transposed();
        let inputs = Inputs { signed: input_signed, largest };
        let context = Context { kernels, geometry, transposed, inputs, pad_pixel };
        let operator = Operator::new(kind, &context, &tile, weights)?;
        let finisher = Finisher::new(finish, tile.filters.len())?;
        let conv = [(0, &tile.rows), (1, &tile.columns)].map(|(a, r)| pool.conv_range(a, r, geometry.conv[a]));
        let needed = [0, 1].map(|a| geometry.input_range(a, &conv[a], transposed));
        Ok(Self { context, operator, pool, tile, finisher, conv, needed })
    }

    /// Rows and columns of the input that a run reads.
    pub fn needed(&self) -> &[Range<usize>; 2] {
        &self.needed
    }

    /// Channels of the input.
    pub fn inputs(&self) -> usize {
        self.context.geometry.input[2]
    }

    /// What a run makes.
    pub fn tile(&self) -> &Tile {
        &self.tile
    }

    /// Bits of an output element: more than 8 go to [`Output::Words`].
    pub fn output_bits(&self) -> u8 {
        self.finisher.output_bits()
    }

    /// Name of the kernels in use.
    pub fn kernels(&self) -> &'static str {
        self.context.kernels.name()
    }

    /// Computes the tile.
    pub fn run(&self, input: &View<'_>, scratch: &mut Scratch, mut output: Output<'_>) -> Result<(), RunError> {
        let [_, _, channels] = self.context.geometry.input;
        if input.channels() != channels {
            return Err(RunError::Length { what: "channels of the input", got: input.channels(), expected: channels });
        }
        input.check(&self.needed[0], &self.needed[1])?;
        if output.len() != self.tile.len() {
            return Err(RunError::Length { what: "output", got: output.len(), expected: self.tile.len() });
        }
        let bits = self.output_bits();
        if (bits > 8) != matches!(output, Output::Words(_)) {
            return Err(RunError::OutputKind { bits });
        }
        match self.pool {
            Pool::None => self.run_plain(input, scratch, &mut output),
            Pool::Max { size, stride, pad } => self.run_max(input, scratch, &mut output, size, stride, pad),
            Pool::Global { after_activation } => self.run_global(input, scratch, &mut output, after_activation),
        }
        Ok(())
    }

    fn row_len(&self) -> usize {
        self.conv[1].len() * self.tile.filters.len()
    }

    fn run_plain(&self, input: &View<'_>, scratch: &mut Scratch, output: &mut Output<'_>) {
        let sums = at_least(&mut scratch.rows, self.row_len());
        for (i, y) in self.conv[0].clone().enumerate() {
            self.operator.row(&self.context, input, y, self.conv[1].clone(), &mut scratch.room, sums);
            self.finisher.row(sums, output, i * sums.len());
        }
    }

    fn run_max(
        &self,
        input: &View<'_>,
        scratch: &mut Scratch,
        output: &mut Output<'_>,
        size: [usize; 2],
        stride: [usize; 2],
        pad: [usize; 2],
    ) {
        let filters = self.tile.filters.len();
        let row_len = self.row_len();
        // Rows of the convolution under the current window; row y lives in slot y % size.
        let rows = at_least(&mut scratch.rows, size[0] * row_len);
        let held = at_least(&mut scratch.held, size[0]);
        held.fill(None);
        let pooled = at_least(&mut scratch.pooled, self.tile.columns.len() * filters);
        let conv = self.context.geometry.conv;
        let window = |axis: usize, at: usize| {
            let start = (at * stride[axis]).saturating_sub(pad[axis]);
            start..(at * stride[axis] + size[axis] - pad[axis]).min(conv[axis])
        };
        for (i, at) in self.tile.rows.clone().enumerate() {
            pooled.fill(i32::MIN);
            for y in window(0, at) {
                let slot = y % size[0];
                let sums = &mut rows[slot * row_len..][..row_len];
                if held[slot] != Some(y) {
                    self.operator.row(&self.context, input, y, self.conv[1].clone(), &mut scratch.room, sums);
                    held[slot] = Some(y);
                }
                for (pooled, column) in pooled.chunks_exact_mut(filters).zip(self.tile.columns.clone()) {
                    let columns = window(1, column);
                    let first = (columns.start - self.conv[1].start) * filters;
                    for sums in sums[first..][..columns.len() * filters].chunks_exact(filters) {
                        pooled.iter_mut().zip(sums).for_each(|(p, &s)| *p = s.max(*p));
                    }
                }
            }
            self.finisher.row(pooled, output, i * pooled.len());
        }
    }

    fn run_global(&self, input: &View<'_>, scratch: &mut Scratch, output: &mut Output<'_>, after: bool) {
        let filters = self.tile.filters.len();
        let sums = at_least(&mut scratch.rows, self.row_len());
        let totals = at_least(&mut scratch.totals, filters);
        totals.fill(0);
        for y in self.conv[0].clone() {
            self.operator.row(&self.context, input, y, self.conv[1].clone(), &mut scratch.room, sums);
            for sums in sums.chunks_exact(filters) {
                for (f, (total, &sum)) in totals.iter_mut().zip(sums).enumerate() {
                    let held = self.finisher.saturate(sum);
                    *total += if after { self.finisher.activate(held, f) } else { self.finisher.biased(held, f) };
                }
            }
        }
        for (f, &total) in totals.iter().enumerate() {
            let y = self.finisher.emit(if after { total } else { self.finisher.activation(total, f) }, f);
            match output {
                Output::Bytes(bytes) => bytes[f] = y as u8,
                Output::Words(words) => words[f] = y,
            }
        }
    }
}
