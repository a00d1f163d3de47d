//! Model layers as hardware layers, with the layers that exact rewritings add.
//!
//! | rewriting | when | why it is exact |
//! |---|---|---|
//! | part of a SAME convolution | VALID and other small paddings | [`super::geometry`]; proven there by test |
//! | a 1x1 identity behind max pooling | something else than a convolution follows | `(x * 128 + 64) >> 7 = x`; 1.0: steps of 1 |
//! | a sum or concatenation in the inbound of convolutions | only convolutions consume it | same arithmetic, one step earlier |
//! | a dense layer in slices of its inputs | more inputs than an FNP takes, no accumulator can saturate | addition is associative; the host adds |

use akida_hal::mesh::NpTypes;
use akida_hal::np::{Activation as NpActivation, Op};

use super::geometry::{Axis, Misfit, PoolAxis, Wanted};
use super::limits::{self, Class, DENSE_INPUTS_1, DENSE_INPUTS_2, Facts};
use super::{MapError, MapOptions, Reason, Remark};
use crate::model::{Activation, Conv, ConvKind, Layer, LayerKind, Model, Pool, Shape, TensorId};

/// What a hardware layer is for a model layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The layer itself.
    Layer,
    /// The identity behind its max pooling.
    PassThrough,
}

/// Where a stage's input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// The sequence's input.
    Input,
    /// The output of a stage of this sequence.
    Stage(usize),
}

/// What a stage takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// One tensor.
    One(Feed),
    /// The sum that this model layer makes.
    Add(Feed, Feed, usize),
    /// Two tensors' channels.
    Concat(Feed, Feed),
}

impl Inbound {
    /// The feeds.
    pub fn feeds(&self) -> impl Iterator<Item = Feed> {
        match *self {
            Inbound::One(a) => [Some(a), None],
            Inbound::Add(a, b, _) | Inbound::Concat(a, b) => [Some(a), Some(b)],
        }
        .into_iter()
        .flatten()
    }
}

/// One hardware layer before it is cut into parts.
#[derive(Clone, Debug)]
pub struct Stage<'m> {
    /// Index of the model layer.
    pub index: usize,
    /// The model layer.
    pub layer: &'m Layer,
    /// What this is for it.
    pub role: Role,
    /// What it takes in.
    pub inbound: Inbound,
    /// What it computes.
    pub op: Op,
    /// What an NP must be able to do; empty on the HRC, FNP2 and FNP3 both for dense layers.
    pub needs: NpTypes,
    /// (height, width, channels), merged.
    pub input: Shape,
    /// Bits of an input element.
    pub input_bits: u8,
    /// Whether input elements are signed.
    pub input_signed: bool,
    /// Kernel (height, width).
    pub kernel: [usize; 2],
    /// Rows and columns.
    pub axes: [Axis; 2],
    /// Filters, units or channels made; of one slice.
    pub filters: usize,
    /// Into how many slices a dense layer's inputs must be cut at least; 1 for all others.
    pub slices: usize,
    /// FIFO frames.
    pub fifo: usize,
    /// Bits of a weight.
    pub weight_bits: u8,
    /// Bits of a pointwise weight.
    pub pointwise_bits: u8,
    /// Activation.
    pub activation: NpActivation,
    /// Bits of an output element.
    pub output_bits: u8,
    /// Whether output elements are signed.
    pub output_signed: bool,
    /// Accumulator width.
    pub accumulator_bits: u8,
}

impl Stage<'_> {
    /// On the HRC.
    pub fn is_hrc(&self) -> bool {
        self.needs.is_empty()
    }

    /// Output as it leaves: (height, width, channels), slices one after another.
    pub fn output(&self) -> Shape {
        [self.axes[0].len, self.axes[1].len, self.filters * self.slices]
    }

    /// Multiply-adds of `filters` filters at every output position of one sample.
    pub fn macs_per_filter(&self) -> u64 {
        let taps = (self.kernel[0] * self.kernel[1] * self.fifo.max(1)) as u64;
        let channels = self.input[2] as u64;
        let positions = |axis: &Axis| {
            let [start, end] = axis.conv_range(0, axis.len);
            (end - start) as u64
        };
        let positions = positions(&self.axes[0]) * positions(&self.axes[1]);
        match self.op {
            Op::Conv => taps * channels * positions,
            Op::Depthwise => taps * positions,
            Op::Separable => channels * positions,
            Op::Transposed => taps * channels * (self.input[0] * self.input[1]) as u64,
            Op::DepthwiseTransposed => taps * (self.input[0] * self.input[1]) as u64,
            Op::Dense => self.input.iter().product::<usize>() as u64,
            Op::Merge => 0,
        }
    }
}

/// The stages of a piece of the model, or the first layer that cannot be on the hardware.
pub struct Built<'m> {
    /// In order.
    pub stages: Vec<Stage<'m>>,
    /// What was rewritten.
    pub remarks: Vec<Remark>,
}

/// Why a piece cannot be built: the model layer and the rule.
pub type Refusal = (usize, Reason);

/// Builds the stages of model layers `layers`, whose only outside input is `input` and whose only output that leaves is
/// `output`.
pub fn build<'m>(
    model: &'m Model,
    layers: &[usize],
    input: TensorId,
    output: TensorId,
    options: &MapOptions,
) -> Result<Result<Built<'m>, Refusal>, MapError> {
    let mut builder = Builder { model, layers, output, stages: Vec::new(), remarks: Vec::new(), feeds: Vec::new() };
    builder.feeds.push((input, Made::By(Feed::Input)));
    for &index in layers {
        if let Err(reason) = builder.layer(index, options)? {
            return Ok(Err((index, reason)));
        }
    }
    Ok(Ok(Built { stages: builder.stages, remarks: builder.remarks }))
}

/// Who makes a tensor.
#[derive(Clone, Copy)]
enum Made {
    /// A stage (or nobody: the input).
    By(Feed),
    /// Its consumers, in their inbound.
    Merged(Inbound),
}

struct Builder<'m, 'a> {
    model: &'m Model,
    layers: &'a [usize],
    output: TensorId,
    stages: Vec<Stage<'m>>,
    remarks: Vec<Remark>,
    feeds: Vec<(TensorId, Made)>,
}

fn inconsistent(layer: &Layer, what: impl Into<String>) -> MapError {
    MapError::Model { layer: layer.name.clone(), what: what.into() }
}

impl<'m> Builder<'m, '_> {
    fn made(&self, tensor: TensorId) -> Option<Made> {
        self.feeds.iter().find(|(t, _)| *t == tensor).map(|(_, m)| *m)
    }

    /// Consumers of a tensor inside this piece.
    fn consumers(&self, tensor: TensorId) -> impl Iterator<Item = &'m Layer> {
        let model = self.model;
        self.layers.iter().map(move |&i| &model.layers[i]).filter(move |l| l.inputs.contains(&tensor))
    }

    fn layer(&mut self, index: usize, options: &MapOptions) -> Result<Result<(), Reason>, MapError> {
        let model = self.model;
        let layer = &model.layers[index];
        let facts = match facts(model, index, options) {
            Ok(facts) => facts,
            Err(what) => return Err(inconsistent(layer, what)),
        };
        if let Some(computed) = facts.axes.iter().find_map(|a| match a {
            Err(Misfit::Length { computed }) => Some(*computed),
            _ => None,
        }) {
            return Err(inconsistent(
                layer,
                format!("output {:?}, but its parameters make {computed}", layer.output.shape),
            ));
        }
        let leaves = index + 1 == self.output;
        let sliceable = leaves && facts.class == Class::Dense && facts.generation == 2;
        match limits::check(&facts) {
            Err(reason) if reason.rule == "akida2.dense.inputs" && sliceable && !options.hw_only => {}
            Err(reason) => return Ok(Err(reason)),
            Ok(()) => {}
        }
        match &layer.kind {
            LayerKind::Add(_) | LayerKind::Concat => Ok(self.merge(index, &facts)),
            LayerKind::Conv(conv) => Ok(self.convolution(index, conv, &facts)),
            LayerKind::Dense(_) => Ok(self.dense(index, &facts)),
        }
    }

    /// The inbound of a layer with one input.
    fn inbound(&self, layer: &Layer) -> Inbound {
        match layer.inputs.first().and_then(|&t| self.made(t)) {
            Some(Made::By(feed)) => Inbound::One(feed),
            Some(Made::Merged(inbound)) => inbound,
            None => Inbound::One(Feed::Input),
        }
    }

    fn push(&mut self, stage: Stage<'m>) -> Feed {
        self.stages.push(stage);
        Feed::Stage(self.stages.len() - 1)
    }

    /// A sum or concatenation: into the inbound of its consumers when they are all convolutions, else a layer.
    fn merge(&mut self, index: usize, facts: &Facts) -> Result<(), Reason> {
        let layer = &self.model.layers[index];
        let mut feeds = layer.inputs.iter().map(|&t| match self.made(t) {
            Some(Made::By(feed)) => Some(feed),
            _ => None, // Sums that another sum consumes are layers, see below.
        });
        let (Some(Some(a)), Some(Some(b))) = (feeds.next(), feeds.next()) else {
            return Err(Reason {
                rule: "akida2.merge.operands",
                limit: "two different tensors of the same hardware sequence".into(),
                value: format!("tensors {:?}", layer.inputs),
                remedy: "leave it on the host".into(),
            });
        };
        if a == b {
            return Err(Reason {
                rule: "akida2.merge.operands",
                limit: "two different tensors (quantization.md 7.1)".into(),
                value: "one tensor twice".into(),
                remedy: "scale the tensor instead of adding it to itself".into(),
            });
        }
        let inbound = match layer.kind {
            LayerKind::Concat => Inbound::Concat(a, b),
            _ => Inbound::Add(a, b, index),
        };
        let tensor = index + 1;
        let fused = layer.output.bits != 32
            && tensor != self.output
            && self.consumers(tensor).all(|l| matches!(l.kind, LayerKind::Conv(_)));
        if fused {
            self.feeds.push((tensor, Made::Merged(inbound)));
            return Ok(());
        }
        let [height, width, channels] = layer.output.shape;
        let axis = |n: usize| Axis { input: n, conv: n, len: n, ..Axis::point() };
        let feed = self.push(Stage {
            index,
            layer,
            role: Role::Layer,
            inbound,
            op: Op::Merge,
            needs: NpTypes::CNP1,
            input: [height, width, channels],
            input_bits: facts.input_bits,
            input_signed: facts.input_signed,
            kernel: [1, 1],
            axes: [axis(height), axis(width)],
            filters: channels,
            slices: 1,
            fifo: 0,
            weight_bits: 8,
            pointwise_bits: 0,
            activation: NpActivation::None,
            output_bits: layer.output.bits,
            output_signed: layer.output.signed,
            accumulator_bits: 32,
        });
        self.feeds.push((tensor, Made::By(feed)));
        Ok(())
    }

    fn convolution(&mut self, index: usize, conv: &'m Conv, facts: &Facts) -> Result<(), Reason> {
        let layer = &self.model.layers[index];
        let (Ok(rows), Ok(columns)) = (&facts.axes[0], &facts.axes[1]) else {
            // Unreachable: the padding rules have refused this.
            return Err(Reason {
                rule: "padding",
                limit: "SAME".into(),
                value: layer.name.clone(),
                remedy: "leave it on the host".into(),
            });
        };
        let (op, needs) = match conv.kind {
            ConvKind::Input => (Op::Conv, NpTypes::empty()),
            ConvKind::Standard => (Op::Conv, NpTypes::CNP1),
            ConvKind::Depthwise => (Op::Depthwise, NpTypes::CNP2),
            ConvKind::Separable => (Op::Separable, NpTypes::CNP2),
            ConvKind::Transposed => (Op::Transposed, NpTypes::CNP1),
            ConvKind::DepthwiseTransposed => (Op::DepthwiseTransposed, NpTypes::CNP2),
            ConvKind::Temporal => (Op::Conv, NpTypes::TNP_B),
            ConvKind::DepthwiseTemporal => (Op::Depthwise, NpTypes::TNP_B),
        };
        let inbound = self.inbound(layer);
        if needs.is_empty() && inbound != Inbound::One(Feed::Input) {
            return Err(Reason {
                rule: "hrc.first",
                limit: "the HRC takes the model's input".into(),
                value: format!("{inbound:?}"),
                remedy: "make it the first layer".into(),
            });
        }
        if !needs.is_empty() && conv.pad_value.iter().any(|v| *v != 0) {
            return Err(Reason {
                rule: "conv.pad_value",
                limit: "NPs pad with 0; only the HRC has another padding value".into(),
                value: format!("padding value {:?}", conv.pad_value),
                remedy: "fold the offset into the layer before".into(),
            });
        }
        if rows.is_cropped() || columns.is_cropped() {
            let text = format!(
                "padding {:?} done as the part of a SAME convolution from row {} and column {} on",
                conv.pads, rows.first, columns.first
            );
            self.remarks.push(Remark { layer: index, text });
        }
        let tensor = index + 1;
        let stage = Stage {
            index,
            layer,
            role: Role::Layer,
            inbound,
            op,
            needs,
            input: facts.input,
            input_bits: facts.input_bits,
            input_signed: facts.input_signed,
            kernel: facts.kernel,
            axes: [*rows, *columns],
            filters: facts.filters,
            slices: 1,
            fifo: conv.fifo,
            weight_bits: conv.weights.bits,
            pointwise_bits: conv.pointwise.as_ref().map_or(0, |p| p.bits),
            activation: np_activation(&conv.activation),
            output_bits: layer.output.bits,
            output_signed: layer.output.signed,
            accumulator_bits: layer.kind.accumulator_bits(self.model.target) as u8,
        };
        let (hrc, pass) = (stage.is_hrc(), pass_through(&stage));
        let mut feed = self.push(stage);
        let followed = tensor != self.output
            && self.consumers(tensor).all(|l| match &l.kind {
                LayerKind::Conv(c) => matches!(c.kind, ConvKind::Standard | ConvKind::Depthwise | ConvKind::Separable),
                _ => false,
            });
        if matches!(conv.pool, Pool::Max { .. }) && !hrc && !followed {
            if layer.output.bits == 32 {
                return Err(Reason {
                    rule: "conv.max_pool.followed",
                    limit: "a convolution follows max pooling (targets.md 1.2, 2.2)".into(),
                    value: "potentials leave after max pooling".into(),
                    remedy: "quantize the output of this layer".into(),
                });
            }
            let text = "max pooling must be followed by a convolution: a 1x1 identity follows".into();
            self.remarks.push(Remark { layer: index, text });
            feed = self.push(Stage { inbound: Inbound::One(feed), ..pass });
        }
        self.feeds.push((tensor, Made::By(feed)));
        Ok(())
    }

    fn dense(&mut self, index: usize, facts: &Facts) -> Result<(), Reason> {
        let layer = &self.model.layers[index];
        let inputs: usize = facts.input.iter().product();
        let most = if facts.generation == 2 { DENSE_INPUTS_2 } else { DENSE_INPUTS_1 };
        let slices = inputs.div_ceil(most).max(1);
        let mut stage = Stage {
            index,
            layer,
            role: Role::Layer,
            // Never a merge: one that a dense layer consumes is a stage of its own.
            inbound: self.inbound(layer),
            op: Op::Dense,
            needs: NpTypes::FNP2 | NpTypes::FNP3,
            input: facts.input,
            input_bits: facts.input_bits,
            input_signed: facts.input_signed,
            kernel: [1, 1],
            axes: [Axis::point(), Axis::point()],
            filters: facts.filters,
            slices,
            fifo: 0,
            weight_bits: facts.weight_bits,
            pointwise_bits: 0,
            activation: np_activation(layer.kind.activation()),
            output_bits: layer.output.bits,
            output_signed: layer.output.signed,
            accumulator_bits: layer.kind.accumulator_bits(self.model.target) as u8,
        };
        if slices > 1 {
            let bound = accumulator_bound(layer, facts);
            if bound >= 1 << 27 {
                return Err(Reason {
                    rule: "akida2.dense.saturation",
                    limit: "no sum of a layer cut along its inputs may reach 2^27, where the accumulator saturates"
                        .into(),
                    value: format!("the weights allow {bound}"),
                    remedy: "leave it on the host, or use fewer inputs".into(),
                });
            }
            stage.activation = NpActivation::None;
            stage.output_bits = 32;
            stage.output_signed = true;
        }
        let feed = self.push(stage);
        self.feeds.push((index + 1, Made::By(feed)));
        Ok(())
    }
}

fn np_activation(activation: &Activation) -> NpActivation {
    match activation {
        Activation::None => NpActivation::None,
        Activation::Relu => NpActivation::Relu,
        Activation::ReluClipped(_) => NpActivation::ReluClipped,
        Activation::Lut(_) => NpActivation::Lut,
        Activation::Steps { .. } => NpActivation::Steps,
    }
}

/// Largest magnitude a dense layer's sum can have with its actual weights.
fn accumulator_bound(layer: &Layer, facts: &Facts) -> i64 {
    let LayerKind::Dense(dense) = &layer.kind else { return i64::MAX };
    let bits = u32::from(facts.input_bits);
    let most = if facts.input_signed { 1i64 << (bits - 1) } else { (1i64 << bits) - 1 };
    (0..dense.weights.filters())
        .map(|u| dense.weights.filter(u).iter().map(|w| i64::from(w.unsigned_abs())).sum::<i64>() * most)
        .max()
        .unwrap_or(0)
}

/// The 1x1 identity behind a stage.
fn pass_through<'m>(of: &Stage<'m>) -> Stage<'m> {
    let axis = |n: usize| Axis { input: n, conv: n, len: n, ..Axis::point() };
    let generation_1 = of.activation == NpActivation::Steps;
    let [height, width, channels] = of.output();
    Stage {
        index: of.index,
        layer: of.layer,
        role: Role::PassThrough,
        inbound: of.inbound,
        op: Op::Conv,
        needs: NpTypes::CNP1,
        input: [height, width, channels],
        input_bits: of.output_bits,
        input_signed: of.output_signed,
        kernel: [1, 1],
        axes: [axis(height), axis(width)],
        filters: channels,
        slices: 1,
        fifo: 0,
        weight_bits: if generation_1 { 2 } else { 4 },
        pointwise_bits: 0,
        activation: if generation_1 { NpActivation::Steps } else { NpActivation::None },
        output_bits: of.output_bits,
        output_signed: of.output_signed,
        accumulator_bits: if generation_1 { 32 } else { 28 },
    }
}

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
            facts.kernel = conv.weights.kernel();
            facts.stride = conv.stride;
            facts.pool = conv.pool;
            facts.filters = conv.filters();
            facts.weight_bits = conv.weights.bits;
            facts.pointwise_bits = conv.pointwise.as_ref().map(|p| p.bits);
            facts.activation = Some(&conv.activation);
            facts.fifo = conv.fifo;
            facts.conv = conv.conv_size([input.shape[0], input.shape[1]]).ok_or("kernel and input do not fit")?;
            facts.axes = [0, 1].map(|axis| axis_of(conv, generation, axis, input.shape, layer.output.shape));
        }
    }
    Ok(facts)
}

fn axis_of(conv: &Conv, generation: u8, axis: usize, input: Shape, output: Shape) -> Result<Axis, Misfit> {
    let pool = match conv.pool {
        Pool::None => PoolAxis::None,
        Pool::Global => PoolAxis::Global,
        Pool::Max { size, stride, pads } => PoolAxis::Max { size: size[axis], stride: stride[axis], pad: pads[axis] },
    };
    let wanted = Wanted {
        input: input[axis],
        kernel: conv.weights.kernel()[axis],
        stride: conv.stride[axis],
        pads: [conv.pads[axis], conv.pads[axis + 2]],
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
