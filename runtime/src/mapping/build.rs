//! Model layers as hardware layers, with the layers that exact rewritings add.
//!
//! | rewriting | when | why it is exact |
//! |---|---|---|
//! | part of a SAME convolution | VALID and other small paddings | [`super::geometry`]; proven there by test |
//! | a 1x1 convolution with stride 2 as a 3x3 one | wherever 3x3 may have stride 2 | the other taps are 0 |
//! | a 1x1 identity behind max pooling | something else than a convolution follows | `(x * 128 + 64) >> 7 = x`; 1.0: steps of 1 |
//! | a sum or concatenation in the inbound of convolutions | only convolutions consume it | same arithmetic, one step earlier |
//! | a dense layer in slices of its inputs | more inputs than an FNP takes, no accumulator can saturate | addition is associative; the host adds |

use akida_hal::mesh::NpTypes;
use akida_hal::np::{Activation as NpActivation, Op};

use super::facts::facts;
use super::geometry::{Axis, Misfit};
use super::limits::{self, Class, DENSE_INPUTS_1, DENSE_INPUTS_2, Facts};
use super::stage::{Feed, Inbound, Role, Stage};
use super::{MapError, MapOptions, Reason, Remark};
use crate::model::{Activation, Conv, ConvKind, Layer, LayerKind, Model, Pool, TensorId};

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
        if matches!(layer.kind, LayerKind::Concat) && (a == Feed::Input || b == Feed::Input) {
            return Err(Reason {
                rule: "akida2.merge.operands",
                limit: "channels of two tensors that layers of this hardware sequence make (ours: registers say the \
                        channels of both together)"
                    .into(),
                value: "the input of the sequence".into(),
                remedy: "put a 1x1 convolution before it".into(),
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
        if facts.kernel != conv.weights.kernel() {
            let text = "1x1 with stride 2 done as a 3x3 kernel whose other weights are 0";
            self.remarks.push(Remark { layer: index, text: text.into() });
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
    // Pieces whose sum 32 bits hold, which many can be added to at once.
    let piece = |weights: &[i8]| i64::from(weights.iter().map(|w| u32::from(w.unsigned_abs())).sum::<u32>());
    let unit = |u: usize| dense.weights.filter(u).chunks(1 << 16).map(piece).sum::<i64>();
    (0..dense.weights.filters()).map(|u| unit(u) * most).max().unwrap_or(0)
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
