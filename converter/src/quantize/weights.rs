//! Integer weights (quantization.md 4.1).

use super::fixed::AMPLITUDE_FLOOR;
use super::scale::Scale;

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
pub fn quantize(kernel: &[f32], axes: Axes, input: &Scale) -> Option<Weights> {
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
    let scale: Vec<f64> = amplitude.iter().map(|&a| 127.0 / a.max(AMPLITUDE_FLOOR)).collect();
    let integer = |(element, value): (usize, &f64)| {
        let scale = scale[axes.index(axes.filter, element)];
        (value * scale).round_ties_even().clamp(-128.0, 127.0) as i8
    };
    let values = scaled.iter().enumerate().map(integer).collect();
    Some(Weights { values, scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_reaches_127() {
        let kernel = [0.5f32, -1.0, 0.25, 0.0, 1e-9, 0.0];
        let axes = Axes { dims: &[3, 2, 1, 1], input: 1, filter: 0 };
        let weights = quantize(&kernel, axes, &Scale::vector(vec![2.0, 4.0])).unwrap();
        assert_eq!(weights.values, [127, -127, 127, 0, 0, 0]);
        assert_eq!(weights.scale, [127.0 / 0.25, 127.0 / 0.125, 127.0 * 65536.0]);
    }

    #[test]
    fn infinite_weights_are_refused() {
        let axes = Axes { dims: &[1, 1], input: 1, filter: 0 };
        assert!(quantize(&[f32::INFINITY], axes, &Scale::vector(vec![1.0])).is_none());
    }
}
