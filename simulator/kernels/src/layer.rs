//! A layer, or an NP's part of it: prepared once, run many times.

use std::ops::Range;

use crate::diagonal;
use crate::ending::Ending;
use crate::finish::Finisher;
use crate::isa::{Bytewise, Kernels, Terms};
use crate::operator::{Context, Input, Inputs, Operator, Ready, Room};
use crate::pool::Window;
use crate::stage::SLACK;
use crate::trim::trimmed;
use crate::{Aligned, Bytes, Finish, Geometry, Kind, Output, Pool, PrepareError, RunError, Tile, View};

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
    /// The same for inputs that are known to be never negative: such bytes are what they are without a sign too, and kernels take
    /// bytes without one.
    #[must_use]
    pub fn never_negative_in(mut self) -> Self {
        let zeros = self.pad_value.iter().all(|&pad| pad == 0);
        if self.input_signed && self.input_bits > 1 && zeros {
            self.input_signed = false;
            self.input_bits -= 1;
        }
        self
    }

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
    pub(crate) stage: Bytes,
    pub(crate) room: Room,
    pub(crate) rows: Bytes,
    pub(crate) highest: Bytes,
    pub(crate) pooled: Aligned<i32>,
    pub(crate) totals: Totals,
}

/// Sums over a map.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) narrow: Aligned<i32>,
    pub(crate) wide: Aligned<i64>,
}

/// A prepared layer.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(crate) context: Context,
    pub(crate) operator: Operator,
    pub(crate) ending: Ending,
    pub(crate) tile: Tile,
    pub(crate) terms: Option<Terms>,
    /// What bytes become one by one, where they do.
    bytewise: Option<Bytewise>,
    ready: Ready,
    pool: Pool,
    weights: usize,
    /// Whether no output can be negative.
    positive: bool,
    /// Rows and columns of the input behind the tile.
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
        let (geometry, main) = trimmed(kind, geometry, tile.filters.len(), weights.main);
        let diagonal = (kind == Kind::Standard && geometry.kernel == [1, 1] && tile.filters == (0..channels))
            .then(|| diagonal::weights(&main, channels))
            .flatten();
        // Of sums and maxima over a map, where nothing is made of bytes one by one.
        let (kind, main) = match &diagonal {
            Some(weights) if pool != Pool::None => (Kind::Depthwise, weights.clone().into()),
            _ => (kind, main),
        };
        let weights = Weights { main: &main, ..weights };
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
        let conv = [(0, &tile.rows), (1, &tile.columns)].map(|(a, r)| pool.conv_range(a, r, geometry.conv[a]));
        let needed = [0, 1].map(|a| geometry.input_range(a, &conv[a], transposed));
        let context = Context { kernels, geometry, transposed, inputs, conv };
        let mut operator = Operator::new(kind, &context, &tile, weights)?;
        let largest = operator.largest_sums(&context, weights);
        let ending = Ending::new(Finisher::new(finish, tile.filters.len())?, &largest);
        operator.end_with(&ending);
        let terms = crate::pool::terms(&context, &ending, pool, &largest);
        // Sums of products of what is not negative are not either.
        let sums = !input_signed && weights.main.iter().chain(weights.pointwise).all(|&w| w >= 0);
        let positive = ending.finisher().never_negative() || sums && ending.finisher().keeps_sign();
        let bytewise = diagonal
            .filter(|_| pool == Pool::None && operator.flat(&context).is_some())
            .and_then(|weights| diagonal::rule(&weights, inputs, ending.finisher()));
        let weights = weights.main.len() + weights.pointwise.len();
        let ready = operator.ready(&context, &pad_pixel, pool != Pool::None);
        Ok(Self { context, operator, ending, tile, terms, bytewise, ready, pool, weights, positive, needed })
    }

    /// Rows and columns of the input that a run reads.
    pub fn needed(&self) -> &[Range<usize>; 2] {
        &self.needed
    }

    /// Channels of the input.
    pub fn inputs(&self) -> usize {
        self.context.geometry.input[2]
    }

    /// Weights that inputs meet.
    pub fn weights(&self) -> usize {
        self.weights
    }

    /// What a run makes.
    pub fn tile(&self) -> &Tile {
        &self.tile
    }

    /// Bits of an output element: more than 8 go to [`Output::Words`].
    pub fn output_bits(&self) -> u8 {
        self.ending.finisher().output_bits()
    }

    /// Whether no output can be negative, whatever the input.
    pub fn never_negative(&self) -> bool {
        self.positive
    }

    /// Whether several samples are one product of matrices; of other layers they are computed one by one.
    pub fn takes_batches(&self) -> bool {
        self.pool == Pool::None && self.operator.flat(&self.context).is_some()
    }

    /// Name of the kernels in use.
    pub fn kernels(&self) -> &'static str {
        self.context.kernels.name()
    }

    /// Computes the tile, of every sample of the input. Elements have no more bits than the layer was prepared for: what others give
    /// depends on the kernels.
    pub fn run(&self, input: &View<'_>, scratch: &mut Scratch, mut output: Output<'_>) -> Result<(), RunError> {
        let [_, _, channels] = self.context.geometry.input;
        if input.channels() != channels {
            return Err(RunError::Length { what: "channels of the input", got: input.channels(), expected: channels });
        }
        input.check(&self.needed[0], &self.needed[1])?;
        let (samples, len) = (input.samples(), self.tile.len());
        if output.len() != samples * len {
            return Err(RunError::Length { what: "output", got: output.len(), expected: samples * len });
        }
        let bits = self.output_bits();
        if (bits > 8) != matches!(output, Output::Words(_)) {
            return Err(RunError::OutputKind { bits });
        }
        if self.run_flat(input, scratch, &mut output) {
            return Ok(());
        }
        // The stage's buffer is lent out while the rest of the scratch is in use.
        let mut buffer = std::mem::take(&mut scratch.stage);
        for sample in 0..samples {
            let view = input.sample(sample);
            let ready = self.ready.input(&view, self.context.kernels, &mut buffer);
            self.run_one(ready, scratch, output.part(sample * len, len));
        }
        scratch.stage = buffer;
        Ok(())
    }

    fn run_one(&self, mut input: Input<'_>, scratch: &mut Scratch, mut output: Output<'_>) {
        match (self.pool, &mut output) {
            (Pool::None, output) => {
                let rows = self.context.conv[0].clone();
                self.operator.outputs(&self.context, &self.ending, &mut input, rows, &mut scratch.room, (output, 0));
            }
            (Pool::Max { size, stride, pad }, output) => {
                let window = Window { size, stride, pad };
                match output {
                    Output::Bytes(bytes) if self.ending.keeps_order() => {
                        self.run_max_of_outputs(input, scratch, bytes, window);
                    }
                    output => self.run_max(input, scratch, output, window),
                }
            }
            (Pool::Global { after_activation }, output) => self.run_global(input, scratch, output, after_activation),
        }
    }

    /// All positions of all samples at once, where they are nothing but rows of a matrix; false where they are more.
    fn run_flat(&self, input: &View<'_>, scratch: &mut Scratch, output: &mut Output<'_>) -> bool {
        let (context, signed) = (&self.context, self.context.inputs.signed);
        let (Pool::None, Some(matrix)) = (self.pool, self.operator.flat(context)) else { return false };
        let Some(data) = input.all(&self.needed[0], &self.needed[1]) else { return false };
        if let (Some(rule), Output::Bytes(out)) = (&self.bytewise, &mut *output) {
            context.kernels.bytewise(data, rule, out);
            return true;
        }
        let channels = context.geometry.input[2];
        let positions = data.len() / channels;
        let staged = signed || !channels.is_multiple_of(4);
        let data = if staged {
            let buffer = scratch.stage.at_least(data.len() + SLACK);
            let (bytes, _) = buffer.split_at_mut(data.len());
            if signed {
                context.kernels.offset(data, bytes)
            } else {
                bytes.copy_from_slice(data)
            }
            buffer
        } else {
            data
        };
        matrix.flat(context, &self.ending, data, positions, &mut scratch.room, output);
        true
    }
}
