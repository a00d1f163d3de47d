//! The known-answer test: the board against plain loops, integer by integer.

use std::sync::Arc;

use super::error::SessionError;
use super::values::Batch;
use super::{Detail, Integers, Session};
use crate::model::{Model, TensorId};
use crate::reference::{Reference, Rules};

/// Known inputs of a model, and every integer the reference makes of them.
pub struct KnownAnswers {
    model: Arc<Model>,
    inputs: Vec<Vec<u8>>,
    /// By sample, by tensor.
    expected: Vec<Vec<Vec<i32>>>,
}

impl KnownAnswers {
    /// Computes the answers to `samples` known inputs; plain loops, so this takes a while.
    ///
    /// # Errors
    /// [`SessionError::Input`] when the reference takes no such input.
    pub fn new(model: Arc<Model>, samples: usize) -> Result<Self, SessionError> {
        let inputs = known_inputs(&model, samples);
        let mut expected = Vec::with_capacity(samples);
        let mut reference = Reference::new(&model, Rules::Chip);
        for (sample, input) in inputs.iter().enumerate() {
            expected.push(reference.run(input).map_err(|source| SessionError::Input { sample, source })?);
        }
        Ok(Self { inputs, expected, model })
    }
}

/// Inputs that are the same on every machine: SplitMix64 over the input's range.
fn known_inputs(model: &Model, samples: usize) -> Vec<Vec<u8>> {
    let tensor = &model.input.tensor;
    let (low, high) = tensor.range();
    let span = (i64::from(high) - i64::from(low) + 1) as u64;
    let mut state = 0x616B_6964_615F_6B61_u64;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    // Every other element is zero on average, as behind a ReLU: both the sparse and the dense road are walked.
    let mut element = || if next() & 1 == 0 { 0 } else { (i64::from(low) + (next() % span) as i64) as u8 };
    let zero_is_possible = low <= 0 && high >= 0;
    debug_assert!(zero_is_possible, "every integer type holds 0");
    (0..samples).map(|_| (0..tensor.elements()).map(|_| element()).collect()).collect()
}

impl Session {
    /// Runs `samples` known inputs on the board and compares with [`crate::reference`]. Streams start anew before and
    /// after.
    ///
    /// # Errors
    /// [`SessionError::KnownAnswer`] for the earliest layer and the first integer that differs: the session refuses all
    /// further work then.
    pub fn self_test(&mut self, samples: usize) -> Result<(), SessionError> {
        self.check(&KnownAnswers::new(self.model.clone(), samples)?)
    }

    /// As [`Session::self_test`], with answers that were computed before. They must be those of the session's model.
    ///
    /// # Errors
    /// As [`Session::self_test`].
    pub fn check(&mut self, answers: &KnownAnswers) -> Result<(), SessionError> {
        debug_assert_eq!(answers.model.name, self.model.name, "answers of another model");
        let KnownAnswers { model, inputs, expected } = answers;
        self.reset();
        let tensors = self.run_integers(Batch::Bytes(inputs), Detail::Outputs)?;
        let first = self.first_difference(expected, &tensors);
        let verdict = match first {
            None => Ok(()),
            // An output differs: which layer was the first?
            Some(difference) => {
                self.reset();
                let all = self.run_integers(Batch::Bytes(inputs), Detail::AllTensors)?;
                Err(self.first_difference(expected, &all).unwrap_or(difference))
            }
        };
        self.reset();
        verdict.map_err(|d| {
            self.refused = true;
            let tensor = model.tensor(d.tensor);
            let [_, width, channels] = tensor.shape;
            let (pixel, channel) = (d.index / channels, d.index % channels);
            SessionError::KnownAnswer {
                board: self.device.identity().to_string(),
                layer: d.tensor.checked_sub(1).map_or("input".into(), |l| model.layers[l].name.clone()),
                tensor: tensor.name.clone(),
                sample: d.sample,
                position: [pixel / width, pixel % width, channel],
                found: d.found,
                expected: d.expected,
            }
        })
    }

    /// By tensor, then by sample, then by position.
    fn first_difference(&self, expected: &[Vec<Vec<i32>>], found: &[Integers]) -> Option<Difference> {
        let mut tensors: Vec<_> = found.iter().collect();
        tensors.sort_by_key(|(tensor, _)| *tensor);
        tensors.into_iter().find_map(|(tensor, samples)| {
            samples.iter().enumerate().find_map(|(sample, values)| {
                let want = &expected[sample][*tensor];
                let index = want.iter().zip(values).position(|(a, b)| a != b)?;
                Some(Difference { tensor: *tensor, sample, index, expected: want[index], found: values[index] })
            })
        })
    }
}

struct Difference {
    tensor: TensorId,
    sample: usize,
    index: usize,
    expected: i32,
    found: i32,
}
