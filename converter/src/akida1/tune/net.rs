//! A chain of layers in 32-bit floats, and its outputs for some samples at once.

use akida_runtime::model::Pool;

use super::product::{View, add_product};
use crate::akida1::chain::{Layer, Operator};

/// From a filter's sum to its output.
#[derive(Clone, Debug)]
pub enum Activation {
    /// `scale * sum + offset`.
    Real,
    /// The same, between 0 and the filter's bound.
    Bounded(Vec<f32>),
    /// The rule of the chip: `clip(ceil((sum - threshold) / length), 0, most)`.
    Steps {
        /// Per filter, whole numbers.
        threshold: Vec<f32>,
        /// Per filter, interval length in sums.
        length: Vec<f32>,
        /// Largest output.
        most: f32,
    },
}

/// One layer with numbers.
#[derive(Clone, Debug)]
pub struct NetLayer<'c> {
    /// Its shapes.
    pub layer: &'c Layer,
    /// Number around the map.
    pub padding: f32,
    /// (inputs of a filter, filters); separable: the pointwise part.
    pub weights: Vec<f32>,
    /// (filters, inputs of a filter).
    pub transposed: Vec<f32>,
    /// Separable only: (taps, channels); otherwise empty.
    pub depthwise: Vec<f32>,
    /// Per filter.
    pub scale: Vec<f32>,
    /// Per filter.
    pub offset: Vec<f32>,
    /// What follows.
    pub activation: Activation,
}

/// What a layer made of some samples, as far as gradients need it.
#[derive(Debug, Default)]
pub struct Trace {
    /// Depthwise sums, (samples, positions, channels).
    pub depthwise: Vec<f32>,
    /// Sums after pooling, (samples, positions, filters).
    pub sums: Vec<f32>,
    /// For each of them the position before pooling that it came from; empty without maximum.
    pub picks: Vec<u32>,
    /// Outputs, (samples, positions, filters).
    pub outputs: Vec<f32>,
}

impl NetLayer<'_> {
    /// Numbers of a sample's input.
    pub fn input_len(&self) -> usize {
        self.layer.input.iter().product()
    }

    /// Numbers of a sample's output.
    pub fn output_len(&self) -> usize {
        self.layer.output.iter().product()
    }

    /// Positions before pooling.
    pub fn positions(&self) -> usize {
        self.layer.conv[0] * self.layer.conv[1]
    }

    /// Filters.
    pub fn filters(&self) -> usize {
        self.layer.filters()
    }

    /// Inputs of a filter.
    pub fn columns(&self) -> usize {
        self.weights.len() / self.filters()
    }

    /// Multiplications for one sample.
    pub fn products(&self) -> u64 {
        (self.positions() * (self.weights.len() + self.depthwise.len())) as u64
    }

    /// Calls `f(position, tap, pixel)` for every tap of every window; no pixel: outside the map.
    pub fn taps(&self, mut f: impl FnMut(usize, usize, Option<usize>)) {
        let Some(window) = self.layer.window() else { return };
        let ([height, width, _], [rows, columns]) = (self.layer.input, self.layer.conv);
        for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
            for (i, j) in (0..window.kernel[0]).flat_map(|i| (0..window.kernel[1]).map(move |j| (i, j))) {
                let at = |start: usize, stride: usize, tap: usize, pad: usize, size: usize| {
                    (start * stride + tap).checked_sub(pad).filter(|at| *at < size)
                };
                let row = at(y, window.stride[0], i, window.pads[0], height);
                let column = at(x, window.stride[1], j, window.pads[1], width);
                let pixel = row.zip(column).map(|(row, column)| row * width + column);
                f(y * columns + x, i * window.kernel[1] + j, pixel);
            }
        }
    }

    /// The rows that a full convolution's weights meet, (positions, columns), of one sample.
    pub fn rows(&self, sample: &[f32], rows: &mut Vec<f32>) {
        let (channels, columns) = (self.layer.input[2], self.columns());
        rows.resize(self.positions() * columns, 0.0);
        self.taps(|position, tap, pixel| {
            let to = &mut rows[position * columns + tap * channels..][..channels];
            match pixel {
                Some(pixel) => to.copy_from_slice(&sample[pixel * channels..][..channels]),
                None => to.fill(self.padding),
            }
        });
    }

    /// Sum of each channel over all positions, of one sample.
    pub fn channel_sums(&self, sample: &[f32], sums: &mut [f32]) {
        sample.chunks_exact(sums.len()).for_each(|pixel| sums.iter_mut().zip(pixel).for_each(|(s, x)| *s += x));
    }

    /// Outputs of `samples` samples.
    pub fn run(&self, inputs: &[f32], samples: usize) -> Trace {
        let (filters, columns, positions) = (self.filters(), self.columns(), self.positions());
        let mut sums = vec![0.0; samples * positions * filters];
        let mut depthwise = Vec::new();
        let mut rows = Vec::new();
        match self.layer.operator {
            Operator::Dense { .. } => {
                add_product(View::rows(inputs, columns), samples, columns, &self.weights, &mut sums);
            }
            Operator::AverageDense { .. } => {
                let mut means = vec![0.0; samples * columns];
                for (sample, means) in inputs.chunks_exact(self.input_len()).zip(means.chunks_exact_mut(columns)) {
                    self.channel_sums(sample, means);
                }
                add_product(View::rows(&means, columns), samples, columns, &self.weights, &mut sums);
            }
            Operator::Conv { .. } => {
                let each = inputs.chunks_exact(self.input_len()).zip(sums.chunks_exact_mut(positions * filters));
                for (sample, sums) in each {
                    self.rows(sample, &mut rows);
                    add_product(View::rows(&rows, columns), positions, columns, &self.weights, sums);
                }
            }
            Operator::Separable { .. } => {
                depthwise.resize(samples * positions * columns, 0.0);
                let each = inputs.chunks_exact(self.input_len()).zip(depthwise.chunks_exact_mut(positions * columns));
                for (sample, sums) in each {
                    self.depthwise_sums(sample, sums);
                }
                add_product(View::rows(&depthwise, columns), samples * positions, columns, &self.weights, &mut sums);
            }
        }
        let (sums, picks) = self.pool(sums, samples);
        let outputs = self.activate(&sums);
        Trace { depthwise, sums, picks, outputs }
    }

    fn depthwise_sums(&self, sample: &[f32], sums: &mut [f32]) {
        let channels = self.layer.input[2];
        self.taps(|position, tap, pixel| {
            let weights = &self.depthwise[tap * channels..][..channels];
            let sums = &mut sums[position * channels..][..channels];
            match pixel {
                Some(pixel) => {
                    let x = &sample[pixel * channels..][..channels];
                    sums.iter_mut().zip(x).zip(weights).for_each(|((s, x), w)| *s += x * w);
                }
                None => sums.iter_mut().zip(weights).for_each(|(s, w)| *s += self.padding * w),
            }
        });
    }

    fn pool(&self, sums: Vec<f32>, samples: usize) -> (Vec<f32>, Vec<u32>) {
        let (filters, positions) = (self.filters(), self.positions());
        match self.layer.pool {
            Pool::None => (sums, Vec::new()),
            Pool::Global => {
                let mut pooled = vec![0.0; samples * filters];
                for (sums, pooled) in sums.chunks_exact(positions * filters).zip(pooled.chunks_exact_mut(filters)) {
                    self.channel_sums(sums, pooled);
                }
                (pooled, Vec::new())
            }
            Pool::Max { size, stride, pads } => {
                let ([rows, columns, _], [height, width]) = (self.layer.output, self.layer.conv);
                let mut pooled = vec![f32::NEG_INFINITY; samples * rows * columns * filters];
                let mut picks = vec![0u32; pooled.len()];
                let len = rows * columns * filters;
                let each = sums.chunks_exact(positions * filters).zip(pooled.chunks_exact_mut(len));
                for ((sums, pooled), picks) in each.zip(picks.chunks_exact_mut(len)) {
                    for at in 0..rows * columns {
                        let [top, left] = [at / columns * stride[0], at % columns * stride[1]];
                        for (y, x) in (0..size[0]).flat_map(|y| (0..size[1]).map(move |x| (top + y, left + x))) {
                            let (Some(y), Some(x)) = (y.checked_sub(pads[0]), x.checked_sub(pads[1])) else { continue };
                            if y >= height || x >= width {
                                continue;
                            }
                            let from = y * width + x;
                            for f in 0..filters {
                                if sums[from * filters + f] > pooled[at * filters + f] {
                                    pooled[at * filters + f] = sums[from * filters + f];
                                    picks[at * filters + f] = from as u32;
                                }
                            }
                        }
                    }
                }
                (pooled, picks)
            }
        }
    }

    fn activate(&self, sums: &[f32]) -> Vec<f32> {
        let filters = self.filters();
        let mut outputs = sums.to_vec();
        for row in outputs.chunks_exact_mut(filters) {
            match &self.activation {
                Activation::Real => {
                    row.iter_mut().enumerate().for_each(|(f, z)| *z = *z * self.scale[f] + self.offset[f])
                }
                Activation::Bounded(bound) => row.iter_mut().enumerate().for_each(|(f, z)| {
                    *z = (*z * self.scale[f] + self.offset[f]).clamp(0.0, bound[f]);
                }),
                Activation::Steps { threshold, length, most } => row.iter_mut().enumerate().for_each(|(f, z)| {
                    let steps = ((*z - threshold[f]) / length[f]).clamp(0.0, *most);
                    // Rounded up; as a conversion, for baseline processors have no instruction for it.
                    let whole = steps as u8 as f32;
                    *z = whole + f32::from(u8::from(steps > whole));
                }),
            }
        }
        outputs
    }
}

/// Outputs of every layer.
pub fn run(layers: &[NetLayer<'_>], inputs: &[f32], samples: usize) -> Vec<Trace> {
    let mut traces: Vec<Trace> = Vec::with_capacity(layers.len());
    for layer in layers {
        let inputs = traces.last().map_or(inputs, |before| &before.outputs);
        let trace = layer.run(inputs, samples);
        traces.push(trace);
    }
    traces
}
