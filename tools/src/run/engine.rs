//! A network on a board: open, infer with progress, describe.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akida_converter::host::OnnxEngine;
use akida_hal::device::{Completion, Device, DeviceOptions};
use akida_runtime::hybrid::{HostValues, HybridModel, HybridOutputs, HybridSession, Part, PartResults};
use akida_runtime::mapping::Sequence;
use akida_runtime::mapping::explain::{input_road, output_form};
use akida_runtime::model::Model;
use akida_runtime::session::{Batch, CallStatistics, Detail, Intermediate, SequenceStatistics, SessionOptions};
use ndarray::{ArrayD, Axis, Slice, concatenate};

use super::activity::Activity;
use super::args::Args;
use super::report;
use crate::command::Common;
use crate::device::{self, Road};
use crate::exit::{Exit, Failure};
use crate::terminal::progress;
use crate::trace::Trace;

/// A model on an opened board.
pub struct Engine {
    session: HybridSession,
    /// Written when the session is gone.
    trace: Option<Trace>,
}

/// What enters a network.
pub enum Feed {
    /// Integers of the first layer: one byte per element, (height, width, channels).
    Bytes(Vec<Vec<u8>>),
    /// Floats, batch first, for networks that begin on the host.
    Floats(ArrayD<f32>),
}

impl Feed {
    /// Samples.
    pub fn len(&self) -> usize {
        match self {
            Feed::Bytes(samples) => samples.len(),
            Feed::Floats(array) => array.shape()[0],
        }
    }
}

/// What came back, batch first, in ONNX layout.
pub struct Results {
    /// One array for each output.
    pub outputs: Vec<HostValues>,
    /// The same as floats.
    pub floats: Vec<ArrayD<f32>>,
    /// One for each board part, in order.
    pub boards: Vec<BoardResults>,
    /// One entry for each call of the session: all sequences of all parts, a host segment as one.
    pub statistics: Vec<CallStatistics>,
    /// Wall-clock time of all calls.
    pub elapsed: Duration,
}

/// What one board part made.
pub struct BoardResults {
    /// What entered it, where that is not what entered the network.
    pub inputs: Vec<Vec<u8>>,
    /// The integers of each of its outputs.
    pub raw: Vec<ArrayD<i32>>,
    /// Every layer's integers, when asked for.
    pub layers: Vec<Intermediate>,
}

impl Engine {
    /// Opens the board that was asked for and maps the model to it.
    pub fn open(args: &Args, model: Arc<HybridModel>) -> Result<Self, Failure> {
        let simulation =
            device::Simulation { faults: args.faults.clone(), real_time: args.real_time, threads: args.threads() };
        let board = device::open(&args.device, model.target, &simulation, |text| args.common.notice(text))?;
        let completion = if args.interrupts { Completion::Interrupt } else { Completion::Poll };
        let options = DeviceOptions { completion, verify: args.verify_transfers(), ..DeviceOptions::default() };
        let (device, trace) = match board {
            Road::Board(board) => {
                device::refuse_other_target(&*board, &model.name, model.target)?;
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
        Ok(Self { session: HybridSession::open(model, &OnnxEngine, device, &options)?, trace })
    }

    /// Lets the board go, and writes the trace that was asked for.
    pub fn close(self) -> Result<(), Failure> {
        drop(self.session);
        self.trace.map_or(Ok(()), Trace::finish)
    }

    /// Infers all samples.
    pub fn run(&mut self, feed: &Feed, every_layer: bool, common: &Common) -> Result<Results, Failure> {
        let count = feed.len();
        let (detail, chunk) = match every_layer {
            // Programs that end early are loaded once for all samples.
            true => (Detail::AllTensors, count),
            false => (Detail::Outputs, CHUNK),
        };
        let board = self.session.identity().to_string();
        let bar = progress(count as u64, &board, !common.bars());
        let start = Instant::now();
        let mut calls = Vec::new();
        let mut first = 0;
        while first < count {
            let last = count.min(first + chunk.max(1));
            calls.push(match feed {
                Feed::Bytes(samples) => self.session.infer(Batch::Bytes(&samples[first..last]), detail)?,
                Feed::Floats(array) => {
                    let samples = array.slice_axis(Axis(0), Slice::from(first..last));
                    self.session.infer(Batch::Float(samples), detail)?
                }
            });
            bar.inc((last - first) as u64);
            first = last;
        }
        let elapsed = start.elapsed();
        bar.finish_and_clear();
        results(self.session.model(), calls, elapsed)
    }

    /// How sparse the activations of each board part were, and what its chip would take.
    pub fn activity(&self, feed: &Feed, results: &Results) -> Result<Vec<Activity>, Failure> {
        let boards = self.session.model().boards().zip(&results.boards);
        let of = |((part, model), board): ((usize, &Model), &BoardResults)| {
            let inputs = match feed {
                Feed::Bytes(samples) if board.inputs.is_empty() => samples,
                _ => &board.inputs,
            };
            self.session.mapping(part).map(|mapping| Activity::of(part, model, mapping, inputs))
        };
        boards.filter_map(of).collect()
    }

    /// Who computes.
    pub fn board(&self) -> report::Board {
        let identity = self.session.identity();
        report::Board {
            name: identity.name.clone(),
            simulated: identity.simulated,
            hardware_version: Some(self.session.device().version().to_string()),
            nps: Some(self.session.device().mesh().nps.len()),
            server: None,
        }
    }

    /// What is computed, and where.
    pub fn model(&self, file: &Path) -> report::Model {
        let network = self.session.model();
        let mut sequences = Vec::new();
        for (number, part) in network.parts.iter().enumerate() {
            match (part, self.session.mapping(number)) {
                (Part::Board(model), Some(mapping)) => {
                    sequences.extend(mapping.sequences.iter().map(|s| sequence(model, number, s)));
                }
                (Part::Host(segment), _) => sequences.push(report::Sequence {
                    place: "host",
                    part: number,
                    float: true,
                    layers: segment.operations.iter().map(|o| o.name.clone()).collect(),
                    because: segment.operations.iter().map(|o| format!("{} ({}): {}", o.name, o.op, o.found)).collect(),
                    nps: 0,
                    passes: 0,
                    program_bytes: 0,
                    input_as: None,
                    output_as: None,
                }),
                (Part::Board(_), None) => {}
            }
        }
        report::Model {
            file: file.display().to_string(),
            name: network.name.clone(),
            target: network.target.to_string(),
            sequences,
            boundaries: network.boundaries(),
        }
    }
}

fn sequence(model: &Model, part: usize, sequence: &Sequence) -> report::Sequence {
    let layer = |index: usize| model.layers[index].name.clone();
    match sequence {
        Sequence::Hardware(hardware) => report::Sequence {
            place: "hardware",
            part,
            float: false,
            layers: hardware.layers.iter().map(|&l| layer(l)).collect(),
            because: Vec::new(),
            nps: hardware
                .passes
                .iter()
                .map(|pass| pass.placed.iter().filter(|p| !p.kind.is_empty()).count())
                .max()
                .unwrap_or(0),
            passes: hardware.passes.len(),
            program_bytes: hardware.bytes(),
            input_as: Some(input_road(hardware.program.input.kind)),
            output_as: Some(output_form(hardware.program.output.kind)),
        },
        Sequence::Host(host) => report::Sequence {
            place: "host",
            part,
            float: false,
            layers: host.steps.iter().map(|(step, _)| layer(step.layer())).collect(),
            because: host.steps.iter().map(|(step, reason)| format!("{}: {reason}", layer(step.layer()))).collect(),
            nps: 0,
            passes: 0,
            program_bytes: 0,
            input_as: None,
            output_as: None,
        },
    }
}

/// The calls as one.
fn results(network: &HybridModel, calls: Vec<HybridOutputs>, elapsed: Duration) -> Result<Results, Failure> {
    let mut boards: Vec<BoardResults> = Vec::new();
    let mut raw: Vec<Vec<Vec<ArrayD<i32>>>> = Vec::new();
    for _ in network.boards() {
        boards.push(BoardResults { inputs: Vec::new(), raw: Vec::new(), layers: Vec::new() });
        raw.push(Vec::new());
    }
    let mut statistics = Vec::new();
    let mut outputs: Vec<Vec<HostValues>> = vec![Vec::new(); network.outputs.len()];
    for call in calls {
        let samples = call.outputs.first().map_or(0, |o| o.dims().first().copied().unwrap_or(0));
        let mut all = CallStatistics { elapsed: call.elapsed, ..CallStatistics::default() };
        let mut board = 0;
        for part in call.parts {
            match part {
                PartResults::Board { inputs, outputs } => {
                    boards[board].inputs.extend(inputs);
                    raw[board].push(outputs.raw);
                    boards[board].layers = outputs.intermediates;
                    all.sequences.extend(outputs.statistics.sequences);
                    all.recoveries += outputs.statistics.recoveries;
                    board += 1;
                }
                PartResults::Host { computing } => all.sequences.push(SequenceStatistics {
                    samples,
                    computing,
                    elapsed: computing,
                    ..SequenceStatistics::default()
                }),
            }
        }
        statistics.push(all);
        for (output, values) in outputs.iter_mut().zip(call.outputs) {
            output.push(values);
        }
    }
    for (board, raw) in boards.iter_mut().zip(&raw) {
        board.raw = joined(raw)?;
    }
    let outputs = outputs.into_iter().map(joined_values).collect::<Result<Vec<_>, _>>()?;
    let floats = outputs.iter().map(HostValues::to_floats).collect();
    Ok(Results { outputs, floats, boards, statistics, elapsed })
}

/// Joins the batches of an output.
fn joined_values(chunks: Vec<HostValues>) -> Result<HostValues, Failure> {
    let (mut floats, mut integers) = (Vec::new(), Vec::new());
    for values in chunks {
        match values {
            HostValues::F32(array) => floats.push(vec![array]),
            HostValues::I64(array) => integers.push(vec![array]),
        }
    }
    Ok(match integers.is_empty() {
        true => HostValues::F32(joined(&floats)?.swap_remove(0)),
        false => HostValues::I64(joined(&integers)?.swap_remove(0)),
    })
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
