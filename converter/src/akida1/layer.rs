//! One layer: weights, then the unit of its activation, then thresholds and steps, each against the layer's real
//! output on calibration samples.

use akida_runtime::model::{Pool, limits};
use ndarray::{Array2, Axis};

use super::chain::{Layer, Operator};
use super::fit::{Fit, Method, Problem, grid};
use super::maps::{self, Gather, Linear, Map};
use super::options::Tools;
use super::separable;
use super::steps::{Chooser, Line, Step, unit};

/// What a layer sees and shall do.
pub struct Task<'a> {
    /// The float layer.
    pub layer: &'a Layer,
    /// Its inputs as integers.
    pub integers: &'a [Map],
    /// Its inputs as the float network has them.
    pub floats: &'a [Map],
    /// Real per integer of its input.
    pub scale: f64,
    /// Real at integer 0.
    pub offset: f64,
    /// The integer outside the map.
    pub padding: i32,
    /// Bits of a weight.
    pub weight_bits: u8,
    /// Bits of an output element; None: potentials.
    pub bits: Option<u8>,
    /// Whether it is the first layer, on 8-bit images.
    pub image: bool,
    /// What an error of each output channel costs.
    pub importance: Vec<f64>,
    /// How.
    pub tools: Tools,
}

/// A layer of integers.
pub struct Done {
    /// Weights; (taps, channels) and (channels, filters) when separable, otherwise (inputs, filters).
    pub linear: Linear,
    /// Real numbers for potentials.
    pub lines: Vec<Line>,
    /// Thresholds and steps; empty: potentials.
    pub steps: Vec<Step>,
    /// Real per unit of the activation.
    pub unit: f64,
    /// Filters whose parameters were held at a limit.
    pub held: usize,
    /// Squared error over squared output.
    pub relative_error: f64,
    /// Outputs as integers; empty for potentials.
    pub integers: Vec<Map>,
    /// Outputs as the float network has them.
    pub floats: Vec<Map>,
}

/// Rows that weights are fitted to: enough for each weight, few enough for memory and time.
fn fit_rows(columns: usize) -> usize {
    (8 * columns).clamp(4096, 16384).min(((1 << 24) / columns.max(1)).max(512))
}

/// Rows that thresholds are fitted to.
fn step_rows(filters: usize) -> usize {
    ((1 << 20) / filters.max(1)).clamp(1024, 6000)
}

/// Quantizes a layer.
pub fn quantize(task: &Task) -> Done {
    let layer = task.layer;
    let float = Linear::of(&layer.operator, layer.input);
    let (integer_rows, float_rows) = (Gather::new(layer, task.padding.into()), Gather::new(layer, layer.padding));
    let (linear, fit) = weights(task, &float, &integer_rows, &float_rows);

    // Sums of some positions after pooling, as integers and in float.
    let positions = layer.output[0] * layer.output[1];
    let integer_sums = |map: &Map| maps::pool(maps::sums(integer_rows.all(map).view(), &linear), layer);
    let lines: Vec<Line> =
        fit.scale.iter().zip(&fit.offset).map(|(s, &offset)| Line { scale: s / divisor(layer), offset }).collect();
    let places = maps::spread(task.integers.len(), positions, step_rows(layer.filters()));
    let (mut sums, mut targets) = (Vec::new(), Vec::new());
    let mut floats = Vec::with_capacity(task.floats.len());
    for (sample, (integers, reals)) in task.integers.iter().zip(task.floats).enumerate() {
        let (made, wanted) = (integer_sums(integers), float_sums(layer, &float, &float_rows, reals));
        for &(_, position) in places.iter().filter(|(s, _)| *s == sample) {
            sums.extend(made.row(position));
            targets.extend(wanted.row(position).iter().enumerate().map(|(f, &z)| grid(rectified(layer, z, f))));
        }
        floats.push(wanted.indexed_iter().map(|((_, f), &z)| rectified(layer, z, f) as f32).collect::<Map>());
    }
    let shape = (places.len(), layer.filters());
    let sums = Array2::from_shape_vec(shape, sums).unwrap_or_default();
    let targets = Array2::from_shape_vec(shape, targets).unwrap_or_default();
    let mut real = sums.clone();
    for mut row in real.rows_mut() {
        row.iter_mut().zip(&lines).for_each(|(p, line)| *p = *p * line.scale + line.offset);
    }
    let energy: f64 = targets.iter().map(|t| t * t).sum();
    let relative = |error: f64| if energy > 0.0 { error / energy } else { 0.0 };

    let Some(bits) = task.bits else {
        let error = real.iter().zip(&targets).map(|(z, t): (&f64, &f64)| (z - t).powi(2)).sum();
        let (steps, integers) = (Vec::new(), Vec::new());
        let relative_error = relative(error);
        return Done { linear, lines, steps, unit: 1.0, held: 0, relative_error, integers, floats };
    };
    let unit = unit(&real, &targets, &task.importance, bits, task.tools.search_ranges);
    let limits = if task.image { limits::INPUT_STEPS } else { limits::STEPS };
    let chooser = Chooser { bits, unit, limits, correct: task.tools.correct_thresholds };
    let chosen: Vec<(Step, bool)> =
        (0..layer.filters()).map(|f| chooser.choose(lines[f], sums.column(f), targets.column(f))).collect();
    let held = chosen.iter().filter(|(_, held)| *held).count();
    let steps: Vec<Step> = chosen.into_iter().map(|(step, _)| step).collect();
    let mut error = 0.0;
    for (sums, targets) in sums.rows().into_iter().zip(targets.rows()) {
        for (f, (&p, t)) in sums.iter().zip(targets).enumerate() {
            error += (steps[f].activate(p as i64, bits) as f64 * unit - t).powi(2);
        }
    }
    let activate = |((_, f), &p): ((usize, usize), &f64)| steps[f].activate(p as i64, bits) as f32;
    let integers = task.integers.iter().map(|map| integer_sums(map).indexed_iter().map(activate).collect()).collect();
    Done { linear, lines, steps, unit, held, relative_error: relative(error), integers, floats }
}

/// What the float network makes of one sample.
pub fn float(layer: &Layer, map: &Map) -> Map {
    let linear = Linear::of(&layer.operator, layer.input);
    let sums = float_sums(layer, &linear, &Gather::new(layer, layer.padding), map);
    sums.indexed_iter().map(|((_, f), &z)| rectified(layer, z, f) as f32).collect()
}

/// Sums with bias after pooling.
fn float_sums(layer: &Layer, linear: &Linear, rows: &Gather, map: &Map) -> Array2<f64> {
    let mut sums = maps::pool(maps::sums(rows.all(map).view(), linear), layer);
    let divisor = divisor(layer);
    for mut row in sums.rows_mut() {
        row.iter_mut().zip(&layer.bias).for_each(|(z, b)| *z = *z / divisor + b);
    }
    sums
}

/// Positions that a global average sums up.
fn divisor(layer: &Layer) -> f64 {
    match layer.pool {
        Pool::Global => (layer.conv[0] * layer.conv[1]) as f64,
        _ => 1.0,
    }
}

fn rectified(layer: &Layer, z: f64, filter: usize) -> f64 {
    if layer.bound.is_empty() { z } else { z.clamp(0.0, layer.bound[filter]) }
}

/// Integer weights and what their sums mean.
fn weights(task: &Task, float: &Linear, integer_rows: &Gather, float_rows: &Gather) -> (Linear, Fit) {
    let layer = task.layer;
    let places = maps::spread(task.integers.len(), integer_rows.rows(), fit_rows(integer_rows.columns()));
    let rows = integer_rows.some(task.integers, &places);
    let mut targets = maps::sums(float_rows.some(task.floats, &places).view(), float);
    for mut row in targets.rows_mut() {
        row.iter_mut().zip(&layer.bias).for_each(|(z, b)| *z = grid(*z + b));
    }
    let Tools { search_ranges, adaptive_rounding, correct_thresholds, .. } = task.tools;
    let method = Method { search_scale: search_ranges, descend: adaptive_rounding, offset: correct_thresholds };
    if let (Operator::Separable { .. }, Some(depthwise)) = (&layer.operator, &float.depthwise) {
        let problem = separable::Problem {
            rows: rows.view(),
            targets: targets.view(),
            depthwise: &(depthwise * task.scale),
            pointwise: &float.weights,
            bias: &layer.bias,
            bound: &layer.bound,
            bits: task.weight_bits,
            method,
        };
        let (depthwise, fit) = problem.solve();
        return (Linear { weights: fit.weights.clone(), depthwise: Some(depthwise) }, fit);
    }
    let bias: Vec<f64> = {
        let sums = float.weights.sum_axis(Axis(0));
        layer.bias.iter().zip(sums).map(|(b, sum)| b + task.offset * sum).collect()
    };
    let problem = Problem {
        rows: rows.view(),
        targets: targets.view(),
        float: &(&float.weights * task.scale),
        bias: &bias,
        bound: &layer.bound,
        bits: task.weight_bits,
        method,
    };
    let fit = problem.solve(None);
    (Linear { weights: fit.weights.clone(), depthwise: None }, fit)
}
