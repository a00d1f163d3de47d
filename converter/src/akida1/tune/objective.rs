//! What tuning makes small: the squared distance to the float network, of the output and of every activation; and for
//! outputs without position the divergence of their softmax, for what is largest in them counts more than their size.

use super::gradient::{self, Gradient};
use super::net::{self, NetLayer};
use super::parallel::in_parallel;
use super::student;
use super::views::Views;
use crate::akida1::chain::Chain;
use crate::akida1::input::Input;
use crate::akida1::maps::Map;

/// Samples of one step.
pub const BATCH: usize = 64;
/// Samples computed together.
const CHUNK: usize = 8;
/// Weight of an activation's relative error beside that of the output, when tuning begins; it becomes 0 evenly.
const MIDDLE: f32 = 0.1;
/// Weight of the divergence beside that of the output's relative error.
const DIVERGENCE: f32 = 0.5;
/// Temperature of the divergence, in root mean squares of the output.
const TEMPERATURE: f32 = 0.6;

/// The float network and what a distance from it costs.
pub struct Objective<'a, 'c> {
    teacher: Vec<NetLayer<'c>>,
    input: &'a Input,
    /// Real per unit of each layer's output.
    units: Vec<f32>,
    /// Sum of squares of each layer's output, mean over samples.
    energy: Vec<f32>,
}

impl<'a, 'c> Objective<'a, 'c> {
    /// For a chain and samples that say how large its outputs are.
    pub fn new(chain: &'c Chain, input: &'a Input, units: Vec<f32>, samples: &[Map]) -> Self {
        let teacher = student::teacher(chain);
        let energies = in_parallel(samples.len(), |sample| {
            let square = |trace: &net::Trace| trace.outputs.iter().map(|x| f64::from(x * x)).sum::<f64>();
            net::run(&teacher, &samples[sample], 1).iter().map(square).collect::<Vec<f64>>()
        });
        let mean = |at: usize| energies.iter().map(|of| of[at]).sum::<f64>() / samples.len().max(1) as f64;
        let energy = (0..teacher.len()).map(|at| mean(at).max(1e-20) as f32).collect();
        Self { teacher, input, units, energy }
    }

    /// Root mean square of the output.
    pub fn spread(&self) -> f32 {
        let last = self.teacher.len() - 1;
        (self.energy[last] / self.teacher[last].output_len() as f32).sqrt()
    }

    fn runs(&self, student: &[NetLayer<'_>], views: &[Map]) -> (Vec<f32>, Vec<net::Trace>, Vec<net::Trace>) {
        let integers: Vec<f32> = views.iter().flat_map(|view| self.input.quantize(view)).collect();
        let wanted = net::run(&self.teacher, &views.concat(), views.len());
        let made = net::run(student, &integers, views.len());
        (integers, made, wanted)
    }

    /// Loss and its gradients on the views of step `step` of `steps`.
    pub fn gradients(
        &self,
        student: &[NetLayer<'_>],
        views: &Views<'_>,
        step: u64,
        steps: u64,
    ) -> (f64, Vec<Gradient>) {
        let middle = MIDDLE * (1.0 - step as f32 / steps as f32);
        let parts = in_parallel(BATCH / CHUNK, |chunk| {
            let first = step * BATCH as u64 + (chunk * CHUNK) as u64;
            let views: Vec<Map> = (first..first + CHUNK as u64).map(|number| views.view(number)).collect();
            self.chunk(student, &views, middle)
        });
        let mut parts = parts.into_iter();
        let mut sum = parts.next().unwrap_or_default();
        for (loss, gradients) in parts {
            sum.0 += loss;
            sum.1.iter_mut().zip(gradients).for_each(|(sum, more)| sum.add(more));
        }
        sum
    }

    fn chunk(&self, student: &[NetLayer<'_>], views: &[Map], middle: f32) -> (f64, Vec<Gradient>) {
        let (integers, made, wanted) = self.runs(student, views);
        let mut gradients: Vec<Gradient> = student.iter().map(Gradient::zeros).collect();
        let mut loss = 0.0;
        let last = student.len() - 1;
        let mut of_outputs = vec![0.0; made[last].outputs.len()];
        for at in (0..=last).rev() {
            let unit = self.units[at];
            let weight = if at == last { 1.0 } else { middle } / (self.energy[at] * BATCH as f32);
            for ((y, z), g) in made[at].outputs.iter().zip(&wanted[at].outputs).zip(&mut of_outputs) {
                let error = y * unit - z;
                *g += 2.0 * weight * unit * error;
                loss += f64::from(weight * error * error);
            }
            if at == last && self.is_vector() {
                loss += f64::from(self.divergence(&made[at].outputs, &wanted[at].outputs, &mut of_outputs));
            }
            let inputs = if at == 0 { &integers } else { &made[at - 1].outputs };
            of_outputs = gradient::back(&student[at], inputs, &made[at], of_outputs, &mut gradients[at], at == 0);
        }
        (loss, gradients)
    }

    /// Whether the output is several numbers at one position.
    fn is_vector(&self) -> bool {
        self.teacher.last().is_some_and(|last| last.layer.output[..2] == [1, 1] && last.filters() > 1)
    }

    /// Kullback-Leibler divergence of softmax outputs, and its gradient by `made`.
    fn divergence(&self, made: &[f32], wanted: &[f32], of_outputs: &mut [f32]) -> f32 {
        let last = self.teacher.len() - 1;
        let (unit, len) = (self.units[last], self.teacher[last].output_len());
        let temperature = TEMPERATURE * self.spread();
        let weight = DIVERGENCE / BATCH as f32;
        let mut sum = 0.0;
        for ((made, wanted), of) in made.chunks(len).zip(wanted.chunks(len)).zip(of_outputs.chunks_mut(len)) {
            let (made, wanted) = (softmax(made, unit / temperature), softmax(wanted, 1.0 / temperature));
            for ((p, q), g) in made.iter().zip(&wanted).zip(of) {
                *g += weight * (p - q) * unit / temperature;
                sum += weight * q * (libm::logf(q.max(LEAST)) - libm::logf(p.max(LEAST)));
            }
        }
        sum
    }

    /// Squared error of each layer's output over its square.
    pub fn layer_errors(&self, student: &[NetLayer<'_>], views: &[Map]) -> Vec<f64> {
        let parts = in_parallel(views.len().div_ceil(CHUNK), |chunk| {
            let views = &views[chunk * CHUNK..((chunk + 1) * CHUNK).min(views.len())];
            let (_, made, wanted) = self.runs(student, views);
            let sums = |at: usize| {
                let pairs = made[at].outputs.iter().zip(&wanted[at].outputs);
                pairs.fold((0.0, 0.0), |(error, energy), (y, z)| {
                    (error + f64::from((y * self.units[at] - z).powi(2)), energy + f64::from(z * z))
                })
            };
            (0..student.len()).map(sums).collect::<Vec<(f64, f64)>>()
        });
        let ratio = |at: usize| {
            let (error, energy) = parts.iter().fold((0.0, 0.0), |(e, n), part| (e + part[at].0, n + part[at].1));
            if energy > 0.0 { error / energy } else { 0.0 }
        };
        (0..student.len()).map(ratio).collect()
    }

    /// The same of the network's output.
    pub fn error(&self, student: &[NetLayer<'_>], views: &[Map]) -> f64 {
        self.layer_errors(student, views).pop().unwrap_or_default()
    }
}

/// Smallest share that a logarithm is taken of.
const LEAST: f32 = 1e-9;

fn softmax(values: &[f32], factor: f32) -> Vec<f32> {
    let largest = values.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let powers: Vec<f32> = values.iter().map(|x| libm::expf((x - largest) * factor)).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}
