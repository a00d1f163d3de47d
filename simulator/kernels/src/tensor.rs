//! Views of tensors: which part of a layer's input a run is given, and where its output goes.

use std::ops::Range;

use crate::RunError;

/// A window of rows and columns of a layer's input, all channels, one byte per element, of one sample or several.
#[derive(Clone, Debug)]
pub struct View<'a> {
    data: &'a [u8],
    samples: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    channels: usize,
    row_stride: usize,
}

impl<'a> View<'a> {
    /// A whole tensor of (height, width, channels).
    pub fn whole(data: &'a [u8], [height, width, channels]: [usize; 3]) -> Result<Self, RunError> {
        Self::window(data, 0..height, 0..width, channels)
    }

    /// Whole tensors of `samples` samples, one behind the other.
    pub fn batch(data: &'a [u8], [height, width, channels]: [usize; 3], samples: usize) -> Result<Self, RunError> {
        Self::new(data, 0..height, 0..width, channels, samples)
    }

    /// `data` holds exactly these rows and columns.
    pub fn window(
        data: &'a [u8],
        rows: Range<usize>,
        columns: Range<usize>,
        channels: usize,
    ) -> Result<Self, RunError> {
        Self::new(data, rows, columns, channels, 1)
    }

    fn new(
        data: &'a [u8],
        rows: Range<usize>,
        columns: Range<usize>,
        channels: usize,
        samples: usize,
    ) -> Result<Self, RunError> {
        let expected = samples * rows.len() * columns.len() * channels;
        if data.len() != expected {
            return Err(RunError::Length { what: "input", got: data.len(), expected });
        }
        let row_stride = columns.len() * channels;
        Ok(Self { data, samples, rows, columns, channels, row_stride })
    }

    pub(crate) fn samples(&self) -> usize {
        self.samples
    }

    /// One of the samples.
    pub(crate) fn sample(&self, sample: usize) -> Self {
        let len = self.rows.len() * self.row_stride;
        Self { data: &self.data[sample * len..][..len], samples: 1, ..self.clone() }
    }

    /// All bytes of all samples, when these rows and columns are all there are.
    pub(crate) fn all(&self, rows: &Range<usize>, columns: &Range<usize>) -> Option<&'a [u8]> {
        (self.rows == *rows && self.columns == *columns).then_some(self.data)
    }

    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// Says so when needed rows or columns are not there.
    pub(crate) fn check(&self, rows: &Range<usize>, columns: &Range<usize>) -> Result<(), RunError> {
        for (axis, needed, given) in [("rows", rows, &self.rows), ("columns", columns, &self.columns)] {
            if !needed.is_empty() && (needed.start < given.start || needed.end > given.end) {
                return Err(RunError::Window {
                    axis,
                    needed_start: needed.start,
                    needed_end: needed.end,
                    given_start: given.start,
                    given_end: given.end,
                });
            }
        }
        Ok(())
    }

    /// Everything from (row, column) on, which is inside the window, and the bytes from a row to the next.
    pub(crate) fn from(&self, row: usize, column: usize) -> (&'a [u8], usize) {
        let start = (row - self.rows.start) * self.row_stride + (column - self.columns.start) * self.channels;
        (&self.data[start..], self.row_stride)
    }

    /// `count` pixels from (row, column) on; both inside the window.
    pub(crate) fn pixels(&self, row: usize, column: usize, count: usize) -> &'a [u8] {
        let start = (row - self.rows.start) * self.row_stride + (column - self.columns.start) * self.channels;
        &self.data[start..start + count * self.channels]
    }
}

/// Where a tile's output goes: (rows, columns, filters) of the tile, contiguous, sample by sample.
#[derive(Debug)]
pub enum Output<'a> {
    /// Elements of up to 8 bits, one byte each, two's complement when signed.
    Bytes(&'a mut [u8]),
    /// Potentials.
    Words(&'a mut [i32]),
}

impl Output<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Output::Bytes(bytes) => bytes.len(),
            Output::Words(words) => words.len(),
        }
    }

    /// Elements from `start` on.
    pub fn part(&mut self, start: usize, len: usize) -> Output<'_> {
        match self {
            Output::Bytes(bytes) => Output::Bytes(&mut bytes[start..start + len]),
            Output::Words(words) => Output::Words(&mut words[start..start + len]),
        }
    }
}
