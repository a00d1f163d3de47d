//! A batch as the bytes of its samples.

use std::borrow::Cow;

use ndarray::Axis;

use super::error::SessionError;
use super::values::Batch;
use crate::edge::{self, EdgeError};
use crate::model::Model;
use crate::reference::InputError;

/// A checked batch.
pub struct Inputs<'m, 'b> {
    model: &'m Model,
    batch: Batch<'b>,
}

impl<'m, 'b> Inputs<'m, 'b> {
    /// Checks the shape; values are checked sample by sample.
    pub fn new(model: &'m Model, batch: Batch<'b>) -> Result<Self, SessionError> {
        let shape = model.input.tensor.shape;
        let (found, expected, what) = match &batch {
            Batch::Float(view) => {
                (view.shape().to_vec(), model.input.layout.dims(shape), "as the ONNX input is laid out")
            }
            Batch::Raw(view) if view.ndim() == 2 && shape[..2] == [1, 1] => {
                (view.shape().to_vec(), vec![shape[2]], "raw integers")
            }
            Batch::Raw(view) => (view.shape().to_vec(), shape.to_vec(), "raw integers, height, width, channels"),
            Batch::Bytes(_) | Batch::Slices(_) => return Ok(Self { model, batch }),
        };
        if found.is_empty() || found[1..] != expected {
            return Err(SessionError::Shape { found, expected, what });
        }
        Ok(Self { model, batch })
    }

    /// Samples.
    pub fn len(&self) -> usize {
        match &self.batch {
            Batch::Float(view) => view.shape()[0],
            Batch::Raw(view) => view.shape()[0],
            Batch::Bytes(samples) => samples.len(),
            Batch::Slices(samples) => samples.len(),
        }
    }

    /// The bytes of a sample in (height, width, channels) order, where they lie if they lie so.
    pub fn get(&self, sample: usize) -> Result<Cow<'b, [u8]>, SessionError> {
        let bytes = match &self.batch {
            Batch::Float(view) => {
                let values = edge::row_major(view.clone().index_axis_move(Axis(0), sample));
                let edge = |source: EdgeError| SessionError::Edge { sample, source };
                return edge::quantize_sample(&self.model.input, &values).map(Cow::Owned).map_err(edge);
            }
            Batch::Raw(view) => {
                let view = view.clone().index_axis_move(Axis(0), sample);
                match view.to_slice().filter(|_| !self.model.input.layout.is_turned()) {
                    Some(values) => Cow::Borrowed(values),
                    None => Cow::Owned(edge::chip_order(&self.model.input, view.iter().copied().collect())),
                }
            }
            Batch::Bytes(samples) => Cow::Borrowed(samples[sample].as_slice()),
            Batch::Slices(samples) => Cow::Borrowed(samples[sample]),
        };
        self.check(sample, &bytes)?;
        Ok(bytes)
    }

    fn check(&self, sample: usize, bytes: &[u8]) -> Result<(), SessionError> {
        let tensor = &self.model.input.tensor;
        let name = || tensor.name.clone();
        let input = |source| SessionError::Input { sample, source };
        if bytes.len() != tensor.elements() {
            let (found, expected, shape) = (bytes.len(), tensor.elements(), tensor.shape);
            return Err(input(InputError::Length { name: name(), found, expected, shape }));
        }
        if tensor.bits == 8 {
            return Ok(());
        }
        let (min, max) = tensor.range();
        let value = |b: u8| if tensor.signed { i32::from(b.cast_signed()) } else { i32::from(b) };
        match bytes.iter().position(|&b| !(min..=max).contains(&value(b))) {
            Some(index) => {
                let value = value(bytes[index]);
                Err(input(InputError::Range { name: name(), index, value, min, max }))
            }
            None => Ok(()),
        }
    }
}
