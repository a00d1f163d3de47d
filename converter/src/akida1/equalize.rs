//! Cross-layer equalization: one range serves all channels of an activation.
//!
//! A channel that is small in the activation but has large weights in the next layer is made larger here and smaller
//! there, by the same factor: the float network stays what it was (a rectifier commutes with positive factors), its
//! integers lose less.

use super::chain::{Chain, Operator};
use super::strides;

/// Largest factor.
const MOST: f64 = 8.0;

/// Scales the channels of every activation. `ranges` are the largest values of each layer's output channels on
/// calibration data; `strength` is 0 for nothing, 1/2 for channel and weights meeting in the middle.
pub fn equalize(chain: &mut Chain, ranges: &[Vec<f64>], strength: f64) {
    for index in 0..chain.layers.len().saturating_sub(1) {
        let (before, after) = chain.layers.split_at_mut(index + 1);
        let (layer, next) = (&mut before[index], &mut after[0]);
        // Ones stay ones, which few bits hold exactly.
        if strides::picks(layer) || strides::picks(next) {
            continue;
        }
        let channels = layer.filters();
        let weights = channel_weights(&next.operator, channels);
        let factor: Vec<f64> = ranges[index]
            .iter()
            .zip(&weights)
            .map(|(&range, &weight)| if range > 0.0 && weight > 0.0 { weight / range } else { f64::NAN })
            .collect();
        let known: Vec<f64> = factor.iter().copied().filter(|f| !f.is_nan()).collect();
        if known.is_empty() {
            continue;
        }
        let middle = libm::exp(known.iter().map(|f| libm::log(*f)).sum::<f64>() / known.len() as f64);
        let factor: Vec<f64> = factor
            .iter()
            .map(|f| if f.is_nan() { 1.0 } else { libm::pow(f / middle, strength).clamp(1.0 / MOST, MOST) })
            .collect();
        layer.operator.output_weights_mut().scale(|filter, _| factor[filter]);
        layer.bias.iter_mut().zip(&factor).for_each(|(b, f)| *b *= f);
        layer.bound.iter_mut().zip(&factor).for_each(|(b, f)| *b *= f);
        match &mut next.operator {
            Operator::Separable { depthwise, .. } => depthwise.scale(|channel, _| 1.0 / factor[channel]),
            Operator::Conv { weights, .. } | Operator::Dense { weights } | Operator::AverageDense { weights } => {
                weights.scale(|_, channel| 1.0 / factor[channel]);
            }
        }
    }
}

/// Root of the sum of squares of the weights a layer has for each input channel: what an error there costs.
pub fn channel_weights(operator: &Operator, channels: usize) -> Vec<f64> {
    let mut squares = vec![0.0; channels];
    match operator {
        Operator::Separable { depthwise, pointwise, .. } => {
            for (filter_weights, _) in (0..pointwise.shape[0]).map(|f| (pointwise.filter(f), f)) {
                squares.iter_mut().zip(filter_weights).for_each(|(s, w)| *s += w * w);
            }
            for (channel, square) in squares.iter_mut().enumerate() {
                *square *= depthwise.filter(channel).iter().map(|w| w * w).sum::<f64>();
            }
        }
        Operator::Conv { weights, .. } | Operator::Dense { weights } | Operator::AverageDense { weights } => {
            for pixel in weights.values.chunks(channels) {
                squares.iter_mut().zip(pixel).for_each(|(s, w)| *s += w * w);
            }
        }
    }
    squares.into_iter().map(f64::sqrt).collect()
}
