//! Stride 2 with kernels that the chip lays with stride 1 only (targets.md 1.2): the convolution makes every position, and a
//! layer of ones picks every second of them. Exact: activations are what they were, and the second layer hands them on.

use super::chain::{Chain, Kernel, Layer, Operator, Window};
use super::report::Note;
use akida_runtime::model::Pool;

/// Largest kernel that the chip lays with stride 2 behind the first layer, and with stride 1.
const STRIDED: usize = 3;
const LARGEST: usize = 7;

/// Parts layers in two. `image`: the first layer takes images, with other limits, and stays.
pub fn part(chain: &mut Chain, image: bool, notes: &mut Vec<Note>) {
    let layers = std::mem::take(&mut chain.layers);
    for (index, layer) in layers.into_iter().enumerate() {
        match parts(&layer).filter(|_| index > 0 || !image) {
            Some((every, second)) => {
                let kernel = every.window().map_or([1; 2], |w| w.kernel);
                notes.push(Note::Parted { layer: layer.name, kernel });
                chain.layers.extend([every, second]);
            }
            None => chain.layers.push(layer),
        }
    }
}

/// The layer with stride 1, and one that picks; None where the chip lays it as it is, or not even with stride 1.
fn parts(layer: &Layer) -> Option<(Layer, Layer)> {
    let Operator::Conv { window, .. } = layer.operator else { return None };
    let largest = window.kernel.into_iter().max()?;
    // Potentials, which the last layer makes, are no input of another one.
    if window.stride != [2, 2] || !(STRIDED + 1..=LARGEST).contains(&largest) || layer.bound.is_empty() {
        return None;
    }
    let mut every = Layer { tensor: format!("{}/every", layer.tensor), pool: Pool::None, ..layer.clone() };
    if let Operator::Conv { window, .. } = &mut every.operator {
        window.stride = [1, 1];
    }
    let every = every.sized()?;
    let filters = every.filters();
    let second = Layer {
        name: format!("{}/second", layer.name),
        tensor: layer.tensor.clone(),
        operator: Operator::Conv {
            weights: ones(filters),
            window: Window { kernel: [1, 1], stride: [2, 2], pads: [0; 4] },
        },
        bias: vec![0.0; filters],
        pool: layer.pool,
        padding: 0.0,
        input: every.output,
        ..layer.clone()
    };
    let second = second.sized().filter(|second| second.output == layer.output)?;
    Some((every, second))
}

/// 1 from every channel to the filter of its number, 0 to others.
fn ones(channels: usize) -> Kernel {
    let values = (0..channels * channels).map(|i| if i.is_multiple_of(channels + 1) { 1.0 } else { 0.0 }).collect();
    Kernel { shape: [channels, 1, 1, channels], values }
}

/// Whether a layer does nothing but to hand its inputs on, those it picks.
pub fn picks(layer: &Layer) -> bool {
    let Operator::Conv { weights, window } = &layer.operator else { return false };
    window.stride == [2, 2]
        && (0..weights.shape[0]).all(|filter| {
            let mut others = weights.filter(filter).iter().enumerate().filter(|(_, w)| **w != 0.0);
            others.next().is_some_and(|(at, w)| at % weights.shape[3] == filter && *w == 1.0) && others.next().is_none()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::akida1::layer::float;
    use akida_runtime::model::OnnxLayout;

    fn layer(size: [usize; 2], stride: usize, pads: [usize; 4], input: [usize; 2], pool: Pool) -> Option<Layer> {
        let count = 3 * size[0] * size[1] * 2;
        // Small integers: sums are exact, so results must be equal to the last bit.
        let values = (0..count).map(|i| ((i * 7 + i / 5) % 9) as f64 - 4.0).collect();
        let weights = Kernel { shape: [3, size[0], size[1], 2], values };
        let layer = Layer {
            name: "layer".into(),
            tensor: "layer".into(),
            operator: Operator::Conv { weights, window: Window { kernel: size, stride: [stride; 2], pads } },
            bias: vec![3.0, -2.0, 0.0],
            pool,
            bound: vec![40.0, f64::INFINITY, 60.0],
            padding: 0.0,
            input: [input[0], input[1], 2],
            conv: [0; 2],
            output: [0; 3],
        };
        layer.sized()
    }

    #[test]
    fn parted_layers_make_the_same_numbers() {
        let max = Pool::Max { size: [2, 2], stride: [2, 2], pads: [0; 4] };
        let mut parted = 0;
        for (size, stride, pads, input, pool, parts) in [
            ([5, 5], 2, [2, 2, 2, 2], [8, 8], Pool::None, true),
            ([5, 5], 2, [2, 2, 2, 2], [9, 7], Pool::None, true),
            ([5, 5], 2, [0; 4], [9, 12], Pool::None, true),
            ([5, 5], 2, [1, 1, 2, 2], [10, 10], max, true),
            ([7, 7], 2, [3, 3, 3, 3], [11, 8], Pool::Global, true),
            ([4, 5], 2, [0; 4], [9, 9], Pool::None, true),
            ([3, 3], 2, [1, 1, 1, 1], [7, 7], Pool::None, false),
            ([5, 5], 1, [2, 2, 2, 2], [8, 8], Pool::None, false),
            ([9, 9], 2, [4, 4, 4, 4], [12, 12], Pool::None, false),
        ] {
            let plain = layer(size, stride, pads, input, pool).expect("it fits");
            let mut chain = Chain {
                name: "chain".into(),
                input: "x".into(),
                layout: OnnxLayout::Nchw,
                shape: plain.input,
                layers: vec![plain.clone()],
                output: "layer".into(),
            };
            let mut notes = Vec::new();
            part(&mut chain, true, &mut notes);
            assert_eq!((chain.layers.len(), notes.len()), (1, 0), "{size:?}: a first layer on images stays");
            part(&mut chain, false, &mut notes);
            assert_eq!((chain.layers.len() == 2, notes.len() == 1), (parts, parts), "{size:?} /{stride} {pads:?}");
            let x: Vec<f32> = (0..plain.input.iter().product()).map(|i: usize| (i * 5 % 11) as f32).collect();
            let made = chain.layers.iter().fold(x.clone(), |map, layer| float(layer, &map));
            assert_eq!(made, float(&plain, &x), "{size:?} /{stride} {pads:?} on {input:?}");
            assert_eq!(chain.layers.iter().filter(|l| picks(l)).count(), usize::from(parts));
            parted += usize::from(parts);
        }
        assert_eq!(parted, 6);
        let mut potentials = layer([5, 5], 2, [2; 4], [8, 8], Pool::None).expect("it fits");
        potentials.bound.clear();
        assert!(super::parts(&potentials).is_none(), "no layer takes potentials");
    }
}
