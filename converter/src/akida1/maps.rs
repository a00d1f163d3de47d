//! Feature maps and sums of products over them, exact for integers.

use akida_runtime::model::{Pool, Shape};
use ndarray::{Array2, ArrayView2};

use super::chain::{Kernel, Layer, Operator, Window};

/// Values of one sample, (height, width, channels).
pub type Map = Vec<f32>;

/// Weights of a layer as matrices, real or integer.
#[derive(Clone, Debug)]
pub struct Linear {
    /// (inputs of a filter, filters); separable: the pointwise part, (channels, filters).
    pub weights: Array2<f64>,
    /// Separable only: (taps, channels).
    pub depthwise: Option<Array2<f64>>,
}

impl Linear {
    /// The float weights of a layer.
    pub fn of(operator: &Operator, input: Shape) -> Self {
        let depthwise = match operator {
            Operator::Separable { depthwise, .. } => Some(transposed(depthwise)),
            _ => None,
        };
        let mut weights = transposed(operator.output_weights());
        if let Operator::AverageDense { .. } = operator {
            // Its inputs are sums over all positions.
            weights /= (input[0] * input[1]) as f64;
        }
        Self { weights, depthwise }
    }
}

fn transposed(kernel: &Kernel) -> Array2<f64> {
    Array2::from_shape_fn((kernel.filter_len(), kernel.shape[0]), |(k, f)| kernel.filter(f)[k])
}

/// What a layer's weights meet: for each position of its output before pooling one row.
#[derive(Clone, Copy, Debug)]
pub struct Gather {
    input: Shape,
    conv: [usize; 2],
    /// None: the whole map is one row.
    window: Option<Window>,
    /// Sum over all positions instead.
    sum: bool,
    /// What is outside the map.
    padding: f64,
}

impl Gather {
    /// Of a layer whose map is surrounded by `padding`.
    pub fn new(layer: &Layer, padding: f64) -> Self {
        let sum = matches!(layer.operator, Operator::AverageDense { .. });
        Self { input: layer.input, conv: layer.conv, window: layer.window(), sum, padding }
    }

    /// Number of rows for one sample.
    pub fn rows(&self) -> usize {
        self.conv[0] * self.conv[1]
    }

    /// Elements of a row: (row, column, channel) of a window.
    pub fn columns(&self) -> usize {
        match self.window {
            Some(window) => window.kernel[0] * window.kernel[1] * self.input[2],
            None if self.sum => self.input[2],
            None => self.input.iter().product(),
        }
    }

    /// Writes the row of one position.
    pub fn row(&self, map: &[f32], position: usize, row: &mut [f64]) {
        let [height, width, channels] = self.input;
        let Some(Window { kernel, stride, pads }) = self.window else {
            if self.sum {
                row.fill(0.0);
                map.chunks(channels)
                    .for_each(|pixel| row.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += f64::from(*x)));
            } else {
                copy(row, map);
            }
            return;
        };
        let [top, left] = [0, 1].map(|axis| {
            let at = if axis == 0 { position / self.conv[1] } else { position % self.conv[1] };
            at * stride[axis]
        });
        for y in 0..kernel[0] {
            for x in 0..kernel[1] {
                let to = &mut row[(y * kernel[1] + x) * channels..][..channels];
                match ((top + y).checked_sub(pads[0]), (left + x).checked_sub(pads[1])) {
                    (Some(y), Some(x)) if y < height && x < width => {
                        copy(to, &map[(y * width + x) * channels..][..channels]);
                    }
                    _ => to.fill(self.padding),
                }
            }
        }
    }

    /// All rows of one sample.
    pub fn all(&self, map: &[f32]) -> Array2<f64> {
        let mut rows = Array2::zeros((self.rows(), self.columns()));
        for (position, mut row) in rows.rows_mut().into_iter().enumerate() {
            if let Some(row) = row.as_slice_mut() {
                self.row(map, position, row);
            }
        }
        rows
    }

    /// The rows at (sample, position).
    pub fn some(&self, maps: &[Map], at: &[(usize, usize)]) -> Array2<f64> {
        let mut rows = Array2::zeros((at.len(), self.columns()));
        for (mut row, &(sample, position)) in rows.rows_mut().into_iter().zip(at) {
            if let Some(row) = row.as_slice_mut() {
                self.row(&maps[sample], position, row);
            }
        }
        rows
    }
}

fn copy(to: &mut [f64], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = f64::from(*from));
}

/// Depthwise sums: (rows, channels).
pub fn depthwise(rows: ArrayView2<f64>, kernel: &Array2<f64>) -> Array2<f64> {
    let channels = kernel.ncols();
    let mut sums = Array2::zeros((rows.nrows(), channels));
    for (mut sums, row) in sums.rows_mut().into_iter().zip(rows.rows()) {
        for (tap, weights) in kernel.rows().into_iter().enumerate() {
            for channel in 0..channels {
                sums[channel] += row[tap * channels + channel] * weights[channel];
            }
        }
    }
    sums
}

/// Sums of a layer for some rows of its input: (rows, filters).
pub fn sums(rows: ArrayView2<f64>, linear: &Linear) -> Array2<f64> {
    match &linear.depthwise {
        None => rows.dot(&linear.weights),
        Some(kernel) => depthwise(rows, kernel).dot(&linear.weights),
    }
}

/// Pools the sums of one sample: (pooled positions, filters).
pub fn pool(sums: Array2<f64>, layer: &Layer) -> Array2<f64> {
    let filters = sums.ncols();
    match layer.pool {
        Pool::None => sums,
        Pool::Global => sums.sum_axis(ndarray::Axis(0)).insert_axis(ndarray::Axis(0)),
        Pool::Max { size, stride, pads } => {
            let [rows, columns, _] = layer.output;
            let mut pooled = Array2::from_elem((rows * columns, filters), f64::NEG_INFINITY);
            for (at, mut pooled) in pooled.rows_mut().into_iter().enumerate() {
                let [top, left] = [at / columns * stride[0], at % columns * stride[1]];
                for (y, x) in (0..size[0]).flat_map(|y| (0..size[1]).map(move |x| (top + y, left + x))) {
                    let (Some(y), Some(x)) = (y.checked_sub(pads[0]), x.checked_sub(pads[1])) else { continue };
                    if y < layer.conv[0] && x < layer.conv[1] {
                        let sums = sums.row(y * layer.conv[1] + x);
                        pooled.iter_mut().zip(sums).for_each(|(p, s)| *p = p.max(*s));
                    }
                }
            }
            pooled
        }
    }
}

/// `count` of `samples * positions` places, spread evenly over all of them but not in step with rows and columns.
pub fn spread(samples: usize, positions: usize, count: usize) -> Vec<(usize, usize)> {
    let total = samples * positions;
    if total <= count {
        return (0..total).map(|i| (i / positions, i % positions)).collect();
    }
    let stride = total / count;
    let place = |j: usize| {
        let at = (j as u128 * total as u128 / count as u128) as usize + j.wrapping_mul(7919) % stride;
        (at / positions, at % positions)
    };
    (0..count).map(place).filter(|&(sample, _)| sample < samples).collect()
}
