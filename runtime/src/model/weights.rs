//! Integer weights.

use super::Blob;

/// Weights of a layer, one per byte, filter by filter, each filter in (row, column, channel) order, as a correlation
/// kernel (not mirrored).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// 1, 2, 4 or 8; the values are within this width though stored one per byte. 1 bit is {0, 1}.
    pub bits: u8,
    /// (filters, height, width, channels); channels is 1 for depthwise kernels. Dense: (units, height, width, channels).
    pub shape: [usize; 4],
    /// `shape` row-major, i8. Not part of the metadata: a model file keeps it in a blob.
    #[serde(skip)]
    pub data: Blob,
}

impl Weights {
    /// Weights from values in `shape` order.
    pub fn new(bits: u8, shape: [usize; 4], values: &[i8]) -> Self {
        Self { bits, shape, data: Blob::from_i8(values) }
    }

    /// Number of filters (or units, or channels of a depthwise kernel).
    pub fn filters(&self) -> usize {
        self.shape[0]
    }

    /// (height, width) of the kernel.
    pub fn kernel(&self) -> [usize; 2] {
        [self.shape[1], self.shape[2]]
    }

    /// Weights of one filter.
    pub fn filter_len(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// The weights of one filter, (row, column, channel).
    pub fn filter(&self, index: usize) -> &[i8] {
        let len = self.filter_len();
        &self.data.as_i8()[index * len..(index + 1) * len]
    }

    /// Smallest and largest value of a weight with this many bits.
    pub fn range(bits: u8) -> (i8, i8) {
        match bits {
            1 => (0, 1),
            2 => (-2, 1),
            4 => (-8, 7),
            _ => (i8::MIN, i8::MAX),
        }
    }
}
