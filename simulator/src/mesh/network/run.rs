//! One job through the layers.

use akida_kernels::{Bytes, Fifo, Output, RunError, Scratch, View, concat};

use std::ops::Range;

use super::super::{self as mesh, Inputs, MeshError, MeshInput, Port, ReadMemory};
use super::{From, LayerPlan, Merge, Network, Part, Work};

/// Bytes of a layer's tensors, of all jobs that are computed together, about: what a second-level cache has room for.
pub const TOGETHER: usize = 768 << 10;

/// Buffers of some jobs; kept for the next ones.
#[derive(Debug, Default)]
pub(in crate::mesh) struct Workspace {
    input: Bytes,
    /// Outputs of layers, see [`Network::slots`].
    outputs: Vec<Elements>,
    between: Between,
    rooms: Rooms,
}

/// What stands between the outputs of layers and the input of the next.
#[derive(Debug, Default)]
struct Between {
    fitted: [Bytes; 2],
    merged: Elements,
}

/// What a part of a layer needs while it runs.
#[derive(Debug, Default)]
struct Rooms {
    tile: Elements,
    held: Bytes,
    scratch: Scratch,
}

/// Elements of one tensor of some samples: bytes, or words where they have more than 8 bits.
#[derive(Debug, Default)]
struct Elements {
    bytes: Bytes,
    words: Vec<i32>,
}

impl Elements {
    /// `len` elements of `bits`; what they are is of no meaning.
    fn clear(&mut self, bits: u8, len: usize) {
        self.bytes.resize(if bits > 8 { 0 } else { len });
        self.words.resize(if bits > 8 { len } else { 0 }, 0);
    }

    fn output(&mut self) -> Output<'_> {
        if self.words.is_empty() { Output::Bytes(&mut self.bytes) } else { Output::Words(&mut self.words) }
    }

    /// Puts the elements of one NP where they belong, of every sample.
    fn place(&mut self, tile: &Elements, part: &Part, layer: &LayerPlan) {
        let (whole, part_len) = (layer.output.len(), part.tile.len());
        for (whole, tile) in self.bytes.chunks_exact_mut(whole).zip(tile.bytes.chunks_exact(part_len)) {
            place(whole, tile, part, layer);
        }
        for (whole, tile) in self.words.chunks_exact_mut(whole).zip(tile.words.chunks_exact(part_len)) {
            place(whole, tile, part, layer);
        }
    }
}

fn place<T: Copy>(whole: &mut [T], tile: &[T], part: &Part, layer: &LayerPlan) {
    let [_, width, channels] = layer.output.shape;
    let filters = part.tile.filters.clone();
    let mut positions = tile.chunks_exact(filters.len());
    for row in part.tile.rows.clone() {
        for column in part.tile.columns.clone() {
            let Some(position) = positions.next() else { return };
            let to = ((row - layer.crop[0]) * width + column - layer.crop[1]) * channels + filters.start;
            whole[to..to + filters.len()].copy_from_slice(position);
        }
    }
}

impl Network {
    /// Computes one job as a DMA carries its input; the output stays in the workspace.
    pub(super) fn compute_one(
        &self,
        input: MeshInput<'_>,
        memory: &dyn ReadMemory,
        workspace: &mut Workspace,
    ) -> Result<(), MeshError> {
        let mut placed = std::mem::take(&mut workspace.input);
        let computed = read_input(self.input, input, &mut placed)
            .and_then(|given| self.compute(&mut Inputs::Here(given), 0..1, memory, workspace));
        workspace.input = placed;
        computed
    }

    /// Computes jobs together, layer by layer; outputs stay in the workspace.
    pub(super) fn compute<E: std::convert::From<MeshError>>(
        &self,
        inputs: &mut Inputs<'_, E>,
        jobs: Range<usize>,
        memory: &dyn ReadMemory,
        workspace: &mut Workspace,
    ) -> Result<(), E> {
        let Workspace { input, outputs, between, rooms } = workspace;
        let (samples, len) = (jobs.len(), self.input.len());
        // Other networks may need more.
        outputs.resize_with(outputs.len().max(self.layers.len()), Elements::default);
        let mut done = 0;
        let given: &[u8] = match inputs {
            Inputs::Here(bytes) => &bytes[jobs.start * len..jobs.end * len],
            Inputs::Fetched(_, fetch) => {
                // An input that only a layer meets which takes samples one by one need not be kept.
                let alone = self.layers[0].alone().filter(|_| self.meets_input_once());
                input.resize(if alone.is_some() { len } else { samples * len });
                match alone {
                    None => jobs.zip(input.chunks_exact_mut(len)).try_for_each(|(job, into)| fetch(job, into))?,
                    Some(layer) => {
                        let mut output = std::mem::take(&mut outputs[self.slots[0]]);
                        output.clear(self.layers[0].output.bits, self.layers[0].output.len() * samples);
                        for (sample, job) in jobs.enumerate() {
                            fetch(job, input)?;
                            self.input.check(input)?;
                            self.layers[0].run_alone(layer, input, sample, &mut rooms.scratch, &mut output)?;
                        }
                        outputs[self.slots[0]] = output;
                        done = 1;
                    }
                }
                input
            }
        };
        if done == 0 {
            self.input.check(given)?;
        }
        for (layer, &slot) in self.layers.iter().zip(&self.slots).skip(done) {
            let mut output = std::mem::take(&mut outputs[slot]);
            let tensor = |from: From| match from {
                From::Input => (given, self.input.shape),
                From::Layer(i) => (&*outputs[self.slots[i]].bytes, self.layers[i].output.shape),
            };
            layer.compute(samples, tensor, between, memory, rooms, &mut output)?;
            outputs[slot] = output;
        }
        Ok(())
    }

    /// Whether the first layer is all that meets the input, as it is.
    fn meets_input_once(&self) -> bool {
        let meets = |layer: &LayerPlan| layer.inbound.sources().any(|from| matches!(from, From::Input));
        self.input.shape[..2] == self.layers[0].input[..2] && !self.layers[1..].iter().any(meets)
    }

    /// The output of one of the jobs that were computed.
    pub(super) fn elements<'a>(&self, workspace: &'a Workspace, sample: usize) -> mesh::Elements<'a> {
        let len = self.output().len();
        let (part, made) = (sample * len..(sample + 1) * len, &workspace.outputs[self.slots[self.output_layer]]);
        if self.output().bits > 8 {
            mesh::Elements::Words(&made.words[part])
        } else {
            mesh::Elements::Bytes(&made.bytes[part])
        }
    }

    /// The outputs of the jobs that were computed, to `at` of those of others.
    pub(super) fn move_outputs(&self, workspace: &mut Workspace, into: &mut Bytes, at: usize) {
        let made = &mut workspace.outputs[self.slots[self.output_layer]].bytes;
        if made.len() == into.len() {
            return std::mem::swap(made, into);
        }
        into[at..at + made.len()].copy_from_slice(made);
    }

    /// How many jobs are best computed together: as many as find room in a second-level cache.
    pub fn at_once(&self) -> usize {
        let largest = self.layers.iter().map(|l| l.input.iter().product::<usize>() + l.output.len()).max();
        (TOGETHER / largest.unwrap_or(1).max(1)).max(1)
    }
}

/// The tensor a layer works on, behind its merge.
#[derive(Clone, Copy, Debug)]
struct Inbound<'a> {
    bytes: &'a [u8],
    /// Only a sum that leaves as it is.
    words: &'a [i32],
}

impl LayerPlan {
    /// What makes all of a layer that takes samples one by one and meets nothing but the input.
    fn alone(&self) -> Option<&akida_kernels::Layer> {
        match (&self.parts[..], &self.inbound, &self.fifo) {
            ([Part { work: Work::Map(layer), .. }], Merge::One(From::Input), None) if !layer.takes_batches() => {
                Some(layer)
            }
            _ => None,
        }
    }

    /// One sample of such a layer.
    fn run_alone(
        &self,
        layer: &akida_kernels::Layer,
        input: &[u8],
        sample: usize,
        scratch: &mut Scratch,
        output: &mut Elements,
    ) -> Result<(), MeshError> {
        let wrong = |source: RunError| MeshError::Run { layer: self.id, source };
        let [height, width, _] = self.input;
        let view = View::batch(input, [height, width, input.len() / (height * width)], 1).map_err(wrong)?;
        let len = self.output.len();
        layer.run(&view, scratch, output.output().part(sample * len, len)).map_err(wrong)
    }

    fn compute<'a>(
        &self,
        samples: usize,
        tensor: impl Fn(From) -> (&'a [u8], [usize; 3]),
        between: &mut Between,
        memory: &dyn ReadMemory,
        rooms: &mut Rooms,
        output: &mut Elements,
    ) -> Result<(), MeshError> {
        let wrong = |source: RunError| MeshError::Run { layer: self.id, source };
        let Between { fitted: [first, second], merged } = between;
        let fitted = |from: From, buffer| {
            let (data, shape) = tensor(from);
            fit(data, shape, self.input, samples, buffer)
        };
        let inbound = match &self.inbound {
            Merge::One(a) => Inbound { bytes: fitted(*a, first), words: &[] },
            Merge::Add(a, b, add) => {
                let (a, b) = (fitted(*a, first), fitted(*b, second));
                merged.clear(if self.passes() { self.output.bits } else { 8 }, a.len());
                add.run(a, b, merged.output()).map_err(wrong)?;
                Inbound { bytes: &merged.bytes, words: &merged.words }
            }
            Merge::Concat(a, b) => {
                let (a, b) = (fitted(*a, first), fitted(*b, second));
                let positions = self.input[0] * self.input[1] * samples;
                merged.clear(8, a.len() + b.len());
                concat(a, a.len() / positions, b, b.len() / positions, &mut merged.bytes).map_err(wrong)?;
                Inbound { bytes: &merged.bytes, words: &[] }
            }
        };
        output.clear(self.output.bits, self.output.len() * samples);
        match &self.fifo {
            None => self.run(samples, inbound, memory, rooms, output),
            // Jobs of networks with frames come one by one.
            Some(fifo) => {
                let mut fifo = fifo.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let bytes = Fifo::push(&mut fifo, inbound.bytes).map_err(wrong)?;
                self.run(1, Inbound { bytes, words: &[] }, memory, rooms, output)
            }
        }
    }

    fn passes(&self) -> bool {
        self.parts.iter().any(|p| matches!(p.work, Work::Pass))
    }

    /// Every NP's tile, one after another.
    fn run(
        &self,
        samples: usize,
        inbound: Inbound<'_>,
        memory: &dyn ReadMemory,
        rooms: &mut Rooms,
        output: &mut Elements,
    ) -> Result<(), MeshError> {
        let wrong = |source: RunError| MeshError::Run { layer: self.id, source };
        let Rooms { tile, held, scratch } = rooms;
        for part in &self.parts {
            // A part that makes everything, from behind the crop on, needs no copy.
            let alone = self.parts.len() == 1;
            let target = if alone {
                &mut *output
            } else {
                tile.clear(self.output.bits, part.tile.len() * samples);
                &mut *tile
            };
            match &part.work {
                Work::Map(layer) => {
                    let [height, width, _] = self.input;
                    let channels = inbound.bytes.len() / (height * width * samples);
                    let view = View::batch(inbound.bytes, [height, width, channels], samples).map_err(wrong)?;
                    layer.run(&view, scratch, target.output()).map_err(wrong)?;
                }
                Work::Dense(first, layer) => {
                    dense(layer, *first, samples, inbound, held, scratch, target).map_err(wrong)?
                }
                Work::External(external) => {
                    let layer = external.layer(part.np, memory)?;
                    dense(&layer, external.first_input, samples, inbound, held, scratch, target).map_err(wrong)?;
                }
                Work::Pass => {
                    let len = part.tile.len();
                    let whole = (inbound.bytes.len().max(inbound.words.len()) / samples).max(1);
                    for (tile, whole) in target.bytes.chunks_exact_mut(len).zip(inbound.bytes.chunks_exact(whole)) {
                        take(tile, whole, part, self.input);
                    }
                    for (tile, whole) in target.words.chunks_exact_mut(len).zip(inbound.words.chunks_exact(whole)) {
                        take(tile, whole, part, self.input);
                    }
                }
            }
            if !alone {
                output.place(tile, part, self);
            }
        }
        Ok(())
    }
}

/// A dense layer over its inputs of every sample; where it has not all of them, they are put together in `held` first, so that weights
/// are read once for all samples.
fn dense(
    layer: &akida_kernels::Layer,
    first: usize,
    samples: usize,
    inbound: Inbound<'_>,
    held: &mut Bytes,
    scratch: &mut Scratch,
    target: &mut Elements,
) -> Result<(), RunError> {
    let inputs = layer.inputs();
    let each = inbound.bytes.len() / samples.max(1);
    if each < first + inputs {
        return Err(RunError::Length { what: "input", got: each, expected: first + inputs });
    }
    let data = if each == inputs {
        inbound.bytes
    } else {
        held.resize(inputs * samples);
        for (from, into) in inbound.bytes.chunks_exact(each).zip(held.chunks_exact_mut(inputs)) {
            into.copy_from_slice(&from[first..][..inputs]);
        }
        &**held
    };
    layer.run(&View::batch(data, [1, 1, inputs], samples)?, scratch, target.output())
}

/// The elements of one NP's tile, out of the tensor it passes on.
fn take<T: Copy>(tile: &mut [T], whole: &[T], part: &Part, [_, width, channels]: [usize; 3]) {
    let filters = part.tile.filters.clone();
    let mut positions = tile.chunks_exact_mut(filters.len());
    for row in part.tile.rows.clone() {
        for column in part.tile.columns.clone() {
            let from = (row * width + column) * channels + filters.start;
            let (Some(position), Some(from)) = (positions.next(), whole.get(from..from + filters.len())) else {
                return;
            };
            position.copy_from_slice(from);
        }
    }
}

/// Tensors as a layer holds them: rows and columns outside its input are dropped, those nobody sent are 0.
fn fit<'a>(data: &'a [u8], from: [usize; 3], to: [usize; 3], samples: usize, buffer: &'a mut Bytes) -> &'a [u8] {
    let channels = from[2];
    if from[..2] == to[..2] {
        return data;
    }
    let (given, held) = (from[0] * from[1] * channels, to[0] * to[1] * channels);
    buffer.resize(held * samples);
    buffer.fill(0);
    let len = from[1].min(to[1]) * channels;
    for (data, buffer) in data.chunks_exact(given).zip(buffer.chunks_exact_mut(held)) {
        let rows = data.chunks_exact(from[1] * channels).zip(buffer.chunks_exact_mut(to[1] * channels));
        for (from, to) in rows {
            to[..len].copy_from_slice(&from[..len]);
        }
    }
    buffer
}

/// A job's input as a dense tensor: events are put in their places.
fn read_input<'a>(port: Port, input: MeshInput<'a>, placed: &'a mut Bytes) -> Result<&'a [u8], MeshError> {
    match input {
        MeshInput::Dense(bytes) if bytes.len() != port.len() => {
            Err(MeshError::InputLength { unit: "bytes", got: bytes.len(), expected: port.len() })
        }
        MeshInput::Dense(bytes) => Ok(bytes),
        MeshInput::CnpEvents(words) | MeshInput::FnpEvents(words) => {
            let (events, odd) = words.as_chunks::<2>();
            if !odd.is_empty() {
                let expected = words.len() + 1;
                return Err(MeshError::InputLength { unit: "words of events", got: words.len(), expected });
            }
            placed.resize(port.len());
            placed.fill(0);
            port.place_events(events, matches!(input, MeshInput::FnpEvents(_)), placed);
            Ok(placed)
        }
    }
}
