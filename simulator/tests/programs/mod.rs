//! Programs a mesh by hand: layers cut into tiles, tiles placed on NPs, everything written as config packets.
#![allow(dead_code)] // Every test uses a part of this.

use akida_hal::mesh::{Mesh as Topology, NpAddress, NpTypes};
use akida_hal::np::sram::{UNIT_WORDS, pack_lut, pack_weights};
use akida_hal::np::*;
use akida_hal::packet::{PacketHeader, Target, Uid};
use akida_simulator::mesh::{MemoryFault, Mesh, MeshError, MeshInput, Network, ReadMemory};

/// Parameters of all filters of a layer.
#[derive(Clone, Debug)]
pub enum Records {
    None,
    Scales(Vec<ScaleRecord>),
    Thresholds(Vec<ThresholdRecord>),
}

/// A layer before it is cut: `np` describes the whole of it.
#[derive(Clone, Debug)]
pub struct Whole {
    pub np: NpLayer,
    /// Output (height, width, filters).
    pub output: [u16; 3],
    /// (filter, kernel row, kernel column, channel) or as `NpLayer::weights` says.
    pub weights: Vec<i8>,
    pub pointwise: Vec<i8>,
    pub records: Records,
    pub lut: Vec<i16>,
    pub merge: Vec<MergeRecord>,
    pub hrc: bool,
    /// Pieces in (rows, columns, filters).
    pub cut: [u16; 3],
}

/// A plain convolution; tests change what they need.
pub fn conv(layer: u8, input: [u16; 3], output: [u16; 3]) -> NpLayer {
    let all = |len| Span { origin: 0, len };
    NpLayer {
        layer,
        inbound: Inbound::One(if layer == 1 { Source::Input } else { Source::Layer(layer - 1) }),
        destination: Destination::Layer(layer + 1),
        op: Op::Conv,
        input,
        input_bits: 8,
        input_signed: true,
        in_rows: all(input[0]),
        in_columns: all(input[1]),
        inputs: all(0),
        kernel: [3, 3],
        stride: [1, 1],
        pad: [1, 1],
        pad_value: [0; 3],
        conv: [input[0], input[1]],
        pool: Pool::None,
        out_rows: all(output[0]),
        out_columns: all(output[1]),
        crop: [0, 0],
        filters: all(output[2]),
        fifo: 0,
        weight_bits: 8,
        pointwise_bits: 0,
        external: None,
        activation: Activation::None,
        output_bits: 8,
        output_signed: true,
        accumulator_bits: 28,
    }
}

impl Whole {
    pub fn new(np: NpLayer, weights: Vec<i8>, records: Records) -> Self {
        let output = [np.out_rows.len, np.out_columns.len, np.filters.len];
        Self { np, output, weights, pointwise: vec![], records, lut: vec![], merge: vec![], hrc: false, cut: [1; 3] }
    }

    fn tiles(&self) -> Vec<NpLayer> {
        let spans = |axis: usize| {
            let (n, pieces) = (self.output[axis], self.cut[axis]);
            (0..pieces)
                .map(move |i| (n * i / pieces, n * (i + 1) / pieces))
                .map(|(a, b)| Span { origin: a, len: b - a })
        };
        let mut tiles = Vec::new();
        for rows in spans(0) {
            for columns in spans(1) {
                for filters in spans(2) {
                    let mut np = NpLayer { out_rows: rows, out_columns: columns, filters, ..self.np.clone() };
                    np.out_rows.origin += np.crop[0];
                    np.out_columns.origin += np.crop[1];
                    if np.op == Op::Merge {
                        (np.in_rows, np.in_columns) = (np.out_rows, np.out_columns);
                    } else if np.op != Op::Dense {
                        np.in_rows = window(&np, 0, np.out_rows);
                        np.in_columns = window(&np, 1, np.out_columns);
                    }
                    tiles.push(np);
                }
            }
        }
        tiles
    }
}

/// Input rows or columns under a span of outputs.
fn window(np: &NpLayer, axis: usize, out: Span) -> Span {
    let (first, last) = (i64::from(out.origin), i64::from(out.origin + out.len) - 1);
    let conv = i64::from(np.conv[axis]);
    let (first, last) = match np.pool {
        Pool::None => (first, last),
        Pool::Global => (0, conv - 1),
        Pool::Max { size, stride, pad } => {
            let [size, stride, pad] = [size, stride, pad].map(|v| i64::from(v[axis]));
            ((first * stride - pad).max(0), (last * stride - pad + size - 1).min(conv - 1))
        }
    };
    let [kernel, stride, pad] = [np.kernel, np.stride, np.pad].map(|v| i64::from(v[axis]));
    let (first, last) = if matches!(np.op, Op::Transposed | Op::DepthwiseTransposed) {
        ((first + pad - kernel).div_euclid(stride) + 1, (last + pad) / stride)
    } else {
        (first * stride - pad, last * stride - pad + kernel - 1)
    };
    let size = i64::from(np.input[axis]);
    let first = first.clamp(0, size - 1);
    Span { origin: first as u16, len: (last.clamp(first, size - 1) - first + 1) as u16 }
}

/// Device memory that holds the weights of one FNP2.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub words: Vec<u32>,
}

impl Memory {
    pub const ADDRESS: u32 = 0x1000;
}

impl ReadMemory for Memory {
    fn fnp2_address(&self, _id: u8) -> u32 {
        Self::ADDRESS
    }

    fn read_words(&self, address: u64, words: &mut [u32]) -> Result<(), MemoryFault> {
        let start = address.checked_sub(Self::ADDRESS.into()).ok_or(MemoryFault { address })? as usize / 4;
        let held = self.words.get(start..start + words.len()).ok_or(MemoryFault { address })?;
        words.copy_from_slice(held);
        Ok(())
    }
}

/// A mesh under construction.
pub struct Board {
    pub mesh: Mesh,
    pub memory: Memory,
    /// The packets so far.
    pub track: Vec<u32>,
    free: Vec<(NpAddress, NpTypes)>,
    pub used: Vec<NpAddress>,
}

impl Board {
    pub fn new(topology: Topology) -> Self {
        let free = topology.nps.clone();
        Self { mesh: Mesh::new(topology), memory: Memory::default(), track: vec![], free, used: vec![] }
    }

    pub fn send(&mut self, target: Target, uid: Uid, start: usize, words: &[u32]) -> Result<(), MeshError> {
        let unit = if matches!((target, uid), (Target::Hrc, Uid::CnpFilter) | (_, Uid::CnpFilter | Uid::FnpWeights)) {
            UNIT_WORDS
        } else {
            1
        };
        assert!(start.is_multiple_of(unit));
        for (i, chunk) in words.chunks(8192).enumerate() {
            let header =
                PacketHeader { target, uid, start: ((start + i * 8192) / unit) as u16, len: chunk.len() as u32 };
            self.mesh.write(&header, chunk)?;
            header.push(chunk, &mut self.track).expect("a packet");
        }
        Ok(())
    }

    fn take(&mut self, types: NpTypes) -> NpAddress {
        // The least able NP that will do.
        let at = (0..self.free.len())
            .filter(|&i| self.free[i].1.contains(types))
            .min_by_key(|&i| {
                let own = self.free[i].1;
                (own.intersects(NpTypes::FNP2 | NpTypes::FNP3), own.bits().count_ones())
            })
            .expect("an NP that is free");
        let np = self.free.remove(at).0;
        self.used.push(np);
        np
    }

    /// Places a layer, tile by tile.
    pub fn place(&mut self, whole: &Whole) -> Result<(), MeshError> {
        whole.tiles().iter().try_for_each(|tile| self.place_piece(whole, tile))
    }

    /// Places one tile of a layer.
    pub fn place_piece(&mut self, whole: &Whole, tile: &NpLayer) -> Result<(), MeshError> {
        let generation = self.mesh.topology().version.generation();
        let np = if whole.hrc {
            NpAddress::HRC
        } else {
            self.take(match tile.op {
                Op::Dense if tile.external.is_some() => NpTypes::FNP2,
                Op::Dense => NpTypes::FNP3,
                _ if tile.fifo > 0 => NpTypes::TNP_B,
                Op::Depthwise | Op::DepthwiseTransposed | Op::Separable => NpTypes::CNP2,
                _ => NpTypes::CNP1,
            })
        };
        self.place_tile(np, whole, tile, generation)
    }

    fn place_tile(&mut self, np: NpAddress, whole: &Whole, tile: &NpLayer, generation: u8) -> Result<(), MeshError> {
        let target = Target::from(np);
        let wrong = |source| MeshError::Np { np, source };
        let filters = usize::from(tile.filters.origin)..usize::from(tile.filters.origin + tile.filters.len);
        let mut kernels = Vec::new();
        if let Some(rows) = tile.weights() {
            let own = if tile.op == Op::Separable { 0..rows.rows } else { filters.clone() };
            let per_row =
                whole.weights.len() / if tile.op == Op::Separable { rows.rows } else { whole.output[2].into() };
            // A dense layer cut along its inputs takes a part of each row.
            let first = usize::from(tile.inputs.origin);
            let part = |r: usize| {
                let start = r * per_row + if per_row == rows.row { 0 } else { first };
                whole.weights[start..start + rows.row].to_vec()
            };
            let weights: Vec<i8> = own.flat_map(part).collect();
            kernels = pack_weights(&weights, rows.row, rows.bits).map_err(wrong)?;
        }
        if let Some(rows) = tile.pointwise() {
            kernels.resize(tile.pointwise_start(), 0);
            let weights = &whole.pointwise[filters.start * rows.row..filters.end * rows.row];
            kernels.extend(pack_weights(weights, rows.row, rows.bits).map_err(wrong)?);
        }
        let records: Vec<u32> = match &whole.records {
            Records::None => vec![],
            Records::Scales(all) => all[filters].iter().flat_map(|r| r.to_words()).collect(),
            Records::Thresholds(all) => all[filters].iter().flat_map(|r| r.to_words()).collect(),
        };
        let lut = if whole.lut.is_empty() { vec![] } else { pack_lut(&whole.lut).map_err(wrong)? };
        let merge: Vec<u32> = whole.merge.iter().map(|m| m.to_word()).collect();

        if np == NpAddress::HRC {
            let mut image = kernels;
            image.resize(tile.hrc_records_start(), 0);
            image.extend(records);
            if !lut.is_empty() {
                image.resize(tile.hrc_lut_start(generation), 0);
                image.extend(lut);
            }
            self.send(target, Uid::CnpFilter, 0, &image)?;
        } else if tile.external.is_some() {
            self.memory.words = kernels;
            self.memory.words.extend(records);
        } else {
            let uid = if tile.op == Op::Dense { Uid::FnpWeights } else { Uid::CnpFilter };
            self.send(target, uid, 0, &kernels)?;
            self.send(target, Uid::Thresholds, 0, &records)?;
            self.send(target, Uid::Lut, 0, &lut)?;
            self.send(target, Uid::PacketSram, 0, &merge)?;
        }
        let registers = tile.to_registers().map_err(wrong)?;
        self.send(target, Uid::Registers, 0, &registers)
    }

    pub fn run(&mut self, input: &[u8]) -> Result<Vec<i32>, MeshError> {
        let network = self.mesh.network()?;
        self.job(&network, input)
    }

    pub fn job(&self, network: &Network, input: &[u8]) -> Result<Vec<i32>, MeshError> {
        network.run(MeshInput::Dense(input), &self.memory, |output| output.values())
    }
}
