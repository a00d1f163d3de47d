//! Windows as the chip can lay them (targets.md 1.1-1.3): exact rewritings of convolutions that it cannot lay as they
//! are.
//!
//! - **Widened kernels.** A kernel of another size than the chip has, or whose padding is not on the chip's grid, is
//!   put into a larger one among zeros, so that the windows cover the same inputs.
//! - **The network turned by 180 degrees.** PyTorch pads stride 2 on even maps on the other side than the chip. Turned
//!   input, kernels, pooling windows and dense weights compute the same numbers with the padding on the chip's side.
//!
//! A layer for which neither helps stays as it is; the mapper names its rule.

use akida_runtime::mapping::geometry::{Axis, PoolAxis, Wanted};
use akida_runtime::model::Pool;

use super::chain::{Chain, Kernel, Layer, Operator, Window};
use super::report::Note;

/// Rewrites what the chip cannot lay. `image`: the first layer takes images of 8 bits.
pub fn fit(chain: &mut Chain, image: bool, notes: &mut Vec<Note>) {
    let plans = |turned: bool| -> Vec<Option<Plan>> {
        chain.layers.iter().enumerate().map(|(index, layer)| plan(layer, image && index == 0, turned)).collect()
    };
    let (mut plans, turned_plans) = (plans(false), plans(true));
    let unfit: Vec<String> =
        plans.iter().zip(&chain.layers).filter(|(plan, _)| plan.is_none()).map(|(_, l)| l.name.clone()).collect();
    let turned = !unfit.is_empty() && turned_plans.iter().all(Option::is_some);
    if turned {
        chain.layout = chain.layout.turned();
        plans = turned_plans;
        notes.push(Note::Turned { layers: unfit });
    }
    for (layer, plan) in chain.layers.iter_mut().zip(plans) {
        if let Operator::Dense { weights } = &mut layer.operator
            && turned
        {
            *weights = turn_positions(weights);
        }
        let (Some(plan), Some(window)) = (plan, layer.window()) else { continue };
        if plan.size != window.kernel {
            notes.push(Note::Widened { layer: layer.name.clone(), from: window.kernel, to: plan.size[0] });
        }
        plan.apply(layer);
    }
}

/// How a layer is laid.
struct Plan {
    /// Kernel, (height, width).
    size: [usize; 2],
    /// Where the layer's own kernel begins in it.
    at: [usize; 2],
    /// [top, left, bottom, right].
    pads: [usize; 4],
    pool: Pool,
    turned: bool,
}

/// None: not as the chip could lay it. Layers without windows need no plan and get an empty one.
fn plan(layer: &Layer, image: bool, turned: bool) -> Option<Plan> {
    let Some(window) = layer.window() else {
        return Some(Plan { size: [1, 1], at: [0, 0], pads: [0; 4], pool: layer.pool, turned });
    };
    let separable = matches!(layer.operator, Operator::Separable { .. });
    let sizes: &[usize] = match (image, window.stride.into_iter().max()) {
        (true, Some(1..=3)) => &[3, 5, 7],
        (false, Some(1)) if !separable => &[1, 3, 5, 7],
        (false, Some(1)) => &[3, 5, 7],
        (false, Some(2)) => &[3],
        _ => return None,
    };
    let pool = if turned { turn_pool(layer)? } else { layer.pool };
    sizes.iter().find_map(|&size| {
        let [rows, columns] = [0, 1].map(|axis| place(layer, &window, pool, axis, size, image, turned));
        let ((top, y, bottom), (left, x, right)) = (rows?, columns?);
        Some(Plan { size: [size; 2], at: [y, x], pads: [top, left, bottom, right], pool, turned })
    })
}

/// Padding before, place of the kernel in one of `size`, padding after.
fn place(
    layer: &Layer,
    window: &Window,
    pool: Pool,
    axis: usize,
    size: usize,
    image: bool,
    turned: bool,
) -> Option<(usize, usize, usize)> {
    let (input, kernel, stride) = (layer.input[axis], window.kernel[axis], window.stride[axis]);
    let reach = (layer.conv[axis].checked_sub(1)? * stride + kernel) as isize;
    // Behind the last window: less than nothing where a remainder of the input is never looked at.
    let after = reach - input as isize - window.pads[axis] as isize;
    let before = if turned { after } else { window.pads[axis] as isize };
    (0..=size.checked_sub(kernel)?).find_map(|at| {
        let before = usize::try_from(before + at as isize).ok()?;
        let after = (reach + (size - kernel) as isize - input as isize - before as isize).max(0) as usize;
        let pool = match pool {
            Pool::None => PoolAxis::None,
            Pool::Global => PoolAxis::Global,
            Pool::Max { size, stride, pads } => {
                PoolAxis::Max { size: size[axis], stride: stride[axis], pad: pads[axis] }
            }
        };
        let output = layer.output[axis];
        let wanted = Wanted { input, kernel: size, stride, pads: [before, after], pool, output };
        Axis::convolution(&wanted, false, image).ok().map(|_| (before, at, after))
    })
}

/// The pooling of the turned map; None where it leaves out a remainder, which would then be at the front.
fn turn_pool(layer: &Layer) -> Option<Pool> {
    let Pool::Max { size, stride, pads } = layer.pool else { return Some(layer.pool) };
    let before = [0, 1].map(|axis| {
        let reach = layer.output[axis].checked_sub(1)? * stride[axis] + size[axis];
        reach.checked_sub(layer.conv[axis] + pads[axis])
    });
    let [Some(top), Some(left)] = before else { return None };
    Some(Pool::Max { size, stride, pads: [top, left, pads[0], pads[1]] })
}

impl Plan {
    fn apply(self, layer: &mut Layer) {
        layer.pool = self.pool;
        let (Operator::Conv { weights, window } | Operator::Separable { depthwise: weights, window, .. }) =
            &mut layer.operator
        else {
            return;
        };
        let [filters, height, width, channels] = weights.shape;
        let shape = [filters, self.size[0], self.size[1], channels];
        let mut wide = Kernel { shape, values: vec![0.0; shape.iter().product()] };
        for filter in 0..filters {
            let from = weights.filter(filter);
            let to = wide.filter_mut(filter);
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                let (row, column) = if self.turned { (height - 1 - y, width - 1 - x) } else { (y, x) };
                let at = ((self.at[0] + row) * self.size[1] + self.at[1] + column) * channels;
                to[at..at + channels].copy_from_slice(&from[(y * width + x) * channels..][..channels]);
            }
        }
        *weights = wide;
        (window.kernel, window.pads) = (self.size, self.pads);
    }
}

/// Dense weights for a turned map.
fn turn_positions(weights: &Kernel) -> Kernel {
    let channels = weights.shape[3];
    let turn = |unit: usize| weights.filter(unit).rchunks(channels).flatten().copied().collect::<Vec<f64>>();
    Kernel { shape: weights.shape, values: (0..weights.shape[0]).flat_map(turn).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::akida1::layer::float;
    use akida_runtime::model::{OnnxLayout, Shape};
    use proptest::prelude::*;

    /// Small integers: every sum is exact, so results must be equal to the last bit.
    fn numbers(count: usize, seed: u64) -> Vec<f64> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as i64 % 9 - 4
        };
        (0..count).map(|_| next() as f64).collect()
    }

    fn kernel(shape: [usize; 4], seed: u64) -> Kernel {
        Kernel { shape, values: numbers(shape.iter().product(), seed) }
    }

    fn layer(operator: Operator, pool: Pool, input: Shape) -> Option<Layer> {
        let filters = operator.output_weights().shape[0];
        let layer = Layer {
            name: "layer".into(),
            tensor: "layer".into(),
            operator,
            bias: numbers(filters, 5),
            pool,
            bound: vec![f64::INFINITY; filters],
            padding: 0.0,
            input,
            conv: [0; 2],
            output: [0; 3],
        };
        layer.sized()
    }

    fn chain(layers: Vec<Layer>) -> Chain {
        Chain {
            name: "chain".into(),
            input: "x".into(),
            layout: OnnxLayout::Nchw,
            shape: layers[0].input,
            output: layers[layers.len() - 1].tensor.clone(),
            layers,
        }
    }

    fn run(chain: &Chain, onnx: &[f32]) -> Vec<f32> {
        let last = &chain.layers[chain.layers.len() - 1];
        let made = chain.layers.iter().fold(chain.layout.to_chip(onnx, chain.shape), |map, layer| float(layer, &map));
        if last.output[..2] == [1, 1] { made } else { chain.layout.to_onnx(&made, last.output) }
    }

    fn laid(chain: &Chain, image: bool) -> bool {
        chain.layers.iter().enumerate().all(|(index, layer)| {
            plan(layer, image && index == 0, false).is_some_and(|p| layer.window().is_none_or(|w| w.kernel == p.size))
        })
    }

    /// (kernel, stride, pads, input, what must happen).
    #[test]
    fn kernels_of_every_size_find_their_place() {
        let cases = [
            ([1, 1], 2, [0; 4], [8, 8], true),
            ([1, 1], 2, [0; 4], [7, 9], true),
            ([2, 2], 1, [0; 4], [6, 6], true),
            ([2, 2], 2, [0; 4], [6, 6], true),
            ([4, 4], 1, [1, 1, 2, 2], [6, 6], true),
            ([1, 3], 1, [0, 1, 0, 1], [5, 6], true),
            ([3, 1], 1, [1, 0, 1, 0], [5, 6], true),
            ([5, 3], 1, [2, 1, 2, 1], [6, 6], true),
            ([6, 6], 1, [0; 4], [8, 8], true),
            ([3, 3], 2, [0, 0, 1, 1], [8, 8], true),
            ([3, 3], 2, [1, 1, 1, 1], [7, 7], true),
            // On the other side: only the whole network can be turned.
            ([3, 3], 2, [1, 1, 1, 1], [8, 8], true),
            // Rows one way, columns the other.
            ([3, 3], 2, [1, 0, 0, 1], [8, 8], false),
            ([5, 5], 2, [2, 2, 2, 2], [8, 8], false),
            ([8, 8], 1, [0; 4], [9, 9], false),
            ([3, 3], 3, [0; 4], [9, 9], false),
        ];
        for (size, stride, pads, [height, width], fits) in cases {
            let window = Window { kernel: size, stride: [stride; 2], pads };
            let weights = kernel([3, size[0], size[1], 2], 7);
            let first = layer(Operator::Conv { weights, window }, Pool::None, [height, width, 2]).expect("it fits");
            let dense = kernel([4, first.output[0], first.output[1], 3], 11);
            let second = layer(Operator::Dense { weights: dense }, Pool::None, first.output).expect("it fits");
            let plain = chain(vec![first, second]);
            let mut fitted = plain.clone();
            let mut notes = Vec::new();
            fit(&mut fitted, false, &mut notes);
            assert_eq!(laid(&fitted, false), fits, "{size:?} /{stride} {pads:?} on {height}x{width}: {notes:?}");
            assert_eq!(fitted == plain, notes.is_empty(), "{size:?} /{stride} {pads:?}: {notes:?}");
            let x: Vec<f32> = numbers(height * width * 2, 3).iter().map(|&v| v as f32).collect();
            assert_eq!(run(&fitted, &x), run(&plain, &x), "{size:?} /{stride} {pads:?}");
        }
    }

    proptest! {
        /// Whatever is rewritten, results are the same numbers.
        #[test]
        fn rewriting_changes_no_number(
            size in [1usize..8, 1usize..8], stride in 1usize..4, pads in [0usize..4, 0usize..4, 0usize..4, 0usize..4],
            input in [1usize..12, 1usize..12], image: bool, separable: bool, pool in 0usize..4, seed: u64,
        ) {
            let shape = [input[0], input[1], 3];
            let window = Window { kernel: size, stride: [stride; 2], pads };
            let operator = if separable {
                let (depthwise, pointwise) = (kernel([3, size[0], size[1], 1], seed), kernel([2, 1, 1, 3], seed ^ 1));
                Operator::Separable { depthwise, pointwise, window }
            } else {
                Operator::Conv { weights: kernel([2, size[0], size[1], 3], seed), window }
            };
            let pool = [
                Pool::None,
                Pool::Global,
                Pool::Max { size: [2, 2], stride: [2, 2], pads: [0; 4] },
                Pool::Max { size: [3, 3], stride: [2, 2], pads: [1; 4] },
            ][pool];
            let Some(first) = layer(operator, pool, shape) else { return Ok(()) };
            let plain = chain(vec![first]);
            let mut fitted = plain.clone();
            fit(&mut fitted, image, &mut Vec::new());
            let x: Vec<f32> = numbers(shape.iter().product(), seed ^ 2).iter().map(|&v| v as f32).collect();
            prop_assert_eq!(run(&fitted, &x), run(&plain, &x));
            let sized = fitted.layers[0].clone().sized().expect("it still fits");
            prop_assert_eq!((sized.conv, sized.output), (plain.layers[0].conv, plain.layers[0].output));
        }
    }
}
