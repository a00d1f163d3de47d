//! Bytes that are owned or lie in a mapped file.

use std::sync::Arc;

/// Immutable bytes, cheap to clone.
#[derive(Clone)]
pub struct Blob {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    start: usize,
    len: usize,
}

impl Blob {
    /// All bytes of `owner` (a vector, a mapped file).
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let len = owner.as_ref().len();
        Self { owner: Arc::new(owner), start: 0, len }
    }

    /// Copies weights into a new blob.
    pub fn from_i8(values: &[i8]) -> Self {
        Self::new(values.iter().map(|&v| v as u8).collect::<Vec<u8>>())
    }

    /// A part of this blob, sharing its memory. None when out of range.
    pub fn slice(&self, start: usize, len: usize) -> Option<Self> {
        let end = start.checked_add(len)?;
        (end <= self.len).then(|| Self { owner: self.owner.clone(), start: self.start + start, len })
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.owner.as_ref().as_ref()[self.start..self.start + self.len]
    }

    /// The bytes as signed values.
    pub fn as_i8(&self) -> &[i8] {
        zerocopy::transmute_ref!(self.as_bytes())
    }
}

impl Default for Blob {
    fn default() -> Self {
        Self::new([])
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.len)
    }
}
