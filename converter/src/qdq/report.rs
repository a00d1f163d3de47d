//! How exactly each layer is what the file says.

use std::collections::HashMap;

use super::params::Quantization;
use crate::ConvertError;
use crate::onnx::{Attribute, Element, Graph, Node, Tensor};
use crate::quantize::{Found, Kind, Layer, Scales};

/// What became of a layer's integer weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightsKept {
    /// There are none.
    None,
    /// They are the file's.
    Exact,
    /// They are not in the file: the layer was put in, or its weights were not quantized.
    Added,
    /// Something was folded into them; they are quantized anew.
    Changed,
}

/// What became of the integers a layer makes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// The same scale, without or with the file's zero point moved into the sign.
    Exact,
    /// 32-bit sums leave the model, finer than the file's integers.
    Sums,
    /// Steps of another size: so many of the file's.
    Steps(f64),
    /// The file does not quantize this tensor: it follows from its neighbours.
    Derived,
}

/// A layer's deviations. Steps are those of its output integers.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerReport {
    /// Name of the layer.
    pub layer: String,
    /// Its weights.
    pub weights: WeightsKept,
    /// Largest deviation of a bias, which has a mantissa of 8 bits, in steps.
    pub bias_steps: f64,
    /// Largest relative deviation of an output scale, which has a mantissa of 8 bits.
    pub scale_error: f64,
    /// Its output.
    pub output: Activation,
}

impl LayerReport {
    /// Whether every integer can be the file's, but for how halves are rounded.
    pub fn is_exact(&self) -> bool {
        matches!(self.weights, WeightsKept::Exact | WeightsKept::None)
            && matches!(self.output, Activation::Exact | Activation::Sums)
            && self.bias_steps == 0.0
            && self.scale_error == 0.0
    }
}

impl std::fmt::Display for LayerReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let weights = match self.weights {
            WeightsKept::None => "no weights",
            WeightsKept::Exact => "weights exact",
            WeightsKept::Added => "weights not in the file",
            WeightsKept::Changed => "weights changed by a folded factor and quantized anew",
        };
        write!(f, "{}: {weights}", self.layer)?;
        match self.output {
            Activation::Exact => write!(f, ", output exact")?,
            Activation::Sums => write!(f, ", 32-bit sums, finer than the file's output")?,
            Activation::Steps(steps) => write!(f, ", one output step is {steps:.3} of the file's")?,
            Activation::Derived => write!(f, ", output scale not in the file")?,
        }
        if self.bias_steps > 0.0 {
            write!(f, ", bias within {:.3} steps", self.bias_steps)?;
        }
        if self.scale_error > 0.0 {
            write!(f, ", scale within {:.2} %", 100.0 * self.scale_error)?;
        }
        Ok(())
    }
}

/// Compares the quantized graph with what the file said.
pub fn report(
    prepared: &Graph,
    quantized: &Graph,
    found: &Found,
    activations: &HashMap<String, Quantization>,
    scales: &Scales,
) -> Result<Vec<LayerReport>, ConvertError> {
    let mut reports = Vec::with_capacity(found.layers.len());
    for layer in &found.layers {
        let main = &prepared.nodes[layer.main];
        let Some(node) = quantized.nodes.iter().find(|node| node.output() == layer.output) else { continue };
        let compare = Compare { prepared, quantized, layer, main, node };
        let weights = compare.weights(scales)?;
        let output = match activations.get(&layer.output) {
            _ if !layer.scaled && layer.kind != Kind::Concat => Activation::Sums,
            None => Activation::Derived,
            Some(said) => {
                // Real per integer of both; the attribute holds integers per real.
                let steps = 1.0 / attribute_scale(node) / f64::from(said.scale[0]);
                let fits = said.symmetric_scale() == f64::from(said.scale[0]);
                if fits && (steps - 1.0).abs() < 1e-5 { Activation::Exact } else { Activation::Steps(steps) }
            }
        };
        let (bias_steps, scale_error) = compare.arithmetic(scales)?;
        reports.push(LayerReport { layer: main.name.clone(), weights, bias_steps, scale_error, output });
    }
    Ok(reports)
}

/// One layer on both sides.
struct Compare<'a> {
    prepared: &'a Graph,
    quantized: &'a Graph,
    layer: &'a Layer,
    main: &'a Node,
    node: &'a Node,
}

impl Compare<'_> {
    /// A constant of the quantized layer.
    fn constant<T: Element>(&self, suffix: &str) -> Result<Option<Vec<T>>, ConvertError> {
        let name = format!("{}_{suffix}", self.main.name);
        Ok(self.quantized.initializers.get(&name).map(|tensor| tensor.values(&name)).transpose()?)
    }

    fn weights(&self, scales: &Scales) -> Result<WeightsKept, ConvertError> {
        let Some(integers) = self.constant::<i8>("Wi")? else { return Ok(WeightsKept::None) };
        let name = self.main.input(1).unwrap_or_default();
        let Some(grid) = scales.given.get(name) else { return Ok(WeightsKept::Added) };
        // The float weights are integers times the grid; so are these if nothing was folded in.
        let floats = self.prepared.initializers.get(name).map(|tensor| tensor.values::<f32>(name)).transpose()?;
        let floats = floats.unwrap_or_default();
        let dims = self.prepared.initializers.get(name).map_or(&[][..], Tensor::dims);
        let axis = usize::from(self.layer.kind == Kind::ConvTranspose);
        let stride: usize = dims.get(axis + 1..).unwrap_or(&[]).iter().product::<usize>().max(1);
        let same = |(at, (&float, &integer)): (usize, (&f32, &i8))| {
            let grid = if grid.len() == 1 { grid[0] } else { grid[at / stride % grid.len()] };
            (f64::from(float) / grid - f64::from(integer)).abs() < 1e-3
        };
        let all = floats.len() == integers.len() && floats.iter().zip(&integers).enumerate().all(same);
        Ok(if all { WeightsKept::Exact } else { WeightsKept::Changed })
    }

    /// Largest deviation of a bias in output steps, and of an output scale.
    fn arithmetic(&self, scales: &Scales) -> Result<(f64, f64), ConvertError> {
        let (Some(m), Some(s)) = (self.constant::<u8>("M")?, self.constant::<f32>("S_out")?) else {
            return Ok((0.0, 0.0));
        };
        let name = self.main.input(1).unwrap_or_default();
        let Some(grid) = scales.given.get(name) else { return Ok((0.0, 0.0)) };
        let input = self.input_scale();
        let at = |values: &[f64], f: usize| if values.len() == 1 { values[0] } else { values[f] };
        let pooled = self.pooled();
        let out = attribute_scale(self.node);
        let filters = m.len().max(grid.len());
        // Output integers per sum, as it should be and as mantissa and exponent say.
        let pick = |f: usize| (m[f % m.len()], s[f % s.len()]);
        let ideal = |f: usize| out * at(grid, f) / input / pooled;
        let actual = |f: usize| f64::from(pick(f).0) / f64::from(pick(f).1);
        let scale_error = (0..filters).map(|f| (actual(f) / ideal(f) - 1.0).abs()).fold(0.0, f64::max);
        let mut bias_steps = 0f64;
        if let (Some(bias), Some(name)) = (self.constant::<i32>("B")?, self.main.input(2))
            && let Some(tensor) = self.prepared.initializers.get(name)
            && !matches!(self.layer.kind, Kind::Conv { input: true })
        {
            for (f, (&integer, real)) in bias.iter().zip(tensor.values::<f32>(name)?).enumerate() {
                let exact = f64::from(real) * input / at(grid, f.min(filters - 1));
                bias_steps = bias_steps.max((f64::from(integer) - exact).abs() * ideal(f.min(filters - 1)) * pooled);
            }
        }
        let tiny = |value: f64| if value < 1e-5 { 0.0 } else { value };
        Ok((tiny(bias_steps), tiny(scale_error)))
    }

    /// Integers per real of the layer's input.
    fn input_scale(&self) -> f64 {
        let source = self.node.input(0).unwrap_or_default();
        self.quantized.nodes.iter().find(|node| node.output() == source).map_or(1.0, attribute_scale)
    }

    /// Positions a global average sums over.
    fn pooled(&self) -> f64 {
        if self.layer.pool != crate::quantize::Pool::GlobalAverage {
            return 1.0;
        }
        let last = self.layer.nodes.last().map(|&n| &self.prepared.nodes[n]);
        let dims = last.and_then(|node| self.prepared.value_type(node.input(0)?)?.without_batch());
        dims.map_or(1.0, |dims| dims.iter().skip(1).product::<usize>() as f64)
    }
}

/// Integers per real of what a quantized node makes.
fn attribute_scale(node: &Node) -> f64 {
    match node.attributes.get("scale") {
        Some(Attribute::Tensor(tensor)) => {
            tensor.values::<f64>("scale").ok().and_then(|values| values.first().copied()).unwrap_or(1.0)
        }
        _ => 1.0,
    }
}
