//! Every invariant of a model, in one place. What passes here can be run without a further check.

mod conv;
mod error;
pub mod limits;
mod parts;

pub use error::{ModelError, Problem};

use super::{
    Add, Dense, Input, Layer, LayerKind, Model, OnnxLayout, Shape, Target, Tensor, TensorId, layer::default_op,
};
use parts::{check_scales, check_tensor};

impl Model {
    /// Checks every invariant: sizes without overflow and within [`limits`], ids made before they are used, shapes that
    /// follow from one another, vectors as long as they must be, values within their bits, arithmetic that belongs to
    /// the target.
    ///
    /// # Errors
    /// The first broken one, with layer, field, value and limit.
    pub fn validate(&self) -> Result<(), ModelError> {
        self.input.validate()?;
        if self.layers.is_empty() {
            return Err(ModelError::new("model", "layers", Problem::Rule("are missing: there must be at least one")));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            self.check_layer(index, layer)?;
        }
        self.check_outputs()
    }

    /// Shape and sign of what a layer of this kind makes of these inputs.
    fn infer(&self, place: &str, kind: &LayerKind, inputs: &[TensorId]) -> Result<(Shape, bool), ModelError> {
        let first = self.tensor(inputs[0]);
        let [height, width, channels] = first.shape;
        let shape = match kind {
            LayerKind::Conv(conv) => {
                let Some([height, width]) = conv.output_size([height, width]) else {
                    return Err(ModelError::new(place, "kernel", Problem::Rule("is larger than its padded input")));
                };
                [height, width, conv.filters()]
            }
            LayerKind::Dense(dense) => [1, 1, dense.weights.filters()],
            LayerKind::Add(_) => first.shape,
            LayerKind::Concat => [height, width, channels + self.tensor(inputs[1]).shape[2]],
        };
        let signed = match kind {
            LayerKind::Concat => first.signed,
            _ => !matches!(kind.activation(), super::Activation::Steps { .. }),
        };
        Ok((shape, signed))
    }

    fn check_layer(&self, index: usize, layer: &Layer) -> Result<(), ModelError> {
        let place = format!("layer {}", layer.name);
        self.check_kind(&place, index, &layer.kind, &layer.inputs)?;
        let first = self.tensor(layer.inputs[0]);
        check_tensor(&place, &layer.output)?;
        let (expected, signed) = self.infer(&place, &layer.kind, &layer.inputs)?;
        if layer.output.shape != expected {
            return Err(ModelError::new(place, "output", Problem::Shape { found: layer.output.shape, expected }));
        }
        // Rectified activations of 4 bits have no sign (quantization.md 6.2); those of 8 have one.
        let rectified = matches!(layer.kind.activation(), super::Activation::Relu | super::Activation::ReluClipped(_));
        let unsigned_4 = rectified && layer.kind.scale().is_some() && layer.output.bits == 4;
        if layer.output.signed != signed && (layer.output.signed || !unsigned_4) {
            return Err(ModelError::new(place, "output", Problem::Rule("has the sign of another kind of layer")));
        }
        let allowed: &[u8] = match &layer.kind {
            LayerKind::Concat => &[first.bits],
            LayerKind::Add(Add { k: Some(_), .. }) => &[4, 8],
            kind if matches!(kind.activation(), super::Activation::Steps { .. }) => &[1, 2, 4],
            kind if kind.scale().is_some() => &[4, 8],
            _ => &[32],
        };
        if !allowed.contains(&layer.output.bits) {
            let problem = Problem::OneOf {
                value: layer.output.bits.into(),
                allowed: allowed.iter().map(|&b| b.into()).collect(),
            };
            let error = ModelError::new(place, "output bits", problem);
            let steps = matches!(layer.kind.activation(), super::Activation::Steps { .. });
            return Err(if steps { error.of_rule("akida1.activation.bits") } else { error });
        }
        Ok(())
    }

    /// What must hold of the layer with this index before its output is looked at.
    fn check_kind(&self, place: &str, index: usize, kind: &LayerKind, inputs: &[TensorId]) -> Result<(), ModelError> {
        self.check_inputs(place, index, kind, inputs)?;
        let first = self.tensor(inputs[0]);
        match kind {
            LayerKind::Conv(conv) => conv::check(place, conv, kind, inputs, first, self.target),
            LayerKind::Dense(dense) => check_dense(place, dense, kind, first, self.target),
            LayerKind::Add(add) => check_add(place, add, first, self.tensor(inputs[1])),
            LayerKind::Concat => check_concat(place, first, self.tensor(inputs[1])),
        }
    }

    /// Inputs of a layer: as many as it takes, made before it, of 8 bits at most.
    fn check_inputs(&self, place: &str, index: usize, kind: &LayerKind, inputs: &[TensorId]) -> Result<(), ModelError> {
        let wanted = if matches!(kind, LayerKind::Add(_) | LayerKind::Concat) { 2 } else { 1 };
        parts::check_len(place, "inputs", inputs.len(), &[wanted])?;
        for &id in inputs {
            if id > index {
                let problem = Problem::Range { value: id as i64, min: 0, max: index as i64 };
                return Err(ModelError::new(place, "input tensor", problem));
            }
            if self.tensor(id).bits > 8 {
                let problem = Problem::Rule("is made of 32-bit potentials, which only leave a model");
                let error = ModelError::new(place, "input", problem);
                return Err(if self.target.is_v1() { error.of_rule("akida1.activation.kind") } else { error });
            }
        }
        Ok(())
    }

    fn check_outputs(&self) -> Result<(), ModelError> {
        if self.outputs.is_empty() {
            return Err(ModelError::new("model", "outputs", Problem::Rule("are missing: there must be at least one")));
        }
        for output in &self.outputs {
            let place = format!("output {}", output.name);
            if output.tensor > self.layers.len() {
                let problem = Problem::Range { value: output.tensor as i64, min: 0, max: self.layers.len() as i64 };
                return Err(ModelError::new(place, "tensor", problem));
            }
            let Some(dequantizer) = &output.dequantizer else { continue };
            let channels = self.tensor(output.tensor).shape[2];
            check_scales(&place, &dequantizer.scale, channels)?;
            parts::check_len(&place, "offset", dequantizer.offset.len(), &[0, 1, channels])?;
        }
        Ok(())
    }
}

impl Input {
    /// Checks the invariants of an input alone, before there are layers.
    ///
    /// # Errors
    /// As [`Model::validate`].
    pub fn validate(&self) -> Result<(), ModelError> {
        let place = "input";
        let Tensor { shape, bits, layout, .. } = self.tensor;
        check_tensor(place, &self.tensor)?;
        if bits > 8 {
            return Err(ModelError::new(place, "bits", Problem::Range { value: bits.into(), min: 1, max: 8 }));
        }
        if (self.layout == OnnxLayout::Flat) != (layout == OnnxLayout::Flat) {
            return Err(ModelError::new(place, "layout", Problem::Rule("is flat on one side of the quantizer only")));
        }
        if let Some(quantizer) = &self.quantizer {
            let place = format!("input quantizer {}", quantizer.name);
            check_scales(&place, &quantizer.scale, shape[2])?;
            parts::check_len(&place, "zero_point", quantizer.zero_point.len(), &[quantizer.scale.len()])?;
            let (min, max) = self.tensor.range();
            parts::check_range(&place, "zero_point", &quantizer.zero_point, min, max)?;
        }
        Ok(())
    }
}

/// The layer that [`Model::push`] appends.
pub(super) fn new_layer(
    model: &Model,
    name: String,
    kind: LayerKind,
    inputs: &[TensorId],
    bits: u8,
) -> Result<Layer, ModelError> {
    let place = format!("layer {name}");
    let index = model.layers.len();
    model.check_kind(&place, index, &kind, inputs)?;
    let (shape, signed) = model.infer(&place, &kind, inputs)?;
    let layout = match &kind {
        LayerKind::Conv(_) => OnnxLayout::Nchw,
        LayerKind::Dense(_) => OnnxLayout::Flat,
        LayerKind::Add(_) | LayerKind::Concat => model.tensor(inputs[0]).layout,
    };
    let op = default_op(&kind, model.target).to_owned();
    let output = Tensor { name: name.clone(), shape, bits, signed, layout };
    let layer = Layer { name, op, kind, inputs: inputs.to_vec(), output };
    model.check_layer(index, &layer)?;
    Ok(layer)
}

fn check_dense(place: &str, dense: &Dense, kind: &LayerKind, input: &Tensor, target: Target) -> Result<(), ModelError> {
    let weights = &dense.weights;
    let units = if target.is_v1() { "akida1.dense.units" } else { "akida2.dense.units" };
    parts::check_sizes(place, "number of units", &weights.shape[..1], 1, limits::DIMENSION)
        .map_err(|e| e.of_rule(units))?;
    parts::check_weights(place, "weights", weights)?;
    if weights.shape[1..] != input.shape {
        let found = [weights.shape[1], weights.shape[2], weights.shape[3]];
        return Err(ModelError::new(place, "weights", Problem::Shape { found, expected: input.shape }));
    }
    if matches!(dense.activation, super::Activation::Lut(_)) {
        return Err(ModelError::new(
            place,
            "activation",
            Problem::Rule("is a look-up table, which dense layers do not have"),
        ));
    }
    parts::check_arithmetic(place, kind, weights.filters(), target, limits::STEPS)
}

fn check_add(place: &str, add: &Add, a: &Tensor, b: &Tensor) -> Result<(), ModelError> {
    if a.shape != b.shape {
        return Err(ModelError::new(place, "second input", Problem::Shape { found: b.shape, expected: a.shape }));
    }
    let channels = a.shape[2];
    for (field, shift) in [("a_shift", &add.a_shift), ("b_shift", &add.b_shift)] {
        parts::check_len(place, field, shift.len(), &[1, channels])?;
        parts::check_range(place, field, shift, 0, limits::ADD_SHIFT)?;
    }
    if let Some(k) = &add.k {
        parts::check_len(place, "k", k.len(), &[1, channels])?;
        parts::check_range(place, "k", k, limits::SCALE_SHIFT.0, limits::SCALE_SHIFT.1)?;
    }
    Ok(())
}

fn check_concat(place: &str, a: &Tensor, b: &Tensor) -> Result<(), ModelError> {
    if a.shape[..2] != b.shape[..2] {
        let expected = [a.shape[0], a.shape[1], b.shape[2]];
        return Err(ModelError::new(place, "second input", Problem::Shape { found: b.shape, expected }));
    }
    if (a.bits, a.signed) != (b.bits, b.signed) {
        return Err(ModelError::new(place, "second input", Problem::Rule("has other elements than the first")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
