//! Two tensors into one: sums with shifts, and concatenation of channels (quantization.md 5.4).

use crate::finish::{bounds, check_shift, scale_out};
use crate::isa::{CHUNK, Kernels, Pairs, Shifts, best};
use crate::{Arithmetic, Output, PrepareError, RunError};

/// A repetition of channels is at least so long: short loops cost more than long ones.
const PERIOD: usize = 256;

/// `(a << a_shift) + (b << b_shift)`, scaled by 2^-k half up, per channel.
#[derive(Clone, Debug)]
pub struct Add {
    a_shift: Vec<u8>,
    b_shift: Vec<u8>,
    k: Option<Vec<i8>>,
    chip: bool,
    signed: [bool; 2],
    output: (i64, i64),
    output_bits: u8,
    /// The same in 32 bits, where they hold every sum.
    fast: Option<Shifts>,
    kernels: &'static dyn Kernels,
}

impl Add {
    /// Vectors have one value per channel. The operands are bytes, each `signed` or not; `k` is None when the 32-bit sum
    /// itself is the output. Outputs are signed whatever the operands are (quantization.md 5.4).
    pub fn prepare(
        a_shift: Vec<u8>,
        b_shift: Vec<u8>,
        k: Option<Vec<i8>>,
        signed: [bool; 2],
        output_bits: u8,
        arithmetic: Arithmetic,
    ) -> Result<Self, PrepareError> {
        let channels = a_shift.len();
        for (what, got) in [("shifts of the second operand", b_shift.len())]
            .into_iter()
            .chain(k.as_ref().map(|k| ("shifts of the sum", k.len())))
        {
            if got != channels {
                return Err(PrepareError::Length { what, got, expected: channels });
            }
        }
        if let Some(&value) = a_shift.iter().chain(&b_shift).find(|&&s| s > 31) {
            return Err(PrepareError::Range { what: "shift of an operand", value: value.into(), min: 0, max: 31 });
        }
        for &k in k.iter().flatten() {
            check_shift("shift of a sum", k)?;
        }
        if !matches!((&k, output_bits), (None, 32) | (Some(_), 1 | 2 | 4 | 8)) {
            return Err(PrepareError::Contradiction("sums leave as they are (32 bits) or scaled (up to 8)"));
        }
        let chip = matches!(arithmetic, Arithmetic::Chip { .. });
        let output = bounds(output_bits, true);
        let kernels = best();
        let mut add = Self { a_shift, b_shift, k, chip, signed, output, output_bits, fast: None, kernels };
        add.fast = add.in_32_bits();
        Ok(add)
    }

    fn in_32_bits(&self) -> Option<Shifts> {
        let channels = self.a_shift.len();
        let period = channels * PERIOD.div_ceil(channels.max(1));
        let mut all = Shifts { signed: self.signed, ..Shifts::default() };
        (all.low, all.high) = (self.output.0 as i32, self.output.1 as i32);
        for c in (0..period).map(|i| i % channels) {
            let k = i64::from(self.k.as_ref()?[c]);
            // A right shift of less than nothing is a left shift of both operands.
            let left = (-k).max(0);
            let (a, b, k) = (i64::from(self.a_shift[c]) + left, i64::from(self.b_shift[c]) + left, k.max(0));
            let half = if k > 0 { 1i64 << (k - 1) } else { 0 };
            let largest = |shift: i64| 255i64.checked_shl(shift as u32).unwrap_or(i64::MAX / 4);
            if a > 23 || b > 23 || k > 31 || largest(a) + largest(b) + half > i32::MAX.into() {
                return None;
            }
            all.a.push(a as i32);
            all.b.push(b as i32);
            all.half.push(half as i32);
            all.k.push(k as i32);
        }
        all.pairs = pairs(&all);
        Some(all)
    }

    /// Adds two tensors of the same shape.
    pub fn run(&self, a: &[u8], b: &[u8], output: Output<'_>) -> Result<(), RunError> {
        let channels = self.a_shift.len().max(1);
        for (what, got) in [("second operand", b.len()), ("output", output.len())] {
            if got != a.len() {
                return Err(RunError::Length { what, got, expected: a.len() });
            }
        }
        if !a.len().is_multiple_of(channels) {
            let expected = a.len().next_multiple_of(channels);
            return Err(RunError::Length { what: "first operand", got: a.len(), expected });
        }
        match (output, &self.k) {
            (Output::Bytes(out), Some(_)) if let Some(shifts) = &self.fast => {
                self.kernels.add(a, b, shifts, out);
            }
            (Output::Bytes(out), Some(k)) => {
                for ((a, b), out) in
                    a.chunks_exact(channels).zip(b.chunks_exact(channels)).zip(out.chunks_exact_mut(channels))
                {
                    for (c, out) in out.iter_mut().enumerate() {
                        *out = scale_out(self.sum(a[c], b[c], c), 1, k[c], self.chip, self.output) as u8;
                    }
                }
            }
            (Output::Words(out), None) => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = self.sum(a[i], b[i], i % channels).clamp(self.output.0, self.output.1) as i32;
                }
            }
            _ => return Err(RunError::OutputKind { bits: self.output_bits }),
        }
        Ok(())
    }

    fn sum(&self, a: u8, b: u8, channel: usize) -> i64 {
        let value = |x: u8, signed| if signed { i64::from(x.cast_signed()) } else { i64::from(x) };
        let [a_signed, b_signed] = self.signed;
        let sum = (value(a, a_signed) << self.a_shift[channel]) + (value(b, b_signed) << self.b_shift[channel]);
        if self.chip { sum.clamp(i32::MIN.into(), i32::MAX.into()) } else { sum }
    }
}

/// In 16 bits, where they hold every sum and its half, products are of bytes, and results are signed bytes.
fn pairs(shifts: &Shifts) -> Option<Box<Pairs>> {
    let Shifts { a, b, half, k, signed: [signed, other], low, high, .. } = shifts;
    let (largest, most) = if *signed { (128, 7) } else { (255, 6) };
    let fits = |i: usize| {
        let (a, b) = (a[i], b[i]);
        a <= most && b <= most && k[i] <= 15 && largest * ((1 << a) + (1 << b)) + half[i] <= i16::MAX.into()
    };
    let bytes = *low >= i8::MIN.into() && *high <= i8::MAX.into();
    if signed != other || !bytes || !a.len().is_multiple_of(CHUNK) || !(0..a.len()).all(fits) {
        return None;
    }
    let places = || (0..a.len()).map(Pairs::element);
    Some(Box::new(Pairs {
        factors: places().flat_map(|i| [1 << a[i], 1 << b[i]]).collect(),
        half: places().map(|i| half[i] as i16).collect(),
        k: places().map(|i| k[i] as i16).collect(),
    }))
}

/// Channels of `a`, then of `b`, at every position.
pub fn concat(a: &[u8], a_channels: usize, b: &[u8], b_channels: usize, output: &mut [u8]) -> Result<(), RunError> {
    let channels = a_channels + b_channels;
    let positions = output.len() / channels.max(1);
    for (what, got, expected) in [
        ("output", output.len(), positions * channels),
        ("first operand", a.len(), positions * a_channels),
        ("second operand", b.len(), positions * b_channels),
    ] {
        if got != expected {
            return Err(RunError::Length { what, got, expected });
        }
    }
    for (i, out) in output.chunks_exact_mut(channels.max(1)).enumerate() {
        let (first, second) = out.split_at_mut(a_channels);
        first.copy_from_slice(&a[i * a_channels..][..a_channels]);
        second.copy_from_slice(&b[i * b_channels..][..b_channels]);
    }
    Ok(())
}
