//! From accumulator to output: activation and scale-out.

/// What is applied to the accumulator before it is scaled out.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Activation {
    /// Identity.
    None,
    /// Akida 2.0.
    Relu,
    /// Akida 2.0: `clamp(acc, 0, max)`, one maximum per filter or one for all.
    ReluClipped(Vec<i32>),
    /// Akida 2.0: look-up table.
    Lut(Box<Lut>),
    /// Akida 1.0: thresholds and steps, one per filter. `y = clip(ceil((p - t) / (s * 2^(4 - bits))), 0, 2^bits - 1)`
    /// with the bits of the output tensor (quantization.md 6.4).
    Steps {
        /// Fire thresholds.
        threshold: Vec<i32>,
        /// Interval lengths of 4 bits, in 1/16. Never 0.
        step_16ths: Vec<u32>,
    },
}

/// Look-up table activation (quantization.md 4.6).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lut {
    /// [`Lut::ENTRIES`] entries: indices 0..=1023, then -1024..=-1.
    pub table: Vec<i16>,
    /// Accumulator to an index of 11 bits, signed.
    pub scale: ScaleOut,
}

impl Lut {
    /// Entries of a table: all values of 11 bits.
    pub const ENTRIES: usize = 2048;

    /// The entry of an index in -1024..=1023.
    pub fn entry(&self, index: i32) -> i16 {
        self.table[index.rem_euclid(Self::ENTRIES as i32) as usize]
    }
}

/// `sat(floor(acc * m / 2^k + 1/2))` per filter, or with one pair for all (quantization.md 5.1).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleOut {
    /// M.
    pub m: Vec<u8>,
    /// k of S_out = 2^k, in -31..=32; negative shifts left. Same length as `m`.
    pub k: Vec<i8>,
}
