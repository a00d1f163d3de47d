//! Tensors: shapes, elements, and how they lie in ONNX and on a chip.

/// (height, width, channels).
pub type Shape = [usize; 3];

/// A tensor by number: 0 is the model's input, `n` the output of layer `n - 1`.
pub type TensorId = usize;

/// How a tensor looked in the ONNX graph, to give it back that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnnxLayout {
    /// (batch, channels, height, width).
    Nchw,
    /// (batch, height, width, channels).
    Nhwc,
    /// (batch, channels): height and width are 1.
    Flat,
    /// (batch, channels, height, width), turned by 180 degrees on the chip.
    NchwTurned,
    /// (batch, height, width, channels), turned by 180 degrees on the chip.
    NhwcTurned,
}

impl OnnxLayout {
    /// The same order in ONNX, but turned by 180 degrees on the chip; what is flat stays as it is.
    pub fn turned(self) -> Self {
        match self {
            Self::Nchw => Self::NchwTurned,
            Self::Nhwc => Self::NhwcTurned,
            other => other,
        }
    }

    /// Whether the chip has the map turned by 180 degrees.
    pub fn is_turned(self) -> bool {
        matches!(self, Self::NchwTurned | Self::NhwcTurned)
    }

    /// Whether channels come before height and width in ONNX.
    pub fn is_channels_first(self) -> bool {
        matches!(self, Self::Nchw | Self::NchwTurned)
    }

    /// Dimensions of one sample in ONNX, without the batch.
    pub fn dims(self, [height, width, channels]: Shape) -> Vec<usize> {
        match self {
            Self::Nchw | Self::NchwTurned => vec![channels, height, width],
            Self::Nhwc | Self::NhwcTurned => vec![height, width, channels],
            Self::Flat => vec![height * width * channels],
        }
    }

    /// The chip's shape of a sample with these ONNX dimensions (without the batch); None when their number is wrong.
    pub fn shape(self, dims: &[usize]) -> Option<Shape> {
        match (self, dims) {
            (Self::Nchw | Self::NchwTurned, &[channels, height, width]) => Some([height, width, channels]),
            (Self::Nhwc | Self::NhwcTurned, &[height, width, channels]) => Some([height, width, channels]),
            (Self::Flat, &[channels]) => Some([1, 1, channels]),
            _ => None,
        }
    }

    /// Row-major ONNX order of one sample to (height, width, channels). `values` must hold as many elements as `shape`.
    pub fn to_chip<T: Copy>(self, values: &[T], shape: Shape) -> Vec<T> {
        let [height, width, channels] = shape;
        assert_eq!(values.len(), height * width * channels, "values and shape differ");
        match self {
            Self::Nchw => transpose(values, channels, height * width),
            Self::Nhwc | Self::Flat => values.to_vec(),
            Self::NchwTurned => turn(&transpose(values, channels, height * width), channels),
            Self::NhwcTurned => turn(values, channels),
        }
    }

    /// Whether both orders are the same.
    pub fn is_plain(self) -> bool {
        matches!(self, Self::Nhwc | Self::Flat)
    }

    /// As [`to_onnx`](Self::to_onnx), appended to `into`.
    pub fn extend_onnx<T: Copy>(self, values: &[T], shape: Shape, into: &mut Vec<T>) {
        if self.is_plain() {
            assert_eq!(values.len(), shape.iter().product::<usize>(), "values and shape differ");
            into.extend_from_slice(values);
        } else {
            into.extend(self.to_onnx(values, shape));
        }
    }

    /// (height, width, channels) to the row-major ONNX order of one sample. `values` must hold as many elements as
    /// `shape`.
    pub fn to_onnx<T: Copy>(self, values: &[T], shape: Shape) -> Vec<T> {
        let [height, width, channels] = shape;
        assert_eq!(values.len(), height * width * channels, "values and shape differ");
        match self {
            Self::Nchw => transpose(values, height * width, channels),
            Self::Nhwc | Self::Flat => values.to_vec(),
            Self::NchwTurned => transpose(&turn(values, channels), height * width, channels),
            Self::NhwcTurned => turn(values, channels),
        }
    }
}

/// Pixels of `channels` elements, last first: a map turned by 180 degrees.
fn turn<T: Copy>(values: &[T], channels: usize) -> Vec<T> {
    values.rchunks(channels.max(1)).flatten().copied().collect()
}

/// A matrix of `rows` x `columns`, column after column. What there is more of is gone through at once.
fn transpose<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut turned = values.to_vec();
    if rows <= columns {
        for (r, row) in values.chunks_exact(columns.max(1)).enumerate() {
            turned[r..].iter_mut().step_by(rows).zip(row).for_each(|(to, from)| *to = *from);
        }
    } else {
        for (c, column) in turned.chunks_exact_mut(rows).enumerate() {
            column.iter_mut().zip(values[c..].iter().step_by(columns)).for_each(|(to, from)| *to = *from);
        }
    }
    turned
}

/// A tensor of integers.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    /// The ONNX name.
    pub name: String,
    /// (height, width, channels).
    pub shape: Shape,
    /// Bits of an element: 1, 2, 4, 8 or 32.
    pub bits: u8,
    /// Whether elements are signed.
    pub signed: bool,
    /// The ONNX layout.
    pub layout: OnnxLayout,
}

impl Tensor {
    /// A tensor in NCHW layout.
    pub fn new(name: impl Into<String>, shape: Shape, bits: u8, signed: bool) -> Self {
        Self { name: name.into(), shape, bits, signed, layout: OnnxLayout::Nchw }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Smallest and largest value an element can have.
    pub fn range(&self) -> (i32, i32) {
        match (self.bits, self.signed) {
            (32, _) => (i32::MIN, i32::MAX),
            (bits, true) => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
            (bits, false) => (0, (1 << bits) - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_inverse() {
        let shape = [2, 3, 4];
        let chip: Vec<u32> = (0..24).collect();
        for layout in [OnnxLayout::Nchw, OnnxLayout::Nhwc, OnnxLayout::NchwTurned, OnnxLayout::NhwcTurned] {
            let onnx = layout.to_onnx(&chip, shape);
            assert_eq!(layout.to_chip(&onnx, shape), chip);
            assert_eq!(layout.shape(&layout.dims(shape)), Some(shape));
        }
        // Element (h 1, w 2, c 3) of the chip is (c 3, h 1, w 2) in ONNX.
        assert_eq!(OnnxLayout::Nchw.to_onnx(&chip, shape)[3 * 6 + 3 + 2], chip[12 + 2 * 4 + 3]);
    }

    #[test]
    fn ranges() {
        for (bits, signed, range) in [
            (8, true, (-128, 127)),
            (8, false, (0, 255)),
            (4, false, (0, 15)),
            (1, false, (0, 1)),
            (32, true, (i32::MIN, i32::MAX)),
        ] {
            assert_eq!(Tensor::new("t", [1, 1, 1], bits, signed).range(), range);
        }
    }
}
