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

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.owner.as_ref().as_ref()[self.start..self.start + self.len]
    }

    /// The bytes as signed values.
    pub fn as_i8(&self) -> &[i8] {
        zerocopy::transmute_ref!(self.as_bytes())
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

// In a model file the metadata holds where a blob lies, never its bytes; the file module fills this in.
impl serde::Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not here yet: the model file writes blobs"))
    }
}

impl<'de> serde::Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("not here yet: the model file reads blobs"))
    }
}
