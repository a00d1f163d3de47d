//! From SRAM to kernels: what one NP needs, read from its memories and checked to fit.

use std::sync::{Arc, Mutex};

use akida_hal::np::sram::{LUT_WORDS, unpack_lut, unpack_weights};
use akida_hal::np::{self, MergeRecord, NpLayer, Op, ScaleRecord, ThresholdRecord};
use akida_kernels::{
    Activation, Add, Arithmetic, Finish, Geometry, Kind, Layer, LayerSpec, Pool, Scale, Steps, Tile, Weights,
};

use super::super::memory::Memory;
use super::super::{MeshError, Np};
use super::decode::{Configured, problem};
use super::merge::{self, Slice};
use super::{External, HeldExternal, Part, Work, layer as prepare_layer};

/// The memories of a component.
#[derive(Clone, Copy, Debug)]
pub(super) enum Memories<'a> {
    Hrc(&'a Memory),
    Np(&'a Np),
}

/// The words that describe one NP's part of a layer, wherever they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contents<'a> {
    filters: &'a [u32],
    records: &'a [u32],
    lut: &'a [u32],
}

fn contents<'a>(configured: &Configured<'a>, generation: u8) -> Result<Contents<'a>, MeshError> {
    let layer = &configured.layer;
    let table = if layer.activation == np::Activation::Lut { LUT_WORDS } else { 0 };
    let records = layer.parameter_words(generation);
    Ok(match configured.memories {
        Memories::Hrc(memory) => Contents {
            filters: memory.needed(0, layer.filter_words())?,
            records: memory.needed(layer.hrc_records_start(), records)?,
            lut: memory.needed(layer.hrc_lut_start(generation), table)?,
        },
        Memories::Np(np) => {
            np.packet.needed(0, layer.packet_bytes() / 4)?;
            Contents {
                filters: np.filter.needed(0, layer.filter_words())?,
                records: np.parameter.needed(0, records)?,
                lut: np.lut.needed(0, table)?,
            }
        }
    })
}

/// What the NPs of a layer do, from their registers and memories: in one go where their slices make one layer. `positive`: what it
/// takes is never negative.
pub(super) fn parts(configured: &[Configured<'_>], generation: u8, positive: bool) -> Result<Vec<Part>, MeshError> {
    let part = |c: &Configured<'_>, work| Part { np: c.np, tile: super::decode::tile(&c.layer), work };
    let held = configured.iter().map(|c| held(c, generation, positive)).collect::<Result<Vec<_>, _>>()?;
    let inputs = |c: &Configured<'_>| c.layer.inputs;
    let alike = configured.iter().all(|c| inputs(c) == inputs(&configured[0]));
    let slices: Option<Vec<Slice>> =
        held.iter().map(|h| if let Held::Slice(s) = h { Some((**s).clone()) } else { None }).collect();
    if let Some(whole) = slices.filter(|s| alike && s.len() > 1).and_then(|slices| merge::join(&slices)) {
        let tile = whole.spec.tile.clone();
        let first = &configured[0];
        return Ok(vec![Part { np: first.np, tile, work: ready(first, whole, positive)? }]);
    }
    let each = configured.iter().zip(held).map(|(c, held)| match held {
        Held::Slice(slice) => Ok(part(c, ready(c, *slice, positive)?)),
        Held::Other(work) => Ok(part(c, work)),
    });
    each.collect()
}

/// What an NP holds.
enum Held {
    /// A slice of a layer.
    Slice(Box<Slice>),
    /// What cannot be joined.
    Other(Work),
}

/// Kernels for a slice, or for slices that were joined.
fn ready(configured: &Configured<'_>, slice: Slice, positive: bool) -> Result<Work, MeshError> {
    let weights = Weights { main: &slice.main, pointwise: &slice.pointwise };
    let layer = Box::new(prepare_layer(configured.np, taking(slice.spec, positive), weights)?);
    Ok(match configured.layer.op {
        Op::Dense => Work::Dense(configured.layer.inputs.origin.into(), layer),
        _ => Work::Map(layer),
    })
}

/// A layer that may take what is never negative.
fn taking(spec: LayerSpec, positive: bool) -> LayerSpec {
    if positive { spec.never_negative_in() } else { spec }
}

fn held(configured: &Configured<'_>, generation: u8, positive: bool) -> Result<Held, MeshError> {
    let layer = &configured.layer;
    if let (Some(id), Memories::Np(np)) = (layer.external, configured.memories) {
        np.packet.needed(0, layer.packet_bytes() / 4)?;
        if layer.activation == np::Activation::Lut {
            return problem(layer.layer, "a dense layer with external weights has no look-up table");
        }
        return Ok(Held::Other(Work::External(Box::new(External {
            id,
            first_input: layer.inputs.origin.into(),
            words: layer.filter_words() + layer.parameter_words(generation),
            layer: layer.clone(),
            generation,
            positive,
            held: Mutex::default(),
        }))));
    }
    let contents = contents(configured, generation)?;
    if layer.op == Op::Merge {
        return Ok(Held::Other(Work::Pass));
    }
    let slice = slice(configured.np, layer, contents, generation)?;
    if layer.op == Op::Dense {
        return Ok(Held::Slice(Box::new(slice)));
    }
    let held = [layer.in_rows, layer.in_columns].map(super::decode::range);
    for ((what, held), needed) in ["rows", "columns"].into_iter().zip(&held).zip(&slice.spec.needed()) {
        let streams = matches!(configured.memories, Memories::Hrc(_));
        if !streams && !needed.is_empty() && (needed.start < held.start || needed.end > held.end) {
            let np = configured.np;
            return problem(layer.layer, format!("{np} needs input {what} {needed:?} and holds {held:?}"));
        }
    }
    Ok(Held::Slice(Box::new(slice)))
}

impl External {
    /// The layer of the words that are in device memory now.
    pub(super) fn layer(
        &self,
        np: akida_hal::mesh::NpAddress,
        memory: &dyn super::ReadMemory,
    ) -> Result<Arc<Layer>, MeshError> {
        let address = u64::from(memory.fnp2_address(self.id));
        let mut held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(held) = held.as_ref()
            && held.address == address
            && held.watch.as_ref().is_some_and(|w| w.untouched())
        {
            return Ok(held.layer.clone());
        }
        let watch = memory.watch(address, self.words);
        let mut words = vec![0; self.words];
        memory.read_words(address, &mut words).map_err(|source| MeshError::External { np, source })?;
        if let Some(held) = held.as_mut()
            && held.words == words
        {
            (held.address, held.watch) = (address, watch);
            return Ok(held.layer.clone());
        }
        let (filters, records) = words.split_at(self.layer.filter_words());
        let contents = Contents { filters, records, lut: &[] };
        let Slice { spec, main, pointwise } = slice(np, &self.layer, contents, self.generation)?;
        let weights = Weights { main: &main, pointwise: &pointwise };
        let layer = Arc::new(prepare_layer(np, taking(spec, self.positive), weights)?);
        *held = Some(HeldExternal { address, watch, words, layer: layer.clone() });
        Ok(layer)
    }
}

/// How the NPs of a layer add: all must hold the same records, since all get the same two tensors.
pub(super) fn add(parts: &[Configured<'_>]) -> Result<Add, MeshError> {
    let layer = &parts[0].layer;
    let mut words: Option<&[u32]> = None;
    for part in parts {
        let Memories::Np(np) = part.memories else { return problem(layer.layer, "the HRC does not merge") };
        let own = np.packet.needed(0, layer.merge_words())?;
        if *words.get_or_insert(own) != own {
            return problem(layer.layer, format!("{} and {} merge differently", parts[0].np, part.np));
        }
    }
    let records: Vec<MergeRecord> = words.unwrap_or(&[]).iter().map(|&w| MergeRecord::from_word(w)).collect();
    let sum = layer.op == Op::Merge && layer.output_bits == 32;
    let bits = if layer.op == Op::Merge { layer.output_bits } else { layer.input_bits };
    Add::prepare(
        records.iter().map(|r| r.a_shift).collect(),
        records.iter().map(|r| r.b_shift).collect(),
        (!sum).then(|| records.iter().map(|r| r.shift).collect()),
        [layer.input_signed; 2],
        bits,
        Arithmetic::Chip { accumulator_bits: 32 },
    )
    .map_err(|source| MeshError::Arithmetic { np: parts[0].np, source })
}

fn slice(
    np: akida_hal::mesh::NpAddress,
    layer: &NpLayer,
    contents: Contents<'_>,
    generation: u8,
) -> Result<Slice, MeshError> {
    let wrong = |source| MeshError::Np { np, source };
    let Some(main) = layer.weights() else { return problem(layer.layer, "a merge layer has no weights") };
    let weights = unpack_weights(contents.filters, main.rows, main.row, main.bits).map_err(wrong)?;
    let pointwise = match layer.pointwise() {
        Some(p) => {
            let words = contents.filters.get(layer.pointwise_start()..).unwrap_or(&[]);
            unpack_weights(words, p.rows, p.row, p.bits).map_err(wrong)?
        }
        None => Vec::new(),
    };
    let temporal = layer.fifo > 0;
    let kind = match layer.op {
        Op::Conv | Op::Dense | Op::Merge => Kind::Standard,
        Op::Depthwise if temporal => Kind::DepthwiseTemporal,
        Op::Depthwise => Kind::Depthwise,
        Op::Separable => Kind::Separable,
        Op::Transposed => Kind::Transposed,
        Op::DepthwiseTransposed => Kind::DepthwiseTransposed,
    };
    let [height, width, channels] = layer.input.map(usize::from);
    let pair = |[v, h]: [u8; 2]| [usize::from(v), usize::from(h)];
    let geometry = if layer.op == Op::Dense {
        let input = [1, 1, usize::from(layer.inputs.len)];
        Geometry { input, kernel: [1, 1], stride: [1, 1], pad: [0, 0], conv: [1, 1] }
    } else {
        Geometry {
            input: [height, width, channels * usize::from(layer.fifo.max(1))],
            kernel: pair(layer.kernel),
            stride: pair(layer.stride),
            pad: pair(layer.pad),
            conv: layer.conv.map(usize::from),
        }
    };
    let pool = match layer.pool {
        np::Pool::None => Pool::None,
        np::Pool::Max { size, stride, pad } => Pool::Max { size: pair(size), stride: pair(stride), pad: pair(pad) },
        np::Pool::Global => Pool::Global { after_activation: generation > 1 },
    };
    let padded = layer.pad_value != [0; 3];
    let spec = LayerSpec {
        kind,
        geometry,
        input_bits: layer.input_bits,
        input_signed: layer.input_signed,
        pad_value: if padded { layer.pad_value[..channels.min(3)].to_vec() } else { Vec::new() },
        pool,
        tile: Tile {
            rows: super::decode::range(layer.out_rows),
            columns: super::decode::range(layer.out_columns),
            filters: super::decode::range(layer.filters),
        },
        finish: finish(layer, contents, generation).map_err(wrong)?,
    };
    Ok(Slice { spec, main: weights, pointwise })
}

fn finish(layer: &NpLayer, contents: Contents<'_>, generation: u8) -> Result<Finish, np::NpError> {
    let plain = Finish {
        arithmetic: Arithmetic::Chip { accumulator_bits: layer.accumulator_bits },
        bias: Vec::new(),
        activation: Activation::None,
        scale: None,
        output_bits: layer.output_bits,
        output_signed: layer.output_signed,
    };
    if !layer.has_records(generation) {
        return Ok(plain);
    }
    if generation == 1 {
        let (records, _) = contents.records.as_chunks::<{ ThresholdRecord::WORDS }>();
        let records: Vec<_> = records.iter().map(|&r| ThresholdRecord::from_words(r)).collect();
        let steps = Steps {
            threshold: records.iter().map(|r| r.threshold).collect(),
            step_16ths: records.iter().map(|r| r.step_16ths).collect(),
        };
        return Ok(Finish { activation: Activation::Steps(steps), ..plain });
    }
    let (records, _) = contents.records.as_chunks::<{ ScaleRecord::WORDS }>();
    let records: Vec<_> = records.iter().map(|&r| ScaleRecord::from_words(r)).collect();
    let activation = match layer.activation {
        np::Activation::None | np::Activation::Steps => Activation::None,
        np::Activation::Relu => Activation::Relu,
        np::Activation::ReluClipped => Activation::Clipped(records.iter().map(|r| r.max_value).collect()),
        np::Activation::Lut => Activation::Lut {
            table: unpack_lut(contents.lut)?,
            scale: Scale {
                m: records.iter().map(|r| r.lut_scale).collect(),
                k: records.iter().map(|r| r.lut_shift).collect(),
            },
        },
    };
    let scale = Scale { m: records.iter().map(|r| r.scale).collect(), k: records.iter().map(|r| r.shift).collect() };
    Ok(Finish {
        bias: records.iter().map(|r| r.bias).collect(),
        activation,
        scale: (layer.output_bits != 32).then_some(scale),
        ..plain
    })
}
