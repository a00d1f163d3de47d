//! A model layer in the terms of the limits.

use super::MapOptions;
use super::geometry::{Axis, Misfit, PoolAxis, Wanted, same_pads};
use super::limits::{Class, Facts};
use crate::model::{Conv, ConvKind, LayerKind, Model, Pool, Shape};

/// A layer in the terms of the limits; an error says what in the model contradicts itself.
pub fn facts<'m>(model: &'m Model, index: usize, options: &MapOptions) -> Result<Facts<'m>, String> {
    let layer = &model.layers[index];
    let operand = |n: usize| match layer.inputs.get(n) {
        Some(&t) if t <= index => Ok(model.tensor(t)),
        Some(&t) => Err(format!("takes tensor {t}, which is made later")),
        None => Err(format!("has {} inputs", layer.inputs.len())),
    };
    let input = operand(0)?;
    let generation = if model.target.is_v1() { 1 } else { 2 };
    let last = !model.layers.iter().any(|l| l.inputs.contains(&(index + 1)));
    let mut facts = Facts {
        generation,
        class: Class::Add,
        input: input.shape,
        second: None,
        input_bits: input.bits,
        input_signed: input.signed,
        output_bits: layer.output.bits,
        kernel: [1, 1],
        stride: [1, 1],
        axes: [Ok(Axis::point()), Ok(Axis::point())],
        conv: [1, 1],
        pool: Pool::None,
        filters: layer.output.shape[2],
        weight_bits: 8,
        pointwise_bits: None,
        activation: None,
        bias: !layer.kind.bias().is_empty(),
        last,
        fifo: 0,
        pointwise_stride_2: options.pointwise_stride_2,
    };
    match &layer.kind {
        LayerKind::Add(_) | LayerKind::Concat => {
            let second = operand(1)?;
            facts.second = Some((second.shape, second.bits, second.signed));
            facts.class = if matches!(layer.kind, LayerKind::Concat) { Class::Concat } else { Class::Add };
        }
        LayerKind::Dense(dense) => {
            facts.class = Class::Dense;
            facts.weight_bits = dense.weights.bits;
            facts.activation = Some(&dense.activation);
            facts.filters = dense.weights.filters();
            if dense.weights.filter_len() != input.elements() {
                return Err(format!("weights {:?} for input {:?}", dense.weights.shape, input.shape));
            }
        }
        LayerKind::Conv(conv) => {
            facts.class = match conv.kind {
                ConvKind::Input => Class::InputConv,
                ConvKind::Standard => Class::Conv,
                ConvKind::Depthwise => Class::Depthwise,
                ConvKind::Separable => Class::Separable,
                ConvKind::Transposed | ConvKind::DepthwiseTransposed => Class::Transposed,
                ConvKind::Temporal | ConvKind::DepthwiseTemporal => Class::Temporal,
            };
            facts.kernel = if widened(conv, options) { WIDENED } else { conv.weights.kernel() };
            facts.stride = conv.stride;
            facts.pool = conv.pool;
            facts.filters = conv.filters();
            facts.weight_bits = conv.weights.bits;
            facts.pointwise_bits = conv.pointwise.as_ref().map(|p| p.bits);
            facts.activation = Some(&conv.activation);
            facts.fifo = conv.fifo;
            facts.conv = conv.conv_size([input.shape[0], input.shape[1]]).ok_or("kernel and input do not fit")?;
            facts.axes =
                [0, 1].map(|axis| axis_of(conv, facts.kernel, generation, axis, input.shape, layer.output.shape));
        }
    }
    Ok(facts)
}

/// The kernel that a 1x1 convolution with stride 2 is done with.
const WIDENED: [usize; 2] = [3, 3];

/// Whether a pointwise convolution with stride 2, which the tables do not have, is done as a 3x3 one that is 0 everywhere but
/// at one tap: that of the [`tap`] at which the windows of SAME padding have the positions of the 1x1 ones.
fn widened(conv: &Conv, options: &MapOptions) -> bool {
    !options.pointwise_stride_2
        && conv.kind == ConvKind::Standard
        && conv.weights.kernel() == [1, 1]
        && conv.stride == [2, 2]
        && conv.pads == [0; 4]
}

/// Where in a kernel of this size along an axis the only weight of a widened 1x1 kernel is: as far from its edge as SAME
/// padding reaches over the map.
pub fn tap(axis: &Axis) -> usize {
    axis.pad
}

fn axis_of(
    conv: &Conv,
    kernel: [usize; 2],
    generation: u8,
    axis: usize,
    input: Shape,
    output: Shape,
) -> Result<Axis, Misfit> {
    let pool = match conv.pool {
        Pool::None => PoolAxis::None,
        Pool::Global => PoolAxis::Global,
        Pool::Max { size, stride, pads } => PoolAxis::Max { size: size[axis], stride: stride[axis], pad: pads[axis] },
    };
    let wanted = Wanted {
        input: input[axis],
        kernel: kernel[axis],
        stride: conv.stride[axis],
        pads: if kernel == conv.weights.kernel() {
            [conv.pads[axis], conv.pads[axis + 2]]
        } else {
            same_pads(input[axis], kernel[axis], conv.stride[axis])
        },
        pool,
        output: output[axis],
    };
    if conv.kind.transposed() {
        return Axis::transposed(&wanted);
    }
    // quantization.md 7.2: "SameUpper" only with stride 2 and without max pooling, kernel 3 (HRC also 5 and 7).
    let kernels: &[usize] = if conv.kind == ConvKind::Input { &[3, 5, 7] } else { &[3] };
    let upper = generation == 2
        && wanted.stride == 2
        && kernels.contains(&wanted.kernel)
        && !matches!(pool, PoolAxis::Max { .. });
    Axis::convolution(&wanted, upper, conv.kind == ConvKind::Input)
}
