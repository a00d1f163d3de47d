//! How parameters move: Adam. Each goes against its mean gradient over the root of its mean square.

use super::gradient::Gradient;
use super::net::NetLayer;
use super::student::Parameters;

/// Lengths of the steps.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Of a weight, as a part of the largest.
    pub weights: f32,
    /// Of the logarithm of a scale.
    pub scale: f32,
    /// Of an offset, in units of the output.
    pub offset: f32,
}

impl Rates {
    /// All of them, shorter.
    pub fn times(self, part: f32) -> Self {
        Self { weights: self.weights * part, scale: self.scale * part, offset: self.offset * part }
    }
}

/// Memory of the gradients so far.
pub struct Descent {
    mean: Vec<Gradient>,
    square: Vec<Gradient>,
    decay: (f32, f32),
    /// Root mean square of potentials.
    spread: f32,
}

/// What remains of mean and mean square after a step.
const DECAY: (f32, f32) = (0.9, 0.99);
/// So that a gradient that is always 0 moves nothing.
const LEAST: f32 = 1e-12;

impl Descent {
    /// At rest.
    pub fn new(net: &[NetLayer<'_>], spread: f32) -> Self {
        let zeros = || net.iter().map(Gradient::zeros).collect();
        Self { mean: zeros(), square: zeros(), decay: (1.0, 1.0), spread }
    }

    /// One step down.
    pub fn step(&mut self, parameters: &mut [Parameters<'_>], mut gradients: Vec<Gradient>, rates: Rates) {
        self.decay = (self.decay.0 * DECAY.0, self.decay.1 * DECAY.1);
        let (first, second) = (1.0 / (1.0 - self.decay.0), 1.0 / (1.0 - self.decay.1));
        for (at, parameters) in parameters.iter_mut().enumerate() {
            // The gradient becomes the direction.
            let memory = self.mean[at].parts_mut().into_iter().zip(self.square[at].parts_mut());
            for (gradient, (mean, square)) in gradients[at].parts_mut().into_iter().zip(memory) {
                for (g, (m, s)) in gradient.iter_mut().zip(mean.iter_mut().zip(square)) {
                    *m += (1.0 - DECAY.0) * (*g - *m);
                    *s += (1.0 - DECAY.1) * (*g * *g - *s);
                    *g = -(*m * first) / ((*s * second).sqrt() + LEAST);
                }
            }
            parameters.advance(&gradients[at], rates, self.spread);
        }
    }
}
