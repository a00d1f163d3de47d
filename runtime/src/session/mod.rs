//! A model on a board: opened once, given batches of any size.
//!
//! Hardware sequences run on the device with several jobs in flight; host sequences run on the same kernels as the
//! simulated NPs, each sample as soon as the board has made it. With several hardware sequences the board is programmed
//! for one after another, batch by batch. Order is kept, and a result is exact or an error: after a failure the board is
//! recovered, programmed again and given the samples without a result once more; what fails twice is an error.

mod around;
mod check;
mod error;
mod host;
mod inputs;
mod network;
mod pipeline;
mod ready;
mod run;
mod streams;
mod values;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use akida_hal::ErrorKind;
use akida_hal::board::Identity;
use akida_hal::device::Device;
use akida_hal::program::Program;
use ndarray::{ArrayD, IxDyn};

pub use check::KnownAnswers;
pub use error::SessionError;
pub use network::HostNetwork;
pub use ready::Ready;
pub use streams::Stream;
pub use values::{Batch, CallStatistics, ComputedBy, Intermediate, Outputs, SequenceStatistics, Values};

use self::host::{HostWork, Room};
use self::pipeline::{Done, End, Samples};
use self::run::Prefix;
use crate::edge;
use crate::mapping::{MapOptions, Mapping};
use crate::model::{Model, TensorId};

/// How a session is opened.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// How the model is mapped. Its `batch` is also how many samples are run between two reprogrammings.
    pub map: MapOptions,
    /// Jobs in flight that are asked for; the device has at most 32.
    pub jobs: usize,
    /// Samples of the known-answer test at opening; 0: none.
    pub self_test: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { map: MapOptions::default(), jobs: 32, self_test: 0 }
    }
}

/// What a call gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The outputs.
    Outputs,
    /// Every layer's integers too. Those inside a hardware sequence are made by the board with programs that end there,
    /// so the board is reprogrammed for each; streams start anew before and after.
    AllTensors,
}

/// A tensor's integers, by sample.
type Integers = (TensorId, Vec<Vec<i32>>);

/// What the device is programmed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loaded {
    sequence: usize,
    /// Of a program that ends early.
    upto: Option<TensorId>,
}

/// A model on a board.
pub struct Session {
    model: Arc<Model>,
    device: Device,
    /// The board's, for messages.
    name: String,
    options: SessionOptions,
    mapping: Arc<Mapping>,
    /// Host steps of each sequence; none for hardware sequences.
    host: Vec<Vec<HostWork>>,
    prefixes: HashMap<usize, Arc<Vec<Prefix>>>,
    loaded: Option<Loaded>,
    jobs: usize,
    stateful: bool,
    /// The stream whose frames the temporal layers keep, if they are those of one.
    streaming: Option<u64>,
    refused: bool,
    room: Room,
}

impl Session {
    /// Maps a model to the device's mesh and gets everything ready. The board is programmed with the first batch.
    ///
    /// # Errors
    /// [`SessionError::UnknownEncoding`] on silicon, [`SessionError::Map`] when the model does not map, and what
    /// [`Session::self_test`] finds.
    pub fn open(model: Arc<Model>, device: Device, options: SessionOptions) -> Result<Self, SessionError> {
        refuse_silicon(device.identity())?;
        let ready = Ready::prepare(model, &device.identity().to_string(), device.mesh(), &options)?;
        Self::with(ready, device, options)
    }

    /// As [`Session::open`], with a model that was made ready for the device's mesh before.
    ///
    /// # Errors
    /// [`SessionError::UnknownEncoding`] on silicon, and what [`Session::self_test`] finds.
    pub fn with(ready: Ready, device: Device, options: SessionOptions) -> Result<Self, SessionError> {
        refuse_silicon(device.identity())?;
        let Ready { model, mapping, host, prefixes, stateful } = ready;
        let mut session = Self {
            model,
            name: device.identity().to_string(),
            device,
            mapping,
            host,
            prefixes,
            loaded: None,
            jobs: 1,
            stateful,
            streaming: None,
            refused: false,
            room: Room::default(),
            options,
        };
        if session.options.self_test > 0 {
            session.self_test(session.options.self_test)?;
        }
        Ok(session)
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What runs where.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The board.
    pub fn identity(&self) -> &Identity {
        self.device.identity()
    }

    /// Gives the device back, with whatever program it has.
    pub fn into_device(self) -> Device {
        self.device
    }

    /// Resets the board and opens it anew, after errors that ask for it. The board is programmed with the next batch, streams
    /// start anew. Ends the refusal after a failed known-answer test, so [`Session::check`] comes before anything else then.
    ///
    /// # Errors
    /// [`SessionError::Device`] when the board does not come back.
    pub fn recover(&mut self) -> Result<(), SessionError> {
        self.loaded = None;
        self.reset();
        let board = self.device.identity().to_string();
        self.device.recover().map_err(|source| SessionError::Device {
            board,
            sequence: 0,
            sample: 0,
            recovered: true,
            source: Box::new(source),
        })?;
        self.refused = false;
        Ok(())
    }

    /// Starts streams anew: temporal layers forget their frames. Nothing else has a state.
    pub fn reset(&mut self) {
        self.streaming = None;
        if self.stateful {
            // Programming clears the packet SRAM that the frames are in.
            self.loaded = None;
            self.host.iter_mut().flatten().for_each(HostWork::reset);
        }
    }

    /// Infers a batch.
    pub fn infer(&mut self, batch: Batch<'_>) -> Result<Outputs, SessionError> {
        self.infer_with(batch, Detail::Outputs)
    }

    /// Infers a batch and gives as much detail as asked for.
    pub fn infer_with(&mut self, batch: Batch<'_>, detail: Detail) -> Result<Outputs, SessionError> {
        // Whatever comes now is of no stream; `infer_stream` knows better.
        self.streaming = None;
        let anew = detail == Detail::AllTensors && self.stateful;
        if anew {
            self.reset();
        }
        let run = self.run(batch, detail)?;
        if anew {
            self.reset();
        }
        let model = &self.model;
        let none = Vec::new();
        let samples = |tensor: TensorId| run.tensors.get(&tensor).unwrap_or(&none);
        let array = |tensor: TensorId| {
            let t = model.tensor(tensor);
            stack(&t.layout.dims(t.shape), samples(tensor), t.elements(), |sample, into| {
                t.layout.extend_onnx(&sample.as_integers(t), t.shape, into);
            })
        };
        let (mut floats, mut raw) = (Vec::new(), Vec::new());
        let asked = self.options.map.upto;
        let outputs = model.outputs.iter().filter(|o| asked.is_none_or(|t| t == o.tensor));
        for output in outputs {
            let t = model.tensor(output.tensor);
            floats.push(stack(&t.layout.dims(t.shape), samples(output.tensor), t.elements(), |sample, into| {
                edge::dequantize_into(model, output, &sample.as_integers(t), into);
            }));
            raw.push(array(output.tensor));
        }
        if let (Some(tensor), true) = (asked, raw.is_empty()) {
            raw.push(array(tensor));
            floats.push(raw[0].mapv(|v| v as f32));
        }
        let mut intermediates = Vec::new();
        if detail == Detail::AllTensors {
            for (index, layer) in model.layers.iter().enumerate() {
                if let Some(by) = run.by.get(&(index + 1)) {
                    intermediates.push(Intermediate {
                        tensor: index + 1,
                        name: layer.output.name.clone(),
                        layer: layer.name.clone(),
                        by: by.clone(),
                        values: array(index + 1),
                    });
                }
            }
        }
        let board = self.device.identity().clone();
        Ok(Outputs { board, floats, raw, intermediates, statistics: run.statistics })
    }

    /// Tensors as integers, for the known-answer test.
    fn run_integers(&mut self, batch: Batch<'_>, detail: Detail) -> Result<Vec<Integers>, SessionError> {
        let run = self.run(batch, detail)?;
        let integers = |(tensor, values): (&TensorId, &Vec<Values>)| {
            let t = self.model.tensor(*tensor);
            (*tensor, values.iter().map(|v| v.integers(t)).collect())
        };
        Ok(run.tensors.iter().map(integers).collect())
    }

    /// Programs the device if it has another program.
    fn load(
        &mut self,
        wanted: Loaded,
        program: &Program,
        statistics: &mut SequenceStatistics,
    ) -> akida_hal::Result<()> {
        if self.loaded == Some(wanted) {
            return Ok(());
        }
        let start = Instant::now();
        self.loaded = None;
        self.device.program(program)?;
        self.jobs = self.device.set_batch(self.options.jobs)?;
        self.loaded = Some(wanted);
        statistics.programmed += 1;
        statistics.programming += start.elapsed();
        Ok(())
    }

    /// Runs a program over `count` samples, with one recovery.
    fn hardware(
        &mut self,
        wanted: Loaded,
        program: &Program,
        count: usize,
        samples: &mut impl Samples,
        statistics: &mut Counts<'_>,
    ) -> Result<(), SessionError> {
        let expected = program.output.shape.iter().map(|&n| n as usize).product();
        let (board, sequence) = (self.name.clone(), wanted.sequence);
        let refuse = move |found| SessionError::OutputLength { board: board.clone(), sequence, found, expected };
        let (mut next, mut recovered) = (0, false);
        loop {
            let end = match self.load(wanted, program, statistics.sequence) {
                Err(error) => End::Device(error),
                Ok(()) => {
                    let mut counted = Counted { samples, expected, refuse: &refuse, statistics, next: &mut next };
                    pipeline::run(&mut self.device, self.jobs, *counted.next..count, &mut counted)
                }
            };
            let source = match end {
                End::Complete => return Ok(()),
                End::Other(error) => {
                    // Jobs may be left from before the error; a new program starts clean.
                    self.loaded = None;
                    return Err(error);
                }
                End::Device(error) => error,
            };
            self.loaded = None;
            if self.stateful {
                self.reset();
                return Err(SessionError::StateLost {
                    board: self.name.clone(),
                    sample: next,
                    source: Box::new(source),
                });
            }
            let curable = matches!(source.kind(), ErrorKind::TimedOut | ErrorKind::Device | ErrorKind::Lost);
            let failed = |recovered, source: akida_hal::Error| {
                let (board, sequence, source) = (self.name.clone(), wanted.sequence, Box::new(source));
                SessionError::Device { board, sequence, sample: next, recovered, source }
            };
            if recovered || !curable {
                return Err(failed(recovered, source));
            }
            log::warn!("{}: {source}; recovering, then again from sample {next}", self.name);
            recovered = true;
            *statistics.recoveries += 1;
            if let Err(source) = self.device.recover() {
                return Err(failed(true, source));
            }
        }
    }

    fn refuse_if_refused(&self) -> Result<(), SessionError> {
        match self.refused {
            true => Err(SessionError::Refused { board: self.device.identity().to_string() }),
            false => Ok(()),
        }
    }
}

/// Converted models run on simulated boards only.
pub(crate) fn refuse_silicon(identity: &Identity) -> Result<(), SessionError> {
    match identity.simulated {
        true => Ok(()),
        false => Err(SessionError::UnknownEncoding { board: identity.to_string() }),
    }
}

/// Statistics that a hardware run adds to.
struct Counts<'a> {
    sequence: &'a mut SequenceStatistics,
    recoveries: &'a mut usize,
}

impl Counts<'_> {
    fn job(&mut self, done: &Done) {
        let jobs = &mut self.sequence.jobs;
        jobs.copy_in += done.timing.copy_in;
        jobs.run += done.timing.run;
        jobs.copy_out += done.timing.copy_out;
        self.sequence.samples += 1;
    }
}

/// Samples whose outputs are counted and have the length that they are to have.
struct Counted<'a, 'c, S> {
    samples: &'a mut S,
    expected: usize,
    refuse: &'a dyn Fn(usize) -> SessionError,
    statistics: &'a mut Counts<'c>,
    /// The sample whose output is not there yet.
    next: &'a mut usize,
}

impl<S: Samples> Samples for Counted<'_, '_, S> {
    fn input(&mut self, sample: usize) -> Result<Cow<'_, [u8]>, SessionError> {
        self.samples.input(sample)
    }

    fn output(&mut self, sample: usize, done: Done) -> Result<(), SessionError> {
        let found = done.values.len();
        if found != self.expected {
            return Err((self.refuse)(found));
        }
        self.statistics.job(&done);
        self.samples.output(sample, done)?;
        *self.next = sample + 1;
        Ok(())
    }
}

/// Samples as one array with the batch first; `extend` appends the elements of one.
fn stack<T: Clone + Default>(
    dims: &[usize],
    samples: &[Values],
    elements: usize,
    extend: impl Fn(&Values, &mut Vec<T>),
) -> ArrayD<T> {
    let shape: Vec<usize> = std::iter::once(samples.len()).chain(dims.iter().copied()).collect();
    let mut values = Vec::with_capacity(samples.len() * elements);
    samples.iter().for_each(|sample| extend(sample, &mut values));
    // Every sample has as many elements as its tensor: checked where it was made.
    ArrayD::from_shape_vec(IxDyn(&shape), values).unwrap_or_else(|_| ArrayD::default(IxDyn(&shape)))
}

/// The time since an instant, added to a sum.
fn add_since(sum: &mut Duration, start: Instant) {
    *sum += start.elapsed();
}
