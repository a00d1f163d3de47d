//! Networks of several parts in files: version 2 of docs/model-format.md. A network that is one model is written as that
//! model, version 1, and both are read.

use std::io::{self, Write};
use std::path::Path;

use super::{HybridModel, Part};
use crate::model::file::{Metadata, header, read, write};
use crate::model::{Blob, FileError, FormatError, Model};

impl HybridModel {
    /// Opens a file of a model or of a network of several parts. Weights and segments stay in the file; see
    /// [`Model::open`].
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        read::open(path.as_ref(), Self::read)
    }

    /// A network from the bytes of a file, sharing their memory.
    ///
    /// # Errors
    /// As [`Model::read`].
    pub fn read(bytes: Blob) -> Result<Self, FormatError> {
        let head = read::check_header(bytes.as_bytes())?;
        if head.version == header::VERSION {
            let network = Self::of(Model::read(bytes)?);
            network.validate()?;
            return Ok(network);
        }
        let Metadata { model: mut network, blobs } = read::metadata::<Self>(&bytes, &head)?;
        read::place(&bytes, &head, slots(&mut network), &blobs)?;
        network.validate()?;
        Ok(network)
    }

    /// Writes the network to `path`, replacing what is there only when everything is written. The same network always
    /// gives the same bytes.
    ///
    /// # Errors
    /// As [`Model::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        write::save(path.as_ref(), self.validate(), |file| self.write(file))
    }

    /// The bytes of a file. The network should be a valid one: [`HybridModel::save`] checks it.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        match self.whole() {
            Some(model) if Self::of(model.clone()) == *self => model.write(to),
            _ => write::write(to, header::HYBRID_VERSION, self, &blobs(self)),
        }
    }
}

/// Blobs in the order of the parts: weights of a board part, bytes of a segment.
fn blobs(network: &HybridModel) -> Vec<&Blob> {
    fn of(part: &Part) -> Vec<&Blob> {
        match part {
            Part::Board(model) => {
                model.layers.iter().flat_map(|layer| layer.kind.weights()).map(|weights| &weights.data).collect()
            }
            Part::Host(segment) => vec![&segment.data],
        }
    }
    network.parts.iter().flat_map(of).collect()
}

/// The same, to fill them in.
fn slots(network: &mut HybridModel) -> Vec<&mut Blob> {
    let mut slots = Vec::new();
    for part in &mut network.parts {
        match part {
            Part::Board(model) => {
                let weights = model.layers.iter_mut().flat_map(|layer| layer.kind.weights_mut());
                slots.extend(weights.map(|weights| &mut weights.data));
            }
            Part::Host(segment) => slots.push(&mut segment.data),
        }
    }
    slots
}
