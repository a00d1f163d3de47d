//! The network that a mesh was programmed with: decoded once, run for every job.
//!
//! Layers run in the order of their ids. NPs whose slices make one layer run as one; others one after another, each on the
//! window of its inbound tensor and into its tile of the outbound one.

mod decode;
mod merge;
mod prepare;
mod rules;
mod run;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use akida_hal::mesh::NpAddress;
use akida_hal::np::OutputFormat;
use akida_kernels::{Add, Bytes, Fifo, Kernels, Layer, LayerSpec, Tile};

use super::{Inputs, MeshError, MeshInput, MeshOutput, OutputSource, Port, ReadMemory};
use crate::chip::memory::Watch;
pub use run::TOGETHER;
use run::Workspace;

/// Memory for tensors that no job uses.
pub(super) type Workspaces = Arc<Mutex<Vec<Workspace>>>;

/// A network, ready to run. Jobs may run at the same time, except that a temporal layer sees them in some order.
#[derive(Debug)]
pub struct Network {
    input: Port,
    /// Whether what it is given must not be negative.
    positive: bool,
    layers: Vec<LayerPlan>,
    /// Which of a workspace's buffers holds the output of each layer.
    slots: Vec<usize>,
    /// Index of the layer that leaves the mesh.
    output_layer: usize,
    format: OutputFormat,
    source: OutputSource,
    spare: Workspaces,
}

/// Where a layer's input is: the job's input, or the output of the layer with this index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Input,
    Layer(usize),
}

#[derive(Debug)]
enum Merge {
    One(From),
    Add(From, From, Box<Add>),
    Concat(From, From),
}

impl Merge {
    fn sources(&self) -> impl Iterator<Item = From> {
        let (a, b) = match *self {
            Merge::One(a) => (a, None),
            Merge::Add(a, b, _) | Merge::Concat(a, b) => (a, Some(b)),
        };
        std::iter::once(a).chain(b)
    }
}

/// All NPs of a layer.
#[derive(Debug)]
struct LayerPlan {
    id: u8,
    inbound: Merge,
    /// Shape of one inbound tensor behind the merge.
    input: [usize; 3],
    /// Frames of a temporal layer; its tensors are longer by this factor in channels.
    fifo: Option<Mutex<Fifo>>,
    /// What the layer makes, in coordinates of the next one.
    output: Port,
    /// Whether none of that can be negative, whatever the job's input.
    positive: bool,
    /// Rows and columns that are cut off on the way out.
    crop: [usize; 2],
    parts: Vec<Part>,
}

/// What one NP does, or all NPs of a layer at once; then `np` is the first.
#[derive(Debug)]
struct Part {
    np: NpAddress,
    tile: Tile,
    work: Work,
}

#[derive(Debug)]
enum Work {
    /// A convolution over the whole inbound tensor's coordinates.
    Map(Box<Layer>),
    /// A dense layer over inputs from this one on.
    Dense(usize, Box<Layer>),
    /// A dense layer whose weights are in device memory.
    External(Box<External>),
    /// The inbound tensor as it is.
    Pass,
}

/// A dense layer of an FNP2. What is in its memory when a job runs counts: it is read again when it was written to since
/// the last time, and unpacked again when it has changed.
#[derive(Debug)]
struct External {
    id: u8,
    first_input: usize,
    words: usize,
    layer: akida_hal::np::NpLayer,
    generation: u8,
    /// Whether its inputs are never negative.
    positive: bool,
    held: Mutex<Option<HeldExternal>>,
}

/// What was in device memory when it was last read.
#[derive(Debug)]
struct HeldExternal {
    address: u64,
    /// `None`: memory that cannot be watched, to be read every time.
    watch: Option<Arc<Watch>>,
    words: Vec<u32>,
    layer: Arc<Layer>,
}

impl Network {
    /// What a job is given.
    pub fn input(&self) -> Port {
        self.input
    }

    /// What a job gives.
    pub fn output(&self) -> Port {
        self.layers[self.output_layer].output
    }

    /// Whether it was made for inputs that are never negative.
    pub fn takes_positive(&self) -> bool {
        self.positive
    }

    /// Whether no byte of an output is negative, whatever the input, for who takes it for signed.
    pub fn never_negative(&self) -> bool {
        let Port { bits, signed, .. } = self.output();
        self.layers[self.output_layer].positive && (bits < 8 || bits == 8 && signed)
    }

    /// How a job's output leaves.
    pub fn format(&self) -> OutputFormat {
        self.format
    }

    /// Bytes of every job's output behind its header; `None` where that depends on what it is.
    pub fn dense_payload(&self) -> Option<usize> {
        let (output, dense) = (self.output(), self.format == OutputFormat::Dense);
        dense.then(|| if output.bits > 8 { output.len() * 4 } else { output.len().next_multiple_of(4) })
    }

    /// Device memory that weights of FNP2s are in.
    pub fn external(&self, memory: &dyn ReadMemory) -> Vec<Range<u32>> {
        let range = |external: &External| {
            let first = memory.fnp2_address(external.id);
            first..first.saturating_add(external.words as u32 * 4)
        };
        let works = self.layers.iter().flat_map(|l| &l.parts).map(|p| &p.work);
        works.filter_map(|w| if let Work::External(external) = w { Some(range(external)) } else { None }).collect()
    }

    /// Bytes of all weights.
    pub fn weights(&self) -> usize {
        let bytes = |part: &Part| match &part.work {
            Work::Map(layer) | Work::Dense(_, layer) => layer.weights(),
            Work::External(external) => external.words * size_of::<u32>(),
            Work::Pass => 0,
        };
        self.layers.iter().flat_map(|layer| &layer.parts).map(bytes).sum()
    }

    /// Whether a job sees something of those before it.
    pub fn keeps_frames(&self) -> bool {
        self.layers.iter().any(|l| l.fifo.is_some())
    }

    /// Computes one job, whose output `take` gets. Weights of FNP2s are read from `memory` now.
    pub fn run<T>(
        &self,
        input: MeshInput<'_>,
        memory: &dyn ReadMemory,
        take: impl FnOnce(MeshOutput<'_>) -> T,
    ) -> Result<T, MeshError> {
        self.with_workspace(|workspace| {
            self.compute_one(input, memory, workspace)?;
            Ok(take(self.made(workspace, 0)))
        })
    }

    /// Computes jobs, several at once where that is faster; `take` gets the output of each, in order, with its number.
    ///
    /// # Errors
    /// The first that any of them has, whichever it is.
    pub fn run_batch<E: std::convert::From<MeshError>>(
        &self,
        mut inputs: Inputs<'_, E>,
        memory: &dyn ReadMemory,
        mut take: impl FnMut(usize, MeshOutput<'_>),
    ) -> Result<(), E> {
        let count = self.count(&inputs)?;
        self.with_workspace(|workspace| {
            self.each_group(count, |jobs| {
                self.compute(&mut inputs, jobs.clone(), memory, workspace)?;
                jobs.enumerate().for_each(|(sample, job)| take(job, self.made(workspace, sample)));
                Ok(())
            })
        })
    }

    /// Computes jobs of a network whose output is bytes, for another network: those of all, one behind the other.
    ///
    /// # Errors
    /// Those of [`run_batch`](Self::run_batch).
    pub fn run_into<E: std::convert::From<MeshError>>(
        &self,
        mut inputs: Inputs<'_, E>,
        memory: &dyn ReadMemory,
        into: &mut Bytes,
    ) -> Result<(), E> {
        let (count, len) = (self.count(&inputs)?, self.output().len());
        into.resize(count * len);
        self.with_workspace(|workspace| {
            self.each_group(count, |jobs| {
                let at = jobs.start * len;
                self.compute(&mut inputs, jobs, memory, workspace)?;
                self.move_outputs(workspace, into, at);
                Ok(())
            })
        })
    }

    /// How many inputs there are.
    fn count<E>(&self, inputs: &Inputs<'_, E>) -> Result<usize, MeshError> {
        let len = self.input.len();
        match inputs {
            Inputs::Here(bytes) if !bytes.len().is_multiple_of(len) => {
                let expected = bytes.len().next_multiple_of(len);
                Err(MeshError::InputLength { unit: "bytes", got: bytes.len(), expected })
            }
            Inputs::Here(bytes) => Ok(bytes.len() / len),
            Inputs::Fetched(count, _) => Ok(*count),
        }
    }

    /// Those that are computed together.
    fn each_group<E>(&self, count: usize, run: impl FnMut(Range<usize>) -> Result<(), E>) -> Result<(), E> {
        // A layer that remembers sees one job after another.
        let at_once = if self.keeps_frames() { 1 } else { self.at_once() };
        (0..count).step_by(at_once).map(|first| first..count.min(first + at_once)).try_for_each(run)
    }

    fn with_workspace<T>(&self, work: impl FnOnce(&mut Workspace) -> T) -> T {
        let mut workspace =
            self.spare.lock().map_or_else(|e| e.into_inner().pop(), |mut s| s.pop()).unwrap_or_default();
        let result = work(&mut workspace);
        if let Ok(mut spare) = self.spare.lock() {
            spare.push(workspace);
        }
        result
    }

    /// The output of one of the jobs that were computed.
    fn made<'a>(&self, workspace: &'a Workspace, sample: usize) -> MeshOutput<'a> {
        let elements = self.elements(workspace, sample);
        MeshOutput { port: self.output(), format: self.format, source: self.source, elements }
    }
}

/// The kernels all networks use.
fn kernels() -> &'static dyn Kernels {
    akida_kernels::best()
}

/// Prepares one NP's kernels, naming the NP in errors.
fn layer(np: NpAddress, spec: LayerSpec, weights: akida_kernels::Weights<'_>) -> Result<Layer, MeshError> {
    Layer::prepare(spec, weights, kernels()).map_err(|source| MeshError::Arithmetic { np, source })
}
