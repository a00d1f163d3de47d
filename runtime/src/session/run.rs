//! One call: the batch through the sequences, tensor by tensor.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::around::{Around, HostSide, Inner, host_steps};
use super::error::SessionError;
use super::host::HostWork;
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
        // A host sequence that is left to the hardware sequence behind it.
        let mut before = None;
        while index < mapping.sequences.len() {
            let keep = self.kept(index, wanted);
            let next = mapping.sequences.get(index + 1);
            match (&mapping.sequences[index], next) {
                (Sequence::Host(_), Some(Sequence::Hardware(_))) if detail == Detail::Outputs => {
                    before = Some(index);
                    index += 1;
                }
                (Sequence::Host(h), _) => {
                    let start = Instant::now();
                    let mut host = std::mem::take(&mut self.host[index]);
                    let mut outcome = Ok(());
                    for (i, tensors) in samples.iter_mut().enumerate() {
                        let kept = |t| keep.contains(&t);
                        outcome = host_steps(&mut host, tensors, None, &mut self.room, kept, || inputs.get(first + i));
                        if outcome.is_err() {
                            break;
                        }
                        tensors.retain(kept, |values| self.room.keep(values));
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
                (Sequence::Hardware(h), next) => {
                    if detail == Detail::AllTensors {
                        self.inner_tensors(index, h, inputs, first, samples, run)?;
                    }
                    let after = if let Some(Sequence::Host(host)) = next { Some(host) } else { None };
                    let keep = if after.is_some() { self.kept(index + 1, wanted) } else { keep };
                    let sides = [before.take(), after.map(|_| index + 1)];
                    self.hardware_sequence(index, h, sides, inputs, first, samples, &keep, run)?;
                    let by = match h.output {
                        HardwareOutput::Tensor(t) => Some((t, ComputedBy::Board)),
                        HardwareOutput::Slices { .. } => None,
                    };
                    run.by.extend(by);
                    if let (Some(host), Detail::AllTensors) = (after, detail) {
                        note_host(run, &host.steps);
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

    /// A hardware sequence, and those of the host on its sides on each sample as it goes and comes.
    #[expect(clippy::too_many_arguments, reason = "the state of one call; a struct for one use would hide it")]
    fn hardware_sequence(
        &mut self,
        index: usize,
        h: &HardwareSequence,
        sides: [Option<usize>; 2],
        inputs: &Inputs<'_, '_>,
        first: usize,
        samples: &mut [Tensors],
        keep: &BTreeSet<TensorId>,
        run: &mut Run,
    ) -> Result<(), SessionError> {
        let (start, count) = (Instant::now(), samples.len());
        let [before, after] = sides.map(|side| {
            let steps = side.map(|sequence| std::mem::take(&mut self.host[sequence])).unwrap_or_default();
            HostSide { steps, computing: Duration::ZERO }
        });
        let room = std::mem::take(&mut self.room);
        let mut around = Around { h, inputs, first, samples, keep, before, after, room, made: None };
        let mut sequence = std::mem::take(&mut run.statistics.sequences[index]);
        let outcome = self.hardware(
            Loaded { sequence: index, upto: None },
            &h.program,
            count,
            &mut around,
            &mut Counts { sequence: &mut sequence, recoveries: &mut run.statistics.recoveries },
        );
        let Around { before, after, room, .. } = around;
        self.room = room;
        super::add_since(&mut sequence.elapsed, start);
        run.statistics.sequences[index] = sequence;
        for (side, HostSide { steps, computing }) in sides.into_iter().zip([before, after]) {
            if let Some(side) = side {
                self.host[side] = steps;
                run.statistics.sequences[side].computing += computing;
                run.statistics.sequences[side].samples += count;
            }
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
        for prefix in prefixes.iter() {
            // Streams start anew with every program; the frames before this batch are none of ours (see `Detail`).
            match &prefix.program {
                Ok(program) => {
                    let mut unused = SequenceStatistics::default();
                    let (input, tensor) = (h.input, prefix.tensor);
                    self.hardware(
                        Loaded { sequence: index, upto: Some(tensor) },
                        &program.program,
                        samples.len(),
                        &mut Inner { input, tensor, inputs, first, samples },
                        &mut Counts { sequence: &mut unused, recoveries: &mut run.statistics.recoveries },
                    )?;
                    run.by.insert(prefix.tensor, ComputedBy::Board);
                }
                Err(reason) => {
                    let mut host = [HostWork::prepare(&self.model, HostStep::Layer(prefix.tensor - 1))?];
                    for (i, tensors) in samples.iter_mut().enumerate() {
                        host_steps(&mut host, tensors, None, &mut self.room, |_| true, || inputs.get(first + i))?;
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
