//! What a target's layers may look like: every limit of targets.md 1 and 2 as a table of rules.
//!
//! A rule's id begins with the generation it belongs to. What the docs do not settle is decided here, on the safe side
//! where there is one, and said in the rule's `source`.

use super::Reason;
use super::geometry::{Axis, Misfit};
use crate::model::{Activation, Pool, Shape, limits as model_limits};

/// What a layer is to the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// First convolution of an image, on the HRC.
    InputConv,
    /// Convolution over all channels.
    Conv,
    /// One kernel per channel.
    Depthwise,
    /// Depthwise and pointwise in one (1.0).
    Separable,
    /// Transposed convolution, either kind.
    Transposed,
    /// Convolution over a FIFO of frames, either kind.
    Temporal,
    /// Fully connected.
    Dense,
    /// Sum of two tensors.
    Add,
    /// Channels of two tensors.
    Concat,
}

/// A layer in the terms of the limits.
#[derive(Clone, Debug)]
pub struct Facts<'m> {
    /// 1 or 2.
    pub generation: u8,
    /// What it is.
    pub class: Class,
    /// (height, width, channels) of the first input.
    pub input: Shape,
    /// Of the second input of Add and Concat: shape, bits, signedness.
    pub second: Option<(Shape, u8, bool)>,
    /// Bits of an input element.
    pub input_bits: u8,
    /// Whether input elements are signed.
    pub input_signed: bool,
    /// Bits of an output element.
    pub output_bits: u8,
    /// Kernel (height, width).
    pub kernel: [usize; 2],
    /// Stride (vertical, horizontal).
    pub stride: [usize; 2],
    /// Rows and columns as the chip would do them.
    pub axes: [Result<Axis, Misfit>; 2],
    /// Output of the convolution before pooling (height, width).
    pub conv: [usize; 2],
    /// Pooling.
    pub pool: Pool,
    /// Filters or units.
    pub filters: usize,
    /// Bits of a weight.
    pub weight_bits: u8,
    /// Bits of a pointwise weight of a separable layer.
    pub pointwise_bits: Option<u8>,
    /// Activation.
    pub activation: Option<&'m Activation>,
    /// Whether something is added to the sums.
    pub bias: bool,
    /// Whether anything consumes the output as a layer.
    pub last: bool,
    /// FIFO length of temporal layers.
    pub fifo: usize,
    /// Options that lift a limit.
    pub pointwise_stride_2: bool,
}

/// One limit.
#[derive(Clone, Copy)]
pub struct Rule {
    /// `GENERATION.LAYER.WHAT`.
    pub id: &'static str,
    /// Layers it is about.
    pub classes: &'static [Class],
    /// What is allowed.
    pub limit: &'static str,
    /// Where this is from.
    pub source: &'static str,
    /// What a user can do.
    pub remedy: &'static str,
    /// What was found, if that breaks the rule.
    pub broken: fn(&Facts) -> Option<String>,
}

impl Rule {
    fn generation(&self) -> u8 {
        if self.id.starts_with("akida2") { 2 } else { 1 }
    }
}

/// The first rule that a layer breaks.
pub fn check(facts: &Facts) -> Result<(), Reason> {
    let breach = RULES
        .iter()
        .filter(|r| r.generation() == facts.generation && r.classes.contains(&facts.class))
        .find_map(|r| (r.broken)(facts).map(|value| (r, value)));
    match breach {
        None => Ok(()),
        Some((r, value)) => Err(Reason { rule: r.id, limit: r.limit.into(), value, remedy: r.remedy.into() }),
    }
}

/// Inputs of one FNP on Akida 2.0 (Dense1D, targets.md 2.4).
pub const DENSE_INPUTS_2: usize = 2048;
/// Inputs of one FNP on Akida 1.0 (FullyConnected, targets.md 1.4).
pub const DENSE_INPUTS_1: usize = 57334;

use Class::{Add, Concat, Conv, Dense, Depthwise, InputConv, Separable, Temporal, Transposed};

const FORWARD: &[Class] = &[Conv, Depthwise, Separable];

fn unless(holds: bool, value: impl FnOnce() -> String) -> Option<String> {
    (!holds).then(value)
}

fn shape(f: &Facts) -> String {
    let [h, w, c] = f.input;
    format!("input {h}x{w}x{c}")
}

fn kernel(f: &Facts) -> String {
    format!("kernel {}x{}", f.kernel[0], f.kernel[1])
}

fn stride(f: &Facts) -> String {
    format!("kernel {}x{} with stride {}x{}", f.kernel[0], f.kernel[1], f.stride[0], f.stride[1])
}

fn pool(f: &Facts) -> String {
    match f.pool {
        Pool::None => "no pooling".into(),
        Pool::Global => format!("global pooling of {}x{}", f.conv[0], f.conv[1]),
        Pool::Max { size, stride, pads } => {
            let pads = if pads == [0; 4] { String::new() } else { format!(" and padding {pads:?}") };
            format!("max pooling {}x{} with stride {}x{}{pads}", size[0], size[1], stride[0], stride[1])
        }
    }
}

fn max_pool(f: &Facts) -> Option<([usize; 2], [usize; 2])> {
    match f.pool {
        Pool::Max { size, stride, .. } => Some((size, stride)),
        _ => None,
    }
}

fn bits(what: &str, bits: u8) -> String {
    format!("{what} of {bits} bits")
}

fn square(v: [usize; 2], allowed: &[usize]) -> bool {
    v[0] == v[1] && allowed.contains(&v[0])
}

/// What is not SAME, and not part of one either.
fn padding(f: &Facts) -> Option<String> {
    f.axes.iter().zip(["rows", "columns"]).find_map(|(axis, name)| match axis {
        Ok(_) => None,
        Err(Misfit::Padding { same: [before, after] }) => Some(format!(
            "padding of the {name} is not on the grid of SAME, which pads {before} before and {after} after"
        )),
        Err(Misfit::PoolOverCrop) => Some(format!("pooling reaches over {name} that the smaller padding leaves out")),
        Err(Misfit::Length { computed }) => Some(format!("parameters give {computed} {name}")),
    })
}

fn output_bits(f: &Facts, allowed: &[u8]) -> Option<String> {
    unless(allowed.contains(&f.output_bits) || (f.last && f.output_bits == 32), || bits("activations", f.output_bits))
}

fn has_lut(f: &Facts) -> bool {
    matches!(f.activation, Some(Activation::Lut(_)))
}

const PAD: &str = "pad SAME, or VALID with the same grid: for stride 2, an even input without padding";
const REBITS: &str = "quantize again with a supported width";
const RESHAPE: &str = "change the layer, or leave it on the host";

macro_rules! rules {
    ($($id:literal $classes:expr, $limit:literal, $source:literal, $remedy:expr, $broken:expr;)*) => {
        &[$(Rule { id: $id, classes: $classes, limit: $limit, source: $source, remedy: $remedy, broken: $broken }),*]
    };
}

/// All limits, in the order in which they are checked.
pub const RULES: &[Rule] = rules! {
    // Akida 1.0: AKD1000, AKD1500.
    "akida1.layer.kind" &[Transposed, Temporal, Add, Concat], "one chain of InputConvolutional, Convolutional, SeparableConvolutional, FullyConnected",
        "targets.md 1.5", "use target akida2, or leave the layer on the host", |f| Some(format!("{:?} layer", f.class));
    "akida1.depthwise.fused" &[Depthwise], "depthwise convolutions only inside SeparableConvolutional", "targets.md 1.3",
        "follow it by a pointwise convolution with nothing between", |_| Some("depthwise layer".into());
    "akida1.input_conv.rows" &[InputConv], "at least 5 rows", "targets.md 1.1", RESHAPE, |f| unless(f.input[0] >= 5, || shape(f));
    "akida1.input_conv.columns" &[InputConv], "5..=256 columns", "targets.md 1.1, axis as in 1.6",
        "scale the image down", |f| unless((5..=256).contains(&f.input[1]), || shape(f));
    "akida1.input_conv.channels" &[InputConv], "1 or 3 channels", "targets.md 1.1", RESHAPE,
        |f| unless([1, 3].contains(&f.input[2]), || shape(f));
    "akida1.input_conv.input_bits" &[InputConv], "unsigned inputs of 8 bits", "targets.md 1.1", REBITS,
        |f| unless(f.input_bits == 8 && !f.input_signed, || bits(if f.input_signed { "signed inputs" } else { "inputs" }, f.input_bits));
    "akida1.input_conv.kernel" &[InputConv], "kernel 3x3, 5x5 or 7x7", "targets.md 1.1", RESHAPE,
        |f| unless(square(f.kernel, &[3, 5, 7]), || kernel(f));
    "akida1.input_conv.stride" &[InputConv], "stride 1, 2 or 3", "targets.md 1.1", RESHAPE,
        |f| unless(square(f.stride, &[1, 2, 3]), || stride(f));
    "akida1.input_conv.padding" &[InputConv], "SAME or VALID padding", "targets.md 1.1", PAD, padding;
    "akida1.input_conv.filters" &[InputConv], "filters for kernel 3, 5, 7: 512, 192, 96 with 1 channel; 192, 64, 32 with 3", "targets.md 1.1",
        "use fewer filters", |f| {
            let most = match (f.input[2], f.kernel[0]) {
                (1, 3) => 512, (1, 5) => 192, (1, 7) => 96, (3, 3) => 192, (3, 5) => 64, (3, 7) => 32, _ => 0,
            };
            unless(f.filters <= most, || format!("{} filters of {}x{}x{}", f.filters, f.kernel[0], f.kernel[1], f.input[2]))
        };
    "akida1.input_conv.pool" &[InputConv], "max pooling 1x2, 2x1 or 2x2, stride equal to size", "targets.md 1.1", RESHAPE,
        |f| unless(match f.pool {
            Pool::None => true,
            Pool::Global => false,
            Pool::Max { size, stride, .. } => size == stride && size.iter().all(|s| [1, 2].contains(s)),
        }, || pool(f));
    "akida1.input_conv.weight_bits" &[InputConv], "weights of 8 bits (4 and 2 by older tables)", "targets.md 1.1, 1.6", REBITS,
        |f| unless([2, 4, 8].contains(&f.weight_bits), || bits("weights", f.weight_bits));
    "akida1.conv.input_size" FORWARD, "at most 4096x4096x2048", "targets.md 1.2", RESHAPE,
        |f| unless(f.input[0] <= 4096 && f.input[1] <= 4096 && f.input[2] <= 2048, || shape(f));
    "akida1.conv.filters" FORWARD, "at most 2048 filters: the next layer's channels", "targets.md 1.2 [I]", "use fewer filters",
        |f| unless(f.filters <= 2048, || format!("{} filters", f.filters));
    "akida1.conv.input_bits" FORWARD, "unsigned inputs of 1, 2 or 4 bits", "targets.md 1.2, 3.1", REBITS,
        |f| unless([1, 2, 4].contains(&f.input_bits) && !f.input_signed, || bits(if f.input_signed { "signed inputs" } else { "inputs" }, f.input_bits));
    "akida1.conv.kernel" &[Conv], "kernel 1x1, 3x3, 5x5 or 7x7", "targets.md 1.2", RESHAPE,
        |f| unless(square(f.kernel, &[1, 3, 5, 7]), || kernel(f));
    "akida1.separable.kernel" &[Separable], "kernel 3x3, 5x5 or 7x7", "targets.md 1.3", RESHAPE,
        |f| unless(square(f.kernel, &[3, 5, 7]), || kernel(f));
    "akida1.conv.stride" FORWARD, "stride 1, or 2 with kernel 3x3", "targets.md 1.2", RESHAPE,
        |f| unless(square(f.stride, &[1]) || (square(f.stride, &[2]) && square(f.kernel, &[3])), || stride(f));
    "akida1.conv.padding" FORWARD, "SAME padding", "targets.md 1.2", PAD, padding;
    "akida1.conv.max_pool" FORWARD, "max pooling 2x2 with stride 1 or 2", "targets.md 1.2", RESHAPE,
        |f| unless(max_pool(f).is_none_or(|(size, stride)| square(size, &[2]) && square(stride, &[1, 2])), || pool(f));
    "akida1.conv.global_pool.columns" FORWARD, "at most 32 columns", "targets.md 1.2, axis as in 1.6", RESHAPE,
        |f| unless(f.pool != Pool::Global || f.conv[1] <= 32, || pool(f));
    "akida1.conv.global_pool.rows" FORWARD, "at least 3 rows", "targets.md 1.2", RESHAPE,
        |f| unless(f.pool != Pool::Global || f.conv[0] >= 3, || pool(f));
    "akida1.conv.weight_bits" &[Conv], "weights of 1, 2 or 4 bits", "targets.md 1.2", REBITS,
        |f| unless([1, 2, 4].contains(&f.weight_bits), || bits("weights", f.weight_bits));
    "akida1.separable.weight_bits" &[Separable], "weights of 2 or 4 bits", "targets.md 1.3", REBITS,
        |f| unless([2, 4].contains(&f.weight_bits) && f.pointwise_bits.is_none_or(|b| [2, 4].contains(&b)),
            || format!("weights of {} and {} bits", f.weight_bits, f.pointwise_bits.unwrap_or(0)));
    "akida1.dense.inputs" &[Dense], "at most 57334 inputs", "targets.md 1.4", "make the layer before it smaller",
        |f| unless(f.input.iter().product::<usize>() <= DENSE_INPUTS_1, || shape(f));
    "akida1.dense.units" &[Dense], "at most 65535 units", "ours: register fields", "use fewer units",
        |f| unless(f.filters <= 65535, || format!("{} units", f.filters));
    "akida1.dense.input_bits" &[Dense], "unsigned inputs of 1, 2 or 4 bits", "targets.md 1.4", REBITS,
        |f| unless([1, 2, 4].contains(&f.input_bits) && !f.input_signed, || bits("inputs", f.input_bits));
    "akida1.dense.weight_bits" &[Dense], "weights of 1, 2 or 4 bits", "targets.md 1.4", REBITS,
        |f| unless([1, 2, 4].contains(&f.weight_bits), || bits("weights", f.weight_bits));
    "akida1.bias" &[InputConv, Conv, Separable, Dense], "no bias: thresholds take its place", "targets.md 3.1", "subtract the bias from the thresholds",
        |f| f.bias.then(|| "a bias".into());
    "akida1.activation.kind" &[InputConv, Conv, Separable, Dense], "thresholds and steps, or potentials of the last layer", "targets.md 1.5, 3.1",
        "use a bounded ReLU", |f| unless(match f.activation {
            Some(Activation::Steps { .. }) => true,
            Some(Activation::None) => f.last && f.output_bits == 32,
            _ => false,
        }, || "another activation, or potentials inside the network".into());
    "akida1.activation.bits" &[InputConv, Conv, Separable, Dense], "activations of 1, 2 or 4 bits", "targets.md 1.1-1.4", REBITS,
        |f| output_bits(f, &[1, 2, 4]);
    "akida1.activation.threshold" &[InputConv, Conv, Separable, Dense], "thresholds of 20 bits signed, 24 in the first layer", "targets.md 3.1, quantization.md 8.1",
        "quantize again: a filter's range is degenerate", |f| match f.activation {
            Some(Activation::Steps { threshold, .. }) => {
                let most = if f.class == InputConv { 1 << 23 } else { 1 << 19 };
                threshold.iter().find(|t| **t < -most || **t >= most).map(|t| format!("threshold {t}"))
            }
            _ => None,
        };
    "akida1.activation.step" &[InputConv, Conv, Separable, Dense], "steps of 1/16 up to 2^16 - 1/16, 2^20 - 1/16 in the first layer", "targets.md 3.1, quantization.md 6.4: the reading under which 65535 is the largest step in use",
        "quantize again: a filter's range is degenerate", |f| match f.activation {
            Some(Activation::Steps { step_16ths, .. }) => {
                let limits = if f.class == InputConv { model_limits::INPUT_STEPS } else { model_limits::STEPS };
                step_16ths.iter().find(|s| **s == 0 || **s > limits.step_16ths).map(|s| format!("step {s}/16"))
            }
            _ => None,
        };

    // Akida 2.0.
    "akida2.separable.split" &[Separable], "depthwise and pointwise layers apart", "targets.md 2.2",
        "convert for akida2 with the two layers apart", |_| Some("separable layer".into());
    "akida2.input_conv.rows" &[InputConv], "at least 5 rows", "targets.md 2.1", RESHAPE, |f| unless(f.input[0] >= 5, || shape(f));
    "akida2.input_conv.columns" &[InputConv], "5..=384 columns", "targets.md 2.1, axis as in 1.6",
        "scale the image down", |f| unless((5..=384).contains(&f.input[1]), || shape(f));
    "akida2.input_conv.channels" &[InputConv], "1 or 3 channels", "targets.md 2.1", RESHAPE,
        |f| unless([1, 3].contains(&f.input[2]), || shape(f));
    "akida2.input_conv.input_bits" &[InputConv], "unsigned inputs of 8 bits", "targets.md 2.1", REBITS,
        |f| unless(f.input_bits == 8 && !f.input_signed, || bits(if f.input_signed { "signed inputs" } else { "inputs" }, f.input_bits));
    "akida2.input_conv.kernel" &[InputConv], "kernel 3x3, 4x4, 5x5 or 7x7", "targets.md 2.1", RESHAPE,
        |f| unless(square(f.kernel, &[3, 4, 5, 7]), || kernel(f));
    "akida2.input_conv.stride" &[InputConv], "stride at most 3, 4, 5, 6 for kernel 3, 4, 5, 7", "targets.md 2.1", RESHAPE, |f| {
        let most = match f.kernel[0] { 7 => 6, k => k };
        unless(f.stride[0] == f.stride[1] && (1..=most).contains(&f.stride[0]), || stride(f))
    };
    "akida2.input_conv.padding" &[InputConv], "SAME or VALID padding", "targets.md 2.1, quantization.md 7.2", PAD, padding;
    "akida2.input_conv.filters" &[InputConv], "at most 512 filters", "targets.md 2.1", "use fewer filters",
        |f| unless(f.filters <= 512, || format!("{} filters", f.filters));
    "akida2.input_conv.pool" &[InputConv], "max pooling 2x2 or 3x3, stride 2, at most one row and column of padding before", "targets.md 2.1; padding is ours: register fields", RESHAPE, |f| unless(match f.pool {
        Pool::None => true,
        Pool::Global => false,
        Pool::Max { size, stride, pads } => square(size, &[2, 3]) && square(stride, &[2]) && pads[0] <= 1 && pads[1] <= 1,
    }, || pool(f));
    "akida2.input_conv.weight_bits" &[InputConv], "weights of 8 bits", "targets.md 2.1", REBITS,
        |f| unless(f.weight_bits == 8, || bits("weights", f.weight_bits));
    "akida2.conv.input_size" &[Conv, Depthwise, Transposed, Temporal], "at most 4096x4096x2048", "targets.md 2.2, 2.3, 2.6", RESHAPE,
        |f| unless(f.input[0] <= 4096 && f.input[1] <= 4096 && f.input[2] <= 2048, || shape(f));
    "akida2.conv.filters" &[Conv, Depthwise, Transposed, Temporal], "at most 2048 filters: the next layer's channels", "targets.md 2.2 [I], 2.6", "use fewer filters",
        |f| unless(f.filters <= 2048, || format!("{} filters", f.filters));
    "akida2.conv.input_bits" &[Conv, Depthwise], "inputs of 4 or 8 bits", "targets.md 2.2", REBITS,
        |f| unless([4, 8].contains(&f.input_bits), || bits("inputs", f.input_bits));
    "akida2.conv.kernel" &[Conv], "kernel 1x1, 3x3, 5x5 or 7x7", "targets.md 2.2", RESHAPE,
        |f| unless(square(f.kernel, &[1, 3, 5, 7]), || kernel(f));
    "akida2.depthwise.kernel" &[Depthwise], "kernel 3x3, 5x5 or 7x7", "targets.md 2.2", RESHAPE,
        |f| unless(square(f.kernel, &[3, 5, 7]), || kernel(f));
    "akida2.conv.stride" &[Conv, Depthwise], "stride 1, or 2 with kernel 3x3 (1x1 if --pointwise-stride-2)", "targets.md 2.2: page and release note disagree on 1x1",
        "use kernel 3x3, or allow stride 2 with 1x1", |f| {
            let two = square(f.kernel, &[3]) || (f.pointwise_stride_2 && f.class == Conv && square(f.kernel, &[1]));
            unless(square(f.stride, &[1]) || (square(f.stride, &[2]) && two), || stride(f))
        };
    "akida2.conv.padding" &[Conv, Depthwise], "SAME padding; for kernel 3x3 and stride 2 without max pooling also its odd row and column before", "targets.md 2.2, quantization.md 7.2", PAD, padding;
    "akida2.conv.max_pool" &[Conv, Depthwise], "max pooling 2x2 with stride 1 or 2", "targets.md 2.2", RESHAPE,
        |f| unless(max_pool(f).is_none_or(|(size, stride)| square(size, &[2]) && square(stride, &[1, 2])), || pool(f));
    "akida2.conv.global_pool.columns" &[Conv, Depthwise], "at most 64 columns", "targets.md 2.2, axis as in 1.6", RESHAPE,
        |f| unless(f.pool != Pool::Global || f.conv[1] <= 64, || pool(f));
    "akida2.conv.global_pool.area" &[Conv, Depthwise], "at most 144 positions", "targets.md 2.2, the reading of quantization.md 8.2", RESHAPE,
        |f| unless(f.pool != Pool::Global || f.conv[0] * f.conv[1] <= 144, || pool(f));
    "akida2.conv.weight_bits" &[Conv, Depthwise], "weights of 4 or 8 bits", "targets.md 2.2", REBITS,
        |f| unless([4, 8].contains(&f.weight_bits), || bits("weights", f.weight_bits));
    "akida2.transposed.kernel" &[Transposed], "kernel 3x3 or 4x4", "targets.md 2.3", RESHAPE,
        |f| unless(square(f.kernel, &[3, 4]), || kernel(f));
    "akida2.transposed.stride" &[Transposed], "stride 2", "targets.md 2.3", RESHAPE, |f| unless(square(f.stride, &[2]), || stride(f));
    "akida2.transposed.padding" &[Transposed], "SAME: an output twice the input", "targets.md 2.3", RESHAPE, padding;
    "akida2.transposed.pool" &[Transposed], "no pooling", "targets.md 2.3", RESHAPE, |f| unless(f.pool == Pool::None, || pool(f));
    "akida2.transposed.bits" &[Transposed], "inputs and weights of 8 bits", "targets.md 2.3", REBITS,
        |f| unless(f.input_bits == 8 && f.weight_bits == 8, || format!("{} and {} bits", f.input_bits, f.weight_bits));
    "akida2.temporal.fifo" &[Temporal], "a FIFO of 2..=10 frames", "targets.md 2.6", RESHAPE,
        |f| unless((2..=10).contains(&f.fifo), || format!("FIFO of {} frames", f.fifo));
    "akida2.temporal.bits" &[Temporal], "inputs and weights of 8 bits", "targets.md 2.6", REBITS,
        |f| unless(f.input_bits == 8 && f.weight_bits == 8, || format!("{} and {} bits", f.input_bits, f.weight_bits));
    "akida2.dense.inputs" &[Dense], "at most 2048 inputs", "targets.md 2.4", "pool or stride more before it",
        |f| unless(f.input.iter().product::<usize>() <= DENSE_INPUTS_2, || format!("{} inputs ({})", f.input.iter().product::<usize>(), shape(f)));
    "akida2.dense.units" &[Dense], "at most 65535 units", "ours: register fields", "use fewer units",
        |f| unless(f.filters <= 65535, || format!("{} units", f.filters));
    "akida2.dense.input_bits" &[Dense], "inputs of 4 or 8 bits", "targets.md 2.4", REBITS,
        |f| unless([4, 8].contains(&f.input_bits), || bits("inputs", f.input_bits));
    "akida2.dense.weight_bits" &[Dense], "weights of 4 or 8 bits", "targets.md 2.4", REBITS,
        |f| unless([4, 8].contains(&f.weight_bits), || bits("weights", f.weight_bits));
    "akida2.activation.lut_with_max_pool" &[InputConv, Conv, Depthwise], "no look-up table together with max pooling", "targets.md 2.7",
        "put the pooling into a layer of its own", |f| unless(!has_lut(f) || max_pool(f).is_none(), || pool(f));
    "akida2.activation.lut" &[Dense, Temporal], "ReLU or none", "targets.md 2.7", RESHAPE, |f| unless(!has_lut(f), || "look-up table".into());
    "akida2.activation.kind" &[InputConv, Conv, Depthwise, Transposed, Temporal, Dense], "ReLU, clipped ReLU, a look-up table or none", "targets.md 2.7",
        "convert for akida2", |f| unless(!matches!(f.activation, Some(Activation::Steps { .. })), || "thresholds and steps".into());
    "akida2.activation.bits" &[InputConv, Conv, Depthwise, Dense], "activations of 4 or 8 bits, or potentials of the last layer", "targets.md 2.1-2.4", REBITS,
        |f| output_bits(f, &[4, 8]);
    "akida2.activation.bits_8" &[Transposed, Temporal, Add], "activations of 8 bits, or the sums of the last layer", "targets.md 2.3, 2.5, 2.6", REBITS,
        |f| output_bits(f, &[8]);
    "akida2.add.operands" &[Add], "two tensors of one shape, width and signedness", "targets.md 2.5", RESHAPE,
        |f| unless(f.second == Some((f.input, f.input_bits, f.input_signed)), || shape(f));
    "akida2.add.bits" &[Add], "operands of 8 bits", "targets.md 2.5", REBITS, |f| unless(f.input_bits == 8, || bits("operands", f.input_bits));
    "akida2.concat.operands" &[Concat], "two tensors of one height, width, bit width and signedness", "targets.md 2.5", RESHAPE,
        |f| unless(f.second.is_some_and(|(s, b, signed)| s[..2] == f.input[..2] && b == f.input_bits && signed == f.input_signed), || shape(f));
};
