//! Gradients of a loss over the outputs of all layers. Steps pass a gradient as if they were the bounded line they
//! stand for (straight-through estimation): rounding is seen as the identity, the ends as 0.

use akida_runtime::model::Pool;

use super::net::{Activation, NetLayer, Trace};
use super::product::{View, add_product};
use crate::akida1::chain::Operator;

/// Gradients of one layer's parameters.
#[derive(Clone, Debug, Default)]
pub struct Gradient {
    /// As the weights.
    pub weights: Vec<f32>,
    /// As the depthwise weights.
    pub depthwise: Vec<f32>,
    /// Of the logarithm of each filter's scale.
    pub scale: Vec<f32>,
    /// Per filter.
    pub offset: Vec<f32>,
}

impl Gradient {
    /// Zeros for a layer.
    pub fn zeros(layer: &NetLayer<'_>) -> Self {
        Self {
            weights: vec![0.0; layer.weights.len()],
            depthwise: vec![0.0; layer.depthwise.len()],
            scale: vec![0.0; layer.filters()],
            offset: vec![0.0; layer.filters()],
        }
    }

    /// All parts in a fixed order.
    pub fn parts_mut(&mut self) -> [&mut Vec<f32>; 4] {
        [&mut self.weights, &mut self.depthwise, &mut self.scale, &mut self.offset]
    }

    /// Adds another one.
    pub fn add(&mut self, mut other: Self) {
        for (mine, other) in self.parts_mut().into_iter().zip(other.parts_mut()) {
            mine.iter_mut().zip(other.iter()).for_each(|(m, o)| *m += o);
        }
    }
}

/// Adds the gradients of a layer to `gradient`; `of_outputs` is the loss's by its outputs. Gives the loss's by its
/// inputs, unless it is the first layer.
pub fn back(
    layer: &NetLayer<'_>,
    inputs: &[f32],
    trace: &Trace,
    mut of_outputs: Vec<f32>,
    gradient: &mut Gradient,
    first: bool,
) -> Vec<f32> {
    let samples = inputs.len() / layer.input_len();
    activation(layer, trace, &mut of_outputs, gradient);
    let of_sums = unpool(layer, trace, of_outputs, samples);
    let mut of_inputs = vec![0.0; if first { 0 } else { inputs.len() }];
    let (columns, filters, positions) = (layer.columns(), layer.filters(), layer.positions());
    match layer.layer.operator {
        Operator::Dense { .. } => {
            add_product(View::transposed(inputs, columns), columns, samples, &of_sums, &mut gradient.weights);
            if !first {
                add_product(View::rows(&of_sums, filters), samples, filters, &layer.transposed, &mut of_inputs);
            }
        }
        Operator::AverageDense { .. } => {
            let mut means = vec![0.0; samples * columns];
            for (sample, means) in inputs.chunks_exact(layer.input_len()).zip(means.chunks_exact_mut(columns)) {
                layer.channel_sums(sample, means);
            }
            add_product(View::transposed(&means, columns), columns, samples, &of_sums, &mut gradient.weights);
            if !first {
                let mut of_means = vec![0.0; samples * columns];
                add_product(View::rows(&of_sums, filters), samples, filters, &layer.transposed, &mut of_means);
                for (of_sample, of_means) in
                    of_inputs.chunks_exact_mut(layer.input_len()).zip(of_means.chunks_exact(columns))
                {
                    of_sample.chunks_exact_mut(columns).for_each(|pixel| pixel.copy_from_slice(of_means));
                }
            }
        }
        Operator::Conv { .. } => {
            let channels = layer.layer.input[2];
            let (mut rows, mut of_rows) = (Vec::new(), vec![0.0; if first { 0 } else { positions * columns }]);
            for sample in 0..samples {
                let of_sums = &of_sums[sample * positions * filters..][..positions * filters];
                layer.rows(&inputs[sample * layer.input_len()..][..layer.input_len()], &mut rows);
                add_product(View::transposed(&rows, columns), columns, positions, of_sums, &mut gradient.weights);
                if first {
                    continue;
                }
                of_rows.fill(0.0);
                add_product(View::rows(of_sums, filters), positions, filters, &layer.transposed, &mut of_rows);
                let of_sample = &mut of_inputs[sample * layer.input_len()..][..layer.input_len()];
                layer.taps(|position, tap, pixel| {
                    let Some(pixel) = pixel else { return };
                    let from = &of_rows[position * columns + tap * channels..][..channels];
                    of_sample[pixel * channels..][..channels].iter_mut().zip(from).for_each(|(to, x)| *to += x);
                });
            }
        }
        Operator::Separable { .. } => {
            let count = samples * positions;
            add_product(View::transposed(&trace.depthwise, columns), columns, count, &of_sums, &mut gradient.weights);
            let mut of_depthwise = vec![0.0; count * columns];
            add_product(View::rows(&of_sums, filters), count, filters, &layer.transposed, &mut of_depthwise);
            for sample in 0..samples {
                let x = &inputs[sample * layer.input_len()..][..layer.input_len()];
                let of_sums = &of_depthwise[sample * positions * columns..][..positions * columns];
                layer.taps(|position, tap, pixel| {
                    let Some(pixel) = pixel else { return };
                    let of_sums = &of_sums[position * columns..][..columns];
                    let x = &x[pixel * columns..][..columns];
                    let to = &mut gradient.depthwise[tap * columns..][..columns];
                    to.iter_mut().zip(x).zip(of_sums).for_each(|((to, x), g)| *to += x * g);
                    if !first {
                        let weights = &layer.depthwise[tap * columns..][..columns];
                        let to = &mut of_inputs[sample * layer.input_len() + pixel * columns..][..columns];
                        to.iter_mut().zip(weights).zip(of_sums).for_each(|((to, w), g)| *to += w * g);
                    }
                });
            }
        }
    }
    of_inputs
}

/// From the gradient by outputs to that by sums, in place.
fn activation(layer: &NetLayer<'_>, trace: &Trace, of_outputs: &mut [f32], gradient: &mut Gradient) {
    let filters = layer.filters();
    for (sums, row) in trace.sums.chunks_exact(filters).zip(of_outputs.chunks_exact_mut(filters)) {
        for (f, (sum, g)) in sums.iter().zip(row).enumerate() {
            let scaled = sum * layer.scale[f];
            let line = scaled + layer.offset[f];
            let passes = match &layer.activation {
                Activation::Real => true,
                Activation::Bounded(bound) => line > 0.0 && line < bound[f],
                Activation::Steps { most, .. } => line > 0.0 && line < *most,
            };
            if passes {
                gradient.scale[f] += *g * scaled;
                gradient.offset[f] += *g;
                *g *= layer.scale[f];
            } else {
                *g = 0.0;
            }
        }
    }
}

fn unpool(layer: &NetLayer<'_>, trace: &Trace, of_pooled: Vec<f32>, samples: usize) -> Vec<f32> {
    let (filters, positions) = (layer.filters(), layer.positions());
    match layer.layer.pool {
        Pool::None => of_pooled,
        Pool::Global => {
            let mut of_sums = Vec::with_capacity(samples * positions * filters);
            of_pooled.chunks_exact(filters).for_each(|row| (0..positions).for_each(|_| of_sums.extend_from_slice(row)));
            of_sums
        }
        Pool::Max { .. } => {
            let mut of_sums = vec![0.0; samples * positions * filters];
            let len = layer.output_len();
            for sample in 0..samples {
                let of_sums = &mut of_sums[sample * positions * filters..][..positions * filters];
                for at in sample * len..(sample + 1) * len {
                    of_sums[trace.picks[at] as usize * filters + at % filters] += of_pooled[at];
                }
            }
            of_sums
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::akida1::chain::{Kernel, Layer, Window};
    use crate::akida1::tune::random::Random;

    fn layer(operator: Operator, pool: Pool, input: [usize; 3]) -> Layer {
        let layer = Layer {
            name: String::new(),
            tensor: String::new(),
            operator,
            bias: Vec::new(),
            pool,
            bound: Vec::new(),
            padding: 0.0,
            input,
            conv: [0; 2],
            output: [0; 3],
        };
        layer.sized().unwrap()
    }

    type Part = for<'a, 'b> fn(&'a mut NetLayer<'b>) -> &'a mut Vec<f32>;

    fn kernel(shape: [usize; 4]) -> Kernel {
        Kernel { shape, values: vec![0.0; shape.iter().product()] }
    }

    /// Every operator and pooling: gradients against differences of the loss, for real weights.
    #[test]
    fn gradients_are_those_of_differences() {
        let window = |stride, pads| Window { kernel: [3, 3], stride: [stride; 2], pads };
        let maximum = Pool::Max { size: [2, 2], stride: [2, 2], pads: [0; 4] };
        let conv = |window| Operator::Conv { weights: kernel([5, 3, 3, 2]), window };
        let separable =
            |window| Operator::Separable { depthwise: kernel([2, 3, 3, 1]), pointwise: kernel([5, 1, 1, 2]), window };
        for (number, layer) in [
            layer(conv(window(1, [1; 4])), maximum, [6, 6, 2]),
            layer(conv(window(2, [0, 0, 1, 1])), Pool::None, [6, 6, 2]),
            layer(separable(window(1, [1; 4])), Pool::Global, [6, 6, 2]),
            layer(separable(window(2, [0, 0, 1, 1])), maximum, [8, 8, 2]),
            layer(Operator::Dense { weights: kernel([5, 2, 3, 2]) }, Pool::None, [2, 3, 2]),
            layer(Operator::AverageDense { weights: kernel([5, 1, 1, 2]) }, Pool::None, [2, 3, 2]),
        ]
        .iter()
        .enumerate()
        {
            let random = &mut Random::new(7, number as u64);
            let mut some = |count: usize| (0..count).map(|_| random.around()).collect::<Vec<f32>>();
            let (taps, columns) = match &layer.operator {
                Operator::Separable { .. } => (18, 2),
                operator => (0, operator.output_weights().filter_len()),
            };
            let mut net = NetLayer {
                layer,
                padding: 0.0,
                weights: some(columns * 5),
                transposed: Vec::new(),
                depthwise: some(taps),
                scale: vec![0.5; 5],
                offset: some(5),
                activation: Activation::Bounded(vec![f32::INFINITY; 5]),
            };
            net.transposed = (0..columns * 5).map(|i| net.weights[i % columns * 5 + i / columns]).collect();
            let samples = 2;
            let inputs = some(samples * net.input_len());
            let pull = some(samples * net.output_len());
            let loss = |net: &NetLayer<'_>, inputs: &[f32]| -> f64 {
                net.run(inputs, samples).outputs.iter().zip(&pull).map(|(y, p)| f64::from(y * p)).sum()
            };
            let mut gradient = Gradient::zeros(&net);
            let of_inputs = back(&net, &inputs, &net.run(&inputs, samples), pull.clone(), &mut gradient, false);
            let far = 1e-3f32;
            let near = |what: &str, found: f32, up: f64, down: f64| {
                let wanted = (up - down) / f64::from(2.0 * far);
                assert!(
                    (wanted - f64::from(found)).abs() < 0.02 * (1.0 + wanted.abs()),
                    "{number} {what}: {found}, {wanted}"
                );
            };
            let moved = |what: &str, found: &[f32], at: usize, part: Part| {
                let at = at % found.len();
                let by = |by: f32| {
                    let mut other = net.clone();
                    part(&mut other)[at] += by;
                    loss(&other, &inputs)
                };
                near(what, found[at], by(far), by(-far));
            };
            for at in 0..7 {
                moved("weight", &gradient.weights, at * 3, |net| &mut net.weights);
                moved("offset", &gradient.offset, at, |net| &mut net.offset);
                if taps > 0 {
                    moved("depthwise", &gradient.depthwise, at * 5, |net| &mut net.depthwise);
                }
                // Of the logarithm.
                let scale: Vec<f32> = gradient.scale.iter().map(|g| g / 0.5).collect();
                moved("scale", &scale, at, |net| &mut net.scale);
                let input = at * 11 % inputs.len();
                let by = |by: f32| {
                    let mut inputs = inputs.clone();
                    inputs[input] += by;
                    loss(&net, &inputs)
                };
                let (up, down) = (by(far), by(-far));
                let wanted = (up - down) / f64::from(2.0 * far);
                let found = f64::from(of_inputs[input]);
                assert!((wanted - found).abs() < 0.02 * (1.0 + wanted.abs()), "{number} input: {found}, {wanted}");
            }
        }
    }
}
