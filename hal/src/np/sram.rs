//! What NP memories hold. Layouts are ours (docs/np-program.md): 32-bit words, lowest bits first.
//!
//! | UID | memory | contents | address unit |
//! |---|---|---|---|
//! | 0 | filter SRAM | kernels, one after another, each from a word boundary | 16 words |
//! | 3 | packet SRAM | merge records at the start; the input window behind them is written by other NPs | 1 word |
//! | 4 | parameter SRAM | one record per filter | 1 word |
//! | 5 | look-up table | 2048 signed 16-bit entries | 1 word |
//! | 6 | the filter SRAM of an NP in FNP mode | weights, unit after unit, each from a word boundary | 16 words |
//! | 0 with HRC enable | HRC SRAM | kernels, then records, then the look-up table | 16 words |
//!
//! Device memory of an FNP2: weights as UID 6, then records as UID 4.

use super::{Activation, Inbound, MergeRecord, NpError, NpLayer, Op, ScaleRecord, ThresholdRecord};

/// Words in an address unit of filter and HRC SRAM (deduced, hardware.md 9.2).
pub const UNIT_WORDS: usize = 16;
/// Entries of a look-up table.
pub const LUT_ENTRIES: usize = 2048;
/// Words of a look-up table.
pub const LUT_WORDS: usize = LUT_ENTRIES / 2;

/// Values a weight of this width can have: 1 bit 0..=1, otherwise two's complement.
pub const fn weight_range(bits: u8) -> (i8, i8) {
    match bits {
        1 => (0, 1),
        2 => (-2, 1),
        4 => (-8, 7),
        _ => (i8::MIN, i8::MAX),
    }
}

/// Words that `count` values of `bits` take.
pub const fn packed_words(count: usize, bits: u8) -> usize {
    (count * bits as usize).div_ceil(32)
}

/// Packs rows (kernels, or units) of `row` weights each; every row starts at a word. `weights` are one per byte.
pub fn pack_weights(weights: &[i8], row: usize, bits: u8) -> Result<Vec<u32>, NpError> {
    if row == 0 || !weights.len().is_multiple_of(row) {
        return Err(contents("weights do not divide into kernels", weights.len(), row));
    }
    let (low, high) = weight_range(bits);
    let mask = u32::MAX >> (32 - u32::from(bits));
    let mut words = vec![0; weights.len() / row * packed_words(row, bits)];
    // All are looked at, many at once; where one is found, once more one by one.
    let outside = |v: i8| (v < low) | (v > high);
    if weights.iter().fold(false, |found, &v| found | outside(v))
        && let Some(&value) = weights.iter().find(|v| outside(**v))
    {
        return Err(NpError::Range { field: "weight", value: value.into(), min: low.into(), max: high.into() });
    }
    let fold =
        |values: &[i8]| (0..).zip(values).fold(0, |word, (i, &v)| word | (v as u32 & mask) << (i * u32::from(bits)));
    for (values, packed) in weights.chunks_exact(row).zip(words.chunks_exact_mut(packed_words(row, bits))) {
        if bits == 8 {
            let (quads, rest) = values.as_chunks::<4>();
            for (word, quad) in packed.iter_mut().zip(quads) {
                *word = u32::from_le_bytes(quad.map(i8::cast_unsigned));
            }
            packed[quads.len()..].iter_mut().for_each(|word| *word = fold(rest));
        } else {
            for (values, word) in values.chunks(per_word(bits)).zip(packed) {
                *word = fold(values);
            }
        }
    }
    Ok(words)
}

/// Unpacks `rows` rows of `row` weights; the inverse of [`pack_weights`].
pub fn unpack_weights(words: &[u32], rows: usize, row: usize, bits: u8) -> Result<Vec<i8>, NpError> {
    let stride = packed_words(row, bits);
    if row == 0 || words.len() < rows * stride {
        return Err(contents("words of weights", words.len(), rows * stride));
    }
    let mut weights = vec![0; rows * row];
    let (in_word, unused) = (per_word(bits), 32 - u32::from(bits));
    for (packed, values) in words.chunks_exact(stride).zip(weights.chunks_exact_mut(row)) {
        for (&word, values) in packed.iter().zip(values.chunks_mut(in_word)) {
            if let ([a, b, c, d], 8) = (&mut *values, bits) {
                [*a, *b, *c, *d] = word.to_le_bytes().map(u8::cast_signed);
                continue;
            }
            for (i, value) in (0..).zip(values) {
                let top = word >> (i * u32::from(bits)) << unused;
                *value = if bits == 1 { (top >> unused) as i8 } else { (top.cast_signed() >> unused) as i8 };
            }
        }
    }
    Ok(weights)
}

/// Weights in a word: 1, 2, 4 and 8 bits divide it.
fn per_word(bits: u8) -> usize {
    32 / usize::from(bits.max(1))
}

impl ScaleRecord {
    /// Words of a record.
    pub const WORDS: usize = 4;

    /// bias; maximum; scale, shift, look-up scale and shift from the lowest byte up; 0.
    pub fn to_words(self) -> [u32; 4] {
        let factors = [self.scale, self.shift.cast_unsigned(), self.lut_scale, self.lut_shift.cast_unsigned()];
        [self.bias.cast_unsigned(), self.max_value.cast_unsigned(), u32::from_le_bytes(factors), 0]
    }

    /// The inverse.
    pub fn from_words(words: [u32; 4]) -> Self {
        let [scale, shift, lut_scale, lut_shift] = words[2].to_le_bytes();
        Self {
            bias: words[0].cast_signed(),
            max_value: words[1].cast_signed(),
            scale,
            shift: shift.cast_signed(),
            lut_scale,
            lut_shift: lut_shift.cast_signed(),
        }
    }
}

impl ThresholdRecord {
    /// Words of a record.
    pub const WORDS: usize = 2;

    /// Threshold; step.
    pub fn to_words(self) -> [u32; 2] {
        [self.threshold.cast_unsigned(), self.step_16ths]
    }

    /// The inverse.
    pub fn from_words(words: [u32; 2]) -> Self {
        Self { threshold: words[0].cast_signed(), step_16ths: words[1] }
    }
}

impl MergeRecord {
    /// Left shift of the first operand, of the second, right shift of the sum; 0.
    pub fn to_word(self) -> u32 {
        u32::from_le_bytes([self.a_shift, self.b_shift, self.shift.cast_unsigned(), 0])
    }

    /// The inverse.
    pub fn from_word(word: u32) -> Self {
        let [a_shift, b_shift, shift, _] = word.to_le_bytes();
        Self { a_shift, b_shift, shift: shift.cast_signed() }
    }
}

/// Two entries a word. Entry n belongs to index n, for 1024.. to index n - 2048.
pub fn pack_lut(table: &[i16]) -> Result<Vec<u32>, NpError> {
    if table.len() != LUT_ENTRIES {
        return Err(contents("entries of the look-up table", table.len(), LUT_ENTRIES));
    }
    let (pairs, _) = table.as_chunks::<2>();
    Ok(pairs.iter().map(|&[a, b]| u32::from(a.cast_unsigned()) | u32::from(b.cast_unsigned()) << 16).collect())
}

/// The inverse.
pub fn unpack_lut(words: &[u32]) -> Result<Vec<i16>, NpError> {
    if words.len() < LUT_WORDS {
        return Err(contents("words of the look-up table", words.len(), LUT_WORDS));
    }
    Ok(words[..LUT_WORDS].iter().flat_map(|&w| [w as u16, (w >> 16) as u16]).map(u16::cast_signed).collect())
}

fn contents(what: &'static str, value: usize, expected: usize) -> NpError {
    NpError::Contents { what, value: value as i64, expected: expected as i64 }
}

/// The weights of an NP as rows: how many, of how many weights, of how many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightRows {
    /// Kernels or units.
    pub rows: usize,
    /// Weights of one.
    pub row: usize,
    /// Bits of a weight.
    pub bits: u8,
}

impl WeightRows {
    /// Words they take.
    pub const fn words(&self) -> usize {
        self.rows * packed_words(self.row, self.bits)
    }
}

impl NpLayer {
    /// The main weights: kernels (row, column, channel), one per filter of this NP; one per *input* channel for the
    /// depthwise part of [`Op::Separable`]; (frame, channel), oldest first, for temporal ones; None for
    /// [`Op::Merge`].
    pub fn weights(&self) -> Option<WeightRows> {
        let taps = usize::from(self.kernel[0]) * usize::from(self.kernel[1]) * usize::from(self.fifo.max(1));
        let channels = usize::from(self.input[2]);
        let (rows, row) = match self.op {
            Op::Conv | Op::Transposed => (usize::from(self.filters.len), taps * channels),
            Op::Depthwise | Op::DepthwiseTransposed => (usize::from(self.filters.len), taps),
            Op::Separable => (channels, taps),
            Op::Dense => (usize::from(self.filters.len), usize::from(self.inputs.len)),
            Op::Merge => return None,
        };
        Some(WeightRows { rows, row, bits: self.weight_bits })
    }

    /// The pointwise weights of [`Op::Separable`]: one row of all input channels per filter of this NP.
    pub fn pointwise(&self) -> Option<WeightRows> {
        (self.op == Op::Separable).then(|| WeightRows {
            rows: usize::from(self.filters.len),
            row: usize::from(self.input[2]),
            bits: self.pointwise_bits,
        })
    }

    /// Word at which the pointwise weights start: the next address unit behind the main ones.
    pub fn pointwise_start(&self) -> usize {
        self.weights().map_or(0, |w| w.words()).next_multiple_of(UNIT_WORDS)
    }

    /// Words of filter SRAM (or device memory), weights only.
    pub fn filter_words(&self) -> usize {
        match self.pointwise() {
            Some(pointwise) => self.pointwise_start() + pointwise.words(),
            None => self.weights().map_or(0, |w| w.words()),
        }
    }

    /// Bytes of filter SRAM; what an FNP2 keeps in device memory is not counted.
    pub fn filter_bytes(&self) -> usize {
        if self.external.is_some() { 0 } else { self.filter_words() * 4 }
    }

    /// Words of a parameter record: `generation` 1 has thresholds and steps, 2 biases and scales.
    pub const fn record_words(generation: u8) -> usize {
        if generation == 1 { ThresholdRecord::WORDS } else { ScaleRecord::WORDS }
    }

    /// Whether this NP reads parameter records: not when it merges or gives 1.0 potentials.
    pub fn has_records(&self, generation: u8) -> bool {
        self.op != Op::Merge && (generation != 1 || self.activation == Activation::Steps)
    }

    /// Words of all its parameter records.
    pub fn parameter_words(&self, generation: u8) -> usize {
        if self.has_records(generation) { usize::from(self.filters.len) * Self::record_words(generation) } else { 0 }
    }

    /// Bytes of parameter SRAM; what an FNP2 keeps in device memory is not counted.
    pub fn parameter_bytes(&self, generation: u8) -> usize {
        if self.external.is_some() { 0 } else { self.parameter_words(generation) * 4 }
    }

    /// Words of merge records at the start of packet SRAM.
    pub fn merge_words(&self) -> usize {
        if matches!(self.inbound, Inbound::Add(..)) { usize::from(self.input[2]) } else { 0 }
    }

    /// Bytes of packet SRAM: merge records, and the window of inputs (times the frames of a temporal layer), or the
    /// inputs of a dense layer, bit-packed. The HRC has none of this: its input streams through.
    pub fn packet_bytes(&self) -> usize {
        (self.merge_words() + packed_words(self.held_inputs(), self.input_bits)) * 4
    }

    /// Elements of the inputs this NP holds: its window, times the frames of a FIFO; inputs of a dense layer.
    pub fn held_inputs(&self) -> usize {
        if self.op == Op::Dense {
            return usize::from(self.inputs.len);
        }
        let sides = [self.in_rows.len, self.in_columns.len, self.input[2], u16::from(self.fifo.max(1))];
        sides.into_iter().map(usize::from).product()
    }

    /// Words of HRC SRAM: kernels, records, look-up table, each from an address unit.
    pub fn hrc_words(&self, generation: u8) -> usize {
        let table = if self.activation == Activation::Lut { LUT_WORDS } else { 0 };
        self.hrc_lut_start(generation) + table
    }

    /// Word of HRC SRAM at which parameter records start.
    pub fn hrc_records_start(&self) -> usize {
        self.filter_words().next_multiple_of(UNIT_WORDS)
    }

    /// Word of HRC SRAM at which the look-up table starts.
    pub fn hrc_lut_start(&self, generation: u8) -> usize {
        (self.hrc_records_start() + self.parameter_words(generation)).next_multiple_of(UNIT_WORDS)
    }
}
