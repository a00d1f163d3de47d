//! All integers of a layer (quantization.md 4).

use super::fixed::{Fixed, Limit, aligned, fixed, fixed_f32, pairwise_sum};
use super::layer::{Activation, Kind, Layer, Pool};
use super::scale::Scale;
use super::weights::{self, Axes, GivenScales, Weights};
use super::{QuantizeError, lut};
use crate::calibrate::Ranges;
use crate::onnx::{Dim, Graph, Tensor};

/// What a layer's parameters are computed from.
pub struct Context<'a> {
    /// The prepared float graph.
    pub graph: &'a Graph,
    /// Ranges of its tensors.
    pub ranges: &'a Ranges,
    /// One range for a whole tensor instead of one per channel.
    pub per_tensor: bool,
    /// Zero points of the model's input.
    pub zero_point: &'a [i32],
    /// Integer weights that are given, by the name of the float ones: real per integer, one or one per filter.
    pub given: &'a GivenScales,
}

/// The integers of a layer.
pub struct Parameters {
    /// Constants in the order of the operator's inputs, by their suffix.
    pub tensors: Vec<(&'static str, Tensor)>,
    /// Whether there is a bias.
    pub biased: bool,
    /// Scale of the output.
    pub scale: Scale,
}

/// What the accumulator's scale still is when the output scale is chosen: of the weights, or in `f32` of a table.
enum Accumulator {
    Weights(Vec<f64>),
    Table(f32),
}

impl Context<'_> {
    /// Computes the parameters of `layer`, whose inputs have the scales `inputs`.
    pub fn parameters(&self, layer: &Layer, inputs: &[&Scale]) -> Result<Parameters, QuantizeError> {
        match layer.kind {
            Kind::Add => self.add(layer, inputs),
            Kind::Concat => self.concat(layer, inputs),
            _ => self.weighted(layer, inputs[0]),
        }
    }

    fn weighted(&self, layer: &Layer, input: &Scale) -> Result<Parameters, QuantizeError> {
        let (kernel_name, kernel) = self.constant(layer, 1)?;
        let dims = kernel.dims().to_vec();
        let rank_rule = if matches!(layer.kind, Kind::Dense { .. }) { 2 } else { 4 };
        if dims.len() != rank_rule || kernel.is_empty() {
            let rule = format!("its weights must have {rank_rule} dimensions and not be empty");
            return Err(self.refuse(layer, rule, format!("'{kernel_name}' has {dims:?}"), REMEDY_SPLIT));
        }
        let values = kernel.values::<f32>(kernel_name)?;
        let seen = self.kernel_as_multiplied(layer, &dims)?;
        let given = self.given.get(kernel_name);
        let (input_axis, filter_axis) = match layer.kind {
            // The reference's one scale for a whole depthwise transposed kernel is not what others have.
            Kind::DepthwiseTranspose if given.is_some() => (0, 0),
            Kind::Depthwise | Kind::DepthwiseTemporalConv => (0, 0),
            Kind::ConvTranspose | Kind::DepthwiseTranspose => (0, 1),
            _ => (1, 0),
        };
        let input = &match layer.kind {
            Kind::TemporalConv if input.values.len() > 1 => {
                let frames = dims[1] / input.values.len();
                Scale::vector(input.values.iter().flat_map(|&s| std::iter::repeat_n(s, frames)).collect())
            }
            _ => input.clone(),
        };
        if !input.fits(seen[input_axis]) {
            let found = format!("{} scales for {} channels", input.values.len(), seen[input_axis]);
            return Err(self.refuse(layer, "its input has one range per channel".into(), found, REMEDY_RANGES));
        }
        let axes = Axes { dims: &seen, input: input_axis, filter: filter_axis };
        let kept = given.and_then(|scales| weights::on_grid(&values, axes, input, scales));
        let Some(weights) = kept.or_else(|| weights::quantize(&values, axes, input, layer.widths)) else {
            let found = format!("'{kernel_name}' holds an infinite value or NaN");
            return Err(self.refuse(
                layer,
                "weights must be finite".into(),
                found,
                "Train or export the network again",
            ));
        };

        self.check_amplitude(layer, &weights, &values)?;
        self.check_padding(layer)?;

        let filters = match layer.kind {
            Kind::DepthwiseTranspose => dims[0],
            _ => dims[filter_axis],
        };
        let mut tensors = Vec::new();
        let first = matches!(layer.kind, Kind::Conv { input: true });
        if first {
            tensors.push(("Xpad", self.pad_values(layer, input, dims[1])?));
        }
        tensors.push(("Wi", Tensor::new(dims.clone(), &weights.values)));
        let bias = self.bias(layer, filters, first, &weights, &dims)?;
        if let Some(bias) = &bias {
            let integers: Vec<i32> = (0..filters).map(|f| aligned(bias[f], at(&weights.scale, f), 8, true)).collect();
            let bias_dims = if layer.kind == Kind::DepthwiseTemporalConv { vec![filters, 1, 1] } else { vec![filters] };
            tensors.push(("B", Tensor::new(bias_dims, &integers)));
        }
        if matches!(layer.kind, Kind::Conv { .. } | Kind::Depthwise) {
            tensors.push(("pads", Tensor::new([8], &self.pads(layer))));
        }
        let column = |len: usize| if rank_rule == 2 { vec![1, len] } else { vec![1, len, 1, 1] };
        let mut accumulator = Accumulator::Weights(weights.scale);
        match &layer.activation {
            Activation::Clip(name) => {
                let maximum = self.graph.initializers[name].values::<f32>(name)?;
                let Accumulator::Weights(scale) = &accumulator else { unreachable!("no table before a clip") };
                let integers: Vec<i32> =
                    (0..filters).map(|f| aligned(f64::from(maximum[0]), at(scale, f), 8, false)).collect();
                tensors.push(("max_value", Tensor::new(column(filters), &integers)));
            }
            Activation::Lut(number) => {
                let Accumulator::Weights(scale) = &accumulator else { unreachable!("one table per layer") };
                let name = layer.activation_input(self.graph).unwrap_or_default();
                let range = self.range(layer, name)?.iter().copied().fold(0.0, f32::max);
                let table_scale = 1023f32 / range.max(1e-7);
                let ratios: Vec<f64> = (0..filters).map(|f| f64::from(table_scale) / at(scale, f)).collect();
                let (m, s) = self.scale_out(layer, &ratios)?;
                let function = lut::Function::of(&self.graph.nodes[*number]).ok_or_else(|| {
                    let found = self.graph.nodes[*number].string("main_op_type").unwrap_or("none").to_owned();
                    self.refuse(layer, "its activation must be known".into(), found, REMEDY_SPLIT)
                })?;
                let table = lut::table(function, table_scale);
                tensors.push(("M_act", Tensor::new(column(filters), &m)));
                tensors.push(("S_act", Tensor::new(column(filters), &s)));
                tensors.push(("LUT", Tensor::new([lut::ENTRIES], &table.values)));
                accumulator = Accumulator::Table(table.scale);
            }
            Activation::None | Activation::Relu => {}
        }
        if layer.pool == Pool::GlobalAverage {
            let area = self.pooled_area(layer)?;
            match &mut accumulator {
                Accumulator::Weights(scale) => scale.iter_mut().for_each(|s| *s *= area as f64),
                Accumulator::Table(scale) => *scale *= area as f32,
            }
        }
        let scale = match (&accumulator, layer.scaled) {
            (Accumulator::Weights(scale), false) => Scale::squeezed(scale.clone()),
            _ => {
                let (m, s, scale) = self.output(layer, &accumulator, filters)?;
                tensors.push(("M", Tensor::new(column(m.len()), &m)));
                tensors.push(("S_out", Tensor::new(column(s.len()), &s)));
                scale
            }
        };
        Ok(Parameters { tensors, biased: bias.is_some(), scale })
    }

    /// Dimensions of the kernel with input channels on an axis of their own, where a Flatten hides them.
    fn kernel_as_multiplied(&self, layer: &Layer, dims: &[usize]) -> Result<Vec<usize>, QuantizeError> {
        if layer.kind != (Kind::Dense { flatten: true }) {
            return Ok(dims.to_vec());
        }
        let shape = self.graph.value_type(&layer.inputs[0]).and_then(|ty| ty.without_batch());
        match shape.as_deref() {
            Some([channels, rest @ ..]) if channels * rest.iter().product::<usize>() == dims[1] => {
                Ok(vec![dims[0], *channels, rest.iter().product()])
            }
            shape => {
                let found = format!("'{}' has shape {shape:?}, the weights take {}", layer.inputs[0], dims[1]);
                Err(self.refuse(layer, "its input's shape must be known and fit".into(), found, REMEDY_SHAPE))
            }
        }
    }

    /// Float bias per filter, with what the input's zero point adds in a first layer.
    fn bias(
        &self,
        layer: &Layer,
        filters: usize,
        first: bool,
        weights: &Weights,
        dims: &[usize],
    ) -> Result<Option<Vec<f64>>, QuantizeError> {
        let node = &self.graph.nodes[layer.main];
        let mut bias = match node.input(2) {
            None if !first => return Ok(None),
            None => vec![0.0; filters],
            Some(_) => {
                let (name, tensor) = self.constant(layer, 2)?;
                let values = tensor.values::<f32>(name)?;
                if values.len() != filters || values.iter().any(|v| !v.is_finite()) {
                    let rule = format!("its bias must hold {filters} finite values");
                    let found = format!("'{name}' has dimensions {:?}", tensor.dims());
                    return Err(self.refuse(layer, rule, found, "Train or export the network again"));
                }
                values.into_iter().map(f64::from).collect()
            }
        };
        if first {
            let (per_filter, per_channel) = (dims[1..].iter().product::<usize>(), dims[2] * dims[3]);
            for (f, bias) in bias.iter_mut().enumerate() {
                let kernel = &weights.values[f * per_filter..][..per_filter];
                let products: Vec<f64> = kernel
                    .iter()
                    .enumerate()
                    .map(|(i, &w)| {
                        let zero = self.zero_point[if self.zero_point.len() == 1 { 0 } else { i / per_channel }];
                        f64::from(zero) * (f64::from(w) / at(&weights.scale, f))
                    })
                    .collect();
                *bias -= pairwise_sum(&products);
            }
        }
        Ok(Some(bias))
    }

    /// What a first layer pads with, per channel, in the integers of its input.
    fn pad_values(&self, layer: &Layer, input: &Scale, channels: usize) -> Result<Tensor, QuantizeError> {
        let constant = match layer.pad.and_then(|n| self.graph.nodes[n].input(2)) {
            Some(name) => self.graph.initializers.get(name).map(|t| t.values::<f32>(name)).transpose()?,
            None => None,
        };
        let value = |c: usize| {
            let zero = self.zero_point[if self.zero_point.len() == 1 { 0 } else { c }];
            let pad = constant.as_ref().map_or(0.0, |v| f64::from(if v.len() == 1 { v[0] } else { v[c] }));
            zero + aligned(pad, input.at(c), 8, false)
        };
        if let Some(len) = constant.as_ref().map(Vec::len).filter(|&len| len != 1 && len != channels) {
            let rule = format!("what it is padded with must be one value or {channels}");
            return Err(self.refuse(layer, rule, format!("{len} values"), REMEDY_SPLIT));
        }
        Ok(Tensor::new([channels], &(0..channels).map(value).collect::<Vec<i32>>()))
    }

    /// ONNX Pad's form of the pads: begins of all axes, then ends.
    fn pads(&self, layer: &Layer) -> [i64; 8] {
        let node = &self.graph.nodes[layer.pad.unwrap_or(layer.main)];
        let from_input = || {
            let name = node.input(1).filter(|_| layer.pad.is_some())?;
            self.graph.initializers.get(name)?.values::<i64>(name).ok()
        };
        match node.ints("pads").map(<[i64]>::to_vec).or_else(from_input).as_deref() {
            Some(&[top, left, bottom, right]) => [0, 0, top, left, 0, 0, bottom, right],
            Some(&[n0, c0, top, left, n1, c1, bottom, right]) => [n0, c0, top, left, n1, c1, bottom, right],
            _ => [0; 8],
        }
    }

    /// Rows times columns that a global average sums over.
    fn pooled_area(&self, layer: &Layer) -> Result<usize, QuantizeError> {
        let last = &self.graph.nodes[layer.nodes[layer.nodes.len() - 1]];
        let tensor = last.input(0).unwrap_or_default();
        match self.graph.value_type(tensor).and_then(|ty| ty.without_batch()).as_deref() {
            Some([_, area @ ..]) => Ok(area.iter().product()),
            _ => {
                let found = format!("that of '{tensor}' is not known");
                Err(self.refuse(layer, "the size of what is pooled must be known".into(), found, REMEDY_SHAPE))
            }
        }
    }

    /// The multiplier and the divisor that reduce the accumulator to 8 bits, and the scale that results.
    fn output(
        &self,
        layer: &Layer,
        accumulator: &Accumulator,
        filters: usize,
    ) -> Result<(Vec<u8>, Vec<f32>, Scale), QuantizeError> {
        let range = self.range(layer, &layer.output)?;
        if range.len() != 1 && range.len() != filters {
            return Err(QuantizeError::Range {
                tensor: layer.output.clone(),
                reason: format!("{} values for {filters} channels", range.len()),
                remedy: REMEDY_RANGES,
            });
        }
        if layer.power_of_two {
            return self.power_of_two_output(layer, accumulator, &range);
        }
        let ideal: Vec<f32> = range.iter().map(|r| layer.widths.output_levels() / r.max(1e-7)).collect();
        let scale = Scale::vector(ideal.iter().map(|&s| s.into()).collect());
        match accumulator {
            Accumulator::Weights(weights) => {
                let len = weights.len().max(ideal.len());
                let ratios: Vec<f64> = (0..len).map(|f| f64::from(at(&ideal, f)) / at(weights, f)).collect();
                let (m, s) = self.scale_out(layer, &ratios)?;
                Ok((m, s, scale))
            }
            Accumulator::Table(table) => {
                let numbers = (0..filters).map(|f| fixed_f32(at(&ideal, f) / table, 8, false, Limit::OutputShift));
                let numbers = numbers.collect::<Option<Vec<_>>>().ok_or_else(|| self.infinite(layer))?;
                let (m, s) = split(&numbers);
                Ok((m, s, scale))
            }
        }
    }

    fn power_of_two_output(
        &self,
        layer: &Layer,
        accumulator: &Accumulator,
        range: &[f32],
    ) -> Result<(Vec<u8>, Vec<f32>, Scale), QuantizeError> {
        let outputs = self.power_of_two_exponents(layer, range)?;
        let multipliers: Option<Vec<Fixed>> = match accumulator {
            Accumulator::Weights(scale) => scale.iter().map(|s| fixed(1.0 / s, 8, false, Limit::None)).collect(),
            Accumulator::Table(scale) => Some(fixed_f32(1.0 / scale, 8, false, Limit::None).into_iter().collect()),
        };
        let multipliers = multipliers.filter(|m| !m.is_empty()).ok_or_else(|| self.infinite(layer))?;
        let len = multipliers.len().max(outputs.len());
        let mut divisors = Vec::with_capacity(len);
        for f in 0..len {
            let (m, o) = (at(&multipliers, f), at(&outputs, f));
            if o - m.exponent >= 8 {
                let found = format!("a factor of 2^{} in channel {f}", o - m.exponent);
                return Err(self.refuse(layer, "its output must fit into 8 bits".into(), found, REMEDY_RANGES));
            }
            divisors.push(f64::from(m.exponent - o).exp2() as f32);
        }
        let m = multipliers.iter().map(|m| m.mantissa as u8).collect();
        Ok((m, divisors, Scale::squeezed(outputs.iter().map(|&o| f64::from(o).exp2()).collect())))
    }

    /// Exponents of the power-of-two scales that hold `range` in 8 bits.
    fn power_of_two_exponents(&self, layer: &Layer, range: &[f32]) -> Result<Vec<i32>, QuantizeError> {
        let numbers = range.iter().map(|&r| fixed_f32(r, 8, true, Limit::Fraction));
        let numbers: Option<Vec<Fixed>> = numbers.collect();
        Ok(numbers.ok_or_else(|| self.infinite(layer))?.iter().map(|n| n.exponent).collect())
    }

    fn add(&self, layer: &Layer, inputs: &[&Scale]) -> Result<Parameters, QuantizeError> {
        let [a, b] = inputs else {
            let found = format!("{} operands", inputs.len());
            return Err(self.refuse(layer, "an Add has two tensors".into(), found, REMEDY_SPLIT));
        };
        let rank = self.same_shapes(layer)?;
        if a.values.iter().chain(&b.values).any(|s| s.log2().fract() != 0.0) {
            let found = "another scale".to_owned();
            return Err(self.refuse(
                layer,
                "operands of an Add are on power-of-two scales".into(),
                found,
                REMEDY_SPLIT,
            ));
        }
        let len = a.values.len().max(b.values.len());
        let common: Vec<f64> = (0..len).map(|c| a.at(c).max(b.at(c))).collect();
        let column = |len: usize| {
            let mut dims = vec![1; rank];
            dims[1] = len;
            dims
        };
        let shift = |scale: &Scale| {
            let values: Vec<i32> = common.iter().enumerate().map(|(c, s)| (s / scale.at(c)) as i32).collect();
            Tensor::new(column(len), &values)
        };
        let mut tensors = vec![("x1_shift", shift(a)), ("x2_shift", shift(b))];
        let mut scale = Scale { scalar: a.scalar && b.scalar, values: common.clone() };
        if layer.scaled {
            let outputs = self.power_of_two_exponents(layer, &self.range(layer, &layer.output)?)?;
            let divisors: Vec<f32> = (0..len.max(outputs.len()))
                .map(|c| (at(&common, c) / f64::from(at(&outputs, c)).exp2()) as f32)
                .collect();
            tensors.push(("S_out", Tensor::new(column(divisors.len()), &divisors)));
            scale = Scale::squeezed(outputs.iter().map(|&o| f64::from(o).exp2()).collect());
        }
        Ok(Parameters { tensors, biased: false, scale })
    }

    /// Rank of the operands, which must have one shape.
    fn same_shapes(&self, layer: &Layer) -> Result<usize, QuantizeError> {
        let shapes: Vec<_> =
            layer.inputs.iter().map(|name| self.graph.value_type(name).and_then(|ty| ty.shape)).collect();
        let equal = |a: &[Dim], b: &[Dim]| a.len() == b.len() && a.iter().zip(b).skip(1).all(|(a, b)| a == b);
        match shapes.as_slice() {
            [Some(a), Some(b)] if equal(a, b) && a.len() >= 2 => Ok(a.len()),
            _ => {
                let found = format!("{shapes:?}");
                Err(self.refuse(layer, "operands of an Add must have one shape".into(), found, REMEDY_SPLIT))
            }
        }
    }

    fn concat(&self, layer: &Layer, inputs: &[&Scale]) -> Result<Parameters, QuantizeError> {
        let mut values = Vec::new();
        for (name, scale) in layer.inputs.iter().zip(inputs) {
            let shape = self.graph.value_type(name).and_then(|ty| ty.without_batch());
            let Some(&channels) = shape.as_ref().and_then(|s| s.first()).filter(|&&c| scale.fits(c)) else {
                let found = format!("'{name}' has shape {shape:?}");
                return Err(self.refuse(layer, "channels of a Concat must be known".into(), found, REMEDY_SHAPE));
            };
            values.extend(scale.expanded(channels));
        }
        Ok(Parameters { tensors: Vec::new(), biased: false, scale: Scale::vector(values) })
    }

    fn scale_out(&self, layer: &Layer, ratios: &[f64]) -> Result<(Vec<u8>, Vec<f32>), QuantizeError> {
        let numbers = ratios.iter().map(|&ratio| fixed(ratio, 8, false, Limit::OutputShift));
        let numbers: Vec<Fixed> = numbers.collect::<Option<_>>().ok_or_else(|| self.infinite(layer))?;
        Ok(split(&numbers))
    }

    /// `max(|min|, |max|)` of a tensor, per channel or for all of it.
    fn range(&self, layer: &Layer, tensor: &str) -> Result<Vec<f32>, QuantizeError> {
        let Some(range) = self.ranges.get(tensor) else {
            return Err(QuantizeError::Range {
                tensor: tensor.to_owned(),
                reason: format!("node '{}' needs its range and none is given", self.graph.nodes[layer.main].name),
                remedy: "Give ranges that were observed on this very graph, or samples to observe them",
            });
        };
        let largest = if self.per_tensor { range.per_tensor().largest() } else { range.largest() };
        match largest.iter().position(|r| !r.is_finite()) {
            None if !largest.is_empty() => Ok(largest),
            channel => Err(QuantizeError::Range {
                tensor: tensor.to_owned(),
                reason: format!("its range is not finite (channel {channel:?})"),
                remedy: "Check the calibration samples and the network's weights for NaN and infinity",
            }),
        }
    }

    fn constant(&self, layer: &Layer, index: usize) -> Result<(&str, &Tensor), QuantizeError> {
        let node = &self.graph.nodes[layer.main];
        let name = node.input(index).unwrap_or_default();
        match self.graph.initializers.get_key_value(name) {
            Some((name, tensor)) => Ok((name, tensor)),
            None => {
                Err(self.refuse(layer, format!("input {index} must be constant"), format!("'{name}'"), REMEDY_SPLIT))
            }
        }
    }

    fn infinite(&self, layer: &Layer) -> QuantizeError {
        let found = "a quotient of scales is not finite".to_owned();
        self.refuse(layer, "scales must be finite".into(), found, REMEDY_RANGES)
    }

    pub(super) fn refuse(&self, layer: &Layer, rule: String, found: String, remedy: &'static str) -> QuantizeError {
        let node = &self.graph.nodes[layer.main];
        QuantizeError::Node { node: node.name.clone(), op: node.op.clone(), rule, found, remedy }
    }
}

const REMEDY_SPLIT: &str = "Change the network, or end quantization before it with --quantize-until";
const REMEDY_RANGES: &str = "Give ranges that were observed on this very graph, or samples to observe them";
const REMEDY_SHAPE: &str = "Export the network with fixed height and width";

/// Element `index`, or the only one.
fn at<T: Copy>(values: &[T], index: usize) -> T {
    if values.len() == 1 { values[0] } else { values[index] }
}

/// Mantissas as multipliers, exponents as divisors.
fn split(numbers: &[Fixed]) -> (Vec<u8>, Vec<f32>) {
    numbers.iter().map(|n| (n.mantissa as u8, f64::from(n.exponent).exp2() as f32)).unzip()
}
