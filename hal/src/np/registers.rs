//! [`NpLayer`] in NP registers (UID 8; register index = byte offset / 4).
//!
//! Fields with a public name (hardware.md 10) hold what the name says; how values are coded in them is ours. What has no
//! public place lies in registers the public table leaves unnamed. Register 0xF8 holds [`ENCODING`] so that a program in
//! the silicon's own encoding is told from one of ours.

use super::fields::{self, NpField};
use super::{Activation, Destination, Inbound, MAX_LAYER, NpError, NpLayer, Op, OutputFormat, Pool, Source, Span};

pub use super::fields::WRITTEN;
pub use crate::regs::np::COUNT;

/// Value of register 0xF8 in this encoding: "NP", version 1. Ours.
pub const ENCODING: u32 = 0x4E50_0001;
/// Destination layer that means the output DMA. Ours, after the end layer seen in programs (hardware.md 10.2).
const OUTPUT: i64 = 0xFE;

fn width_code(field: &NpField, bits: u8) -> Result<u8, NpError> {
    match bits {
        1 => Ok(0),
        2 => Ok(1),
        4 => Ok(2),
        8 => Ok(3),
        other => Err(NpError::Range { field: field.name, value: other.into(), min: 1, max: 8 }),
    }
}

const OPS: [Op; 7] =
    [Op::Conv, Op::Depthwise, Op::Separable, Op::Transposed, Op::DepthwiseTransposed, Op::Dense, Op::Merge];
const ACTIVATIONS: [Activation; 5] =
    [Activation::None, Activation::Relu, Activation::ReluClipped, Activation::Lut, Activation::Steps];

fn code<T: PartialEq>(of: &[T], value: &T) -> i64 {
    // Every variant is in its table; should one be missing, no field takes the length.
    of.iter().position(|v| v == value).unwrap_or(of.len()) as i64
}

fn variant<T: Copy>(of: &[T], field: &NpField, words: &[u32; COUNT]) -> Result<T, NpError> {
    let value = field.raw(words);
    of.get(value as usize).copied().ok_or(NpError::Code { field: field.name, value })
}

fn source_id(source: Source) -> Result<i64, NpError> {
    match source {
        Source::Input => Ok(0),
        Source::Layer(id) => named_layer(fields::SOURCE_A.name, id),
    }
}

fn named_layer(field: &'static str, id: u8) -> Result<i64, NpError> {
    match id {
        1..=MAX_LAYER => Ok(id.into()),
        _ => Err(NpError::Range { field, value: id.into(), min: 1, max: MAX_LAYER.into() }),
    }
}

impl NpLayer {
    /// The words for registers 0x00..=0xF8, played by one UID 8 packet from index 0. Word 0 is the identity and 0 here.
    pub fn to_registers(&self) -> Result<[u32; WRITTEN], NpError> {
        use fields::*;
        self.check()?;
        let mut words = [0; WRITTEN];
        let w = &mut words;
        LAYER.set(w, named_layer(LAYER.name, self.layer)?)?;
        FNP_MODE.set(w, self.op == Op::Dense)?;
        EXTERNAL.set(w, self.external.is_some())?;
        FNP2_ID.set(w, self.external.unwrap_or(0))?;

        INBOUND_BITS.set(w, width_code(&INBOUND_BITS, self.input_bits)?)?;
        INBOUND_SIGNED.set(w, self.input_signed)?;
        WEIGHT_BITS.set(w, width_code(&WEIGHT_BITS, self.weight_bits)?)?;
        WEIGHTS_SIGNED.set(w, self.weight_bits > 1)?;
        SEPARABLE.set(w, self.op == Op::Separable)?;
        if self.op == Op::Separable {
            POINTWISE_BITS.set(w, width_code(&POINTWISE_BITS, self.pointwise_bits)?)?;
        }
        if self.output_bits != 32 {
            OUTBOUND_QUANTIZE.set(w, true)?;
            OUTBOUND_BITS.set(w, width_code(&OUTBOUND_BITS, self.output_bits)?)?;
        }
        OUTBOUND_SIGNED.set(w, self.output_signed)?;

        I_ORIGIN.set(w, self.in_rows.origin)?;
        I_SIZE.set(w, self.in_rows.len)?;
        J_ORIGIN.set(w, self.in_columns.origin)?;
        J_SIZE.set(w, self.in_columns.len)?;
        HEIGHT.set(w, self.input[0])?;
        WIDTH.set(w, self.input[1])?;
        CHANNELS.set(w, self.input[2])?;

        if self.op == Op::Dense {
            NEURON_TOTAL.set(w, self.filters.len)?;
            NEURON_ORIGIN.set(w, self.filters.origin)?;
            INPUTS.set(w, self.inputs.len)?;
            INPUT_ORIGIN.set(w, self.inputs.origin)?;
        } else {
            FILTER_TOTAL.set(w, self.filters.len)?;
            OUT_CHANNEL_ORIGIN.set(w, self.filters.origin)?;
        }
        OUT_I_ORIGIN.set(w, self.out_rows.origin)?;
        OUT_ROWS.set(w, self.out_rows.len)?;
        OUT_J_ORIGIN.set(w, self.out_columns.origin)?;
        OUT_COLUMNS.set(w, self.out_columns.len)?;
        CROP_I.set(w, self.crop[0])?;
        CROP_J.set(w, self.crop[1])?;

        let (outbound, destination) = match self.destination {
            Destination::Layer(id) => (0, named_layer(DESTINATION.name, id)?),
            Destination::Output(OutputFormat::Events) => (1, OUTPUT),
            Destination::Output(OutputFormat::Dense) => (2, OUTPUT),
        };
        OUTBOUND_TYPE.set(w, outbound)?;
        DESTINATION.set(w, destination)?;
        let (merge, a, b) = match self.inbound {
            Inbound::One(a) => (0, a, Source::Input),
            Inbound::Add(a, b) => (1, a, b),
            Inbound::Concat(a, b) => (2, a, b),
        };
        MERGE.set(w, merge)?;
        SOURCE_A.set(w, source_id(a)?)?;
        SOURCE_B.set(w, source_id(b)?)?;

        KERNEL_TYPE.set(w, code(&OPS, &self.op))?;
        KERNEL_HEIGHT.set(w, self.kernel[0])?;
        KERNEL_WIDTH.set(w, self.kernel[1])?;
        STRIDE_I.set(w, self.stride[0])?;
        STRIDE_J.set(w, self.stride[1])?;
        PAD_TOP.set(w, self.pad[0])?;
        PAD_LEFT.set(w, self.pad[1])?;
        for (field, value) in [PAD_VALUE_0, PAD_VALUE_1, PAD_VALUE_2].iter().zip(self.pad_value) {
            field.set(w, value)?;
        }
        FIFO.set(w, self.fifo)?;
        CONV_HEIGHT.set(w, self.conv[0])?;
        CONV_WIDTH.set(w, self.conv[1])?;
        match self.pool {
            Pool::None => {}
            Pool::Max { size, stride, pad } => {
                POOL_SIZE.within(1, 7).set(w, size[0])?;
                POOL_SIZE_J.within(1, 7).set(w, size[1])?;
                POOL_STRIDE.within(1, 7).set(w, stride[0])?;
                POOL_STRIDE_J.within(1, 7).set(w, stride[1])?;
                POOL_PAD_TOP.set(w, pad[0])?;
                POOL_PAD_LEFT.set(w, pad[1])?;
            }
            Pool::Global => GLOBAL_POOLING.set(w, true)?,
        }
        ACTIVATION.set(w, code(&ACTIVATIONS, &self.activation))?;
        ACCUMULATOR_BITS.set(w, self.accumulator_bits)?;
        TAG.set(w, ENCODING)?;
        Ok(words)
    }

    /// What an NP's registers say; None when the NP takes no part in the pass (layer id 0).
    pub fn from_registers(words: &[u32; COUNT]) -> Result<Option<NpLayer>, NpError> {
        use fields::*;
        let w = words;
        let layer = LAYER.raw(w);
        if layer == 0 {
            return Ok(None);
        }
        if TAG.raw(w) != ENCODING {
            return Err(NpError::Foreign { found: TAG.raw(w), expected: ENCODING });
        }
        let bits = |field: &NpField| 1u8 << field.raw(w);
        let source = |field: &NpField| field.u8(w).map(|id| if id == 0 { Source::Input } else { Source::Layer(id) });
        let op = variant(&OPS, &KERNEL_TYPE, w)?;
        let rule = |holds: bool, what| if holds { Ok(()) } else { Err(NpError::Contradiction { what }) };
        rule(FNP_MODE.flag(w) == (op == Op::Dense), "FNP mode goes with the dense kernel type only")?;
        rule(SEPARABLE.flag(w) == (op == Op::Separable), "the separable bit goes with the separable kernel type only")?;
        rule(WEIGHTS_SIGNED.flag(w) == (bits(&WEIGHT_BITS) > 1), "1-bit weights are unsigned, all others signed")?;

        let (a, b) = (source(&SOURCE_A)?, source(&SOURCE_B)?);
        let inbound = match MERGE.raw(w) {
            0 => Inbound::One(a),
            1 => Inbound::Add(a, b),
            2 => Inbound::Concat(a, b),
            value => return Err(NpError::Code { field: MERGE.name, value }),
        };
        let output = i64::from(DESTINATION.raw(w)) == OUTPUT;
        rule(output == (OUTBOUND_TYPE.raw(w) != 0), "outbound type and destination layer disagree")?;
        let destination = match OUTBOUND_TYPE.raw(w) {
            0 => Destination::Layer(DESTINATION.within(1, MAX_LAYER.into()).u8(w)?),
            1 => Destination::Output(OutputFormat::Events),
            2 => Destination::Output(OutputFormat::Dense),
            value => return Err(NpError::Code { field: OUTBOUND_TYPE.name, value }),
        };
        let pool = match (GLOBAL_POOLING.flag(w), POOL_SIZE.raw(w)) {
            (false, 0) => Pool::None,
            (true, 0) => Pool::Global,
            (true, _) => return Err(NpError::Contradiction { what: "global and maximum pooling at once" }),
            (false, _) => Pool::Max {
                size: [POOL_SIZE.u8(w)?, POOL_SIZE_J.within(1, 7).u8(w)?],
                stride: [POOL_STRIDE.within(1, 7).u8(w)?, POOL_STRIDE_J.within(1, 7).u8(w)?],
                pad: [POOL_PAD_TOP.u8(w)?, POOL_PAD_LEFT.u8(w)?],
            },
        };
        let (filters, inputs) = if op == Op::Dense {
            (
                Span { origin: NEURON_ORIGIN.u16(w)?, len: NEURON_TOTAL.u16(w)? },
                Span { origin: INPUT_ORIGIN.u16(w)?, len: INPUTS.u16(w)? },
            )
        } else {
            (Span { origin: OUT_CHANNEL_ORIGIN.u16(w)?, len: FILTER_TOTAL.u16(w)? }, Span { origin: 0, len: 0 })
        };
        let decoded = NpLayer {
            layer: LAYER.u8(w)?,
            inbound,
            destination,
            op,
            input: [HEIGHT.u16(w)?, WIDTH.u16(w)?, CHANNELS.u16(w)?],
            input_bits: bits(&INBOUND_BITS),
            input_signed: INBOUND_SIGNED.flag(w),
            in_rows: Span { origin: I_ORIGIN.u16(w)?, len: I_SIZE.u16(w)? },
            in_columns: Span { origin: J_ORIGIN.u16(w)?, len: J_SIZE.u16(w)? },
            inputs,
            kernel: [KERNEL_HEIGHT.u8(w)?, KERNEL_WIDTH.u8(w)?],
            stride: [STRIDE_I.u8(w)?, STRIDE_J.u8(w)?],
            pad: [PAD_TOP.u8(w)?, PAD_LEFT.u8(w)?],
            pad_value: [PAD_VALUE_0.u8(w)?, PAD_VALUE_1.u8(w)?, PAD_VALUE_2.u8(w)?],
            conv: [CONV_HEIGHT.u16(w)?, CONV_WIDTH.u16(w)?],
            pool,
            out_rows: Span { origin: OUT_I_ORIGIN.u16(w)?, len: OUT_ROWS.u16(w)? },
            out_columns: Span { origin: OUT_J_ORIGIN.u16(w)?, len: OUT_COLUMNS.u16(w)? },
            crop: [CROP_I.u16(w)?, CROP_J.u16(w)?],
            filters,
            fifo: FIFO.u8(w)?,
            weight_bits: bits(&WEIGHT_BITS),
            pointwise_bits: if op == Op::Separable { bits(&POINTWISE_BITS) } else { 0 },
            external: EXTERNAL.flag(w).then(|| FNP2_ID.raw(w) as u8),
            activation: variant(&ACTIVATIONS, &ACTIVATION, w)?,
            output_bits: if OUTBOUND_QUANTIZE.flag(w) { bits(&OUTBOUND_BITS) } else { 32 },
            output_signed: OUTBOUND_SIGNED.flag(w),
            accumulator_bits: ACCUMULATOR_BITS.u8(w)?,
        };
        decoded.check()?;
        Ok(Some(decoded))
    }

    /// Rules between fields: spans inside their maps, and what an operation excludes.
    fn check(&self) -> Result<(), NpError> {
        let inside = |what, span: Span, size: u16| {
            let (origin, len, size) = (u32::from(span.origin), u32::from(span.len), u32::from(size));
            if len > 0 && origin + len <= size { Ok(()) } else { Err(NpError::Span { what, origin, len, size }) }
        };
        let rule = |holds: bool, what| if holds { Ok(()) } else { Err(NpError::Contradiction { what }) };
        inside("input rows", self.in_rows, self.input[0])?;
        inside("input columns", self.in_columns, self.input[1])?;
        inside("output rows", self.out_rows, u16::MAX)?;
        inside("output columns", self.out_columns, u16::MAX)?;
        match self.op {
            Op::Depthwise | Op::DepthwiseTransposed | Op::Merge => inside("filters", self.filters, self.input[2])?,
            _ => inside("filters", self.filters, u16::MAX)?,
        }
        rule(
            self.crop[0] <= self.out_rows.origin && self.crop[1] <= self.out_columns.origin,
            "output rows and columns start before the crop",
        )?;
        if self.op == Op::Dense {
            let [h, w, c] = self.input.map(u32::from);
            let elements = h.saturating_mul(w).saturating_mul(c);
            if elements > u32::from(u16::MAX) {
                return Err(NpError::Range {
                    field: "elements of a dense input",
                    value: elements.into(),
                    min: 1,
                    max: 65535,
                });
            }
            inside("inputs", self.inputs, elements as u16)?;
        } else {
            rule(self.inputs == Span { origin: 0, len: 0 }, "only dense layers are cut along their inputs")?;
        }
        let one = Span { origin: 0, len: 1 };
        if self.pool == Pool::Global || self.op == Op::Dense {
            rule(
                self.out_rows == one && self.out_columns == one && self.crop == [0, 0],
                "global pooling and dense layers make one position",
            )?;
        }
        if matches!(self.op, Op::Dense | Op::Merge) {
            rule(self.pool == Pool::None, "dense and merge layers do not pool")?;
            rule(self.fifo == 0, "dense and merge layers have no fifo")?;
        }
        if self.fifo > 0 {
            rule(matches!(self.op, Op::Conv | Op::Depthwise), "only convolutions are temporal")?;
            rule(self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0, 0], "temporal kernels are 1x1")?;
        }
        rule(self.external.is_none() || self.op == Op::Dense, "only an FNP2 has external weights")?;
        rule((self.pointwise_bits > 0) == (self.op == Op::Separable), "pointwise weights belong to separable layers")
    }
}
