//! Parts as registers and SRAM packets: one track per NP, in the order registers, weights, parameters, table, merge
//! records. What the words mean is `akida_hal::np`'s business.

use akida_hal::mesh::{Mesh, NpAddress, NpTypes};
use akida_hal::np::sram::{self, UNIT_WORDS};
use akida_hal::np::{
    self, Destination, MergeRecord, NpError, NpLayer, Op, OutputFormat, ScaleRecord, Source, ThresholdRecord,
};
use akida_hal::packet::{PacketError, PacketHeader, Uid};
use akida_hal::program::{
    EpgWrite, ExternalWeights, InputKind, InputPort, OutputKind, OutputPort, Pass, Program, Track,
};
use akida_hal::regs::epg;

use super::facts;
use super::place::Seat;
use super::split::{self, np_layer, sram_use};
use super::stage::{Feed, Inbound, Role, Stage};
use super::{MapError, PassPlan, Placed};
use crate::model::{Activation, Layer, LayerKind, Model, ScaleOut, Tensor};

/// What cannot be encoded. The limits leave none of this to happen for a valid model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Registers or SRAM contents.
    #[error(transparent)]
    Np(#[from] NpError),
    /// A packet.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// A parameter vector is neither of length 1 nor long enough.
    #[error("{what} has {len} values, filter {filter} needs one")]
    Missing {
        /// Which vector.
        what: &'static str,
        /// Its length.
        len: usize,
        /// Which filter.
        filter: usize,
    },
}

/// Words of one weight packet: a multiple of the address unit, and below the length from which XL counts.
const CHUNK_WORDS: usize = 8192;

/// Words of one config descriptor's input: 16 bits (hardware.md 8.3).
const MAX_TRACK_WORDS: usize = u16::MAX as usize;

/// Encodes one pass, whose last stage's output leaves the mesh in the form `leaves`.
pub fn pass(
    model: &Model,
    stages: &[Stage],
    seats: &[Seat],
    mesh: &Mesh,
    leaves: OutputFormat,
) -> Result<(PassPlan, Pass), MapError> {
    let output = stages.len().saturating_sub(1);
    let generation = mesh.version.generation();
    let (mut plan, mut pass) = (PassPlan::default(), Pass::default());
    for seat in seats {
        let stage = &stages[seat.stage];
        let failed =
            |source: EncodeError| MapError::Encode { layer: stage.layer.name.clone(), np: seat.np.to_string(), source };
        let part = configured(stages, seat, output, leaves);
        let values = Values { model, stage, part: &part, seat, generation };
        let words = values.track().map_err(failed)?;
        if part.external.is_some() {
            pass.external.push(ExternalWeights { np: seat.np, words: values.external().map_err(failed)? });
        }
        pass.tracks.push(Track { words });
        let sram = sram_use(&part, stage.is_hrc(), generation);
        plan.placed.push(Placed {
            layer: stage.index,
            role: stage.role,
            np: seat.np,
            kind: seat.kind,
            sram,
            macs: split::macs(stage, &seat.part),
            part,
        });
    }
    Ok((plan, pass))
}

/// The program of a sequence: `first` are the stages of its first pass, `last` is the stage whose output leaves; `roads` are
/// what [`super::ports`] says of both ends.
pub fn program(
    first: &[Stage],
    last: &Stage,
    passes: Vec<Pass>,
    input: &Tensor,
    roads: (InputKind, OutputKind),
    mesh: &Mesh,
) -> Program {
    let u32s = |shape: [usize; 3]| shape.map(|n| n as u32);
    let hrc = first.iter().any(Stage::is_hrc);
    let [height, width, _] = input.shape;
    let passes = if passes.len() > 1 { passes.into_iter().map(joined).collect() } else { passes };
    Program {
        version: mesh.version,
        input: InputPort {
            shape: u32s(input.shape),
            bits: input.bits,
            signed: input.signed,
            kind: roads.0,
            window: if hrc { [height as u32, width as u32] } else { [0, 0] },
        },
        output: OutputPort {
            shape: u32s(last.output()),
            bits: last.output_bits,
            signed: last.output_signed,
            kind: roads.1,
        },
        passes,
        // Stage 0 has layer id 1, which is what these words send the input to.
        epg: epg::SEEN.iter().map(|&(offset, value)| EpgWrite { offset, value }).collect(),
    }
}

/// Tracks of a pass put together as far as one config descriptor carries them. The config DMA has few ring slots for all
/// passes (hardware.md 8.1), fewer than there are NPs.
fn joined(pass: Pass) -> Pass {
    let mut tracks: Vec<Track> = Vec::new();
    for track in pass.tracks {
        match tracks.last_mut() {
            Some(last) if last.words.len() + track.words.len() <= MAX_TRACK_WORDS => last.words.extend(track.words),
            _ => tracks.push(track),
        }
    }
    Pass { tracks, ..pass }
}

fn layer_id(stage: usize) -> u8 {
    (stage + 1).min(np::MAX_LAYER as usize) as u8
}

fn source(feed: Feed) -> Source {
    match feed {
        Feed::Input => Source::Input,
        Feed::Stage(stage) => Source::Layer(layer_id(stage)),
    }
}

/// The NP configuration of a seat, with ids.
fn configured(stages: &[Stage], seat: &Seat, output: usize, leaves: OutputFormat) -> NpLayer {
    let stage = &stages[seat.stage];
    let consumer = stages.iter().position(|s| s.inbound.feeds().any(|f| f == Feed::Stage(seat.stage)));
    NpLayer {
        layer: layer_id(seat.stage),
        inbound: match stage.inbound {
            Inbound::One(a) => np::Inbound::One(source(a)),
            Inbound::Add(a, b, _) => np::Inbound::Add(source(a), source(b)),
            Inbound::Concat(a, b) => np::Inbound::Concat(source(a), source(b)),
        },
        destination: match consumer {
            Some(next) if seat.stage != output => Destination::Layer(layer_id(next)),
            _ => Destination::Output(leaves),
        },
        external: (seat.kind == NpTypes::FNP2).then_some(seat.np.id),
        pad_value: pad_value(stage),
        ..np_layer(stage, &seat.part)
    }
}

fn pad_value(stage: &Stage) -> [u8; 3] {
    match &stage.layer.kind {
        LayerKind::Conv(conv) if stage.is_hrc() && !conv.pad_value.is_empty() => {
            let at = |c: usize| conv.pad_value[c.min(conv.pad_value.len() - 1)];
            [0, 1, 2].map(|c| if c < stage.input[2] { at(c).clamp(0, 255) as u8 } else { 0 })
        }
        _ => [0; 3],
    }
}

/// One of a parameter vector that has a value for all filters or one for each.
fn each<T: Copy>(what: &'static str, values: &[T], filter: usize) -> Result<T, EncodeError> {
    let index = if values.len() == 1 { 0 } else { filter };
    values.get(index).copied().ok_or(EncodeError::Missing { what, len: values.len(), filter })
}

/// What goes into one NP's memories.
struct Values<'a, 'm> {
    model: &'m Model,
    stage: &'a Stage<'m>,
    part: &'a NpLayer,
    seat: &'a Seat,
    generation: u8,
}

impl Values<'_, '_> {
    fn track(&self) -> Result<Vec<u32>, EncodeError> {
        let mut track = Vec::new();
        self.push(Uid::Registers, 0, &self.part.to_registers()?, &mut track)?;
        if self.seat.np == NpAddress::HRC {
            self.push_units(Uid::CnpFilter, &self.hrc_image()?, &mut track)?;
            return Ok(track);
        }
        if self.part.external.is_none() {
            let uid = if self.part.op == Op::Dense { Uid::FnpWeights } else { Uid::CnpFilter };
            self.push_units(uid, &self.weights()?, &mut track)?;
            self.push(Uid::Thresholds, 0, &self.records()?, &mut track)?;
        }
        self.push(Uid::Lut, 0, &self.lut()?, &mut track)?;
        self.push(Uid::PacketSram, 0, &self.merge_records()?, &mut track)?;
        Ok(track)
    }

    /// What an FNP2 reads from device memory: weights, then records.
    fn external(&self) -> Result<Vec<u32>, EncodeError> {
        let mut words = self.weights()?;
        words.extend(self.records()?);
        Ok(words)
    }

    fn push(&self, uid: Uid, start: u16, payload: &[u32], track: &mut Vec<u32>) -> Result<(), EncodeError> {
        if payload.is_empty() {
            return Ok(());
        }
        let header = PacketHeader { target: self.seat.np.into(), uid, start, len: payload.len() as u32 };
        Ok(header.push(payload, track)?)
    }

    /// For memories addressed in units of 16 words.
    fn push_units(&self, uid: Uid, words: &[u32], track: &mut Vec<u32>) -> Result<(), EncodeError> {
        for (i, chunk) in words.chunks(CHUNK_WORDS).enumerate() {
            self.push(uid, (i * CHUNK_WORDS / UNIT_WORDS) as u16, chunk, track)?;
        }
        Ok(())
    }

    fn hrc_image(&self) -> Result<Vec<u32>, EncodeError> {
        let mut image = vec![0; self.part.hrc_words(self.generation)];
        let mut put = |at: usize, words: Vec<u32>| image[at..at + words.len()].copy_from_slice(&words);
        put(0, self.weights()?);
        put(self.part.hrc_records_start(), self.records()?);
        put(self.part.hrc_lut_start(self.generation), self.lut()?);
        Ok(image)
    }

    /// Filters of the model layer that this part holds.
    fn filters(&self) -> std::ops::Range<usize> {
        let first = self.seat.part.filters[0];
        first..first + self.seat.part.filters[1]
    }

    fn weights(&self) -> Result<Vec<u32>, EncodeError> {
        let Some(rows) = self.part.weights() else { return Ok(Vec::new()) };
        let mut values: Vec<i8> = Vec::with_capacity(rows.rows * rows.row);
        let mut pointwise = None;
        match (&self.stage.role, &self.stage.layer.kind) {
            (Role::PassThrough, _) => {
                values.extend(self.filters().flat_map(|f| (0..rows.row).map(move |c| i8::from(c == f))));
            }
            (_, LayerKind::Conv(conv)) if self.part.op == Op::Separable => {
                (0..rows.rows).for_each(|c| values.extend(conv.weights.filter(c)));
                pointwise = conv.pointwise.as_ref();
            }
            (_, LayerKind::Conv(conv)) if self.stage.kernel != conv.weights.kernel() => {
                let [row, column] = [0, 1].map(|axis| facts::tap(&self.stage.axes[axis]));
                let channels = conv.weights.filter_len();
                let at = (row * self.stage.kernel[1] + column) * channels;
                for f in self.filters() {
                    let first = values.len();
                    values.resize(first + rows.row, 0);
                    values[first + at..][..channels].copy_from_slice(conv.weights.filter(f));
                }
            }
            (_, LayerKind::Conv(conv)) => self.filters().for_each(|f| values.extend(conv.weights.filter(f))),
            (_, LayerKind::Dense(dense)) => {
                let [first, count] = self.seat.part.inputs;
                self.filters().for_each(|u| values.extend(&dense.weights.filter(u)[first..first + count]));
            }
            (_, LayerKind::Add(_) | LayerKind::Concat) => {}
        }
        let mut words = sram::pack_weights(&values, rows.row, rows.bits)?;
        if let (Some(pointwise), Some(rows)) = (pointwise, self.part.pointwise()) {
            let values: Vec<i8> = self.filters().flat_map(|f| pointwise.filter(f)).copied().collect();
            words.resize(self.part.pointwise_start(), 0);
            words.extend(sram::pack_weights(&values, rows.row, rows.bits)?);
        }
        Ok(words)
    }

    fn records(&self) -> Result<Vec<u32>, EncodeError> {
        if !self.part.has_records(self.generation) {
            return Ok(Vec::new());
        }
        let mut words = Vec::new();
        for filter in self.filters() {
            if self.generation == 1 {
                words.extend(self.threshold(filter)?.to_words());
            } else {
                words.extend(self.scale(filter)?.to_words());
            }
        }
        Ok(words)
    }

    fn threshold(&self, filter: usize) -> Result<ThresholdRecord, EncodeError> {
        match (self.stage.role, self.stage.layer.kind.activation()) {
            // Steps of 1: the identity on unsigned activations of these bits.
            (Role::PassThrough, _) => {
                Ok(ThresholdRecord { threshold: 0, step_16ths: 16 >> 4u8.saturating_sub(self.part.output_bits) })
            }
            (_, Activation::Steps { threshold, step_16ths }) => Ok(ThresholdRecord {
                threshold: each("threshold", threshold, filter)?,
                step_16ths: each("step", step_16ths, filter)?,
            }),
            _ => Ok(ThresholdRecord::default()),
        }
    }

    fn scale(&self, filter: usize) -> Result<ScaleRecord, EncodeError> {
        let layer = self.stage.layer;
        if self.stage.role == Role::PassThrough {
            return Ok(ScaleRecord { scale: 128, shift: 7, ..ScaleRecord::default() });
        }
        if self.stage.slices > 1 {
            return Ok(ScaleRecord { scale: 1, ..ScaleRecord::default() });
        }
        let bias = if layer.kind.bias().is_empty() { 0 } else { each("bias", layer.kind.bias(), filter)? };
        let of = |scale: Option<&ScaleOut>| match scale {
            Some(s) => Ok::<_, EncodeError>((each("scale", &s.m, filter)?, each("shift", &s.k, filter)?)),
            None => Ok((1, 0)),
        };
        let (scale, shift) = of(layer.kind.scale())?;
        let mut record = ScaleRecord { bias, scale, shift, ..ScaleRecord::default() };
        match layer.kind.activation() {
            Activation::ReluClipped(max) => record.max_value = each("maximum", max, filter)?,
            Activation::Lut(lut) => (record.lut_scale, record.lut_shift) = of(Some(&lut.scale))?,
            _ => {}
        }
        Ok(record)
    }

    fn lut(&self) -> Result<Vec<u32>, EncodeError> {
        match (self.stage.role, self.stage.layer.kind.activation()) {
            (Role::Layer, Activation::Lut(lut)) => Ok(sram::pack_lut(&lut.table)?),
            _ => Ok(Vec::new()),
        }
    }

    fn merge_records(&self) -> Result<Vec<u32>, EncodeError> {
        let Inbound::Add(_, _, index) = self.stage.inbound else { return Ok(Vec::new()) };
        let layer: &Layer = &self.model.layers[index];
        let LayerKind::Add(add) = &layer.kind else { return Ok(Vec::new()) };
        (0..self.part.merge_words())
            .map(|channel| {
                let shift = match &add.k {
                    Some(k) => each("shift", k, channel)?,
                    None => 0,
                };
                let a_shift = each("a_shift", &add.a_shift, channel)?;
                let b_shift = each("b_shift", &add.b_shift, channel)?;
                Ok(MergeRecord { a_shift, b_shift, shift }.to_word())
            })
            .collect()
    }
}
