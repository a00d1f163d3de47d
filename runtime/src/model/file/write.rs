//! Writing: whole or not at all.

use std::{
    fs::{File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use zerocopy::IntoBytes;

use super::{
    Extent, FileError, Metadata,
    header::{self, Header},
};
use crate::model::{Model, Weights};

impl Model {
    /// Writes the model to `path`, replacing what is there only when everything is written. The same model always gives
    /// the same bytes.
    ///
    /// # Errors
    /// [`FileError::Model`] when the model breaks an invariant, [`FileError::Io`]. Then `path` is as it was.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        let path = path.as_ref();
        self.validate().map_err(|source| FileError::Model { path: path.to_owned(), source: Box::new(source) })?;
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
        self.write(temporary.as_file_mut()).map_err(failed("write"))?;
        temporary.as_file().sync_all().map_err(failed("write"))?;
        temporary.persist(path).map_err(|error| failed("replace")(error.error))?;
        // Without this a power cut may undo the rename.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder of"))
    }

    /// The bytes of a model file. The model should be a valid one: [`Model::save`] checks it.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let weights: Vec<&Weights> = self.layers.iter().flat_map(|layer| layer.kind.weights()).collect();
        let mut blobs = Vec::with_capacity(weights.len());
        let mut end = 0;
        for weights in &weights {
            let extent = Extent { offset: header::align(end), len: weights.data.len() as u64 };
            end = extent.offset + extent.len;
            blobs.push(extent);
        }
        let metadata = serde_json::to_vec(&Metadata { model: self, blobs })?;
        let metadata_len = metadata.len() as u64;
        let mut head = Header {
            magic: header::MAGIC,
            version: header::VERSION.into(),
            checksum: 0.into(),
            file_len: (header::blob_offset(metadata_len) + end).into(),
            metadata_offset: header::SIZE.into(),
            metadata_len: metadata_len.into(),
            blob_offset: header::blob_offset(metadata_len).into(),
            reserved: [0.into(); 2],
        };
        // Twice over the same pieces, once to sum and once to write, rather than a copy of all weights.
        let mut sum = Sum(crc32fast::Hasher::new());
        write_pieces(&mut sum, &head, &metadata, &weights)?;
        head.checksum = sum.0.finalize().into();
        let mut to = BufWriter::new(to);
        write_pieces(&mut to, &head, &metadata, &weights)?;
        to.flush()
    }
}

fn write_pieces(to: &mut impl Write, head: &Header, metadata: &[u8], weights: &[&Weights]) -> io::Result<()> {
    to.write_all(head.as_bytes())?;
    to.write_all(metadata)?;
    let mut end = header::SIZE + metadata.len() as u64;
    // Also with no weights the file ends where the (empty) blob area begins.
    end += pad(to, end)?;
    for weights in weights {
        end += pad(to, end)?;
        to.write_all(weights.data.as_bytes())?;
        end += weights.data.len() as u64;
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
