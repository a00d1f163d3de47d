//! A network of several parts on one board.
//!
//! The board holds one part at a time: each part takes the whole batch, then the board is programmed for the next. Host
//! segments run sample by sample.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use akida_hal::board::Identity;
use akida_hal::device::Device;
use ndarray::{ArrayD, Axis, IxDyn};

use super::ready::{HybridAnswers, HybridReady, Runner, take_first};
use super::{HostEngine, HostError, HostValues, HybridModel, HybridOutputs, Part, PartResults, Port, Segment};
use crate::edge;
use crate::mapping::Mapping;
use crate::model::Model;
use crate::session::{Batch, Detail, Session, SessionError, SessionOptions, refuse_silicon};

/// What can end the work of a hybrid session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HybridError {
    /// A board part failed.
    #[error("board part {part} ({name})")]
    Board {
        /// Number of the part.
        part: usize,
        /// Its name.
        name: String,
        /// Why.
        source: Box<SessionError>,
    },
    /// A segment cannot be run.
    #[error("host segment {part} ({name}) cannot be made ready")]
    Prepare {
        /// Number of the part.
        part: usize,
        /// Its name.
        name: String,
        /// Why.
        source: HostError,
    },
    /// A segment failed.
    #[error("host segment {part} ({name}) failed at sample {sample}")]
    Host {
        /// Number of the part.
        part: usize,
        /// Its name.
        name: String,
        /// Sample of the batch.
        sample: usize,
        /// Why.
        source: HostError,
    },
    /// A part of the network would run on the host, and that is not wanted.
    #[error("{} run on the host and the whole network is wanted on the board: {}", count(operations.len()), operations.join("; "))]
    HostOperations {
        /// Name, operator and reason of each.
        operations: Vec<String>,
    },
    /// Frames of a stream, and a board that forgets them between parts.
    #[error(
        "layer {layer:?} keeps frames of a stream, and the network has {parts} board parts, between which the board is \
         programmed anew and forgets them: keep all layers up to the last temporal one in one part"
    )]
    Streams {
        /// The temporal layer.
        layer: String,
        /// Board parts.
        parts: usize,
    },
    /// Integers where floats are needed.
    #[error("host segment {name:?} takes the network's input, so samples must be floats and not raw integers")]
    Raw {
        /// Name of the segment.
        name: String,
    },
    /// An array that is no batch of the network's input.
    #[error("the input has shape {found:?}; the network takes {expected:?} with any batch in place of 1")]
    Shape {
        /// Shape of the array.
        found: Vec<usize>,
        /// Of one sample.
        expected: Vec<usize>,
    },
}

fn count(operations: usize) -> String {
    format!("{operations} operation{}", if operations == 1 { "" } else { "s" })
}

/// A network on a board and on the host.
pub struct HybridSession {
    model: Arc<HybridModel>,
    session: Session,
    runners: Vec<Runner>,
    /// Number of the part that `session` is ready for.
    current: usize,
}

impl HybridSession {
    /// Maps every board part and gets every segment ready. The board is programmed with the first batch.
    ///
    /// # Errors
    /// [`HybridError::HostOperations`] when segments are not allowed (`hw_only`), [`HybridError::Board`] when a part does
    /// not map, [`HybridError::Prepare`] when the engine cannot run a segment, [`HybridError::Streams`].
    pub fn open(
        model: Arc<HybridModel>,
        engine: &dyn HostEngine,
        device: Device,
        options: &SessionOptions,
    ) -> Result<Self, HybridError> {
        if options.map.hw_only {
            refuse_segments(&model)?;
        }
        refuse_silicon(device.identity()).map_err(|source| board_error(0, &model.name, source))?;
        let ready = HybridReady::prepare(model, engine, &device.identity().to_string(), device.mesh(), options)?;
        let HybridReady { model, mut runners } = ready;
        // Every valid network has a board part (`HybridModel::validate`).
        let Some((current, first)) = take_first(&mut runners) else {
            return Err(HybridError::HostOperations { operations: vec![] });
        };
        let session = Session::with(*first, device, options.clone());
        let session = session.map_err(|source| board_error(current, model.parts[current].name(), source))?;
        let mut this = Self { model, session, runners, current };
        if options.self_test > 0 {
            for part in this.model.clone().boards().map(|(number, _)| number).filter(|&n| n != current) {
                this.select(part);
                let tested = this.session.self_test(options.self_test);
                tested.map_err(|source| board_error(part, this.model.parts[part].name(), source))?;
            }
        }
        Ok(this)
    }

    /// The network.
    pub fn model(&self) -> &Arc<HybridModel> {
        &self.model
    }

    /// The device.
    pub fn device(&self) -> &Device {
        self.session.device()
    }

    /// The board.
    pub fn identity(&self) -> &Identity {
        self.session.identity()
    }

    /// What of board part `part` runs where; None for a host segment.
    pub fn mapping(&self, part: usize) -> Option<&Mapping> {
        match self.runners.get(part)? {
            Runner::Board(Some(ready)) => Some(ready.mapping()),
            Runner::Board(None) => Some(self.session.mapping()),
            Runner::Host(_) => None,
        }
    }

    /// Puts another network on the device, which was made ready for the same mesh with the same options, and gives back
    /// what was there. The board is programmed with the next batch; frames of streams are lost.
    pub fn exchange(&mut self, other: &mut HybridReady) {
        let Some((number, mut ready)) = take_first(&mut other.runners) else { return };
        self.session.exchange(&mut ready);
        self.runners[self.current] = Runner::Board(Some(ready));
        std::mem::swap(&mut self.runners, &mut other.runners);
        std::mem::swap(&mut self.model, &mut other.model);
        self.current = number;
    }

    /// Runs known inputs through every board part and compares with the reference; see [`Session::self_test`].
    ///
    /// # Errors
    /// [`HybridError::Board`] of the first part that gives anything else, or fails.
    pub fn check(&mut self, answers: &HybridAnswers) -> Result<(), HybridError> {
        for (part, answers) in &answers.0 {
            self.select(*part);
            let checked = self.session.check(answers);
            checked.map_err(|source| board_error(*part, self.model.parts[*part].name(), source))?;
        }
        Ok(())
    }

    /// Resets the board and opens it anew; see [`Session::recover`].
    ///
    /// # Errors
    /// [`HybridError::Board`] when the board does not come back.
    pub fn recover(&mut self) -> Result<(), HybridError> {
        let (part, name) = (self.current, self.model.parts[self.current].name());
        self.session.recover().map_err(|source| board_error(part, name, source))
    }

    /// Starts streams anew.
    pub fn reset(&mut self) {
        self.session.reset();
    }

    /// Infers a batch and gives as much detail as asked for.
    pub fn infer(&mut self, batch: Batch<'_>, detail: Detail) -> Result<HybridOutputs, HybridError> {
        let start = Instant::now();
        let network = self.model.clone();
        // A batch that enters a board part is checked there.
        let taken_by_host = network.segments().find(|(_, s)| s.inputs.iter().any(|p| p.name == network.input.name));
        let mut tensors: HashMap<&str, HostValues> = HashMap::new();
        if let Some((_, segment)) = taken_by_host {
            let Batch::Float(view) = &batch else { return Err(HybridError::Raw { name: segment.name.clone() }) };
            if view.ndim() == 0 || view.shape()[1..] != network.input.dims[1..] {
                let (found, expected) = (view.shape().to_vec(), network.input.dims.clone());
                return Err(HybridError::Shape { found, expected });
            }
            tensors.insert(&network.input.name, HostValues::F32(view.to_owned()));
        }
        let samples = match &batch {
            Batch::Float(view) => view.shape().first().copied().unwrap_or(0),
            Batch::Raw(view) => view.shape().first().copied().unwrap_or(0),
            Batch::Bytes(samples) => samples.len(),
            Batch::Slices(samples) => samples.len(),
        };
        let mut parts = Vec::with_capacity(network.parts.len());
        for (number, part) in network.parts.iter().enumerate() {
            parts.push(match part {
                Part::Board(model) => {
                    let floats = tensors.get(model.input.name.as_str());
                    let floats = floats.filter(|_| model.input.name != network.input.name);
                    let (inputs, outputs) = self.board(number, model, &batch, floats, detail)?;
                    for (output, floats) in model.outputs.iter().zip(&outputs.floats) {
                        tensors.insert(&output.name, HostValues::F32(floats.clone()));
                    }
                    PartResults::Board { inputs, outputs: Box::new(outputs) }
                }
                Part::Host(segment) => {
                    let begin = Instant::now();
                    let made = self.host(number, segment, &tensors, samples)?;
                    tensors.extend(segment.outputs.iter().map(|port| port.name.as_str()).zip(made));
                    PartResults::Host { computing: begin.elapsed() }
                }
            });
        }
        // Every output is made by a part (`HybridModel::validate`), unless it is the input itself.
        let outputs = network.outputs.iter().filter_map(|port| tensors.get(port.name.as_str()).cloned()).collect();
        Ok(HybridOutputs { board: self.session.identity().clone(), outputs, parts, elapsed: start.elapsed() })
    }

    /// Makes the session ready for another part.
    fn select(&mut self, part: usize) {
        if part == self.current {
            return;
        }
        if let Runner::Board(ready) = &mut self.runners[part]
            && let Some(mut ready) = ready.take()
        {
            self.session.exchange(&mut ready);
            self.runners[self.current] = Runner::Board(Some(ready));
            self.current = part;
        }
    }

    /// A board part over a batch: of the network's input, or of `floats`.
    fn board(
        &mut self,
        number: usize,
        model: &Model,
        batch: &Batch<'_>,
        floats: Option<&HostValues>,
        detail: Detail,
    ) -> Result<(Vec<Vec<u8>>, crate::session::Outputs), HybridError> {
        self.select(number);
        let failed = |source| board_error(number, &model.name, source);
        let Some(floats) = floats else {
            return Ok((Vec::new(), self.session.infer_with(batch.clone(), detail).map_err(failed)?));
        };
        let bytes = edge::quantize_input(model, floats.to_floats().view());
        let bytes = bytes.map_err(|source| failed(SessionError::Edge { sample: 0, source }))?;
        let outputs = self.session.infer_with(Batch::Bytes(&bytes), detail).map_err(failed)?;
        Ok((bytes, outputs))
    }

    /// A host segment over all samples.
    fn host(
        &mut self,
        number: usize,
        segment: &Segment,
        tensors: &HashMap<&str, HostValues>,
        samples: usize,
    ) -> Result<Vec<HostValues>, HybridError> {
        let Runner::Host(program) = &mut self.runners[number] else { return Ok(Vec::new()) };
        let name = || segment.name.clone();
        let mut made: Vec<Vec<HostValues>> = vec![Vec::with_capacity(samples); segment.outputs.len()];
        for sample in 0..samples {
            let failed = |source| HybridError::Host { part: number, name: name(), sample, source };
            let mut inputs = Vec::with_capacity(segment.inputs.len());
            for port in &segment.inputs {
                let values = tensors.get(port.name.as_str()).and_then(|values| one(values, port, sample));
                inputs.push(values.ok_or_else(|| failed(HostError(format!("tensor '{}' is missing", port.name))))?);
            }
            let outputs = program.run(&inputs.iter().collect::<Vec<_>>()).map_err(failed)?;
            if outputs.len() != segment.outputs.len() {
                return Err(failed(HostError(format!("it gave {} outputs", outputs.len()))));
            }
            for ((port, values), all) in segment.outputs.iter().zip(outputs).zip(&mut made) {
                if !values.fits(port) {
                    let (found, expected) = (values.dims(), &port.dims);
                    return Err(failed(HostError(format!("'{}' has shape {found:?}, not {expected:?}", port.name))));
                }
                all.push(values);
            }
        }
        Ok(segment.outputs.iter().zip(made).map(|(port, values)| together(port, values)).collect())
    }
}

pub(super) fn board_error(part: usize, name: &str, source: SessionError) -> HybridError {
    HybridError::Board { part, name: name.to_owned(), source: Box::new(source) }
}

/// Refuses a network with host segments, for those who want all of it on the board.
///
/// # Errors
/// [`HybridError::HostOperations`] names every operation and why it is on the host.
pub fn refuse_segments(model: &HybridModel) -> Result<(), HybridError> {
    let name = |o: &super::Operation| format!("{} ({}): {}: {}", o.name, o.op, o.rule, o.found);
    let operations: Vec<String> = model.segments().flat_map(|(_, s)| s.operations.iter().map(name)).collect();
    match model.segments().next() {
        None => Ok(()),
        Some(_) => Err(HybridError::HostOperations { operations }),
    }
}

/// One sample of a tensor. Tensors are kept with all samples along a first dimension of their own.
fn one(values: &HostValues, port: &Port, sample: usize) -> Option<HostValues> {
    fn pick<T: Clone>(array: &ArrayD<T>, port: &Port, sample: usize) -> Option<ArrayD<T>> {
        let count = port.len();
        let values: Vec<T> = match array.as_slice() {
            Some(all) => all.get(sample * count..(sample + 1) * count)?.to_vec(),
            None => array.iter().skip(sample * count).take(count).cloned().collect(),
        };
        ArrayD::from_shape_vec(IxDyn(&port.dims), values).ok()
    }
    Some(match values {
        HostValues::F32(array) => HostValues::F32(pick(array, port, sample)?),
        HostValues::I64(array) => HostValues::I64(pick(array, port, sample)?),
    })
}

/// The samples of a tensor, one after another: along its batch, or along a new dimension where it has none.
fn together(port: &Port, samples: Vec<HostValues>) -> HostValues {
    fn join<'a, T: Clone + 'a>(port: &Port, arrays: impl Iterator<Item = &'a ArrayD<T>>) -> ArrayD<T> {
        let arrays: Vec<_> = arrays.collect();
        let rest = if port.dims.first() == Some(&1) { &port.dims[1..] } else { &port.dims[..] };
        let dims: Vec<usize> = [arrays.len()].iter().chain(rest).copied().collect();
        let values: Vec<T> = arrays.iter().flat_map(|array| array.iter().cloned()).collect();
        // As many elements as the dimensions say: each array was held against the port.
        ArrayD::from_shape_vec(IxDyn(&dims), values).unwrap_or_else(|_| arrays[0].clone().insert_axis(Axis(0)))
    }
    match port.elements {
        super::Elements::F32 => HostValues::F32(join(
            port,
            samples.iter().filter_map(|values| match values {
                HostValues::F32(array) => Some(array),
                HostValues::I64(_) => None,
            }),
        )),
        super::Elements::I64 => HostValues::I64(join(
            port,
            samples.iter().filter_map(|values| match values {
                HostValues::I64(array) => Some(array),
                HostValues::F32(_) => None,
            }),
        )),
    }
}
