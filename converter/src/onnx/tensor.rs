//! Constant tensors.

use std::path::PathBuf;

use bytes::Bytes;

use super::OnnxError;

/// Element types, with ONNX's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum DType {
    /// `float`
    F32 = 1,
    /// `uint8`
    U8 = 2,
    /// `int8`
    I8 = 3,
    /// `uint16`
    U16 = 4,
    /// `int16`
    I16 = 5,
    /// `int32`
    I32 = 6,
    /// `int64`
    I64 = 7,
    /// `bool`
    Bool = 9,
    /// `float16`
    F16 = 10,
    /// `double`
    F64 = 11,
    /// `uint32`
    U32 = 12,
    /// `uint64`
    U64 = 13,
    /// `bfloat16`
    BF16 = 16,
}

impl DType {
    /// All of them.
    pub const ALL: [DType; 13] = [
        DType::F32,
        DType::U8,
        DType::I8,
        DType::U16,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::Bool,
        DType::F16,
        DType::F64,
        DType::U32,
        DType::U64,
        DType::BF16,
    ];

    /// The type with this ONNX number.
    pub fn from_onnx(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|&d| d as i32 == number)
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            DType::U8 | DType::I8 | DType::Bool => 1,
            DType::U16 | DType::I16 | DType::F16 | DType::BF16 => 2,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::I64 | DType::F64 | DType::U64 => 8,
        }
    }

    /// The name ONNX prints, for example `FLOAT`.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "FLOAT",
            DType::U8 => "UINT8",
            DType::I8 => "INT8",
            DType::U16 => "UINT16",
            DType::I16 => "INT16",
            DType::I32 => "INT32",
            DType::I64 => "INT64",
            DType::Bool => "BOOL",
            DType::F16 => "FLOAT16",
            DType::F64 => "DOUBLE",
            DType::U32 => "UINT32",
            DType::U64 => "UINT64",
            DType::BF16 => "BFLOAT16",
        }
    }

    /// Whether it is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::F64 | DType::BF16)
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Rust types of tensor elements.
pub trait Element: Copy {
    /// Its ONNX type.
    const DTYPE: DType;
    /// From little-endian bytes, exactly `DTYPE.size()` of them.
    fn from_le(bytes: &[u8]) -> Self;
    /// Appends its little-endian bytes.
    fn put_le(self, out: &mut Vec<u8>);
}

macro_rules! element {
    ($($t:ty: $d:ident),*) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$d;
            fn from_le(bytes: &[u8]) -> Self {
                let mut word = [0; size_of::<$t>()];
                word.copy_from_slice(bytes);
                <$t>::from_le_bytes(word)
            }
            fn put_le(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
element!(f32: F32, f64: F64, i8: I8, u8: U8, i16: I16, u16: U16, i32: I32, u32: U32, i64: I64, u64: U64);

/// Where a tensor's bytes are.
#[derive(Clone, Debug, PartialEq)]
enum Data {
    /// Little-endian elements, row-major, in memory.
    Here(Bytes),
    /// In a file beside the model; checked when the model was read, fetched when asked for.
    External { path: PathBuf, offset: u64 },
}

/// A constant tensor: type, dimensions and row-major data. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    dims: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// A tensor of `values`, row-major.
    ///
    /// # Panics
    /// When `dims` and `values` disagree: the caller made both.
    pub fn new<T: Element>(dims: impl Into<Vec<usize>>, values: &[T]) -> Self {
        let dims = dims.into();
        assert_eq!(dims.iter().product::<usize>(), values.len(), "dimensions {dims:?}");
        let mut bytes = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|v| v.put_le(&mut bytes));
        Self { dtype: T::DTYPE, dims, data: Data::Here(bytes.into()) }
    }

    /// A tensor without dimensions.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self::new([], &[value])
    }

    /// A tensor from little-endian bytes. None when their number is not what `dims` says.
    pub fn from_bytes(dtype: DType, dims: impl Into<Vec<usize>>, bytes: Bytes) -> Option<Self> {
        let dims = dims.into();
        let size = byte_size(dtype, &dims)?;
        (size == bytes.len() as u64).then_some(Self { dtype, dims, data: Data::Here(bytes) })
    }

    /// A tensor whose bytes start at `offset` of the file `path`, which the caller has checked to be long enough.
    pub(super) fn external(dtype: DType, dims: Vec<usize>, path: PathBuf, offset: u64) -> Self {
        Self { dtype, dims, data: Data::External { path, offset } }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Dimensions; empty for a scalar.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same data seen with other dimensions. None when the number of elements differs.
    pub fn reshaped(&self, dims: impl Into<Vec<usize>>) -> Option<Self> {
        let dims = dims.into();
        let elements = dims.iter().try_fold(1usize, |elements, &dim| elements.checked_mul(dim));
        (elements == Some(self.len())).then(|| Self { dims, ..self.clone() })
    }

    /// The data as little-endian bytes, row-major. External data is read from its file.
    pub fn bytes(&self) -> Result<Bytes, OnnxError> {
        match &self.data {
            Data::Here(bytes) => Ok(bytes.clone()),
            Data::External { path, offset } => {
                let len = self.len() * self.dtype.size();
                super::external::read(path, *offset, len)
            }
        }
    }

    /// The elements. `name` is for the error when the type is another one.
    pub fn values<T: Element>(&self, name: &str) -> Result<Vec<T>, OnnxError> {
        if self.dtype != T::DTYPE {
            return Err(OnnxError::Type { tensor: name.to_owned(), expected: T::DTYPE, found: self.dtype });
        }
        Ok(self.bytes()?.chunks_exact(self.dtype.size()).map(T::from_le).collect())
    }
}

/// Bytes a tensor takes; None when that does not fit into 64 bits.
pub(super) fn byte_size(dtype: DType, dims: &[usize]) -> Option<u64> {
    dims.iter().try_fold(dtype.size() as u64, |size, &dim| size.checked_mul(dim as u64))
}

#[cfg(test)]
mod tests {
    use super::Tensor;

    #[test]
    fn only_what_has_as_many_elements_is_another_shape_of_it() {
        let tensor = Tensor::new([2, 3], &[0f32; 6]);
        assert_eq!(tensor.reshaped([6]).map(|t| t.dims().to_vec()), Some(vec![6]));
        for dims in [vec![5], vec![0], vec![1 << 40, 1 << 40], vec![6, usize::MAX, 0]] {
            assert!(tensor.reshaped(dims.clone()).is_none(), "{dims:?}");
        }
    }
}
