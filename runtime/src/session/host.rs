//! Layers on the host: the same kernels as the simulated NPs', prepared once, saturating as the chip does.

use akida_kernels::{
    Activation as KernelActivation, Add as KernelAdd, Arithmetic, Ending, Fifo, Finish, Geometry, Kind,
    Layer as KernelLayer, LayerSpec, Output, Pool as KernelPool, PrepareError, RunError, Scale, Scratch, Steps, Tile,
    View, Weights as KernelWeights, best, concat,
};

use super::error::SessionError;
use super::values::{Operand, Values};
use crate::mapping::HostStep;
use crate::model::{Activation, Conv, ConvKind, Layer, LayerKind, Model, Pool, ScaleOut, Shape, Tensor, TensorId};

/// No sum of slices reaches this, which the mapping has shown.
const SLICES_BELOW: i64 = 1 << 27;

/// Memory of large tensors is kept for later ones: the allocator would give it back to the system, which costs a fault for each page
/// of it when it is needed again. Tensors from this size on are large, and so much is kept at most.
const LARGE: usize = 64 << 10;
const SPARE: usize = 32 << 20;

/// Room for intermediate values, and memory of tensors that nobody needs any more.
#[derive(Debug, Default)]
pub struct Room {
    scratch: Scratch,
    spare: Vec<Vec<u8>>,
    bytes: usize,
}

impl Room {
    /// So many bytes; what is in them is of no meaning. Of what fits, what was used last is taken: it may still be in the processor's
    /// caches. Memory of a much larger tensor is left for the next of its size: this one may be held for a whole batch.
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let sizes = len..=2 * len;
        let last = self.spare.iter().rposition(|s| len >= LARGE && sizes.contains(&s.capacity()));
        let Some(last) = last else { return vec![0; len] };
        let mut bytes = self.spare.remove(last);
        self.bytes -= bytes.capacity();
        bytes.resize(len, 0);
        bytes
    }

    /// Keeps the memory of a tensor, in the place of what has waited longest.
    pub fn keep(&mut self, values: Values) {
        let Values::Bytes(bytes) = values else { return };
        if !(LARGE..=SPARE).contains(&bytes.capacity()) {
            return;
        }
        self.bytes += bytes.capacity();
        self.spare.push(bytes);
        while self.bytes > SPARE {
            self.bytes -= self.spare.remove(0).capacity();
        }
    }
}

/// A host step, ready to run.
pub struct HostWork {
    name: String,
    work: Work,
    inputs: Vec<usize>,
    tensor: usize,
    shapes: Vec<Shape>,
    output: Tensor,
}

enum Work {
    /// With the shape its input is seen in: dense layers see one position.
    Layer(Box<KernelLayer>, Shape),
    Temporal(Box<KernelLayer>, Shape, Fifo),
    Add(KernelAdd),
    Concat,
    Slices {
        ending: Box<Ending>,
        slices: usize,
        sums: Vec<i32>,
    },
}

/// One value for all or one for each, as one for each.
fn expand<T: Copy>(values: &[T], len: usize) -> Vec<T> {
    if values.len() == 1 { vec![values[0]; len] } else { values.to_vec() }
}

fn scale(scale: &ScaleOut, filters: usize) -> Scale {
    Scale { m: expand(&scale.m, filters), k: expand(&scale.k, filters) }
}

fn finish(model: &Model, layer: &Layer, filters: usize) -> Finish {
    let activation = match layer.kind.activation() {
        Activation::None => KernelActivation::None,
        Activation::Relu => KernelActivation::Relu,
        Activation::ReluClipped(max) => KernelActivation::Clipped(expand(max, filters)),
        Activation::Lut(lut) => KernelActivation::Lut { table: lut.table.clone(), scale: scale(&lut.scale, filters) },
        Activation::Steps { threshold, step_16ths } => KernelActivation::Steps(Steps {
            threshold: expand(threshold, filters),
            step_16ths: expand(step_16ths, filters),
        }),
    };
    Finish {
        arithmetic: Arithmetic::Chip { accumulator_bits: layer.kind.accumulator_bits(model.target) as u8 },
        bias: if layer.kind.bias().is_empty() { Vec::new() } else { expand(layer.kind.bias(), filters) },
        activation,
        scale: layer.kind.scale().map(|s| scale(s, filters)),
        output_bits: layer.output.bits,
        output_signed: layer.output.signed,
    }
}

fn kernel_layer(
    model: &Model,
    layer: &Layer,
    kind: Kind,
    geometry: Geometry,
    conv: Option<&Conv>,
) -> Result<KernelLayer, PrepareError> {
    let input = model.tensor(layer.inputs[0]);
    let [rows, columns, filters] = layer.output.shape;
    let pool = match conv.map_or(Pool::None, |c| c.pool) {
        Pool::None => KernelPool::None,
        Pool::Max { size, stride, pads } => KernelPool::Max { size, stride, pad: [pads[0], pads[1]] },
        Pool::Global => KernelPool::Global { after_activation: !model.target.is_v1() },
    };
    let pad_value = match conv {
        Some(c) if !c.pad_value.is_empty() => expand(&c.pad_value, input.shape[2]).iter().map(|&v| v as u8).collect(),
        _ => Vec::new(),
    };
    let mut weights = layer.kind.weights().map(|w| w.data.as_i8());
    let (main, pointwise) = (weights.next().unwrap_or(&[]), weights.next().unwrap_or(&[]));
    let spec = LayerSpec {
        kind,
        geometry,
        input_bits: input.bits,
        input_signed: input.signed,
        pad_value,
        pool,
        tile: Tile { rows: 0..rows, columns: 0..columns, filters: 0..filters },
        finish: finish(model, layer, filters),
    };
    let spec = if never_negative(model, layer.inputs[0]) { spec.never_negative_in() } else { spec };
    KernelLayer::prepare(spec, KernelWeights { main, pointwise }, best())
}

/// Whether no element of a tensor can be negative, whatever the model's input: sums and shifts of such ones are not either.
fn never_negative(model: &Model, tensor: TensorId) -> bool {
    let mut positive = vec![false];
    for layer in &model.layers[..tensor] {
        positive.push(match layer.kind.activation() {
            Activation::Relu | Activation::ReluClipped(_) => true,
            _ => match layer.kind {
                LayerKind::Add(_) | LayerKind::Concat => layer.inputs.iter().all(|&t| positive[t]),
                LayerKind::Conv(_) | LayerKind::Dense(_) => !layer.output.signed,
            },
        });
    }
    positive[tensor]
}

fn conv_work(model: &Model, layer: &Layer, conv: &Conv) -> Result<Work, PrepareError> {
    let input = model.tensor(layer.inputs[0]).shape;
    let kind = match conv.kind {
        ConvKind::Input | ConvKind::Standard | ConvKind::Temporal => Kind::Standard,
        ConvKind::Depthwise => Kind::Depthwise,
        ConvKind::Transposed => Kind::Transposed,
        ConvKind::DepthwiseTransposed => Kind::DepthwiseTransposed,
        ConvKind::Separable => Kind::Separable,
        ConvKind::DepthwiseTemporal => Kind::DepthwiseTemporal,
    };
    let frames = conv.fifo.max(1);
    let geometry = Geometry {
        input: [input[0], input[1], input[2] * frames],
        kernel: conv.weights.kernel(),
        stride: conv.stride,
        pad: [conv.pads[0], conv.pads[1]],
        conv: conv
            .conv_size([input[0], input[1]])
            .ok_or(PrepareError::Contradiction("the kernel is larger than its padded input"))?,
    };
    let prepared = Box::new(kernel_layer(model, layer, kind, geometry, Some(conv))?);
    Ok(if conv.kind.temporal() {
        Work::Temporal(prepared, geometry.input, Fifo::new(frames, input))
    } else {
        Work::Layer(prepared, input)
    })
}

impl HostWork {
    /// Prepares a step.
    pub fn prepare(model: &Model, step: HostStep) -> Result<Self, SessionError> {
        let layer = &model.layers[step.layer()];
        let prepare = |source| SessionError::Prepare { layer: layer.name.clone(), source };
        let channels = layer.output.shape[2];
        let work = match (step, &layer.kind) {
            (HostStep::Finish { slices, .. }, _) => {
                let ending =
                    Ending::prepare(finish(model, layer, channels), channels, SLICES_BELOW).map_err(prepare)?;
                Work::Slices { ending: Box::new(ending), slices, sums: Vec::new() }
            }
            (_, LayerKind::Conv(conv)) => conv_work(model, layer, conv).map_err(prepare)?,
            (_, LayerKind::Dense(dense)) => {
                let geometry = Geometry {
                    input: [1, 1, dense.weights.filter_len()],
                    kernel: [1, 1],
                    stride: [1, 1],
                    pad: [0, 0],
                    conv: [1, 1],
                };
                let prepared = kernel_layer(model, layer, Kind::Standard, geometry, None).map_err(prepare)?;
                Work::Layer(Box::new(prepared), geometry.input)
            }
            (_, LayerKind::Add(add)) => {
                let signed = [0, 1].map(|operand| model.tensor(layer.inputs[operand]).signed);
                let arithmetic = Arithmetic::Chip { accumulator_bits: 32 };
                let (a, b) = (expand(&add.a_shift, channels), expand(&add.b_shift, channels));
                let k = add.k.as_ref().map(|k| expand(k, channels));
                Work::Add(KernelAdd::prepare(a, b, k, signed, layer.output.bits, arithmetic).map_err(prepare)?)
            }
            (_, LayerKind::Concat) => Work::Concat,
        };
        Ok(Self {
            name: layer.name.clone(),
            work,
            inputs: layer.inputs.clone(),
            tensor: step.layer() + 1,
            shapes: layer.inputs.iter().map(|&t| model.tensor(t).shape).collect(),
            output: layer.output.clone(),
        })
    }

    /// Tensors it takes; for the end of a sliced layer they are not read, its slices are given instead.
    pub fn inputs(&self) -> &[usize] {
        &self.inputs
    }

    /// The tensor it makes.
    pub fn output(&self) -> usize {
        self.tensor
    }

    /// Whether it adds slices.
    pub fn adds_slices(&self) -> bool {
        matches!(self.work, Work::Slices { .. })
    }

    /// Forgets the frames of a stream.
    pub fn reset(&mut self) {
        if let Work::Temporal(_, _, fifo) = &mut self.work {
            fifo.reset();
        }
    }

    /// Computes one sample.
    pub fn run(&mut self, inputs: &[Operand<'_>], room: &mut Room) -> Result<Values, SessionError> {
        self.compute(inputs, room).map_err(|source| SessionError::Run { layer: self.name.clone(), source })
    }

    fn compute(&mut self, inputs: &[Operand<'_>], room: &mut Room) -> Result<Values, RunError> {
        let elements = self.output.elements();
        let mut values =
            if self.output.bits > 8 { Values::Words(vec![0; elements]) } else { Values::Bytes(room.bytes(elements)) };
        let scratch = &mut room.scratch;
        let bytes = |n: usize| match inputs.get(n) {
            Some(Operand::Bytes(bytes)) => Ok(*bytes),
            Some(Operand::Words(_)) => Err(RunError::OutputKind { bits: 32 }),
            None => Err(RunError::Length { what: "inputs", got: n, expected: n + 1 }),
        };
        let mut output = match &mut values {
            Values::Bytes(b) => Output::Bytes(b),
            Values::Words(w) => Output::Words(w),
        };
        match &mut self.work {
            Work::Layer(layer, shape) => layer.run(&View::whole(bytes(0)?, *shape)?, scratch, output)?,
            Work::Temporal(layer, shape, fifo) => {
                let frames = fifo.push(bytes(0)?)?;
                layer.run(&View::whole(frames, *shape)?, scratch, output)?;
            }
            Work::Add(add) => add.run(bytes(0)?, bytes(1)?, output)?,
            Work::Concat => {
                let Output::Bytes(out) = &mut output else { return Err(RunError::OutputKind { bits: 32 }) };
                concat(bytes(0)?, self.shapes[0][2], bytes(1)?, self.shapes[1][2], out)?;
            }
            Work::Slices { ending, slices, sums } => {
                let Some(Operand::Words(words)) = inputs.first() else { return Err(RunError::OutputKind { bits: 8 }) };
                if words.len() != elements * *slices {
                    let expected = elements * *slices;
                    return Err(RunError::Length { what: "potentials of slices", got: words.len(), expected });
                }
                sums.clear();
                sums.resize(elements, 0);
                for slice in words.chunks_exact(elements) {
                    sums.iter_mut().zip(slice).for_each(|(sum, &part)| *sum = sum.wrapping_add(part));
                }
                ending.row(best(), sums, &mut output);
            }
        }
        Ok(values)
    }
}
