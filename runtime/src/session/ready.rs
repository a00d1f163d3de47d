//! A model made ready for a device that another model is on.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::SessionError;
use super::host::HostWork;
use super::run::Prefix;
use super::{Session, SessionOptions};
use crate::mapping::{self, Mapping, Sequence};
use crate::model::{LayerKind, Model};
use akida_hal::device::Device;

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
    /// Maps `model` to the mesh of `device` and prepares its layers on the host.
    pub(super) fn new(model: Arc<Model>, device: &Device, options: &SessionOptions) -> Result<Self, SessionError> {
        let board = device.identity().to_string();
        let mapping = mapping::map(&model, device.mesh(), &options.map)
            .map_err(|source| SessionError::Map { board: board.clone(), source: Box::new(source) })?;
        log::info!("{board}: {} in {} sequences", model.name, mapping.sequences.len());
        let prepare = |sequence: &Sequence| match sequence {
            Sequence::Hardware(_) => Ok(Vec::new()),
            Sequence::Host(h) => h.steps.iter().map(|(step, _)| HostWork::prepare(&model, *step)).collect(),
        };
        let host = mapping.sequences.iter().map(prepare).collect::<Result<_, _>>()?;
        let stateful = model.layers.iter().any(|l| matches!(&l.kind, LayerKind::Conv(conv) if conv.kind.temporal()));
        Ok(Self { mapping: Arc::new(mapping), host, prefixes: HashMap::new(), stateful, model })
    }

    /// What runs where.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

impl Session {
    /// Makes another model ready for this session's device, with the same options.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn ready(&self, model: Arc<Model>) -> Result<Ready, SessionError> {
        Ready::new(model, &self.device, &self.options)
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
