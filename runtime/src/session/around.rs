//! A hardware sequence with the host before and behind it, sample by sample: tensors between host and board live as long as their
//! sample is worked on, and the host computes while the board does.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::add_since;
use super::error::SessionError;
use super::host::{HostWork, Room};
use super::inputs::Inputs;
use super::pipeline::{Done, Samples};
use super::values::{Operand, Tensors, Values};
use crate::mapping::{HardwareOutput, HardwareSequence};
use crate::model::TensorId;

/// What goes through a hardware sequence.
pub struct Around<'s, 'm, 'b> {
    pub h: &'s HardwareSequence,
    pub inputs: &'s Inputs<'m, 'b>,
    /// Of `inputs`, the first of `samples`.
    pub first: usize,
    pub samples: &'s mut [Tensors],
    /// Tensors that are needed afterwards.
    pub keep: &'s BTreeSet<TensorId>,
    pub before: HostSide,
    pub after: HostSide,
    pub room: Room,
    /// The sample that `before` has computed last, and what the board is given of it unless that is among the tensors.
    pub made: Option<(usize, Option<Vec<u8>>)>,
}

/// Steps of the host next to a hardware sequence.
#[derive(Default)]
pub struct HostSide {
    pub steps: Vec<HostWork>,
    /// Time they took.
    pub computing: Duration,
}

impl Around<'_, '_, '_> {
    /// Computes what comes before the board. Its input is taken out of the tensors, unless it is needed afterwards: after a recovery
    /// it is computed again.
    fn make(&mut self, sample: usize) -> Result<(), SessionError> {
        let (begin, number, t) = (Instant::now(), self.first + sample, self.h.input);
        if let Some((_, Some(bytes))) = self.made.take() {
            self.room.keep(Values::Bytes(bytes));
        }
        let (inputs, tensors) = (self.inputs, &mut self.samples[sample]);
        let needed =
            |t: TensorId| self.keep.contains(&t) || self.after.steps.iter().any(|step| step.inputs().contains(&t));
        let stays = needed(t);
        host_steps(
            &mut self.before.steps,
            tensors,
            None,
            &mut self.room,
            |made| made == t || needed(made),
            || inputs.get(number),
        )?;
        let made = self.before.steps.iter().any(|step| step.output() == t);
        let given = if made && !stays { tensors.remove(t) } else { None };
        self.made = Some((sample, given.and_then(|v| if let Values::Bytes(bytes) = v { Some(bytes) } else { None })));
        add_since(&mut self.before.computing, begin);
        Ok(())
    }
}

impl Samples for Around<'_, '_, '_> {
    fn input(&mut self, sample: usize) -> Result<Cow<'_, [u8]>, SessionError> {
        if !self.before.steps.is_empty() && self.made.as_ref().is_none_or(|(made, _)| *made != sample) {
            self.make(sample)?;
        }
        if self.h.input == 0 {
            return self.inputs.get(self.first + sample);
        }
        let bytes = match (&self.made, self.samples[sample].get(self.h.input)) {
            (Some((_, Some(bytes))), _) | (_, Some(Values::Bytes(bytes))) => bytes.as_slice(),
            _ => NOT_MADE,
        };
        Ok(Cow::Borrowed(bytes))
    }

    fn output(&mut self, sample: usize, done: Done) -> Result<(), SessionError> {
        let (begin, number, inputs) = (Instant::now(), self.first + sample, self.inputs);
        let tensors = &mut self.samples[sample];
        let slices = match self.h.output {
            HardwareOutput::Tensor(t) => {
                tensors.insert(t, done.values);
                None
            }
            HardwareOutput::Slices { .. } => Some(done.values),
        };
        let keep = |t: TensorId| self.keep.contains(&t);
        host_steps(&mut self.after.steps, tensors, slices, &mut self.room, keep, || inputs.get(number))?;
        tensors.retain(keep, |values| self.room.keep(values));
        add_since(&mut self.after.computing, begin);
        Ok(())
    }
}

/// Samples through a program that ends inside a hardware sequence.
pub struct Inner<'s, 'm, 'b> {
    pub input: TensorId,
    /// What the program makes.
    pub tensor: TensorId,
    pub inputs: &'s Inputs<'m, 'b>,
    /// Of `inputs`, the first of `samples`.
    pub first: usize,
    pub samples: &'s mut [Tensors],
}

impl Samples for Inner<'_, '_, '_> {
    fn input(&mut self, sample: usize) -> Result<Cow<'_, [u8]>, SessionError> {
        match self.samples[sample].get(self.input) {
            Some(Values::Bytes(bytes)) => Ok(Cow::Borrowed(bytes)),
            _ if self.input == 0 => self.inputs.get(self.first + sample),
            _ => Ok(Cow::Borrowed(NOT_MADE)),
        }
    }

    fn output(&mut self, sample: usize, done: Done) -> Result<(), SessionError> {
        self.samples[sample].insert(self.tensor, done.values);
        Ok(())
    }
}

/// In the place of an input that is not there. Potentials only leave a model (`Model::validate`); a board refuses this.
const NOT_MADE: &[u8] = &[];

/// Runs the steps of a host sequence on one sample. `input` gives the model's input where a step takes it. What no later step takes goes
/// back to the room, unless it is `needed` afterwards: so the next tensor is made where the processor's caches have the last one.
pub fn host_steps<'b>(
    host: &mut [HostWork],
    tensors: &mut Tensors,
    slices: Option<Values>,
    room: &mut Room,
    needed: impl Fn(TensorId) -> bool,
    input: impl FnOnce() -> Result<Cow<'b, [u8]>, SessionError>,
) -> Result<(), SessionError> {
    let takes_input = host.iter().any(|work| !work.adds_slices() && work.inputs().contains(&0));
    let given = if takes_input { input()? } else { Cow::Borrowed(&[][..]) };
    for step in 0..host.len() {
        let work = &mut host[step];
        let values = if work.adds_slices() {
            let slices: Vec<Operand<'_>> = slices.iter().map(Values::operand).collect();
            work.run(&slices, room)?
        } else {
            let operand = |&t: &TensorId| match t {
                0 => Some(Operand::Bytes(&given)),
                _ => tensors.get(t).map(Values::operand),
            };
            let taken: Vec<Operand<'_>> = work.inputs().iter().filter_map(operand).collect();
            work.run(&taken, room)?
        };
        tensors.insert(work.output(), values);
        let (done, later) = host.split_at(step + 1);
        let made = |t: TensorId| done.iter().any(|work| work.output() == t);
        let taken = |t: TensorId| later.iter().any(|work| work.inputs().contains(&t));
        tensors.retain(|t| !made(t) || taken(t) || needed(t), |values| room.keep(values));
    }
    Ok(())
}
