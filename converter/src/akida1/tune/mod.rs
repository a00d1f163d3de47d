//! Tuning: the whole quantized network at once, against the float network, without labels.
//!
//! Layers that were quantized one after another are each near the float network; at two bits their errors still add up.
//! Here all weights, thresholds and steps move together so that the *output* is near (and, less and less strongly, every
//! activation): gradients pass roundings straight through, weights stay real numbers until the end, the forward pass is
//! the chip's own arithmetic. The samples are views of the calibration samples (moved, faded, mixed, with noise), and
//! what is right for each of them the float network says. A quarter of the samples takes no part: on views of those the
//! tuned network must be nearer to the float network than before, or it is dropped.
//!
//! The same bytes on every run and machine: views come from fixed numbers, sums are made in a fixed order without fused
//! multiply-adds (`product`), gradients are added by chunks of fixed size in their order whatever the number of threads,
//! and what is not a sum or product is a root (exact by IEEE 754) or comes from `libm`.
//!
//! | file | concern |
//! |---|---|
//! | `views` | more samples out of few |
//! | `net`, `product` | outputs of all layers |
//! | `gradient` | gradients back through them |
//! | `student` | parameters that move, and integers from them |
//! | `descent` | how they move |
//! | `objective` | what is made small |

mod descent;
mod gradient;
mod net;
mod objective;
mod parallel;
mod product;
mod random;
mod student;
mod views;

use super::chain::Chain;
use super::input::Input;
use super::layer::Done;
use super::maps::Map;
use descent::{Descent, Rates};
use net::NetLayer;
use objective::{BATCH, Objective};
use student::Parameters;
use views::Views;

/// Multiplications that one conversion may spend, about.
const BUDGET: u64 = 500_000_000_000;
/// Steps at most.
const MOST_STEPS: u64 = 1200;
/// Steps below which nothing is gained.
const LEAST_STEPS: u64 = 100;
/// Samples below which none can be held out.
const LEAST_SAMPLES: usize = 32;
/// Multiplications of a step over those of a run: the float network, the quantized one, and both gradients.
const RUNS: u64 = 4;
/// Squared error over squared output that needs no tuning.
const GOOD: f64 = 0.01;
/// One sample of this many is held out.
const HELD: usize = 4;
/// Views of held out samples.
const JUDGED: u64 = 384;
/// Steps of descent at its beginning, for a network whose error is [`FAR`] or more; they become 0 with half a cosine.
const RATES: Rates = Rates { weights: 0.01, scale: 0.003, offset: 0.01 };
/// Networks that are nearer take shorter steps, by the root of their error.
const FAR: f64 = 0.1;
/// Shortest steps, as a part of the longest.
const SHORTEST: f64 = 0.25;

/// What became of tuning. Errors are squared errors of the output over its square, on views of held out samples.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Tuning {
    /// It was turned off.
    Off,
    /// Too few samples.
    FewSamples {
        /// How many there are.
        samples: usize,
    },
    /// Too few steps are within the budget.
    TooLarge {
        /// Multiplications for one sample.
        products: u64,
    },
    /// The network was near enough.
    Unneeded {
        /// Its error.
        error: f64,
    },
    /// Done.
    Done {
        /// Steps taken.
        steps: u64,
        /// Error before.
        before: f64,
        /// Error after; where it is not smaller, the network stayed what it was.
        after: f64,
    },
}

impl Tuning {
    /// Whether a network that should have been tuned stayed what it was.
    pub fn is_missed(&self) -> bool {
        match self {
            Self::Off | Self::Unneeded { .. } => false,
            Self::FewSamples { .. } | Self::TooLarge { .. } => true,
            Self::Done { before, after, .. } => after >= before,
        }
    }
}

impl std::fmt::Display for Tuning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => write!(f, "turned off"),
            Self::FewSamples { samples } => write!(f, "{samples} samples, {LEAST_SAMPLES} are needed"),
            Self::TooLarge { products } => write!(
                f,
                "{products} multiplications for one sample; {} are within the budget of {BUDGET}",
                BUDGET / (RUNS * BATCH as u64 * LEAST_STEPS)
            ),
            Self::Unneeded { error } => write!(f, "the error of the output is {error:.5} without"),
            Self::Done { steps, before, after } => {
                write!(f, "the error of the output went from {before:.5} to {after:.5} in {steps} steps")
            }
        }
    }
}

/// One layer's width: bits of its weights, and of its output where it is no potential.
pub type Width = (u8, Option<u8>);

/// Tunes quantized layers in place. `image`: the first is an InputConvolutional. `progress` is told steps.
pub fn tune(
    chain: &Chain,
    input: &Input,
    samples: &[Map],
    layers: &mut [Done],
    widths: &[Width],
    image: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Tuning {
    let mut parameters: Vec<Parameters<'_>> = Vec::with_capacity(layers.len());
    for (at, ((layer, done), &(weight_bits, bits))) in chain.layers.iter().zip(&*layers).zip(widths).enumerate() {
        let padding = if at == 0 { input.padding } else { 0 };
        parameters.push(Parameters::new(layer, done, weight_bits, bits, padding, image && at == 0));
    }
    let start = nets(&parameters);
    let products: u64 = start.iter().map(NetLayer::products).sum();
    let steps = (BUDGET / (RUNS * BATCH as u64 * products.max(1))).min(MOST_STEPS);
    if samples.len() < LEAST_SAMPLES {
        return Tuning::FewSamples { samples: samples.len() };
    }
    if steps < LEAST_STEPS {
        return Tuning::TooLarge { products };
    }
    let units = parameters.iter().map(Parameters::unit).collect();
    let objective = Objective::new(chain, input, units, samples);
    let part = |held: bool| {
        let chosen = samples.iter().enumerate().filter(|(at, _)| (at % HELD == HELD - 1) == held);
        Views::new(chain.shape, chosen.map(|(_, sample)| sample).collect())
    };
    let (used, held) = (part(false), part(true));
    let judged: Vec<Map> = (0..JUDGED).map(|number| held.view(number)).collect();
    let before = objective.error(&start, &judged);
    if before < GOOD {
        return Tuning::Unneeded { error: before };
    }
    let longest = (before / FAR).sqrt().clamp(SHORTEST, 1.0);
    let mut descent = Descent::new(&start, objective.spread());
    for step in 0..steps {
        progress(step, steps);
        let (loss, gradients) = objective.gradients(&nets(&parameters), &used, step, steps);
        if step % 100 == 0 {
            log::debug!("tuning, step {step} of {steps}: loss {loss:.5}");
        }
        let part = std::f64::consts::PI * step as f64 / steps as f64;
        descent.step(&mut parameters, gradients, RATES.times((longest * (0.5 + 0.5 * libm::cos(part))) as f32));
    }
    let tuned = nets(&parameters);
    let after = objective.error(&tuned, &judged);
    if after < before {
        let errors = objective.layer_errors(&tuned, samples);
        for ((parameters, done), error) in parameters.iter().zip(layers).zip(errors) {
            parameters.put(done);
            done.relative_error = error;
        }
    }
    Tuning::Done { steps, before, after }
}

fn nets<'c>(parameters: &[Parameters<'c>]) -> Vec<NetLayer<'c>> {
    parameters.iter().map(Parameters::net).collect()
}
