//! Fixed-point numbers: the arithmetic of quantization.md 4.2 and 4.3, in `f64` unless said otherwise.

/// Largest magnitude below which an amplitude is not taken seriously (quantization.md 4.1).
pub const AMPLITUDE_FLOOR: f64 = 1.0 / 65536.0;

/// Value bits of a number of `bits` bits.
fn value_bits(bits: u32, signed: bool) -> i32 {
    bits as i32 - i32::from(signed)
}

/// A value on an integer scale, rounded to a mantissa of `bits` bits and a shift: `x * scale`, with 8 bits at most
/// significant. The mantissa may be `2^b` itself (quantization.md 4.2).
pub fn aligned(x: f64, scale: f64, bits: u32, signed: bool) -> i32 {
    let value = x * scale;
    let exponent = (value + 1.0 / 256.0).abs().log2().ceil();
    let shift = (exponent - f64::from(value_bits(bits, signed))).max(0.0);
    let step = shift.exp2();
    // Saturates where the sum would leave 32 bits: such a bias is outside every accumulator anyway.
    ((value / step).round_ties_even() * step) as i32
}

/// What limits the exponent of [`fixed`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Nothing.
    None,
    /// What an output shift can hold: -31..=32.
    OutputShift,
    /// As many fractional bits as value bits, and an output shift.
    Fraction,
}

/// A number as `mantissa / 2^exponent`, the mantissa of `bits` bits (quantization.md 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// The mantissa.
    pub mantissa: i32,
    /// Number of fractional bits.
    pub exponent: i32,
}

/// `x` as [`Fixed`]; None when it is not finite.
pub fn fixed(x: f64, bits: u32, signed: bool, limit: Limit) -> Option<Fixed> {
    let magnitude = if x == 0.0 { 0.5 } else { x.abs() };
    from_log2(x, magnitude.log2().ceil(), magnitude, bits, signed, limit)
}

/// Same with the logarithm taken in `f32`, as is done for what comes out of a look-up table.
pub fn fixed_f32(x: f32, bits: u32, signed: bool, limit: Limit) -> Option<Fixed> {
    let magnitude = if x == 0.0 { 0.5 } else { x.abs() };
    from_log2(x.into(), f64::from(magnitude.log2()).ceil(), magnitude.into(), bits, signed, limit)
}

fn from_log2(x: f64, log2: f64, magnitude: f64, bits: u32, signed: bool, limit: Limit) -> Option<Fixed> {
    if !x.is_finite() {
        return None;
    }
    let mut whole = log2 as i32;
    if magnitude == f64::from(whole).exp2() {
        whole += 1; // a power of two itself needs one bit more
    }
    let value_bits = value_bits(bits, signed);
    let exponent = match limit {
        Limit::None => value_bits - whole,
        Limit::OutputShift => (value_bits - whole).clamp(-31, 32),
        Limit::Fraction => (value_bits - whole).min(value_bits).clamp(-31, 32),
    };
    let top = f64::from(value_bits).exp2();
    let mantissa = (x * f64::from(exponent).exp2()).round_ties_even();
    let mantissa = mantissa.clamp(if signed { -top } else { 0.0 }, top - 1.0) as i32;
    Some(Fixed { mantissa, exponent })
}

/// The sum numpy forms over the innermost axes of an array: pairwise, in blocks of 128 with eight running sums.
/// Only this order gives the same last bit (quantization.md 9.2).
pub fn pairwise_sum(values: &[f64]) -> f64 {
    let n = values.len();
    if n < 8 {
        return values.iter().fold(0.0, |sum, v| sum + v);
    }
    if n > 128 {
        let half = n / 2 - (n / 2) % 8;
        return pairwise_sum(&values[..half]) + pairwise_sum(&values[half..]);
    }
    let (blocks, rest) = values.as_chunks::<8>();
    let mut sums = blocks[0];
    for block in &blocks[1..] {
        for (sum, value) in sums.iter_mut().zip(block) {
            *sum += value;
        }
    }
    let total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    rest.iter().fold(total, |sum, v| sum + v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_keeps_eight_bits_and_shifts() {
        for (value, expected) in [
            (0.0, 0),
            (100.4, 100),
            (127.8, 128), // the mantissa may be 2^7
            (128.4, 128),
            (1000.0, 1000),
            (1001.0, 1000),
            (-1001.0, -1000),
            (0.5, 0),
            (1.5, 2),
        ] {
            assert_eq!(aligned(value, 1.0, 8, true), expected, "{value}");
        }
        assert_eq!(aligned(255.0, 1.0, 8, false), 255);
        assert_eq!(aligned(511.0, 1.0, 8, false), 512);
    }

    #[test]
    fn fixed_is_normalised() {
        for x in [1e-9, 0.3, 0.5, 1.0, 1.5, 2.0, 77.7, 1e6] {
            let Fixed { mantissa, exponent } = fixed(x, 8, false, Limit::None).unwrap();
            assert!((128..=255).contains(&mantissa), "{x}: {mantissa}");
            assert!((f64::from(mantissa) / f64::from(exponent).exp2() / x - 1.0).abs() < 1.0 / 255.0);
        }
        assert_eq!(fixed(1.0, 8, false, Limit::None), Some(Fixed { mantissa: 128, exponent: 7 }));
        assert_eq!(fixed(0.0, 8, false, Limit::None), Some(Fixed { mantissa: 0, exponent: 8 }));
        assert_eq!(fixed(f64::INFINITY, 8, false, Limit::None), None);
        assert_eq!(fixed(f64::NAN, 8, false, Limit::None), None);
        // An exponent that is cut at 32 leaves fewer bits, down to none.
        assert_eq!(fixed(1e-12, 8, false, Limit::OutputShift), Some(Fixed { mantissa: 0, exponent: 32 }));
        assert_eq!(fixed(0.3, 8, true, Limit::Fraction), Some(Fixed { mantissa: 38, exponent: 7 }));
    }

    #[test]
    fn pairwise_sum_follows_its_order() {
        let values: Vec<f64> = (0..1000).map(|i| 1.0 / f64::from(i + 1)).collect();
        let (a, b) = values.split_at(496);
        assert_eq!(pairwise_sum(&values), pairwise_sum(a) + pairwise_sum(b));
        assert!((pairwise_sum(&values) - values.iter().sum::<f64>()).abs() < 1e-12);
        assert_eq!(pairwise_sum(&[1.0, 2.0]), 3.0);
        assert_eq!(pairwise_sum(&[]), 0.0);
    }
}
