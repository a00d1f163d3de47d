//! One job through the layers.

use akida_hal::format::{CnpEvent, FnpEvent};
use akida_kernels::{Fifo, Output, RunError, Scratch, View, concat};

use super::super::{MeshError, MeshInput, MeshOutput, Port, ReadMemory};
use super::{From, LayerPlan, Merge, Network, Part, Work};

/// Buffers of one job; kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    input: Vec<u8>,
    /// Outputs of layers, by index.
    outputs: Vec<Elements>,
    between: Between,
    tile: Elements,
    scratch: Scratch,
}

/// What stands between the outputs of layers and the input of the next.
#[derive(Debug, Default)]
struct Between {
    fitted: [Vec<u8>; 2],
    merged: Elements,
}

/// Elements of one tensor: bytes, or words where they have more than 8 bits.
#[derive(Debug, Default)]
struct Elements {
    bytes: Vec<u8>,
    words: Vec<i32>,
}

impl Elements {
    /// `len` elements of `bits`, all 0.
    fn clear(&mut self, bits: u8, len: usize) {
        self.bytes.clear();
        self.words.clear();
        if bits > 8 { self.words.resize(len, 0) } else { self.bytes.resize(len, 0) }
    }

    fn output(&mut self) -> Output<'_> {
        if self.words.is_empty() { Output::Bytes(&mut self.bytes) } else { Output::Words(&mut self.words) }
    }

    /// Puts the elements of one NP where they belong.
    fn place(&mut self, tile: &Elements, part: &Part, layer: &LayerPlan) {
        place(&mut self.bytes, &tile.bytes, part, layer);
        place(&mut self.words, &tile.words, part, layer);
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
    pub(super) fn compute(
        &self,
        input: MeshInput<'_>,
        memory: &dyn ReadMemory,
        workspace: &mut Workspace,
    ) -> Result<MeshOutput, MeshError> {
        let Workspace { input: given, outputs, between, tile, scratch } = workspace;
        read_input(self.input, input, given)?;
        outputs.resize_with(self.layers.len(), Elements::default);
        for (index, layer) in self.layers.iter().enumerate() {
            let (before, rest) = outputs.split_at_mut(index);
            let tensor = |from: From| match from {
                From::Input => (given.as_slice(), self.input.shape),
                From::Layer(i) => (before[i].bytes.as_slice(), self.layers[i].output.shape),
            };
            layer.compute(tensor, between, memory, tile, scratch, &mut rest[0])?;
        }
        let port = self.output();
        let made = &outputs[self.output_layer];
        let values = if port.bits > 8 {
            made.words.clone()
        } else {
            let value = |&b: &u8| if port.signed { i32::from(b.cast_signed()) } else { i32::from(b) };
            made.bytes.iter().map(value).collect()
        };
        Ok(MeshOutput { port, format: self.format, source: self.source, values })
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
    fn compute<'a>(
        &self,
        tensor: impl Fn(From) -> (&'a [u8], [usize; 3]),
        between: &mut Between,
        memory: &dyn ReadMemory,
        tile: &mut Elements,
        scratch: &mut Scratch,
        output: &mut Elements,
    ) -> Result<(), MeshError> {
        let wrong = |source: RunError| MeshError::Run { layer: self.id, source };
        let Between { fitted: [first, second], merged } = between;
        let fitted = |from: From, buffer| {
            let (data, shape) = tensor(from);
            fit(data, shape, self.input, buffer)
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
                let positions = self.input[0] * self.input[1];
                merged.clear(8, a.len() + b.len());
                concat(a, a.len() / positions, b, b.len() / positions, &mut merged.bytes).map_err(wrong)?;
                Inbound { bytes: &merged.bytes, words: &[] }
            }
        };
        output.clear(self.output.bits, self.output.len());
        match &self.fifo {
            None => self.run(inbound, memory, tile, scratch, output),
            Some(fifo) => {
                let mut fifo = fifo.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let bytes = Fifo::push(&mut fifo, inbound.bytes).map_err(wrong)?;
                self.run(Inbound { bytes, words: &[] }, memory, tile, scratch, output)
            }
        }
    }

    fn passes(&self) -> bool {
        self.parts.iter().any(|p| matches!(p.work, Work::Pass))
    }

    /// Every NP's tile, one after another.
    fn run(
        &self,
        inbound: Inbound<'_>,
        memory: &dyn ReadMemory,
        tile: &mut Elements,
        scratch: &mut Scratch,
        output: &mut Elements,
    ) -> Result<(), MeshError> {
        let wrong = |source: RunError| MeshError::Run { layer: self.id, source };
        for part in &self.parts {
            // A part that makes everything, from behind the crop on, needs no copy.
            let alone = self.parts.len() == 1;
            let target = if alone {
                &mut *output
            } else {
                tile.clear(self.output.bits, part.tile.len());
                &mut *tile
            };
            match &part.work {
                Work::Map(layer) => {
                    let [height, width, _] = self.input;
                    let channels = inbound.bytes.len() / (height * width);
                    let view = View::whole(inbound.bytes, [height, width, channels]).map_err(wrong)?;
                    layer.run(&view, scratch, target.output()).map_err(wrong)?;
                }
                Work::Dense(first, layer) => dense(layer, *first, inbound, scratch, target).map_err(wrong)?,
                Work::External(external) => {
                    let layer = external.layer(part.np, memory)?;
                    dense(&layer, external.first_input, inbound, scratch, target).map_err(wrong)?;
                }
                Work::Pass => {
                    take(&mut target.bytes, inbound.bytes, part, self.input);
                    take(&mut target.words, inbound.words, part, self.input);
                }
            }
            if !alone {
                output.place(tile, part, self);
            }
        }
        Ok(())
    }
}

fn dense(
    layer: &akida_kernels::Layer,
    first: usize,
    inbound: Inbound<'_>,
    scratch: &mut Scratch,
    target: &mut Elements,
) -> Result<(), RunError> {
    let inputs = layer.inputs();
    let held = inbound.bytes.get(first..first + inputs).unwrap_or(&[]);
    layer.run(&View::whole(held, [1, 1, inputs])?, scratch, target.output())
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

/// A tensor as a layer holds it: rows and columns outside its input are dropped, those nobody sent are 0.
fn fit<'a>(data: &'a [u8], from: [usize; 3], to: [usize; 3], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    let channels = from[2];
    if from[..2] == to[..2] {
        return data;
    }
    buffer.clear();
    buffer.resize(to[0] * to[1] * channels, 0);
    let len = from[1].min(to[1]) * channels;
    let rows = data.chunks_exact(from[1] * channels).zip(buffer.chunks_exact_mut(to[1] * channels));
    for (from, to) in rows {
        to[..len].copy_from_slice(&from[..len]);
    }
    buffer
}

/// A job's input as a dense tensor.
fn read_input(port: Port, input: MeshInput<'_>, into: &mut Vec<u8>) -> Result<(), MeshError> {
    let [height, width, channels] = port.shape;
    into.clear();
    match input {
        MeshInput::Dense(bytes) => {
            if bytes.len() != port.len() {
                return Err(MeshError::InputLength { unit: "bytes", got: bytes.len(), expected: port.len() });
            }
            into.extend_from_slice(bytes);
        }
        MeshInput::CnpEvents(words) | MeshInput::FnpEvents(words) => {
            let (events, odd) = words.as_chunks::<2>();
            if !odd.is_empty() {
                return Err(MeshError::InputLength {
                    unit: "words of events",
                    got: words.len(),
                    expected: words.len() + 1,
                });
            }
            into.resize(port.len(), 0);
            for &event in events {
                let (at, value) = match input {
                    MeshInput::FnpEvents(_) => {
                        let event = FnpEvent::decode(event);
                        let index = event.index as usize;
                        let (row, column) = (index % height, index / height % width);
                        ([row, column, index / height / width], event.value)
                    }
                    _ => {
                        let event = CnpEvent::decode(event);
                        ([event.first, event.second, event.channel].map(usize::from), event.value.into())
                    }
                };
                // An input without events sends one outside the shape (hardware.md 12.1).
                if at[0] < height && at[1] < width && at[2] < channels {
                    into[(at[0] * width + at[1]) * channels + at[2]] = value as u8;
                }
            }
        }
    }
    let (low, high) = if port.signed {
        (-(1i16 << (port.bits - 1)), (1i16 << (port.bits - 1)) - 1)
    } else {
        (0, (1i16 << port.bits) - 1)
    };
    let value = |b: u8| if port.signed { i16::from(b.cast_signed()) } else { i16::from(b) };
    match into.iter().position(|&b| !(low..=high).contains(&value(b))) {
        None => Ok(()),
        Some(index) => Err(MeshError::InputValue { index, value: value(into[index]), bits: port.bits }),
    }
}
