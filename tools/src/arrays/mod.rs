//! NumPy arrays in files: `.npy` and `.npz`.

mod header;
mod read;
mod write;

use ndarray::ArrayD;

pub use read::{Archive, read_file};
pub use write::{npy_bytes, write_npz};

/// An array of one of the types that cross this tool's boundary.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // The names are the types.
pub enum Array {
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
    U8(ArrayD<u8>),
    I8(ArrayD<i8>),
    I32(ArrayD<i32>),
    I64(ArrayD<i64>),
}

impl Array {
    /// NumPy's name of the element type.
    pub fn dtype(&self) -> &'static str {
        match self {
            Array::F32(_) => "float32",
            Array::F64(_) => "float64",
            Array::U8(_) => "uint8",
            Array::I8(_) => "int8",
            Array::I32(_) => "int32",
            Array::I64(_) => "int64",
        }
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        match self {
            Array::F32(a) => a.shape(),
            Array::F64(a) => a.shape(),
            Array::U8(a) => a.shape(),
            Array::I8(a) => a.shape(),
            Array::I32(a) => a.shape(),
            Array::I64(a) => a.shape(),
        }
    }
}

/// A shape as NumPy prints it: `(2000, 1, 28, 28)`, `(5,)`.
pub fn shape_text(shape: &[usize]) -> String {
    match shape {
        [one] => format!("({one},)"),
        _ => format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_look_like_numpy() {
        for (shape, text) in [(&[] as &[usize], "()"), (&[3], "(3,)"), (&[2, 1], "(2, 1)")] {
            assert_eq!(shape_text(shape), text);
        }
    }
}
