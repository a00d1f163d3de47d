//! A model made ready for a device that another model is on.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::SessionError;
use super::host::HostWork;
use super::run::Prefix;
use super::{Session, SessionOptions};
use crate::mapping::{self, Mapping, Sequence};
use crate::model::{LayerKind, Model};
use akida_hal::mesh::Mesh;

/// Everything of a session but the device: a model, its mapping, and its layers on the host.
pub struct Ready {
    pub(super) model: Arc<Model>,
    pub(super) mapping: Arc<Mapping>,
    /// Host steps of each sequence; none for hardware sequences.
    pub(super) host: Vec<Vec<HostWork>>,
    pub(super) prefixes: HashMap<usize, Arc<Vec<Prefix>>>,
    pub(super) stateful: bool,
}

impl Ready {
    /// Maps `model` to a mesh and prepares its layers on the host; needs no board, so any thread may do it while others
    /// keep the board busy. `board` names it in errors and logs. The session that takes it must have the same options and
    /// a board with the same mesh.
    ///
    /// # Errors
    /// [`SessionError::Map`] when the model does not map, [`SessionError::Prepare`] for a layer on the host.
    pub fn prepare(
        model: Arc<Model>,
        board: &str,
        mesh: &Mesh,
        options: &SessionOptions,
    ) -> Result<Self, SessionError> {
        let mapping = mapping::map(&model, mesh, &options.map)
            .map_err(|source| SessionError::Map { board: board.to_owned(), source: Box::new(source) })?;
        log::info!("{board}: {} in {} sequences", model.name, mapping.sequences.len());
        let prepare = |sequence: &Sequence| match sequence {
            Sequence::Hardware(_) => Ok(Vec::new()),
            Sequence::Host(h) => h.steps.iter().map(|(step, _)| HostWork::prepare(&model, *step)).collect(),
        };
        let host = mapping.sequences.iter().map(prepare).collect::<Result<_, _>>()?;
        let stateful = model.layers.iter().any(|l| matches!(&l.kind, LayerKind::Conv(conv) if conv.kind.temporal()));
        Ok(Self { mapping: Arc::new(mapping), host, prefixes: HashMap::new(), stateful, model })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What runs where.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Whether layers keep frames from one sample to the next.
    pub fn stateful(&self) -> bool {
        self.stateful
    }
}

impl Session {
    /// Makes another model ready for this session's device, with the same options.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn ready(&self, model: Arc<Model>) -> Result<Ready, SessionError> {
        Ready::prepare(model, &self.device.identity().to_string(), self.device.mesh(), &self.options)
    }

    /// Puts another model on the device, and gives back what was there. The board is programmed with the next batch;
    /// frames of streams are lost.
    pub fn exchange(&mut self, other: &mut Ready) {
        self.reset();
        std::mem::swap(&mut self.model, &mut other.model);
        std::mem::swap(&mut self.mapping, &mut other.mapping);
        std::mem::swap(&mut self.host, &mut other.host);
        std::mem::swap(&mut self.prefixes, &mut other.prefixes);
        std::mem::swap(&mut self.stateful, &mut other.stateful);
        self.loaded = None;
    }
}
