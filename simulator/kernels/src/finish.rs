//! From accumulator to output: saturation, bias, activation, scale-out (quantization.md 5.1, 5.2, 5.9.2, 6.4).

use std::ops::Range;

use crate::{Output, PrepareError};

/// Entries of a look-up table: indices 0..=1023, then -1024..=-1.
pub(crate) const LUT_ENTRIES: usize = 2048;

/// Where numbers saturate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// As the chip: the sum of products at `accumulator_bits` before the bias, the product with the scale at 32.
    Chip {
        /// 8..=32.
        accumulator_bits: u8,
    },
    /// As the quantized graph: only the output saturates. Sums of products are below 2^31 by construction.
    Graph,
}

/// `floor(a * m / 2^k + 1/2)`, per filter.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Scale {
    /// M.
    pub m: Vec<u8>,
    /// k of S_out = 2^k, -31..=32: right shift, or left when negative.
    pub k: Vec<i8>,
}

/// `clip(ceil((p - threshold) / (step * 2^(4 - bits))), 0, 2^bits - 1)` per filter, for 1, 2 and 4 bits (Akida 1.0).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Steps {
    /// Fire thresholds.
    pub threshold: Vec<i32>,
    /// Steps with four fractional bits: `floor(16 * step)`. With 0 whatever is above the threshold gives the maximum.
    pub step_16ths: Vec<u32>,
}

/// What happens to an accumulator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(a, 0)`.
    Relu,
    /// `clamp(a, 0, max)`, one maximum per filter.
    Clipped(Vec<i32>),
    /// Scaled to 11 bits, then looked up: 2048 entries for indices 0..=1023, -1024..=-1.
    Lut {
        /// The table.
        table: Vec<i16>,
        /// To the index.
        scale: Scale,
    },
    /// Akida 1.0; excludes a [`Scale`].
    Steps(Steps),
}

/// Everything behind the sum of products. Vectors have one value per filter of the tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// Where numbers saturate.
    pub arithmetic: Arithmetic,
    /// Added to the sum; empty: none.
    pub bias: Vec<i32>,
    /// Activation.
    pub activation: Activation,
    /// None: potentials leave (32 bits), or steps.
    pub scale: Option<Scale>,
    /// 1, 2, 4, 8, or 32.
    pub output_bits: u8,
    /// Whether output elements are signed.
    pub output_signed: bool,
}

/// Bounds of integers of this width.
pub(crate) fn bounds(bits: u8, signed: bool) -> (i64, i64) {
    if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// `a * m / 2^k`, half up, held in `low..=high`, the product saturating at 32 bits on a chip.
pub(crate) fn scale_out(a: i64, m: u8, k: i8, chip: bool, (low, high): (i64, i64)) -> i64 {
    const LOW: i64 = i32::MIN as i64;
    const HIGH: i64 = i32::MAX as i64;
    let product = a * i64::from(m);
    let product = if chip { product.clamp(LOW, HIGH) } else { product };
    let scaled = match k {
        1.. => (product + (1 << (k - 1))) >> k,
        // What is beyond 32 bits saturates anyway, so holding it there first changes nothing and cannot overflow.
        _ => product.clamp(LOW, HIGH) << -k,
    };
    scaled.clamp(low, high)
}

pub(crate) fn check_shift(what: &'static str, k: i8) -> Result<(), PrepareError> {
    if (-31..=32).contains(&k) { Ok(()) } else { Err(PrepareError::Range { what, value: k.into(), min: -31, max: 32 }) }
}

fn check_len(what: &'static str, got: usize, expected: usize) -> Result<(), PrepareError> {
    if got == expected { Ok(()) } else { Err(PrepareError::Length { what, got, expected }) }
}

impl Scale {
    fn check(&self, filters: usize) -> Result<(), PrepareError> {
        check_len("scales", self.m.len(), filters)?;
        check_len("shifts of scales", self.k.len(), filters)?;
        self.k.iter().try_for_each(|&k| check_shift("shift of a scale", k))
    }

    fn apply(&self, a: i64, filter: usize, chip: bool, bounds: (i64, i64)) -> i64 {
        scale_out(a, self.m[filter], self.k[filter], chip, bounds)
    }
}

/// [`Finish`], checked and with thresholds as interval edges.
#[derive(Clone, Debug)]
pub(crate) struct Finisher {
    finish: Finish,
    filters: usize,
    sum_bounds: (i64, i64),
    output_bounds: (i64, i64),
    /// Steps: `edges[n * filters + f]`; the activation is how many of a filter's edges lie below its potential.
    edges: Vec<i32>,
}

impl Finisher {
    /// Checks and prepares. Vectors of `finish` have one value per filter.
    pub(crate) fn new(finish: Finish, filters: usize) -> Result<Self, PrepareError> {
        if !finish.bias.is_empty() {
            check_len("biases", finish.bias.len(), filters)?;
        }
        if !matches!(finish.output_bits, 1 | 2 | 4 | 8 | 32) {
            let value = finish.output_bits.into();
            return Err(PrepareError::Range { what: "bits of an output element", value, min: 1, max: 32 });
        }
        let mut edges = Vec::new();
        match &finish.activation {
            Activation::None | Activation::Relu => {}
            Activation::Clipped(max) => check_len("maxima", max.len(), filters)?,
            Activation::Lut { table, scale } => {
                check_len("entries of the look-up table", table.len(), LUT_ENTRIES)?;
                scale.check(filters)?;
            }
            Activation::Steps(steps) => edges = steps.edges(filters, finish.output_bits)?,
        }
        let stepped = matches!(finish.activation, Activation::Steps(_));
        match &finish.scale {
            Some(_) if stepped => return Err(PrepareError::Contradiction("steps exclude a scale")),
            Some(_) if finish.output_bits == 32 => {
                return Err(PrepareError::Contradiction("potentials are not scaled"));
            }
            Some(scale) => scale.check(filters)?,
            None if finish.output_bits != 32 && !stepped => {
                return Err(PrepareError::Contradiction("elements of up to 8 bits need steps or a scale"));
            }
            None => {}
        }
        let sum_bounds = match finish.arithmetic {
            Arithmetic::Chip { accumulator_bits: bits @ 8..=32 } => bounds(bits, true),
            Arithmetic::Chip { accumulator_bits } => {
                let value = accumulator_bits.into();
                return Err(PrepareError::Range { what: "bits of the accumulator", value, min: 8, max: 32 });
            }
            Arithmetic::Graph => (i64::MIN, i64::MAX),
        };
        let output_bounds = match finish.output_bits {
            32 => bounds(32, true),
            bits => bounds(bits, finish.output_signed),
        };
        Ok(Self { finish, filters, sum_bounds, output_bounds, edges })
    }

    pub(crate) fn output_bits(&self) -> u8 {
        self.finish.output_bits
    }

    /// Whether no output can be negative.
    pub(crate) fn never_negative(&self) -> bool {
        self.output_bounds.0 == 0 || matches!(self.finish.activation, Activation::Relu | Activation::Clipped(_))
    }

    /// Whether sums that are not negative give outputs that are not.
    pub(crate) fn keeps_sign(&self) -> bool {
        let looked_up = matches!(self.finish.activation, Activation::Lut { .. });
        !looked_up && self.finish.bias.iter().all(|&bias| bias >= 0)
    }

    /// Where output bytes may saturate: signed ones, or else from 0 on, as those are that are never negative.
    pub(crate) fn byte_bounds(&self) -> (i64, i64) {
        if self.never_negative() { (0, self.output_bounds.1.min(u8::MAX.into())) } else { bounds(8, true) }
    }

    fn is_chip(&self) -> bool {
        matches!(self.finish.arithmetic, Arithmetic::Chip { .. })
    }

    /// The sum of products of a filter, as it is held.
    pub(crate) fn saturate(&self, sum: i32) -> i64 {
        i64::from(sum).clamp(self.sum_bounds.0, self.sum_bounds.1)
    }

    /// What is added to the sums of a filter.
    pub(crate) fn bias(&self, filter: usize) -> i64 {
        self.finish.bias.get(filter).map_or(0, |&b| b.into())
    }

    /// A held sum with its bias.
    pub(crate) fn biased(&self, sum: i64, filter: usize) -> i64 {
        sum + self.bias(filter)
    }

    /// Bias and activation on a held sum.
    pub(crate) fn activate(&self, sum: i64, filter: usize) -> i64 {
        self.activation(self.biased(sum, filter), filter)
    }

    /// The activation; steps come last and are left out.
    pub(crate) fn activation(&self, a: i64, filter: usize) -> i64 {
        match &self.finish.activation {
            Activation::None | Activation::Steps(_) => a,
            Activation::Relu => a.max(0),
            Activation::Clipped(max) => a.min(max[filter].into()).max(0),
            Activation::Lut { table, scale } => {
                let index = scale.apply(a, filter, self.is_chip(), bounds(11, true));
                table[index as usize & (LUT_ENTRIES - 1)].into()
            }
        }
    }

    /// Where a sum of products is looked up, from -1024 to 1023; where there is a table.
    pub(crate) fn place(&self, sum: i32, filter: usize) -> i32 {
        match &self.finish.activation {
            Activation::Lut { scale, .. } => {
                scale.apply(self.biased(self.saturate(sum), filter), filter, self.is_chip(), bounds(11, true)) as i32
            }
            _ => 0,
        }
    }

    /// The filters, the kind of activation and what it is scaled by.
    pub(crate) fn parts(&self) -> (usize, &Finish) {
        (self.filters, &self.finish)
    }

    /// Edges of steps, (edge, filter); a sum of products that saturates below the largest is above no edge beyond it.
    pub(crate) fn edges(&self) -> &[i32] {
        &self.edges
    }

    /// Bounds of a held sum.
    pub(crate) fn sum_bounds(&self) -> (i64, i64) {
        self.sum_bounds
    }

    /// A sum of products to an output element.
    pub(crate) fn whole(&self, sum: i32, filter: usize) -> i32 {
        self.emit(self.activate(self.saturate(sum), filter), filter)
    }

    /// Scale-out or steps of an activated value.
    pub(crate) fn emit(&self, a: i64, filter: usize) -> i32 {
        let (low, high) = self.output_bounds;
        let y = match (&self.finish.scale, &self.finish.activation) {
            (Some(scale), _) => scale.apply(a, filter, self.is_chip(), (low, high)),
            (None, Activation::Steps(_)) => {
                self.edges.iter().skip(filter).step_by(self.filters).filter(|&&edge| a > edge.into()).count() as i64
            }
            (None, _) => a.clamp(low, high),
        };
        y as i32
    }

    /// Some of the filters of all positions, `step` sums a position; the output begins with the first of them.
    pub(crate) fn each(&self, sums: &[i32], step: usize, filters: Range<usize>, output: &mut Output<'_>) {
        for (position, sums) in sums.chunks_exact(step.max(1)).enumerate() {
            for (i, f) in filters.clone().enumerate() {
                let y = self.whole(sums[i], f);
                match output {
                    Output::Bytes(bytes) => bytes[position * self.filters + i] = y as u8,
                    Output::Words(words) => words[position * self.filters + i] = y,
                }
            }
        }
    }
}

impl Steps {
    /// Interval n (from 0) of a filter is above `threshold + n * step * 2^(4 - bits)`: what is above the edge
    /// `threshold + floor(n * ...)` for integers. There are 2^bits - 1 of them.
    fn edges(&self, filters: usize, bits: u8) -> Result<Vec<i32>, PrepareError> {
        check_len("thresholds", self.threshold.len(), filters)?;
        check_len("steps", self.step_16ths.len(), filters)?;
        if !matches!(bits, 1 | 2 | 4) {
            return Err(PrepareError::Range {
                what: "bits of a stepped activation",
                value: bits.into(),
                min: 1,
                max: 4,
            });
        }
        let edge = |n: u64, t: i32, s: u32| {
            let above = (n * (u64::from(s) << (4 - bits))) / 16;
            i64::from(t).saturating_add_unsigned(above).min(i32::MAX.into()) as i32
        };
        let pairs = || self.threshold.iter().zip(&self.step_16ths);
        Ok((0..(1 << bits) - 1).flat_map(|n| pairs().map(move |(&t, &s)| edge(n, t, s))).collect())
    }
}
