//! The input: from floats to the unsigned integers of the first layer, with the least loss on calibration samples.

use akida_runtime::model::InputQuantizer;

use super::maps::Map;
use crate::quantize::QuantizeError;

/// How floats become integers, and what the integers stand for.
#[derive(Clone, Debug)]
pub struct Input {
    /// For the model.
    pub quantizer: InputQuantizer,
    /// Bits of an element.
    pub bits: u8,
    /// Real per integer that fits the samples best.
    pub scale: f64,
    /// Real at integer 0.
    pub offset: f64,
    /// The integer nearest to the number around the map.
    pub padding: i32,
}

/// Changes of the scale that are tried: where samples lie half-way between integers (bytes with an odd mean), rounding
/// half to even would merge neighbours, and a slightly other scale does not.
const NUDGES: [f32; 5] = [0.0, -1.0 / 4096.0, 1.0 / 4096.0, -1.0 / 512.0, 1.0 / 512.0];

impl Input {
    /// For samples of the tensor `name`. `shift` allows that integer 0 stands for another number than 0; `around` is the
    /// number around the map.
    pub fn choose(name: &str, samples: &[Map], bits: u8, shift: bool, around: f64) -> Result<Self, QuantizeError> {
        let refuse = |reason: String, remedy| Err(QuantizeError::Range { tensor: name.to_owned(), reason, remedy });
        let values = || samples.iter().flatten().copied();
        let (low, high) = values().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if !low.is_finite() || !high.is_finite() || low >= high || high <= 0.0 {
            let reason = format!("the model's input ranges from {low} to {high}");
            return refuse(reason, "Give calibration samples that vary and are finite");
        }
        if !shift && low < 0.0 {
            let reason =
                format!("the model's input reaches {low}, but this first layer takes unsigned integers from 0");
            return refuse(
                reason,
                "Begin with a convolution over 1 or 3 channels (then a zero point is folded into it), or feed values \
                 that are not negative",
            );
        }
        let levels = f32::from((1u16 << bits) - 1);
        let low = if shift { low.min(0.0) } else { 0.0 };
        let mut best: Option<(f64, Self)> = None;
        for nudge in NUDGES {
            let scale = (high - low) / levels * (1.0 + nudge);
            let zero_point = (-low / scale).round_ties_even().clamp(0.0, levels) as i32;
            let quantizer =
                InputQuantizer { name: format!("{name}/quantize"), scale: vec![scale], zero_point: vec![zero_point] };
            let mut input = Self { quantizer, bits, scale: scale.into(), offset: 0.0, padding: zero_point };
            let (error, slope, offset) = line(values().map(|x| (f64::from(input.integer(x)), f64::from(x))));
            if best.as_ref().is_none_or(|(least, _)| error < least * (1.0 - 1e-6)) {
                if shift {
                    (input.scale, input.offset) = (slope, offset);
                    input.padding = ((around - offset) / slope).round().clamp(0.0, f64::from(levels)) as i32;
                }
                best = Some((error, input));
            }
        }
        match best {
            Some((_, input)) => Ok(input),
            None => refuse("no scale fits".into(), "Give calibration samples that vary and are finite"),
        }
    }

    /// As the runtime does it: `sat(round_half_even(x / scale) + zero_point)`.
    fn integer(&self, x: f32) -> i32 {
        let rounded = (x / self.quantizer.scale[0]).round_ties_even().clamp(-65_536.0, 65_536.0) as i32;
        (rounded + self.quantizer.zero_point[0]).clamp(0, (1 << self.bits) - 1)
    }

    /// Integers of a sample.
    pub fn quantize(&self, sample: &[f32]) -> Map {
        sample.iter().map(|&x| self.integer(x) as f32).collect()
    }
}

/// Squared error, slope and offset of the best line through (integer, real).
fn line(pairs: impl Iterator<Item = (f64, f64)> + Clone) -> (f64, f64, f64) {
    let (n, q, x) = pairs.clone().fold((0.0, 0.0, 0.0), |(n, sq, sx), (q, x)| (n + 1.0, sq + q, sx + x));
    let (mean_q, mean_x) = (q / n, x / n);
    let (qq, qx) = pairs.clone().fold((0.0, 0.0), |(qq, qx), (q, x)| {
        let q = q - mean_q;
        (qq + q * q, qx + q * (x - mean_x))
    });
    let slope = if qq > 0.0 && qx > 0.0 { qx / qq } else { 1.0 };
    let offset = mean_x - slope * mean_q;
    (pairs.map(|(q, x)| (slope * q + offset - x).powi(2)).sum(), slope, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes normalized with a mean of 127.5 lie half-way between integers: almost all stay apart.
    #[test]
    fn neighbours_stay_apart() {
        for (mean, deviation) in [(127.5f32, 127.5f32), (0.0, 255.0), (33.0, 79.0), (127.0, 60.0)] {
            let samples: Vec<Map> = vec![(0..256).map(|b| (b as f32 - mean) / deviation).collect()];
            let input = Input::choose("x", &samples, 8, true, 0.0).unwrap();
            let integers = input.quantize(&samples[0]);
            let apart = integers.windows(2).filter(|w| w[1] > w[0]).count();
            assert!(apart >= 254, "mean {mean}: {apart}");
            assert!((f64::from(input.padding) * input.scale + input.offset).abs() <= 0.51 * input.scale);
        }
    }

    #[test]
    fn what_cannot_be_an_input_is_refused() {
        for (samples, shift) in [
            (vec![], true),
            (vec![vec![1.0; 4]], true),
            (vec![vec![f32::NAN, 1.0]], true),
            (vec![vec![-1.0, 1.0]], false),
        ] {
            assert!(matches!(Input::choose("x", &samples, 4, shift, 0.0), Err(QuantizeError::Range { .. })));
        }
    }
}
