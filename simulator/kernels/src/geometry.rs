//! Where things are: kernels on maps, pools on convolutions, tiles of layers. Coordinates are the whole layer's.

use std::ops::Range;

use crate::PrepareError;

/// How weights meet inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Every filter over all channels. A dense layer is one with input (1, 1, n) and a 1x1 kernel.
    Standard,
    /// Filter n over channel n.
    Depthwise,
    /// Every filter over all channels; output o takes kernel tap k of input i where `o = i * stride + k - pad`.
    Transposed,
    /// The same, filter n over channel n.
    DepthwiseTransposed,
    /// Depthwise, then 1x1 over the raw sums.
    Separable,
    /// Filter n over channel n of each of the frames, which lie one after another in the channels (oldest first).
    DepthwiseTemporal,
}

impl Kind {
    pub(crate) fn is_transposed(self) -> bool {
        matches!(self, Kind::Transposed | Kind::DepthwiseTransposed)
    }
}

/// A convolution on a map. Pairs are (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// (height, width, channels) of the whole input.
    pub input: [usize; 3],
    /// Kernel.
    pub kernel: [usize; 2],
    /// Stride.
    pub stride: [usize; 2],
    /// Rows added above and columns added to the left, or cropped there when transposed. What is added at the other
    /// sides follows from `conv`.
    pub pad: [usize; 2],
    /// (height, width) of the convolution, before pooling.
    pub conv: [usize; 2],
}

/// Pooling of accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// None.
    None,
    /// Maximum; positions outside the map never win.
    Max {
        /// Window.
        size: [usize; 2],
        /// Step.
        stride: [usize; 2],
        /// Rows above and columns to the left of the map.
        pad: [usize; 2],
    },
    /// Sum over the map, before the activation (Akida 1.0) or after it (Akida 2.0).
    Global {
        /// Whether each position passes the activation first.
        after_activation: bool,
    },
}

/// The part of a layer's output that a run makes, after pooling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows.
    pub rows: Range<usize>,
    /// Columns.
    pub columns: Range<usize>,
    /// Filters; weights and parameters are given for these only.
    pub filters: Range<usize>,
}

impl Tile {
    /// Elements.
    pub fn len(&self) -> usize {
        self.rows.len() * self.columns.len() * self.filters.len()
    }

    /// Whether there is nothing to make.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Geometry {
    /// Rows (axis 0) or columns (axis 1) of the input under output positions `range` of the convolution. Empty when
    /// they see nothing but padding.
    pub fn input_range(&self, axis: usize, range: &Range<usize>, transposed: bool) -> Range<usize> {
        let (size, kernel, stride, pad) = (self.input[axis], self.kernel[axis], self.stride[axis], self.pad[axis]);
        if range.is_empty() {
            return 0..0;
        }
        let (first, last) = (range.start, range.end - 1);
        let (start, end) = if transposed {
            ((first + pad + 1).saturating_sub(kernel).div_ceil(stride.max(1)), (last + pad) / stride.max(1) + 1)
        } else {
            ((first * stride).saturating_sub(pad), (last * stride + kernel).saturating_sub(pad))
        };
        let end = end.min(size);
        start.min(end)..end
    }
}

impl Pool {
    /// Rows (axis 0) or columns (axis 1) of the convolution that output positions `range` are made of; `size` is how
    /// many there are.
    pub fn conv_range(&self, axis: usize, range: &Range<usize>, size: usize) -> Range<usize> {
        match *self {
            Pool::None => range.clone(),
            Pool::Max { size: window, stride, pad } => {
                let start = (range.start * stride[axis]).saturating_sub(pad[axis]);
                let end = ((range.end.max(1) - 1) * stride[axis] + window[axis]).saturating_sub(pad[axis]).min(size);
                start.min(end)..end
            }
            Pool::Global { .. } => 0..size,
        }
    }

    pub(crate) fn check(&self, tile: &Tile, conv: [usize; 2]) -> Result<(), PrepareError> {
        for (axis, range) in [&tile.rows, &tile.columns].into_iter().enumerate() {
            let limit = match *self {
                Pool::None => conv[axis],
                Pool::Global { .. } => 1,
                Pool::Max { size, stride, pad } => {
                    if size[axis] == 0 || stride[axis] == 0 {
                        return Err(PrepareError::Contradiction("a pool window and its stride are at least 1"));
                    }
                    if pad[axis] >= size[axis] {
                        return Err(PrepareError::Contradiction("pool padding is smaller than the window"));
                    }
                    // Every window holds at least one position of the map.
                    (conv[axis] + pad[axis]).div_ceil(stride[axis])
                }
            };
            if range.end > limit || range.is_empty() {
                let what = ["rows of the tile end", "columns of the tile end"][axis];
                return Err(PrepareError::Range { what, value: range.end as i64, min: 1, max: limit as i64 });
            }
        }
        Ok(())
    }
}
