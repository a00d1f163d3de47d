//! Weights of a separable layer: a depthwise part whose raw sums go into a pointwise one.
//!
//! Each depthwise kernel may have its own scale: it moves into the pointwise weights of its channel. The two parts are
//! fitted in turn, each with the other held, to the sums of the whole layer.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::fit::{self, Fit, Method};
use super::maps;

/// The problem of one separable layer; as [`fit::Problem`], with two sets of weights.
pub struct Problem<'a> {
    /// Integers, (rows, taps x channels).
    pub rows: ArrayView2<'a, f64>,
    /// Real sums with bias, (rows, filters).
    pub targets: ArrayView2<'a, f64>,
    /// Float depthwise weights for these rows, (taps, channels).
    pub depthwise: &'a Array2<f64>,
    /// Float pointwise weights, (channels, filters).
    pub pointwise: &'a Array2<f64>,
    /// Biases in float.
    pub bias: &'a [f64],
    /// Upper bound of each filter's rectifier; empty: none.
    pub bound: &'a [f64],
    /// Bits of a weight.
    pub bits: u8,
    /// How.
    pub method: Method,
}

/// Times that the two parts are fitted in turn.
const TURNS: usize = 4;

impl Problem<'_> {
    /// Depthwise weights (taps, channels) and the fit of the pointwise ones.
    pub fn solve(&self) -> (Array2<f64>, Fit) {
        let (mut depthwise, scale) = self.first_depthwise();
        let mut fit = self.pointwise(&depthwise, &scale, None);
        if !self.method.descend {
            return (depthwise, fit);
        }
        let mut best = (self.error(&depthwise, &fit), depthwise.clone(), fit.clone());
        for _ in 0..TURNS {
            self.descend_depthwise(&mut depthwise, &fit);
            fit = self.pointwise(&depthwise, &self.scales(&depthwise, &scale), Some(&fit));
            let error = self.error(&depthwise, &fit);
            if error >= best.0 {
                break;
            }
            best = (error, depthwise.clone(), fit.clone());
        }
        (best.1, best.2)
    }

    /// Inputs of a channel: (rows, taps).
    fn channel(&self, channel: usize) -> Array2<f64> {
        let channels = self.depthwise.ncols();
        Array2::from_shape_fn((self.rows.nrows(), self.depthwise.nrows()), |(row, tap)| {
            self.rows[[row, tap * channels + channel]]
        })
    }

    /// Each depthwise kernel by itself; real per unit of its sums.
    fn first_depthwise(&self) -> (Array2<f64>, Vec<f64>) {
        let mut weights = Array2::zeros(self.depthwise.raw_dim());
        let mut scales = Vec::with_capacity(weights.ncols());
        for channel in 0..weights.ncols() {
            let rows = self.channel(channel);
            let float = self.depthwise.column(channel).insert_axis(Axis(1)).to_owned();
            // Offsets do not matter here: those of the layer take them up.
            let problem = fit::Problem {
                rows: rows.view(),
                targets: rows.dot(&float).mapv(fit::grid).view(),
                float: &float,
                bias: &[0.0],
                bound: &[],
                bits: self.bits,
                method: self.method,
            }
            .solve(None);
            weights.column_mut(channel).assign(&problem.weights.column(0));
            scales.push(problem.scale[0]);
        }
        (weights, scales)
    }

    /// Real per unit of each channel's sums for weights that have changed: the best multiple of the float kernel.
    fn scales(&self, depthwise: &Array2<f64>, before: &[f64]) -> Vec<f64> {
        let of = |channel: usize| {
            let (w, float) = (depthwise.column(channel), self.depthwise.column(channel));
            let sum = |a: &Array1<f64>, b: &Array1<f64>| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (w, float) = (w.to_owned(), float.to_owned());
            let (along, square) = (sum(&w, &float), sum(&w, &w));
            if along > 0.0 && square > 0.0 { along / square } else { before[channel] }
        };
        (0..depthwise.ncols()).map(of).collect()
    }

    fn pointwise(&self, depthwise: &Array2<f64>, scales: &[f64], before: Option<&Fit>) -> Fit {
        let rows = maps::depthwise(self.rows, depthwise);
        let mut float = self.pointwise.clone();
        float.rows_mut().into_iter().zip(scales).for_each(|(mut row, s)| row *= *s);
        fit::Problem {
            rows: rows.view(),
            targets: self.targets,
            float: &float,
            bias: self.bias,
            bound: self.bound,
            bits: self.bits,
            method: self.method,
        }
        .solve(before)
    }

    /// Squared error of the rectified sums.
    fn error(&self, depthwise: &Array2<f64>, fit: &Fit) -> f64 {
        let residual = self.residual(depthwise, fit);
        residual.iter().map(|r| r * r).sum()
    }

    /// Target minus result, 0 where the rectifier hides the difference.
    fn residual(&self, depthwise: &Array2<f64>, fit: &Fit) -> Array2<f64> {
        let mut sums = maps::depthwise(self.rows, depthwise).dot(&fit.weights);
        fit.real(&mut sums);
        for (mut sums, targets) in sums.rows_mut().into_iter().zip(self.targets.rows()) {
            for (f, z) in sums.iter_mut().enumerate() {
                let wanted = targets[f];
                let hidden = !self.bound.is_empty()
                    && ((wanted <= 0.0 && *z <= 0.0) || (wanted >= self.bound[f] && *z >= self.bound[f]));
                *z = if hidden { 0.0 } else { wanted - *z };
            }
        }
        sums
    }

    /// Changes depthwise weights one at a time as long as the error falls.
    fn descend_depthwise(&self, depthwise: &mut Array2<f64>, fit: &Fit) {
        let most = fit::largest(self.bits);
        let taps = depthwise.nrows();
        let mut residual = self.residual(depthwise, fit);
        for channel in 0..depthwise.ncols() {
            let gain: Vec<f64> = (0..residual.ncols()).map(|f| fit.scale[f] * fit.weights[[channel, f]]).collect();
            let strength: f64 = gain.iter().map(|g| g * g).sum();
            if strength == 0.0 {
                continue;
            }
            let mut rows = self.channel(channel);
            if self.method.offset {
                let mean = rows.sum_axis(Axis(0)) / rows.nrows() as f64;
                rows.rows_mut().into_iter().for_each(|mut row| row -= &mean);
            }
            // What is missing, seen through the pointwise weights.
            let mut pull = vec![0.0; taps];
            for (row, residual) in rows.rows().into_iter().zip(residual.rows()) {
                let missing: f64 = residual.iter().zip(&gain).map(|(r, g)| r * g).sum();
                pull.iter_mut().zip(row).for_each(|(p, x)| *p += x * missing);
            }
            let mut gram = vec![vec![0.0; taps]; taps];
            for row in rows.rows() {
                for (i, line) in gram.iter_mut().enumerate() {
                    line.iter_mut().zip(row).for_each(|(g, x)| *g += row[i] * x);
                }
            }
            let mut change = vec![0.0; taps];
            for _ in 0..20 {
                let mut moved = false;
                for tap in 0..taps {
                    let curve = strength * gram[tap][tap];
                    if curve <= 0.0 {
                        continue;
                    }
                    let slope = pull[tap] - strength * gram[tap].iter().zip(&change).map(|(g, c)| g * c).sum::<f64>();
                    let now = depthwise[[tap, channel]] + change[tap];
                    let to = (now + slope / curve).round().clamp(-most, most);
                    let step = to - now;
                    if step != 0.0 && step * (2.0 * slope - step * curve) > 1e-9 * curve {
                        change[tap] += step;
                        moved = true;
                    }
                }
                if !moved {
                    break;
                }
            }
            if change.iter().all(|c| *c == 0.0) {
                continue;
            }
            for (row, mut residual) in rows.rows().into_iter().zip(residual.rows_mut()) {
                let more: f64 = row.iter().zip(&change).map(|(x, c)| x * c).sum();
                residual.iter_mut().zip(&gain).for_each(|(r, g)| *r -= more * g);
            }
            (0..taps).for_each(|tap| depthwise[[tap, channel]] += change[tap]);
        }
    }
}
