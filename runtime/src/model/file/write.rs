//! Writing: whole or not at all.

use std::{
    fs::{File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use serde::Serialize;
use zerocopy::IntoBytes;

use super::{
    Extent, FileError, Metadata,
    header::{self, Header},
};
use crate::model::{Blob, Model, ModelError};

impl Model {
    /// Writes the model to `path`, replacing what is there only when everything is written. The same model always gives
    /// the same bytes.
    ///
    /// # Errors
    /// [`FileError::Model`] when the model breaks an invariant, [`FileError::Io`]. Then `path` is as it was.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        save(path.as_ref(), self.validate(), |file| self.write(file))
    }

    /// The bytes of a model file. The model should be a valid one: [`Model::save`] checks it.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let blobs = self.layers.iter().flat_map(|layer| layer.kind.weights()).map(|weights| &weights.data);
        write(to, header::VERSION, self, &blobs.collect::<Vec<_>>())
    }
}

/// Writes a file whole or not at all, when what is in it is valid.
pub fn save(
    path: &Path,
    valid: Result<(), ModelError>,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), FileError> {
    valid.map_err(|source| FileError::Model { path: path.to_owned(), source: Box::new(source) })?;
    let failed = |operation| move |source| FileError::Io { path: path.to_owned(), operation, source };

    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new()
        .prefix(".akm-")
        // What an ordinary file gets; the process's mask applies.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(failed("create a file beside it"))?;
    write(temporary.as_file_mut()).map_err(failed("write"))?;
    temporary.as_file().sync_all().map_err(failed("write"))?;
    temporary.persist(path).map_err(|error| failed("replace")(error.error))?;
    // Without this a power cut may undo the rename.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder of"))
}

/// The bytes of a file: header, metadata, blobs.
pub fn write<M: Serialize>(to: impl Write, version: u32, model: &M, blobs: &[&Blob]) -> io::Result<()> {
    let mut extents = Vec::with_capacity(blobs.len());
    let mut end = 0;
    for blob in blobs {
        let extent = Extent { offset: header::align(end), len: blob.len() as u64 };
        end = extent.offset + extent.len;
        extents.push(extent);
    }
    let metadata = serde_json::to_vec(&Metadata { model, blobs: extents })?;
    let metadata_len = metadata.len() as u64;
    let mut head = Header {
        magic: header::MAGIC,
        version: version.into(),
        checksum: 0.into(),
        file_len: (header::blob_offset(metadata_len) + end).into(),
        metadata_offset: header::SIZE.into(),
        metadata_len: metadata_len.into(),
        blob_offset: header::blob_offset(metadata_len).into(),
        reserved: [0.into(); 2],
    };
    // Twice over the same pieces, once to sum and once to write, rather than a copy of all weights.
    let mut sum = Sum(crc32fast::Hasher::new());
    write_pieces(&mut sum, &head, &metadata, blobs)?;
    head.checksum = sum.0.finalize().into();
    let mut to = BufWriter::new(to);
    write_pieces(&mut to, &head, &metadata, blobs)?;
    to.flush()
}

fn write_pieces(to: &mut impl Write, head: &Header, metadata: &[u8], blobs: &[&Blob]) -> io::Result<()> {
    to.write_all(head.as_bytes())?;
    to.write_all(metadata)?;
    let mut end = header::SIZE + metadata.len() as u64;
    // Also with no blobs the file ends where the (empty) blob area begins.
    end += pad(to, end)?;
    for blob in blobs {
        end += pad(to, end)?;
        to.write_all(blob.as_bytes())?;
        end += blob.len() as u64;
    }
    Ok(())
}

/// Zeros up to the next aligned offset; how many.
fn pad(to: &mut impl Write, offset: u64) -> io::Result<u64> {
    let count = header::align(offset) - offset;
    to.write_all(&[0; header::ALIGNMENT as usize][..count as usize])?;
    Ok(count)
}

struct Sum(crc32fast::Hasher);

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
