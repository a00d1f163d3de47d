//! One call: the batch through the sequences, tensor by tensor.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::error::SessionError;
use super::host::{HostWork, Room};
use super::inputs::Inputs;
use super::values::{Batch, CallStatistics, ComputedBy, SequenceStatistics, Tensors, Values};
use super::{Counts, Detail, Loaded, Session};
use crate::mapping::{self, HardwareOutput, HardwareSequence, HostStep, Reason, Sequence};
use crate::model::TensorId;

/// How a tensor inside a hardware sequence is made visible.
pub struct Prefix {
    /// Which.
    pub tensor: TensorId,
    /// A program that ends there, or why there is none: then the host computes this one layer from the tensors before.
    pub program: Result<Box<HardwareSequence>, Reason>,
}

/// What a call made.
pub struct Run {
    /// Wanted tensors, by sample.
    pub tensors: HashMap<TensorId, Vec<Values>>,
    /// Who made them, where every tensor was asked for.
    pub by: HashMap<TensorId, ComputedBy>,
    /// Time.
    pub statistics: CallStatistics,
}

impl Session {
    /// Runs a batch through all sequences.
    pub(super) fn run(&mut self, batch: Batch<'_>, detail: Detail) -> Result<Run, SessionError> {
        self.refuse_if_refused()?;
        let start = Instant::now();
        let (model, mapping) = (self.model.clone(), self.mapping.clone());
        let inputs = Inputs::new(&model, batch)?;
        let mut wanted: BTreeSet<TensorId> = mapping.outputs.iter().copied().collect();
        if detail == Detail::AllTensors {
            wanted.extend(mapping.hardware().flat_map(|h| h.layers.iter().map(|l| l + 1)));
            wanted.extend(mapping.host_steps().map(|(s, _)| s.layer() + 1));
        }
        let mut run = Run {
            tensors: wanted.iter().map(|&t| (t, Vec::with_capacity(inputs.len()))).collect(),
            by: HashMap::new(),
            statistics: CallStatistics {
                sequences: vec![SequenceStatistics::default(); mapping.sequences.len()],
                ..CallStatistics::default()
            },
        };
        // Several programs: a batch at a time, so that tensors between sequences stay few. Everything wanted is kept
        // anyway.
        let several = mapping.hardware().count() > 1 && detail == Detail::Outputs;
        let chunk = if several { self.options.map.batch.max(1) } else { inputs.len().max(1) };
        let mut first = 0;
        while first < inputs.len() {
            let count = chunk.min(inputs.len() - first);
            let mut samples: Vec<Tensors> = vec![Tensors::default(); count];
            let outcome = self.chunk(&inputs, first, &mut samples, &wanted, detail, &mut run);
            if outcome.is_err() {
                // Some frames of a stream were taken in, some not.
                self.reset();
            }
            outcome?;
            for mut tensors in samples {
                for (tensor, values) in &mut run.tensors {
                    if let Some(v) = tensors.remove(*tensor) {
                        values.push(v);
                    }
                }
            }
            first += count;
        }
        run.statistics.elapsed = start.elapsed();
        Ok(run)
    }

    /// Runs samples from `first` on through all sequences.
    fn chunk(
        &mut self,
        inputs: &Inputs<'_, '_>,
        first: usize,
        samples: &mut [Tensors],
        wanted: &BTreeSet<TensorId>,
        detail: Detail,
        run: &mut Run,
    ) -> Result<(), SessionError> {
        let mapping = self.mapping.clone();
        let mut index = 0;
        while index < mapping.sequences.len() {
            let keep = self.kept(index, wanted);
            match &mapping.sequences[index] {
                Sequence::Host(h) => {
                    let start = Instant::now();
                    let mut host = std::mem::take(&mut self.host[index]);
                    let mut outcome = Ok(());
                    for (i, tensors) in samples.iter_mut().enumerate() {
                        outcome = self.host_steps(&mut host, tensors, None, || inputs.values(first + i));
                        if outcome.is_err() {
                            break;
                        }
                        tensors.retain(|t| keep.contains(&t), |values| self.room.keep(values));
                    }
                    self.host[index] = host;
                    outcome?;
                    if detail == Detail::AllTensors {
                        note_host(run, &h.steps);
                    }
                    let statistics = &mut run.statistics.sequences[index];
                    statistics.samples += samples.len();
                    super::add_since(&mut statistics.computing, start);
                    super::add_since(&mut statistics.elapsed, start);
                    index += 1;
                }
                Sequence::Hardware(h) => {
                    if detail == Detail::AllTensors {
                        self.inner_tensors(index, h, inputs, first, samples, run)?;
                    }
                    let after = match mapping.sequences.get(index + 1) {
                        Some(Sequence::Host(host)) => Some(host),
                        _ => None,
                    };
                    let keep = if after.is_some() { self.kept(index + 1, wanted) } else { keep };
                    self.hardware_sequence(index, h, after.is_some(), inputs, first, samples, &keep, run)?;
                    let by = match h.output {
                        HardwareOutput::Tensor(t) => Some((t, ComputedBy::Board)),
                        HardwareOutput::Slices { .. } => None,
                    };
                    run.by.extend(by);
                    if let Some(host) = after {
                        if detail == Detail::AllTensors {
                            note_host(run, &host.steps);
                        }
                        run.statistics.sequences[index + 1].samples += samples.len();
                    }
                    index += if after.is_some() { 2 } else { 1 };
                }
            }
        }
        Ok(())
    }

    /// Tensors that are still needed behind sequence `index`.
    fn kept(&self, index: usize, wanted: &BTreeSet<TensorId>) -> BTreeSet<TensorId> {
        let mut keep = wanted.clone();
        for sequence in &self.mapping.sequences[index + 1..] {
            match sequence {
                Sequence::Hardware(h) => {
                    keep.insert(h.input);
                }
                Sequence::Host(h) => {
                    keep.extend(h.steps.iter().flat_map(|(s, _)| &self.model.layers[s.layer()].inputs))
                }
            }
        }
        keep
    }

    /// A hardware sequence, and the host sequence behind it on each sample as it comes.
    #[expect(clippy::too_many_arguments, reason = "the state of one call; a struct for one use would hide it")]
    fn hardware_sequence(
        &mut self,
        index: usize,
        h: &HardwareSequence,
        host_follows: bool,
        inputs: &Inputs<'_, '_>,
        first: usize,
        samples: &mut [Tensors],
        keep: &BTreeSet<TensorId>,
        run: &mut Run,
    ) -> Result<(), SessionError> {
        let start = Instant::now();
        let mut host = if host_follows { std::mem::take(&mut self.host[index + 1]) } else { Vec::new() };
        let mut room = std::mem::take(&mut self.room);
        let mut computing = std::time::Duration::ZERO;
        let needed = keep.contains(&h.input) || host.iter().any(|work| work.inputs().contains(&h.input));
        let feed = feed(h, inputs, first, samples, needed)?;
        let mut sequence = std::mem::take(&mut run.statistics.sequences[index]);
        let outcome = self.hardware(
            Loaded { sequence: index, upto: None },
            &h.program,
            samples.len(),
            |i| feed.get(inputs, first, i),
            |i, done| {
                let begin = Instant::now();
                let tensors = &mut samples[i];
                let slices = match h.output {
                    HardwareOutput::Tensor(t) => {
                        tensors.insert(t, done.values);
                        None
                    }
                    HardwareOutput::Slices { .. } => Some(done.values),
                };
                host_steps(&mut host, tensors, slices, &mut room, || inputs.values(first + i))?;
                tensors.retain(|t| keep.contains(&t), |values| room.keep(values));
                super::add_since(&mut computing, begin);
                Ok(())
            },
            &mut Counts { sequence: &mut sequence, recoveries: &mut run.statistics.recoveries },
        );
        super::add_since(&mut sequence.elapsed, start);
        run.statistics.sequences[index] = sequence;
        if let Feed::Tensor(samples) = feed {
            samples.into_iter().for_each(|bytes| room.keep(Values::Bytes(bytes)));
        }
        self.room = room;
        if host_follows {
            self.host[index + 1] = host;
            run.statistics.sequences[index + 1].computing += computing;
        }
        outcome
    }

    /// Tensors inside a hardware sequence, by programs that end there.
    fn inner_tensors(
        &mut self,
        index: usize,
        h: &HardwareSequence,
        inputs: &Inputs<'_, '_>,
        first: usize,
        samples: &mut [Tensors],
        run: &mut Run,
    ) -> Result<(), SessionError> {
        let prefixes = self.prefixes(index, h)?;
        let feed = feed(h, inputs, first, samples, true)?;
        for prefix in prefixes.iter() {
            // Streams start anew with every program; the frames before this batch are none of ours (see `Detail`).
            match &prefix.program {
                Ok(program) => {
                    let mut unused = SequenceStatistics::default();
                    self.hardware(
                        Loaded { sequence: index, upto: Some(prefix.tensor) },
                        &program.program,
                        samples.len(),
                        |i| feed.get(inputs, first, i),
                        |i, done| {
                            samples[i].insert(prefix.tensor, done.values);
                            Ok(())
                        },
                        &mut Counts { sequence: &mut unused, recoveries: &mut run.statistics.recoveries },
                    )?;
                    run.by.insert(prefix.tensor, ComputedBy::Board);
                }
                Err(reason) => {
                    let mut host = [HostWork::prepare(&self.model, HostStep::Layer(prefix.tensor - 1))?];
                    for (i, tensors) in samples.iter_mut().enumerate() {
                        self.host_steps(&mut host, tensors, None, || inputs.values(first + i))?;
                    }
                    run.by.insert(prefix.tensor, ComputedBy::Host(reason.to_string()));
                }
            }
        }
        Ok(())
    }

    fn prefixes(&mut self, index: usize, h: &HardwareSequence) -> Result<Arc<Vec<Prefix>>, SessionError> {
        if let Some(made) = self.prefixes.get(&index) {
            return Ok(made.clone());
        }
        let mut made = Vec::new();
        for &layer in &h.layers[..h.layers.len() - 1] {
            let program = mapping::prefix(&self.model, self.device.mesh(), &self.options.map, h, layer + 1)
                .map_err(|e| SessionError::Map { board: self.device.identity().to_string(), source: Box::new(e) })?;
            made.push(Prefix { tensor: layer + 1, program: program.map(Box::new) });
        }
        let made = Arc::new(made);
        self.prefixes.insert(index, made.clone());
        Ok(made)
    }

    fn host_steps(
        &mut self,
        host: &mut [HostWork],
        tensors: &mut Tensors,
        slices: Option<Values>,
        input: impl Fn() -> Result<Values, SessionError>,
    ) -> Result<(), SessionError> {
        host_steps(host, tensors, slices, &mut self.room, input)
    }
}

/// Runs the steps of a host sequence on one sample. `input` gives the model's input where a step takes it.
fn host_steps(
    host: &mut [HostWork],
    tensors: &mut Tensors,
    slices: Option<Values>,
    room: &mut Room,
    input: impl Fn() -> Result<Values, SessionError>,
) -> Result<(), SessionError> {
    for work in host {
        let values = if work.adds_slices() {
            match &slices {
                Some(slices) => work.run(&[slices], room)?,
                None => work.run(&[], room)?,
            }
        } else {
            for &t in work.inputs() {
                if t == 0 && tensors.get(0).is_none() {
                    tensors.insert(0, input()?);
                }
            }
            let taken: Vec<&Values> = work.inputs().iter().filter_map(|t| tensors.get(*t)).collect();
            work.run(&taken, room)?
        };
        tensors.insert(work.output(), values);
    }
    Ok(())
}

/// Inputs of a hardware sequence.
enum Feed {
    /// The model's.
    Model,
    /// A tensor made before.
    Tensor(Vec<Vec<u8>>),
}

/// Tensors are taken out of their samples, unless they are needed afterwards.
fn feed(
    h: &HardwareSequence,
    inputs: &Inputs<'_, '_>,
    first: usize,
    samples: &mut [Tensors],
    needed: bool,
) -> Result<Feed, SessionError> {
    if h.input == 0 {
        return Ok(Feed::Model);
    }
    let bytes = |(i, tensors): (usize, &mut Tensors)| {
        match if needed { tensors.get(h.input).cloned() } else { tensors.remove(h.input) } {
            Some(Values::Bytes(bytes)) => Ok(bytes),
            // Potentials only leave a model (`Model::validate`), so this is the input of a sample that has none.
            _ => inputs.get(first + i).map(Cow::into_owned),
        }
    };
    Ok(Feed::Tensor(samples.iter_mut().enumerate().map(bytes).collect::<Result<_, _>>()?))
}

impl Feed {
    fn get<'a, 'b: 'a>(
        &'a self,
        inputs: &Inputs<'_, 'b>,
        first: usize,
        i: usize,
    ) -> Result<Cow<'a, [u8]>, SessionError> {
        match self {
            Feed::Model => inputs.get(first + i),
            Feed::Tensor(samples) => Ok(Cow::Borrowed(&samples[i])),
        }
    }
}

fn note_host(run: &mut Run, steps: &[(HostStep, Reason)]) {
    for (step, reason) in steps {
        let by = match step {
            HostStep::Layer(_) => ComputedBy::Host(reason.to_string()),
            HostStep::Finish { .. } => ComputedBy::BoardAndHost,
        };
        run.by.insert(step.layer() + 1, by);
    }
}
