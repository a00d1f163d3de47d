//! Reading: nothing is believed before it is checked.

use std::{
    fs::{self, File},
    path::Path,
};

use serde::de::DeserializeOwned;
use zerocopy::FromBytes;

use super::{
    Extent, FileError, FormatError, Metadata,
    header::{self, Header},
};
use crate::model::{Blob, Model};

impl Model {
    /// Opens a model file. The weights stay in the file, which must not be written to while the model lives;
    /// [`Model::save`] never does, it puts a new file in the place of the old one.
    ///
    /// # Errors
    /// [`FileError::Io`], [`FileError::NotAFile`], and [`FileError::Content`] for whatever is not a whole, undamaged file
    /// with a valid model. Memory is bounded by a small multiple of the size of the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        open(path.as_ref(), Self::read)
    }

    /// A model from the bytes of a model file, sharing its memory for the weights.
    ///
    /// # Errors
    /// For whatever is not a whole, undamaged file with a valid model.
    pub fn read(bytes: Blob) -> Result<Self, FormatError> {
        let head = check_header(bytes.as_bytes())?;
        if head.version != header::VERSION {
            return Err(FormatError::Hybrid);
        }
        let Metadata { mut model, blobs } = metadata::<Self>(&bytes, &head)?;
        let slots = model.layers.iter_mut().flat_map(|layer| layer.kind.weights_mut()).map(|weights| &mut weights.data);
        place(&bytes, &head, slots.collect(), &blobs)?;
        model.validate()?;
        Ok(model)
    }
}

/// Maps the file at `path` and reads it.
pub fn open<T>(path: &Path, read: impl FnOnce(Blob) -> Result<T, FormatError>) -> Result<T, FileError> {
    let failed = |operation| move |source| FileError::Io { path: path.to_owned(), operation, source };
    // Asked before opening: to open a pipe would wait for its writer.
    if !fs::metadata(path).map_err(failed("open"))?.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(failed("open"))?;
    let found = file.metadata().map_err(failed("read"))?;
    if !found.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    let wrong = |source| FileError::Content { path: path.to_owned(), source: Box::new(source) };
    if found.len() < header::SIZE {
        // Nothing to map in an empty file.
        return Err(wrong(FormatError::NotAModel));
    }
    let bytes = Blob::new(map(&file).map_err(failed("map"))?);
    read(bytes).map_err(wrong)
}

/// The metadata behind a checked header.
pub fn metadata<M: DeserializeOwned>(bytes: &Blob, head: &Header) -> Result<Metadata<M>, FormatError> {
    // In range: the header is checked, and the offsets are those of bytes in memory.
    let metadata = &bytes.as_bytes()[header::SIZE as usize..(header::SIZE + head.metadata_len.get()) as usize];
    serde_json::from_slice(metadata).map_err(|source| FormatError::Metadata { offset: header::SIZE, source })
}

/// Puts every blob where it belongs.
pub fn place(bytes: &Blob, head: &Header, slots: Vec<&mut Blob>, extents: &[Extent]) -> Result<(), FormatError> {
    let blob_offset = head.blob_offset.get();
    let area = bytes.len() as u64 - blob_offset;
    if slots.len() != extents.len() {
        return Err(FormatError::BlobCount { found: extents.len(), expected: slots.len() });
    }
    let mut end = 0;
    for (index, (slot, extent)) in slots.into_iter().zip(extents).enumerate() {
        let expected = header::align(end);
        let outside = FormatError::Blob { index, offset: extent.offset, len: extent.len, expected, area };
        // One place for every blob: none can overlap another or leave bytes that belong to nothing.
        if extent.offset != expected || expected > area || extent.len > area - expected {
            return Err(outside);
        }
        let Some(blob) = bytes.slice((blob_offset + expected) as usize, extent.len as usize) else {
            return Err(outside);
        };
        *slot = blob;
        end = expected + extent.len;
    }
    match end == area {
        true => Ok(()),
        false => Err(FormatError::Length { expected: blob_offset + end, actual: bytes.len() as u64 }),
    }
}

/// The header, when it and the checksum are right.
pub fn check_header(data: &[u8]) -> Result<Header, FormatError> {
    let Ok((head, _)) = Header::read_from_prefix(data) else { return Err(FormatError::NotAModel) };
    if head.magic != header::MAGIC {
        return Err(FormatError::NotAModel);
    }
    if ![header::VERSION, header::HYBRID_VERSION].contains(&head.version.get()) {
        return Err(FormatError::Version { found: head.version.get(), supported: header::HYBRID_VERSION });
    }
    if head.file_len != data.len() as u64 {
        return Err(FormatError::Length { expected: head.file_len.get(), actual: data.len() as u64 });
    }
    let computed = checksum(data);
    if head.checksum != computed {
        return Err(FormatError::Checksum { stored: head.checksum.get(), computed });
    }
    let len = head.metadata_len.get();
    if len > header::METADATA_LIMIT {
        return Err(FormatError::MetadataSize { len, limit: header::METADATA_LIMIT });
    }
    let fields = [
        ("metadata offset", 24, head.metadata_offset.get(), header::SIZE),
        ("blob area offset", 40, head.blob_offset.get(), header::blob_offset(len)),
        ("reserved", 48, head.reserved[0].get(), 0),
        ("reserved", 56, head.reserved[1].get(), 0),
    ];
    for (field, offset, value, expected) in fields {
        if value != expected {
            return Err(FormatError::Header { field, offset, value, expected });
        }
    }
    if header::blob_offset(len) > data.len() as u64 {
        return Err(FormatError::Length { expected: header::blob_offset(len), actual: data.len() as u64 });
    }
    Ok(head)
}

/// CRC-32 of a file with its checksum field taken as zero. `data` holds a header.
pub(super) fn checksum(data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&data[..12]);
    hasher.update(&[0; 4]);
    hasher.update(&data[16..]);
    hasher.finalize()
}

#[expect(unsafe_code, reason = "mapping a file is the only way to use its weights without a copy")]
fn map(file: &File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the mapping is read-only. It stays valid as long as nobody writes to the file or cuts it: model files are
    // replaced by renaming and never written in place, and `Model::open` asks the same of its caller. Every byte
    // pattern is a valid u8.
    unsafe { memmap2::Mmap::map(file) }
}
