//! Batches in, tensors between sequences, results out.

use std::borrow::Cow;
use std::time::Duration;

use akida_hal::board::Identity;
use akida_hal::device::{JobTiming, OutputValues};
use ndarray::{ArrayD, ArrayViewD};

use crate::model::{Tensor, TensorId};

/// What is to be inferred: the batch comes first.
#[derive(Clone, Debug)]
pub enum Batch<'a> {
    /// Floats in the layout of the ONNX input; they pass the input quantizer.
    Float(ArrayViewD<'a, f32>),
    /// Raw integers in (batch, height, width, channels), one byte each, two's complement where the input is signed; they
    /// enter the first layer as they are.
    Raw(ArrayViewD<'a, u8>),
    /// The same, sample by sample in (height, width, channels) order.
    Bytes(&'a [Vec<u8>]),
    /// The same, where samples lie in memory of others.
    Slices(&'a [&'a [u8]]),
}

/// Elements of a tensor of one sample in (height, width, channels) order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// Up to 8 bits, one byte each, two's complement where signed.
    Bytes(Vec<u8>),
    /// Potentials and sums.
    Words(Vec<i32>),
}

/// Elements that a step of the host takes, where they are.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// As [`Values::Bytes`].
    Bytes(&'a [u8]),
    /// As [`Values::Words`].
    Words(&'a [i32]),
}

impl Values {
    /// To be taken by a step.
    pub fn operand(&self) -> Operand<'_> {
        match self {
            Values::Bytes(v) => Operand::Bytes(v),
            Values::Words(v) => Operand::Words(v),
        }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            Values::Bytes(v) => v.len(),
            Values::Words(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As integers.
    pub fn integers(&self, tensor: &Tensor) -> Vec<i32> {
        self.as_integers(tensor).into_owned()
    }

    /// As integers, where they are that already without a copy.
    pub fn as_integers(&self, tensor: &Tensor) -> Cow<'_, [i32]> {
        match self {
            Values::Bytes(v) if tensor.signed => v.iter().map(|b| i32::from(b.cast_signed())).collect(),
            Values::Bytes(v) => v.iter().map(|b| i32::from(*b)).collect(),
            Values::Words(v) => Cow::Borrowed(v),
        }
    }
}

/// Tensors of one sample: few, so that looking through them is the quickest.
#[derive(Clone, Debug, Default)]
pub struct Tensors(Vec<(TensorId, Values)>);

impl Tensors {
    /// One of them.
    pub fn get(&self, tensor: TensorId) -> Option<&Values> {
        self.0.iter().find(|(t, _)| *t == tensor).map(|(_, v)| v)
    }

    /// Puts one in, in the place of what was there.
    pub fn insert(&mut self, tensor: TensorId, values: Values) {
        match self.0.iter_mut().find(|(t, _)| *t == tensor) {
            Some((_, there)) => *there = values,
            None => self.0.push((tensor, values)),
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, tensor: TensorId) -> Option<Values> {
        let at = self.0.iter().position(|(t, _)| *t == tensor)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes those out that nobody needs any more.
    pub fn retain(&mut self, needed: impl Fn(TensorId) -> bool, mut gone: impl FnMut(Values)) {
        while let Some(at) = self.0.iter().position(|(t, _)| !needed(*t)) {
            gone(self.0.swap_remove(at).1);
        }
    }
}

impl From<OutputValues> for Values {
    fn from(values: OutputValues) -> Self {
        match values {
            OutputValues::I8(v) => Values::Bytes(v.into_iter().map(i8::cast_unsigned).collect()),
            OutputValues::U8(v) => Values::Bytes(v),
            OutputValues::I32(v) => Values::Words(v),
        }
    }
}

/// Who computed a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComputedBy {
    /// The board: its NPs made these integers.
    Board,
    /// The board made slices of it, which the host added (then bias, activation, scale).
    BoardAndHost,
    /// The host; with the reason.
    Host(String),
}

/// A layer's integers.
#[derive(Clone, Debug)]
pub struct Intermediate {
    /// Which tensor.
    pub tensor: TensorId,
    /// Its ONNX name.
    pub name: String,
    /// The layer's name.
    pub layer: String,
    /// Who computed it.
    pub by: ComputedBy,
    /// (batch, ...) in ONNX layout.
    pub values: ArrayD<i32>,
}

/// Where the time of one sequence went, summed over the samples of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceStatistics {
    /// Samples that passed it.
    pub samples: usize,
    /// Times the board was programmed for it.
    pub programmed: usize,
    /// Host time this took.
    pub programming: Duration,
    /// Copy in, doorbell to completion, copy out, in board time, over all jobs. Jobs overlap: with several in flight the
    /// second includes waiting for those before.
    pub jobs: JobTiming,
    /// Host time computing its layers (host sequences).
    pub computing: Duration,
    /// Host time from the first sample to the last; a host sequence behind a hardware sequence overlaps it and has none.
    pub elapsed: Duration,
}

/// Where the time of a call went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallStatistics {
    /// Sequences in order of the mapping.
    pub sequences: Vec<SequenceStatistics>,
    /// The whole call, host time.
    pub elapsed: Duration,
    /// Recoveries of the board.
    pub recoveries: usize,
}

/// Results of a call, in the order of the batch.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// The board that computed them.
    pub board: Identity,
    /// For each output of the model (or the one tensor asked for): floats, (batch, ...) in ONNX layout.
    pub floats: Vec<ArrayD<f32>>,
    /// For each of them the integers before the dequantizer.
    pub raw: Vec<ArrayD<i32>>,
    /// Every layer's integers, when asked for.
    pub intermediates: Vec<Intermediate>,
    /// Where the time went.
    pub statistics: CallStatistics,
}
