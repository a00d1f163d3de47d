//! Thresholds and steps: from integer sums to unsigned activations by the rule of the chip (quantization.md 6.4).

use akida_runtime::model::limits::StepLimits;
use ndarray::{Array2, ArrayView1};

/// Threshold and step of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Fire threshold.
    pub threshold: i32,
    /// Interval length of 4 bits in 1/16.
    pub step_16ths: u32,
}

impl Step {
    /// `clip(ceil((p - threshold) / (step * 2^(4 - bits))), 0, 2^bits - 1)`.
    pub fn activate(self, potential: i64, bits: u8) -> i64 {
        let above = (potential - i64::from(self.threshold)) * 16;
        let length = i64::from(self.step_16ths) << (4 - bits);
        if above <= 0 { 0 } else { ((above - 1) / length + 1).min((1 << bits) - 1) }
    }
}

/// Real numbers for a filter's sums: `z = scale * p + offset`.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Real per unit.
    pub scale: f64,
    /// Added.
    pub offset: f64,
}

/// Chooses steps for one filter after another.
#[derive(Clone, Copy, Debug)]
pub struct Chooser {
    /// Bits of an activation.
    pub bits: u8,
    /// Real per unit of the activation.
    pub unit: f64,
    /// Widths of the fields.
    pub limits: StepLimits,
    /// Move threshold and step to where the error is least.
    pub correct: bool,
}

impl Chooser {
    /// Step of a filter with these sums, and what they should become. The bool: a limit of the chip was met.
    pub fn choose(&self, line: Line, sums: ArrayView1<f64>, targets: ArrayView1<f64>) -> (Step, bool) {
        let (plain, held) = self.plain(line);
        if !self.correct || held {
            return (plain, held);
        }
        let pairs: Vec<(i64, f64)> = sums.iter().zip(targets).map(|(&p, &t)| (p as i64, t / self.unit)).collect();
        let error =
            |step: Step| -> f64 { pairs.iter().map(|&(p, t)| (step.activate(p, self.bits) as f64 - t).powi(2)).sum() };
        let mut best = (error(plain), plain);
        // Ever smaller moves of the threshold, and both codes of the step next to the real one.
        let mut reach = (self.length(plain) / 2.0).max(1.0);
        loop {
            let centre = best.1;
            let far = reach.round().max(1.0) as i64;
            for (code, moved) in [0i64, -1, 1].into_iter().flat_map(|c| [0, -far, far].map(|m| (c, m))) {
                let (Ok(threshold), Ok(step_16ths)) = (
                    i32::try_from(i64::from(centre.threshold) + moved),
                    u32::try_from(i64::from(centre.step_16ths) + code * self.code_move(centre)),
                ) else {
                    continue;
                };
                let step = Step { threshold, step_16ths };
                if !self.fits(step) {
                    continue;
                }
                let found = error(step);
                if found < best.0 {
                    best = (found, step);
                }
            }
            if best.1 == centre {
                if reach <= 1.0 {
                    break;
                }
                reach /= 2.0;
            }
        }
        (best.1, false)
    }

    /// One hundredth of the step, or its smallest move.
    fn code_move(&self, step: Step) -> i64 {
        i64::from(step.step_16ths / 100).max(1)
    }

    /// Interval length in sums.
    fn length(&self, step: Step) -> f64 {
        f64::from(step.step_16ths << (4 - self.bits)) / 16.0
    }

    fn fits(&self, step: Step) -> bool {
        let most = 1i64 << (self.limits.threshold_bits - 1);
        (-most..most).contains(&i64::from(step.threshold)) && (1..=self.limits.step_16ths).contains(&step.step_16ths)
    }

    /// The step that rounds to the nearest activation.
    fn plain(&self, line: Line) -> (Step, bool) {
        // A filter whose sum is always 0 has its offset only.
        let scale = if line.scale > 0.0 { line.scale } else { self.unit / 16.0 };
        let length = self.unit / scale;
        let code = (length * 16.0 / f64::from(1u32 << (4 - self.bits))).round();
        let most = f64::from(1u32 << (self.limits.threshold_bits - 1));
        let threshold = (length / 2.0 - line.offset / scale).round();
        let step = Step {
            threshold: threshold.clamp(-most, most - 1.0) as i32,
            step_16ths: code.clamp(1.0, f64::from(self.limits.step_16ths)) as u32,
        };
        (step, f64::from(step.threshold) != threshold || f64::from(step.step_16ths) != code)
    }
}

/// Parts of the largest value tried as the range of an activation.
const RANGES: std::ops::RangeInclusive<u32> = 6..=40;

/// Real per unit of an activation with `bits` bits, shared by all filters. `real` are sums as real numbers, `targets`
/// what they should become, `importance` what an error of a filter's channel costs the next layer.
pub fn unit(real: &Array2<f64>, targets: &Array2<f64>, importance: &[f64], bits: u8, search: bool) -> f64 {
    let levels = f64::from((1u32 << bits) - 1);
    let top = targets.iter().fold(0.0f64, |m, t| m.max(*t));
    if top <= 0.0 {
        return 1.0;
    }
    if !search {
        return top / levels;
    }
    let error = |unit: f64| -> f64 {
        let mut total = 0.0;
        for (real, targets) in real.rows().into_iter().zip(targets.rows()) {
            for (f, (z, t)) in real.iter().zip(targets).enumerate() {
                let y = (z / unit).round().clamp(0.0, levels) * unit;
                total += importance[f] * (y - t) * (y - t);
            }
        }
        total
    };
    let candidates = RANGES.map(|part| top / levels * f64::from(part) / 40.0);
    let (_, best) = candidates
        .map(|unit| (error(unit), unit))
        .fold((f64::INFINITY, top / levels), |best, next| if next.0 < best.0 { next } else { best });
    best
}
