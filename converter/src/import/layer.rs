//! From a fused node to a layer.

use akida_runtime::model::{Activation, Add, Conv, ConvKind, Dense, LayerKind, OnnxLayout, Pool, Tensor, Weights};

use super::{
    ImportError,
    constants::Constants,
    op::{Base, FusedActivation, FusedOp, FusedPool},
};

/// Attributes that carry information only.
const INFORMATIVE: [&str; 3] = ["scale", "model_id", "fifo_name"];

/// Attributes of ours: widths other than 8.
const BITS: [&str; 3] = ["weights_bits", "output_bits", "output_signed"];

/// What a node computes on `input`, and the bits of an output element. Shapes that must fit the input are checked by the
/// model; here the initializers are.
pub fn layer(op: FusedOp, constants: &Constants, input: &Tensor) -> Result<(LayerKind, u8), ImportError> {
    let known = op.attributes();
    let strange = |name: &&String| {
        let bits = op.narrows() && BITS.contains(&name.as_str());
        let allowed = known.contains(&name.as_str()) || INFORMATIVE.contains(&name.as_str()) || bits;
        !allowed
    };
    if let Some(name) = constants.node.attributes.keys().find(strange) {
        return Err(ImportError::node(constants.node, format!("attribute {name} is none of this operator")));
    }
    let bits = if op.scaled { four_or_eight(constants, "output_bits")? } else { 32 };
    let channels = input.shape[2];
    let mut kind = match op.base {
        Base::Concat => return Ok((LayerKind::Concat, input.bits)),
        Base::Add => {
            let shift = |role: &str| -> Result<Vec<u8>, ImportError> { left_shifts(constants, role, channels) };
            let k = if op.scaled { Some(constants.exponents("Shift", channels)?) } else { None };
            LayerKind::Add(Add { a_shift: shift("Xs")?, b_shift: shift("Ys")?, k })
        }
        Base::Dense1D => LayerKind::Dense(dense(op, constants, input)?),
        _ => LayerKind::Conv(Box::new(conv(op, constants, input)?)),
    };
    let weight_bits = four_or_eight(constants, "weights_bits")?;
    match &mut kind {
        LayerKind::Conv(conv) => conv.weights.bits = weight_bits,
        LayerKind::Dense(dense) => dense.weights.bits = weight_bits,
        LayerKind::Add(_) | LayerKind::Concat => {}
    }
    Ok((kind, bits))
}

/// A number of bits that graphs of the reference do not give: 8 then.
fn four_or_eight(constants: &Constants, attribute: &str) -> Result<u8, ImportError> {
    match constants.node.attributes.get(attribute).map(|_| constants.node.int(attribute)) {
        None | Some(Some(8)) => Ok(8),
        Some(Some(4)) => Ok(4),
        Some(found) => {
            let reason = format!("attribute {attribute} is {found:?}, not 4 or 8");
            Err(ImportError::node(constants.node, reason))
        }
    }
}

/// Exponents of the multipliers of an addition, which are powers of two.
fn left_shifts(constants: &Constants, role: &str, channels: usize) -> Result<Vec<u8>, ImportError> {
    let (name, ..) = constants.tensor(role)?;
    let exponent = |value: i32| match u32::try_from(value) {
        Ok(factor) if factor.is_power_of_two() => Ok(factor.trailing_zeros() as u8),
        _ => Err(ImportError::constant(constants.node, name, format!("{role} holds {value}, not a power of two"))),
    };
    constants.per_channel::<i32>(role, channels)?.into_iter().map(exponent).collect()
}

fn dense(op: FusedOp, constants: &Constants, input: &Tensor) -> Result<Dense, ImportError> {
    let [height, width, channels] = input.shape;
    if !op.flatten && input.layout != OnnxLayout::Flat {
        let reason = format!("takes (batch, channels), but '{}' has height and width", input.name);
        return Err(ImportError::node(constants.node, reason));
    }
    let (name, dims, values) = constants.values::<i8>("W")?;
    let &[units, inputs] = dims else { return Err(wrong_weights(constants, name, dims, "(units, inputs)")) };
    if inputs != input.elements() {
        let reason = format!("has {inputs} weights for each unit, the input '{}' has {}", input.name, input.elements());
        return Err(ImportError::constant(constants.node, name, reason));
    }
    // Each unit sees (channel, row, column) in ONNX, (row, column, channel) here; the model's input is the one tensor
    // that may be (height, width, channels) in ONNX, and then ONNX has transposed it before.
    let layout = if input.layout == OnnxLayout::Flat { OnnxLayout::Flat } else { OnnxLayout::Nchw };
    let turned: Vec<i8> = values.chunks(inputs).flat_map(|unit| layout.to_chip(unit, input.shape)).collect();
    Ok(Dense {
        weights: Weights::new(8, [units, height, width, channels], &turned),
        bias: bias(op, constants, units)?,
        activation: activation(op, constants, units)?,
        scale: if op.scaled { Some(constants.scale_out("Scale", "Shift", units)?) } else { None },
    })
}

fn conv(op: FusedOp, constants: &Constants, input: &Tensor) -> Result<Conv, ImportError> {
    let channels = input.shape[2];
    let kind = match op.base {
        Base::InputConv2D => ConvKind::Input,
        Base::Depthwise2D => ConvKind::Depthwise,
        Base::Conv2DTranspose => ConvKind::Transposed,
        Base::Depthwise2DTranspose => ConvKind::DepthwiseTransposed,
        Base::BufferTempConv => ConvKind::Temporal,
        Base::DepthwiseBufferTempConv => ConvKind::DepthwiseTemporal,
        _ => ConvKind::Standard,
    };
    let fifo = if kind.temporal() { fifo_size(constants)? } else { 0 };
    let weights = conv_weights(kind, constants, channels, fifo)?;
    if constants.node.attributes.contains_key("groups")
        || matches!(kind, ConvKind::Depthwise | ConvKind::DepthwiseTransposed)
    {
        match constants.node.int("groups") {
            Some(groups) if groups == channels as i64 => {}
            found => {
                let reason = format!("attribute groups is {found:?}, not the {channels} channels of its input");
                return Err(ImportError::node(constants.node, reason));
            }
        }
    }
    let filters = weights.filters();
    let [stride, pads] = match kind {
        kind if kind.temporal() => [[1, 1, 0, 0], [0; 4]],
        kind => {
            let [vertical, horizontal] = constants.sizes("strides")?;
            let pads = if kind.transposed() { constants.sizes("pads")? } else { constants.pads()? };
            [[vertical, horizontal, 0, 0], pads]
        }
    };
    let pad_value =
        if kind == ConvKind::Input { constants.every_channel("x_pad_value", channels)? } else { Vec::new() };
    let pool = match op.pool {
        FusedPool::None => Pool::None,
        FusedPool::Global => Pool::Global,
        FusedPool::Max => Pool::Max {
            size: constants.sizes("pool_size")?,
            stride: constants.sizes("pool_strides")?,
            pads: constants.sizes("pool_pads")?,
        },
    };
    Ok(Conv {
        kind,
        weights,
        pointwise: None,
        stride: [stride[0], stride[1]],
        pads,
        pad_value,
        bias: bias(op, constants, filters)?,
        pool,
        activation: activation(op, constants, filters)?,
        scale: if op.scaled { Some(constants.scale_out("Scale", "Shift", filters)?) } else { None },
        fifo,
    })
}

fn fifo_size(constants: &Constants) -> Result<usize, ImportError> {
    let size = constants.node.int("fifo_size").and_then(|size| usize::try_from(size).ok());
    size.ok_or_else(|| ImportError::node(constants.node, "attribute fifo_size is missing or negative"))
}

/// Kernels in ONNX order to filter, row, column, channel.
fn conv_weights(kind: ConvKind, constants: &Constants, channels: usize, fifo: usize) -> Result<Weights, ImportError> {
    let (name, dims, values) = constants.values::<i8>("W")?;
    let wrong = |wanted| wrong_weights(constants, name, dims, wanted);
    let &[first, second, height, width] = dims else { return Err(wrong("four dimensions")) };
    if values.is_empty() {
        return Err(wrong("at least one weight"));
    }
    let area = height * width;
    Ok(match kind {
        ConvKind::Input | ConvKind::Standard | ConvKind::Separable => {
            if second != channels {
                return Err(wrong(&format!("{channels} channels, as many as the input has, in the second dimension")));
            }
            Weights::new(8, [first, height, width, second], &turn(&values, [first, second, area], [0, 2, 1]))
        }
        ConvKind::Depthwise | ConvKind::DepthwiseTransposed => {
            if [first, second] != [channels, 1] {
                return Err(wrong(&format!("({channels}, 1, height, width)")));
            }
            Weights::new(8, [channels, height, width, 1], &values)
        }
        ConvKind::Transposed => {
            if first != channels {
                return Err(wrong(&format!("{channels} channels, as many as the input has, in the first dimension")));
            }
            Weights::new(8, [second, height, width, first], &turn(&values, [first, second, area], [1, 2, 0]))
        }
        // ONNX has the frames of a channel together, the chip the channels of a frame.
        ConvKind::Temporal => {
            if Some(second) != channels.checked_mul(fifo) || area != 1 {
                return Err(wrong(&format!("(filters, {channels} channels x {fifo} frames, 1, 1)")));
            }
            Weights::new(8, [first, 1, 1, second], &turn(&values, [first, channels, fifo], [0, 2, 1]))
        }
        ConvKind::DepthwiseTemporal => {
            if [first, second, height, width] != [channels, fifo, 1, 1] {
                return Err(wrong(&format!("({channels}, {fifo} frames, 1, 1)")));
            }
            Weights::new(8, [channels, 1, 1, fifo], &values)
        }
    })
}

fn wrong_weights(constants: &Constants, name: &str, dims: &[usize], wanted: &str) -> ImportError {
    ImportError::constant(constants.node, name, format!("weights have shape {dims:?} where {wanted} belongs"))
}

/// Row-major values of shape `dims` with their axes in another order.
fn turn(values: &[i8], dims: [usize; 3], order: [usize; 3]) -> Vec<i8> {
    let strides = [dims[1] * dims[2], dims[2], 1];
    let mut turned = Vec::with_capacity(values.len());
    for a in 0..dims[order[0]] {
        for b in 0..dims[order[1]] {
            for c in 0..dims[order[2]] {
                turned.push(values[a * strides[order[0]] + b * strides[order[1]] + c * strides[order[2]]]);
            }
        }
    }
    turned
}

fn bias(op: FusedOp, constants: &Constants, filters: usize) -> Result<Vec<i32>, ImportError> {
    if op.biased { constants.every_channel("bias", filters) } else { Ok(Vec::new()) }
}

fn activation(op: FusedOp, constants: &Constants, filters: usize) -> Result<Activation, ImportError> {
    Ok(match op.activation {
        FusedActivation::None => Activation::None,
        FusedActivation::Relu => Activation::Relu,
        FusedActivation::ReluClipped => Activation::ReluClipped(constants.per_channel("max_value", filters)?),
        FusedActivation::Lut => Activation::Lut(Box::new(constants.lut(filters)?)),
    })
}

#[cfg(test)]
mod tests {
    use super::turn;

    #[test]
    fn axes_are_turned() {
        let values: Vec<i8> = (0..24).collect();
        assert_eq!(turn(&values, [2, 3, 4], [0, 1, 2]), values);
        let turned = turn(&values, [2, 3, 4], [1, 2, 0]);
        // Element (1, 2, 0) of the turned (3, 4, 2) is element (0, 1, 2).
        assert_eq!(turned[4 * 2 + 2 * 2], values[4 + 2]);
        assert!(turn(&[], [0, 3, 4], [0, 2, 1]).is_empty());
    }
}
