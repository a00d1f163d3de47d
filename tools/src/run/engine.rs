//! A network on a board: open, infer with progress, describe.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use akida_hal::device::{Completion, Device, DeviceOptions};
use akida_runtime::mapping::Sequence;
use akida_runtime::model::Model;
use akida_runtime::session::{Batch, CallStatistics, Detail, Intermediate, Session, SessionOptions};
use ndarray::{ArrayD, Axis, concatenate};

use super::args::Args;
use super::report;
use crate::command::Common;
use crate::device::{self, Road};
use crate::exit::{Exit, Failure};
use crate::terminal::progress;
use crate::trace::Trace;

/// A model on an opened board.
pub struct Engine {
    session: Session,
    /// Written when the session is gone.
    trace: Option<Trace>,
}

/// What came back, batch first, in ONNX layout.
pub struct Results {
    /// One array for each output.
    pub floats: Vec<ArrayD<f32>>,
    /// The integers of each of them.
    pub raw: Vec<ArrayD<i32>>,
    /// Every layer's integers, when asked for.
    pub layers: Vec<Intermediate>,
    /// One entry for each call of the session.
    pub statistics: Vec<CallStatistics>,
    /// Wall-clock time of all calls.
    pub elapsed: std::time::Duration,
}

impl Engine {
    /// Opens the board that was asked for and maps the model to it.
    pub fn open(args: &Args, model: Arc<Model>) -> Result<Self, Failure> {
        let simulation = device::Simulation { faults: args.faults.clone(), real_time: args.real_time };
        let board = device::open(&args.device, model.target, &simulation, |text| args.common.notice(text))?;
        let completion = if args.interrupts { Completion::Interrupt } else { Completion::Poll };
        let options = DeviceOptions { completion, verify: args.verify_transfers(), ..DeviceOptions::default() };
        let (device, trace) = match board {
            Road::Board(board) => {
                let (board, trace) = Trace::start(args.trace.as_deref(), board)?;
                (Device::open(board, options)?, trace)
            }
            Road::Node(_) if args.trace.is_some() || args.interrupts => {
                let message = format!("{} has neither interrupts nor register accesses to trace", args.device);
                return Err(Failure::new(Exit::Usage, message, "leave --interrupts and --trace out"));
            }
            Road::Node(node) => (Device::over(node, options)?, None),
        };
        let options = SessionOptions { map: args.mapping.options(), jobs: args.jobs, ..SessionOptions::default() };
        Ok(Self { session: Session::open(model, device, options)?, trace })
    }

    /// Lets the board go, and writes the trace that was asked for.
    pub fn close(self) -> Result<(), Failure> {
        drop(self.session);
        self.trace.map_or(Ok(()), Trace::finish)
    }

    /// Infers all samples: one byte per element, (height, width, channels).
    pub fn run(&mut self, inputs: &[Vec<u8>], every_layer: bool, common: &Common) -> Result<Results, Failure> {
        let (detail, chunk) = match every_layer {
            // Programs that end early are loaded once for all samples.
            true => (Detail::AllTensors, inputs.len()),
            false => (Detail::Outputs, CHUNK),
        };
        let board = self.session.identity().to_string();
        let bar = progress(inputs.len() as u64, &board, !common.bars());
        let start = Instant::now();
        let (mut floats, mut raw) = (Vec::new(), Vec::new());
        let (mut layers, mut statistics) = (Vec::new(), Vec::new());
        for samples in inputs.chunks(chunk.max(1)) {
            let outputs = self.session.infer_with(Batch::Bytes(samples), detail)?;
            floats.push(outputs.floats);
            raw.push(outputs.raw);
            layers = outputs.intermediates;
            statistics.push(outputs.statistics);
            bar.inc(samples.len() as u64);
        }
        let elapsed = start.elapsed();
        bar.finish_and_clear();
        Ok(Results { floats: joined(&floats)?, raw: joined(&raw)?, layers, statistics, elapsed })
    }

    /// Who computes.
    pub fn board(&self) -> report::Board {
        let identity = self.session.identity();
        report::Board {
            name: identity.name.clone(),
            simulated: identity.simulated,
            hardware_version: self.session.device().version().to_string(),
            nps: self.session.device().mesh().nps.len(),
        }
    }

    /// What is computed, and where.
    pub fn model(&self, file: &Path) -> report::Model {
        let model = self.session.model();
        let layer = |index: usize| model.layers[index].name.clone();
        let sequences = self.session.mapping().sequences.iter().map(|sequence| match sequence {
            Sequence::Hardware(hardware) => report::Sequence {
                place: "hardware",
                layers: hardware.layers.iter().map(|&l| layer(l)).collect(),
                nps: hardware
                    .passes
                    .iter()
                    .map(|pass| pass.placed.iter().filter(|p| !p.kind.is_empty()).count())
                    .max()
                    .unwrap_or(0),
                passes: hardware.passes.len(),
                program_bytes: hardware.bytes(),
            },
            Sequence::Host(host) => report::Sequence {
                place: "host",
                layers: host.steps.iter().map(|(step, _)| layer(step.layer())).collect(),
                nps: 0,
                passes: 0,
                program_bytes: 0,
            },
        });
        report::Model {
            file: file.display().to_string(),
            name: model.name.clone(),
            target: model.target.to_string(),
            sequences: sequences.collect(),
        }
    }
}

/// Samples of one call, so that a bar can move in between: twice the batch between two reprogrammings.
const CHUNK: usize = 128;

/// Joins the batches of each output.
fn joined<T: Clone>(chunks: &[Vec<ArrayD<T>>]) -> Result<Vec<ArrayD<T>>, Failure> {
    let outputs = chunks.first().map_or(0, Vec::len);
    let join = |output: usize| {
        let views: Vec<_> = chunks.iter().map(|c| c[output].view()).collect();
        concatenate(Axis(0), &views).map_err(|e| {
            Failure::because(Exit::Internal, "outputs of different shapes", &e, "please report this with the model")
        })
    };
    (0..outputs).map(join).collect()
}
