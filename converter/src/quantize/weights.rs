//! Integer weights (quantization.md 4.1).

use super::bits::Widths;
use super::fixed::AMPLITUDE_FLOOR;
use super::scale::Scale;

/// Scales of weights that are on a grid already, by the name of the kernel: real per integer, one or one per filter.
pub type GivenScales = std::collections::HashMap<String, Vec<f64>>;

/// Integer weights and one scale per filter.
pub struct Weights {
    /// Row-major, as the float weights.
    pub values: Vec<i8>,
    /// Integer per real of each filter (one for all of a depthwise transposed kernel).
    pub scale: Vec<f64>,
}

/// How a kernel's elements belong to input channels and filters.
#[derive(Clone, Copy)]
pub struct Axes<'a> {
    /// Dimensions of the kernel.
    pub dims: &'a [usize],
    /// Axis of the input channels.
    pub input: usize,
    /// Axis of the filters.
    pub filter: usize,
}

impl Axes<'_> {
    fn index(&self, axis: usize, element: usize) -> usize {
        let stride: usize = self.dims[axis + 1..].iter().product();
        element / stride % self.dims[axis]
    }
}

/// Quantizes a float kernel, divided by the input's scale first: so per-channel activations cost nothing. None when a
/// weight is not finite.
pub fn quantize(kernel: &[f32], axes: Axes, input: &Scale, widths: Widths) -> Option<Weights> {
    let filters = axes.dims[axes.filter];
    let mut amplitude = vec![0f64; filters];
    let mut scaled = Vec::with_capacity(kernel.len());
    for (element, &weight) in kernel.iter().enumerate() {
        let value = f64::from(weight) / input.at(axes.index(axes.input, element));
        if !value.is_finite() {
            return None;
        }
        let largest = &mut amplitude[axes.index(axes.filter, element)];
        *largest = largest.max(value.abs());
        scaled.push(value);
    }
    let levels = widths.weight_levels();
    if widths.weights < 8 {
        amplitude = best_amplitudes(&scaled, axes, &amplitude, levels);
    }
    let scale: Vec<f64> = amplitude.iter().map(|&a| levels / a.max(AMPLITUDE_FLOOR)).collect();
    let integer = |(element, value): (usize, &f64)| {
        let scale = scale[axes.index(axes.filter, element)];
        (value * scale).round_ties_even().clamp(-levels - 1.0, levels) as i8
    };
    let values = scaled.iter().enumerate().map(integer).collect();
    Some(Weights { values, scale })
}

/// For few levels: the amplitude of each filter, at most the largest weight, whose integers have the least squared error.
fn best_amplitudes(values: &[f64], axes: Axes, largest: &[f64], levels: f64) -> Vec<f64> {
    const STEPS: u32 = 40;
    let mut best: Vec<(f64, f64)> = vec![(f64::INFINITY, 0.0); largest.len()];
    for step in (STEPS / 2..=STEPS).rev() {
        let part = f64::from(step) / f64::from(STEPS);
        let mut errors = vec![0f64; largest.len()];
        for (element, value) in values.iter().enumerate() {
            let filter = axes.index(axes.filter, element);
            let scale = levels / (largest[filter] * part).max(AMPLITUDE_FLOOR);
            let integer = (value * scale).round_ties_even().clamp(-levels - 1.0, levels);
            errors[filter] += (integer / scale - value).powi(2);
        }
        for ((best, error), largest) in best.iter_mut().zip(errors).zip(largest) {
            if error < best.0 {
                *best = (error, largest * part);
            }
        }
    }
    best.into_iter().map(|(_, amplitude)| amplitude).collect()
}

/// The integers of a kernel that is integers times `grid` already. None when it is not, because it was scaled since or
/// because channels of the input have different scales.
pub fn on_grid(kernel: &[f32], axes: Axes, input: &Scale, grid: &[f64]) -> Option<Weights> {
    let filters = axes.dims[axes.filter];
    if grid.len() != 1 && grid.len() != filters || input.values.iter().any(|s| *s != input.values[0]) {
        return None;
    }
    let grid = |filter: usize| if grid.len() == 1 { grid[0] } else { grid[filter] };
    let integer = |(element, &weight): (usize, &f32)| {
        let value = f64::from(weight) / grid(axes.index(axes.filter, element));
        let integer = value.round_ties_even();
        // The float weight has 24 bits; whatever is farther off was not made of an integer.
        ((value - integer).abs() < 1e-3 && (-128.0..=127.0).contains(&integer)).then_some(integer as i8)
    };
    let values = kernel.iter().enumerate().map(integer).collect::<Option<Vec<i8>>>()?;
    Some(Weights { values, scale: (0..filters).map(|f| input.values[0] / grid(f)).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_reaches_127() {
        let kernel = [0.5f32, -1.0, 0.25, 0.0, 1e-9, 0.0];
        let axes = Axes { dims: &[3, 2, 1, 1], input: 1, filter: 0 };
        let weights = quantize(&kernel, axes, &Scale::vector(vec![2.0, 4.0]), Widths::EIGHT).unwrap();
        assert_eq!(weights.values, [127, -127, 127, 0, 0, 0]);
        assert_eq!(weights.scale, [127.0 / 0.25, 127.0 / 0.125, 127.0 * 65536.0]);
    }

    #[test]
    fn four_bits_hold_the_many_rather_than_the_one() {
        let four = Widths { weights: 4, ..Widths::EIGHT };
        let axes = Axes { dims: &[1, 8], input: 1, filter: 0 };
        let one = Scale::vector(vec![1.0]);
        let kernel = [1.0f32, 0.31, -0.29, 0.3, 0.11, -0.1, 0.09, 0.3];
        let weights = quantize(&kernel, axes, &one, four).unwrap();
        assert!(weights.values.iter().all(|w| (-8..=7).contains(w)), "{:?}", weights.values);
        let error = |scale: f64| -> f64 {
            let value = |w: &f32| (f64::from(*w) * scale).round_ties_even().clamp(-8.0, 7.0) / scale - f64::from(*w);
            kernel.iter().map(|w| value(w).powi(2)).sum()
        };
        assert!(error(weights.scale[0]) <= error(7.0));
    }

    #[test]
    fn integers_on_a_grid_are_kept() {
        let axes = Axes { dims: &[2, 2], input: 1, filter: 0 };
        let input = Scale::vector(vec![4.0]);
        let weights = on_grid(&[0.5, -1.0, 0.3, 38.1], axes, &input, &[0.5, 0.3]).unwrap();
        assert_eq!(weights.values, [1, -2, 1, 127]);
        assert_eq!(weights.scale, [8.0, 4.0 / 0.3]);
        assert!(on_grid(&[0.5, -1.0, 0.3, 38.2], axes, &input, &[0.5, 0.3]).is_none(), "off the grid");
        assert!(on_grid(&[0.5, -1.0, 0.3, 38.4], axes, &input, &[0.5, 0.3]).is_none(), "beyond 8 bits");
        let two = Scale::vector(vec![4.0, 2.0]);
        assert!(on_grid(&[0.5, -1.0, 0.3, 0.3], axes, &two, &[0.5, 0.3]).is_none(), "another grid per channel");
    }

    #[test]
    fn infinite_weights_are_refused() {
        let axes = Axes { dims: &[1, 1], input: 1, filter: 0 };
        assert!(quantize(&[f32::INFINITY], axes, &Scale::vector(vec![1.0]), Widths::EIGHT).is_none());
    }
}
