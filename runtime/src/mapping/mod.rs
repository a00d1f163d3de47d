//! From a model to what a mesh is programmed with.
//!
//! A mapping is a list of sequences, run one after another: on the board (one [`Program`] each) or on the host, each
//! host layer with the reason why. Mapping is pure and deterministic: same model, mesh and options, same bytes.
//!
//! | file | concern |
//! |---|---|
//! | [`limits`] | what a target's layers may look like: the table of rules |
//! | [`geometry`] | any convolution as part of a SAME one, and which input a piece of output needs |
//! | [`stage`], `facts`, `build` | model layers as hardware layers, with the layers that exact rewritings add |
//! | [`split`] | a stage cut by filters, rows, columns or inputs so that each part fits one NP |
//! | [`place`] | which NP holds which part |
//! | [`passes`] | the stages of a sequence cut into passes where one does not hold them |
//! | [`ports`] | how inputs enter and outputs leave: dense or as events |
//! | [`encode`] | parts as registers and SRAM packets |
//! | [`sequences`] | the model cut into hardware and host sequences |
//! | [`cost`] | when another hardware sequence is worth its reprogramming |
//! | [`explain`], `drawing` | all of it as text, JSON and a page with the mesh drawn |

mod build;
pub mod cost;
mod drawing;
pub mod encode;
mod error;
pub mod explain;
mod facts;
pub mod geometry;
pub mod limits;
pub mod passes;
pub mod place;
pub mod ports;
pub mod sequences;
pub mod split;
pub mod stage;

use akida_hal::mesh::{Mesh, NpAddress, NpTypes};
use akida_hal::np::NpLayer;
use akida_hal::program::Program;

pub use error::{MapError, Reason};
pub use ports::{InputRoad, OutputForm};

use crate::model::{Model, Target, TensorId};

/// How many NPs to use (targets.md 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As few as possible.
    Minimal,
    /// As many as useful in as few passes as possible: layers with much work are cut further. The vendor's default too.
    #[default]
    AllNps,
    /// As many as useful in as many passes as are worth their reprogramming ([`cost::pass_cycles`]): fewer layers a pass
    /// have more NPs each.
    HwPr,
}

/// How many hardware sequences there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sequences {
    /// As [`cost`] says.
    #[default]
    Auto,
    /// Whatever can be on the hardware is.
    All,
}

/// What the caller wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapOptions {
    /// One hardware sequence or an error.
    pub hw_only: bool,
    /// How many NPs to use.
    pub mode: Mode,
    /// Map only what makes this tensor, which becomes the output.
    pub upto: Option<TensorId>,
    /// How many hardware sequences.
    pub sequences: Sequences,
    /// Samples that are run between two reprogrammings, for the cost rule.
    pub batch: usize,
    /// Pointwise convolutions with stride 2 on Akida 2.0: announced by a release note, absent from the table
    /// (targets.md 2.2), so off unless asked for.
    pub pointwise_stride_2: bool,
    /// How inputs enter.
    pub input: InputRoad,
    /// How outputs leave.
    pub output: OutputForm,
}

impl Default for MapOptions {
    fn default() -> Self {
        Self {
            hw_only: false,
            mode: Mode::default(),
            upto: None,
            sequences: Sequences::default(),
            batch: 64,
            pointwise_stride_2: false,
            input: InputRoad::default(),
            output: OutputForm::default(),
        }
    }
}

/// SRAM that one NP's part takes, in bytes, against what the NP has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SramUse {
    /// Input tile.
    pub packet: u32,
    /// Weights in the NP.
    pub filter: u32,
    /// Thresholds, or biases and output scales.
    pub parameter: u32,
    /// Look-up table.
    pub lut: u32,
    /// Weights in device memory (FNP2).
    pub external: u32,
}

/// One NP's part of one layer, and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Index of the model layer this is a part of.
    pub layer: usize,
    /// What the hardware layer is for the model layer.
    pub role: stage::Role,
    /// Where.
    pub np: NpAddress,
    /// As what the NP is configured; empty for the HRC.
    pub kind: NpTypes,
    /// The part.
    pub part: NpLayer,
    /// SRAM used.
    pub sram: SramUse,
    /// Multiply-adds per sample.
    pub macs: u64,
}

/// One configuration of the mesh inside a hardware sequence.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PassPlan {
    /// In the order of layer ids, then addresses.
    pub placed: Vec<Placed>,
}

/// What a hardware sequence gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HardwareOutput {
    /// The integers of a tensor.
    Tensor(TensorId),
    /// A dense layer cut along its inputs: `slices` times its potentials, to be added by [`HostStep::Finish`].
    Slices {
        /// Index of the dense layer.
        layer: usize,
        /// How many.
        slices: usize,
    },
}

/// Layers on the board.
#[derive(Clone, Debug, PartialEq)]
pub struct HardwareSequence {
    /// Model layers, ascending.
    pub layers: Vec<usize>,
    /// What goes in.
    pub input: TensorId,
    /// What comes out.
    pub output: HardwareOutput,
    /// Who holds what.
    pub passes: Vec<PassPlan>,
    /// What the board is programmed with.
    pub program: Program,
}

impl HardwareSequence {
    /// Bytes moved to program it.
    pub fn bytes(&self) -> usize {
        self.program.size()
    }

    /// Multiply-adds per sample.
    pub fn macs(&self) -> u64 {
        self.passes.iter().flat_map(|p| &p.placed).map(|p| p.macs).sum()
    }
}

/// What the host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostStep {
    /// A whole layer.
    Layer(usize),
    /// The end of a dense layer whose slices ran on the board: add the slices, then bias, activation, scale.
    Finish {
        /// Index of the dense layer.
        layer: usize,
        /// How many slices.
        slices: usize,
    },
}

impl HostStep {
    /// The model layer whose output this makes.
    pub fn layer(&self) -> usize {
        match *self {
            HostStep::Layer(layer) | HostStep::Finish { layer, .. } => layer,
        }
    }
}

/// Layers on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostSequence {
    /// Steps in order, each with the reason why it is here.
    pub steps: Vec<(HostStep, Reason)>,
}

/// One sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Sequence {
    /// On the board.
    Hardware(Box<HardwareSequence>),
    /// On the host.
    Host(HostSequence),
}

/// An exact rewriting that was needed, or a hardware sequence that was not worth it: things a report must tell.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Remark {
    /// Index of the layer.
    pub layer: usize,
    /// What was done.
    pub text: String,
}

/// A model on a mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    /// The hardware.
    pub mesh: Mesh,
    /// Run in this order.
    pub sequences: Vec<Sequence>,
    /// The tensors wanted at the end: the model's outputs, or [`MapOptions::upto`].
    pub outputs: Vec<TensorId>,
    /// What was rewritten.
    pub remarks: Vec<Remark>,
}

impl Mapping {
    /// The hardware sequences.
    pub fn hardware(&self) -> impl Iterator<Item = &HardwareSequence> {
        self.sequences.iter().filter_map(|s| match s {
            Sequence::Hardware(h) => Some(&**h),
            Sequence::Host(_) => None,
        })
    }

    /// The host's steps.
    pub fn host_steps(&self) -> impl Iterator<Item = &(HostStep, Reason)> {
        self.sequences.iter().flat_map(|s| match s {
            Sequence::Hardware(_) => [].iter(),
            Sequence::Host(h) => h.steps.iter(),
        })
    }
}

/// Maps a model to a mesh.
///
/// Errors: a model for another target; a model whose parts contradict each other; with [`MapOptions::hw_only`] the
/// first layer that cannot be on the hardware, or that does not fit beside the others in one sequence.
pub fn map(model: &Model, mesh: &Mesh, options: &MapOptions) -> Result<Mapping, MapError> {
    let found = Target::of(mesh.version);
    if model.target != found {
        let (name, made_for) = (model.name.clone(), model.target);
        return Err(MapError::Target { name, made_for, found, version: mesh.version });
    }
    model.validate()?;
    sequences::cut(model, mesh, options)
}

/// A program that ends at an inner tensor of a hardware sequence, so that the board shows its integers; or why there is
/// none. `sequence` comes from a mapping of the same model, mesh and options.
pub fn prefix(
    model: &Model,
    mesh: &Mesh,
    options: &MapOptions,
    sequence: &HardwareSequence,
    tensor: TensorId,
) -> Result<Result<HardwareSequence, Reason>, MapError> {
    sequences::prefix(model, mesh, options, sequence, tensor)
}
