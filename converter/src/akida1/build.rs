//! From quantized layers to the model.

use akida_runtime::model::{
    Activation, Conv, ConvKind, Dense, DequantizeBy, Dequantizer, Input as ModelInput, LayerKind, Model, ModelError,
    Target, Tensor, TensorId, Weights,
};
use ndarray::Array2;

use super::chain::{Chain, Layer, Operator};
use super::input::Input;
use super::layer::Done;
use super::steps::Step;

/// The model under construction.
pub struct Builder {
    model: Model,
    last: TensorId,
    /// Whether maps are turned by 180 degrees.
    turned: bool,
    /// Name of the model's output.
    output: String,
    /// From the last layer's integers to floats.
    dequantizer: Option<Dequantizer>,
}

impl Builder {
    /// A model without layers.
    pub fn new(chain: &Chain, input: &Input, target: Target) -> Self {
        let tensor = Tensor {
            name: format!("{}/quantize", chain.input),
            shape: chain.shape,
            bits: input.bits,
            signed: false,
            layout: chain.layout,
        };
        let input = ModelInput {
            name: chain.input.clone(),
            layout: chain.layout,
            tensor,
            quantizer: Some(input.quantizer.clone()),
        };
        Self {
            model: Model::new(chain.name.clone(), target, input),
            last: 0,
            turned: chain.layout.is_turned(),
            output: chain.output.clone(),
            dequantizer: None,
        }
    }

    /// Appends a layer.
    pub fn push(
        &mut self,
        layer: &Layer,
        done: &Done,
        weight_bits: u8,
        bits: u8,
        image: Option<i32>,
    ) -> Result<(), ModelError> {
        let activation = if done.steps.is_empty() { Activation::None } else { activation(&done.steps) };
        let weights = &done.linear.weights;
        let kind = match &layer.operator {
            Operator::Dense { weights: float } => {
                LayerKind::Dense(Dense { activation, ..Dense::new(filters(weights, weight_bits, float.shape)) })
            }
            Operator::AverageDense { .. } => {
                let [height, width, channels] = layer.input;
                let shape = [layer.filters(), height, width, channels];
                let values: Vec<i8> = weights
                    .columns()
                    .into_iter()
                    .flat_map(|unit| {
                        (0..height * width).flat_map(|_| unit.iter().map(|&w| w as i8)).collect::<Vec<i8>>()
                    })
                    .collect();
                LayerKind::Dense(Dense { activation, ..Dense::new(Weights::new(weight_bits, shape, &values)) })
            }
            Operator::Conv { weights: float, window } => {
                let kind = if image.is_some() { ConvKind::Input } else { ConvKind::Standard };
                LayerKind::Conv(Box::new(Conv {
                    stride: window.stride,
                    pads: window.pads,
                    pad_value: image.filter(|&padding| padding != 0).into_iter().collect(),
                    pool: layer.pool,
                    activation,
                    ..Conv::new(kind, filters(weights, weight_bits, float.shape))
                }))
            }
            Operator::Separable { depthwise: float, pointwise, window } => {
                let empty = Array2::zeros((0, 0));
                let depthwise = done.linear.depthwise.as_ref().unwrap_or(&empty);
                LayerKind::Conv(Box::new(Conv {
                    pointwise: Some(filters(weights, weight_bits, pointwise.shape)),
                    stride: window.stride,
                    pads: window.pads,
                    pool: layer.pool,
                    activation,
                    ..Conv::new(ConvKind::Separable, filters(depthwise, weight_bits, float.shape))
                }))
            }
        };
        self.last = self.model.push(layer.name.clone(), kind, &[self.last], bits)?;
        self.dequantizer = Some(dequantizer(&self.output, done));
        let pushed = self.model.layers.last_mut();
        if let Some(pushed) = pushed {
            pushed.output.name.clone_from(&layer.tensor);
            if self.turned {
                pushed.output.layout = pushed.output.layout.turned();
            }
        }
        Ok(())
    }

    /// The finished model.
    pub fn finish(mut self) -> Result<Model, ModelError> {
        self.model.output(self.output, self.last, self.dequantizer);
        self.model.validate()?;
        Ok(self.model)
    }
}

/// Potentials have an offset and a scale for each unit, activations their unit.
fn dequantizer(output: &str, done: &Done) -> Dequantizer {
    let name = format!("{output}/dequantize");
    if !done.steps.is_empty() {
        return Dequantizer { name, scale: vec![done.unit as f32], offset: Vec::new(), by: DequantizeBy::Multiply };
    }
    // A unit whose weights are all 0 is its offset: potential 0, threshold -offset.
    let scale: Vec<f64> = done.lines.iter().map(|l| if l.scale > 0.0 { 1.0 / l.scale } else { SILENT }).collect();
    Dequantizer {
        name,
        offset: done.lines.iter().zip(&scale).map(|(l, s)| (-l.offset * s).round() as i32).collect(),
        scale: scale.iter().map(|&s| s as f32).collect(),
        by: DequantizeBy::Divide,
    }
}

/// Potential per real for a unit that has no weights.
const SILENT: f64 = 4096.0;

fn activation(steps: &[Step]) -> Activation {
    Activation::Steps {
        threshold: steps.iter().map(|step| step.threshold).collect(),
        step_16ths: steps.iter().map(|step| step.step_16ths).collect(),
    }
}

/// Columns of a matrix as filters.
fn filters(weights: &Array2<f64>, bits: u8, shape: [usize; 4]) -> Weights {
    let values: Vec<i8> = weights.t().iter().map(|&w| w as i8).collect();
    Weights::new(bits, shape, &values)
}
