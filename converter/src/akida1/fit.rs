//! Integer weights that meet a layer's real sums best.
//!
//! For each filter: integers w within their width, a real scale a > 0 and an offset b, so that `a * (x . w) + b` is
//! near the float sums z over many rows x of *quantized* inputs, in the sense of least squares. With the Gram matrix
//! G = X'X and the products h = X'z (both centred, which takes care of b) and the best a for a given w, the error is
//! `z'z - (w.h)^2 / (w.Gw)`: it is brought down one weight at a time until no single change helps.
//!
//! Few rows say little about many weights; a penalty on the distance from the float weights, in proportion to weights
//! per row, keeps those the data does not determine where they were.
//!
//! Rows are integers and z is rounded to a grid, so that all matrix products are exact and the weights found do not
//! depend on the machine.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// How weights are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Try smaller scales than that of the largest weight.
    pub search_scale: bool,
    /// Change weights as long as the error falls.
    pub descend: bool,
    /// Choose the offset with the scale, instead of keeping that of the float layer.
    pub offset: bool,
}

/// Penalty on the distance from the float weights, per weight and row.
const PRIOR: f64 = 1.0;
/// Smallest penalty.
const PRIOR_FLOOR: f64 = 1e-3;
/// Rounds of descent over all weights of a filter at most; few need more than ten.
const ROUNDS: usize = 12;
/// Scales tried, as a part of that of the largest weight.
const SCALES: [f64; 12] = [1.0, 0.93, 0.86, 0.79, 0.72, 0.65, 0.58, 0.51, 0.44, 0.37, 0.3, 0.24];

/// Largest weight of this width; ranges are symmetric.
pub fn largest(bits: u8) -> f64 {
    match bits {
        8 => 127.0,
        4 => 7.0,
        _ => 1.0,
    }
}

/// Second moments of rows of inputs.
pub struct Moments {
    /// Number of rows.
    pub rows: f64,
    /// Mean of each column.
    pub mean: Array1<f64>,
    /// Mean of products of columns, centred or not.
    pub gram: Array2<f64>,
    centred: bool,
    /// Penalty of each column.
    prior: Array1<f64>,
}

impl Moments {
    /// Of rows of integers.
    pub fn new(rows: ArrayView2<f64>, centred: bool) -> Self {
        let n = rows.nrows().max(1) as f64;
        let mean = rows.sum_axis(Axis(0)) / n;
        let mut gram = rows.t().dot(&rows) / n;
        let columns = gram.nrows();
        let variance = Array1::from_shape_fn(columns, |i| gram[[i, i]] - mean[i] * mean[i]);
        if centred {
            for ((i, j), value) in gram.indexed_iter_mut() {
                *value -= mean[i] * mean[j];
            }
        }
        let average = variance.sum() / columns.max(1) as f64;
        let strength = (PRIOR * columns as f64 / n).max(PRIOR_FLOOR);
        // A column without variance is held too.
        let prior = variance.mapv(|v| strength * (v + 0.05 * average + 1e-9));
        gram.diag_mut().zip_mut_with(&prior, |g, p| *g += p);
        Self { rows: n, mean, gram, centred, prior }
    }

    /// Products of rows and targets (rows, filters), with the pull of the float weights (columns, filters).
    fn products(&self, rows: ArrayView2<f64>, targets: ArrayView2<f64>, float: &Array2<f64>) -> Array2<f64> {
        let mut products = rows.t().dot(&targets) / self.rows;
        let means = targets.sum_axis(Axis(0)) / self.rows;
        for ((k, f), value) in products.indexed_iter_mut() {
            if self.centred {
                *value -= self.mean[k] * means[f];
            }
            *value += self.prior[k] * float[[k, f]];
        }
        products
    }
}

/// What was found for all filters.
#[derive(Clone, Debug)]
pub struct Fit {
    /// (columns, filters).
    pub weights: Array2<f64>,
    /// Real per unit of the integer sum.
    pub scale: Vec<f64>,
    /// Added to it.
    pub offset: Vec<f64>,
}

impl Fit {
    /// Real sums for integer ones, in place.
    pub fn real(&self, sums: &mut Array2<f64>) {
        for mut row in sums.rows_mut() {
            for (f, sum) in row.iter_mut().enumerate() {
                *sum = *sum * self.scale[f] + self.offset[f];
            }
        }
    }
}

/// The problem of one layer.
pub struct Problem<'a> {
    /// Integers, (rows, columns).
    pub rows: ArrayView2<'a, f64>,
    /// Real sums with bias, (rows, filters).
    pub targets: ArrayView2<'a, f64>,
    /// Weights for these rows in float, (columns, filters).
    pub float: &'a Array2<f64>,
    /// Biases in float.
    pub bias: &'a [f64],
    /// Upper bound of each filter's rectifier; empty: none.
    pub bound: &'a [f64],
    /// Bits of a weight.
    pub bits: u8,
    /// How.
    pub method: Method,
}

impl Problem<'_> {
    /// Solves it, beginning with `before` where it was solved before on slightly other rows.
    pub fn solve(&self, before: Option<&Fit>) -> Fit {
        let moments = Moments::new(self.rows, self.method.offset);
        let mut targets = self.targets.to_owned();
        if !self.method.offset {
            targets.rows_mut().into_iter().for_each(|mut row| {
                row.iter_mut().zip(self.bias).for_each(|(z, b)| *z -= b);
            });
        }
        let mut fit = self.step(&moments, targets.view(), before);
        if !self.method.descend || self.bound.is_empty() {
            return fit;
        }
        // What the rectifier cuts off on both sides is no error: where target and result are beyond an end, the target
        // becomes the result. Each such step can only lower the error of the rectified outputs.
        for _ in 0..RECTIFIED_STEPS {
            let mut sums = self.rows.dot(&fit.weights);
            fit.real(&mut sums);
            let mut moved = self.targets.to_owned();
            for (mut targets, sums) in moved.rows_mut().into_iter().zip(sums.rows()) {
                for (f, z) in targets.iter_mut().enumerate() {
                    if *z <= 0.0 {
                        *z = sums[f].min(0.0);
                    } else if *z >= self.bound[f] {
                        *z = sums[f].max(self.bound[f]);
                    }
                    *z = grid(*z);
                    if !self.method.offset {
                        *z -= self.bias[f];
                    }
                }
            }
            fit = self.step(&moments, moved.view(), Some(&fit));
        }
        fit
    }

    fn step(&self, moments: &Moments, targets: ArrayView2<f64>, before: Option<&Fit>) -> Fit {
        let products = moments.products(self.rows, targets, self.float);
        let means = targets.sum_axis(Axis(0)) / moments.rows;
        let tops: Vec<f64> =
            self.float.columns().into_iter().map(|w| w.iter().fold(0.0f64, |m, w| m.max(w.abs()))).collect();
        let mut candidates = match before {
            Some(fit) => self.candidates(moments, &products, fit.weights.clone()),
            None => self.rounded(moments, &products, &tops),
        };
        let mut fit = Fit { weights: Array2::zeros(self.float.raw_dim()), scale: Vec::new(), offset: Vec::new() };
        for (f, candidate) in candidates.iter_mut().enumerate() {
            if self.method.descend && tops[f] > 0.0 {
                candidate.descend(moments, products.column(f), largest(self.bits));
            }
            let scale = match candidate.score() {
                0.0 => 0.0,
                _ if self.method.search_scale || self.method.descend => candidate.along / candidate.square,
                _ => tops[f] / largest(self.bits),
            };
            // Weights that only make it worse.
            if scale == 0.0 {
                candidate.weights.fill(0.0);
            }
            let shift: f64 = moments.mean.iter().zip(&candidate.weights).map(|(m, w)| m * w).sum();
            fit.offset.push(if self.method.offset { means[f] - scale * shift } else { self.bias[f] });
            fit.scale.push(scale);
            fit.weights.column_mut(f).assign(&candidate.weights);
        }
        fit
    }

    /// The float weights rounded, each filter with the best of the scales.
    fn rounded(&self, moments: &Moments, products: &Array2<f64>, tops: &[f64]) -> Vec<Candidate> {
        let most = largest(self.bits);
        let scales = if self.method.search_scale { &SCALES[..] } else { &SCALES[..1] };
        let mut best: Vec<Candidate> = Vec::new();
        for part in scales {
            let mut weights = self.float.clone();
            for (mut column, top) in weights.columns_mut().into_iter().zip(tops) {
                let scale = if *top > 0.0 { top * part / most } else { 1.0 };
                column.mapv_inplace(|w| (w / scale).round_ties_even().clamp(-most, most));
            }
            let found = self.candidates(moments, products, weights);
            if best.is_empty() {
                best = found;
                continue;
            }
            for (best, found) in best.iter_mut().zip(found) {
                if found.score() > best.score() {
                    *best = found;
                }
            }
        }
        best
    }

    /// Weights of all filters with what is needed to judge changes.
    fn candidates(&self, moments: &Moments, products: &Array2<f64>, weights: Array2<f64>) -> Vec<Candidate> {
        let mut gradients = self.rows.t().dot(&self.rows.dot(&weights));
        gradients /= moments.rows;
        let judge = |(f, column): (usize, ArrayView1<f64>)| {
            let weights = column.to_owned();
            let mut gradient = gradients.column(f).to_owned();
            let shift = if moments.centred { dot(moments.mean.view(), column) } else { 0.0 };
            for (k, g) in gradient.iter_mut().enumerate() {
                *g += moments.prior[k] * weights[k] - moments.mean[k] * shift;
            }
            let (square, along) = (dot(gradient.view(), column), dot(products.column(f), column));
            Candidate { weights, gradient, square, along }
        };
        weights.columns().into_iter().enumerate().map(judge).collect()
    }
}

/// Sum of products in the order of the elements: that of a library may depend on the machine.
fn dot(a: ArrayView1<f64>, b: ArrayView1<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Steps towards the rectified outputs.
const RECTIFIED_STEPS: usize = 2;

/// Rounds to a grid on which sums of products with integers are exact.
pub fn grid(value: f64) -> f64 {
    (value * GRID).round() / GRID
}

const GRID: f64 = (1u64 << 22) as f64;

/// Weights with what is needed to judge a change.
struct Candidate {
    weights: Array1<f64>,
    /// G w.
    gradient: Array1<f64>,
    /// w . G w.
    square: f64,
    /// w . h.
    along: f64,
}

impl Candidate {
    /// By how much the error is below that of weights of zero.
    fn score(&self) -> f64 {
        score(self.along, self.square)
    }

    fn descend(&mut self, moments: &Moments, products: ArrayView1<f64>, most: f64) {
        for _ in 0..ROUNDS {
            let mut changed = false;
            for k in 0..self.weights.len() {
                let (now, g, d, h) = (self.weights[k], self.gradient[k], moments.gram[[k, k]], products[k]);
                let mut best = (self.score() * (1.0 + 1e-12), 0.0);
                let mut to = |value: f64| {
                    let change = value - now;
                    let found = score(self.along + change * h, self.square + 2.0 * change * g + change * change * d);
                    if value.abs() <= most && change != 0.0 && found > best.0 {
                        best = (found, change);
                    }
                };
                if most > 7.0 {
                    // Near the minimum of the parabola.
                    let a = self.along / self.square;
                    let wanted = (now + (h / a - g) / d).round().clamp(-most, most);
                    [wanted - 1.0, wanted, wanted + 1.0].into_iter().for_each(&mut to);
                } else {
                    (-(most as i32)..=most as i32).for_each(|v| to(v.into()));
                }
                let change = best.1;
                if change != 0.0 {
                    self.along += change * h;
                    self.square += 2.0 * change * g + change * change * d;
                    self.weights[k] += change;
                    self.gradient.iter_mut().zip(moments.gram.row(k)).for_each(|(g, &m)| *g += change * m);
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
    }
}

fn score(along: f64, square: f64) -> f64 {
    if along > 0.0 && square > 0.0 { along * along / square } else { 0.0 }
}
