//! A network made ready for a device that another network is on.

use std::sync::Arc;

use akida_hal::mesh::Mesh;

use super::session::board_error;
use super::{HostEngine, HostProgram, HybridError, HybridModel, Part};
use crate::mapping::Mapping;
use crate::model::LayerKind;
use crate::session::{KnownAnswers, Ready, SessionOptions};

/// What runs a part.
pub(super) enum Runner {
    /// Not on the board at present: everything but the board itself. None: on it.
    Board(Option<Box<Ready>>),
    Host(Box<dyn HostProgram>),
}

/// Everything of a session but the device: a network, the mapping of its board parts, its segments.
pub struct HybridReady {
    pub(super) model: Arc<HybridModel>,
    /// None of them is on the board.
    pub(super) runners: Vec<Runner>,
}

impl HybridReady {
    /// Maps every board part to a mesh and gets every segment ready; needs no board. `board` names it in errors and logs.
    /// The session that takes it must have the same options and a board with the same mesh.
    ///
    /// # Errors
    /// [`HybridError::Board`] when a part does not map, [`HybridError::Prepare`] when the engine cannot run a segment,
    /// [`HybridError::Streams`].
    pub fn prepare(
        model: Arc<HybridModel>,
        engine: &dyn HostEngine,
        board: &str,
        mesh: &Mesh,
        options: &SessionOptions,
    ) -> Result<Self, HybridError> {
        check_streams(&model)?;
        let mut runners = Vec::with_capacity(model.parts.len());
        for (number, part) in model.parts.iter().enumerate() {
            runners.push(match part {
                Part::Host(segment) => {
                    Runner::Host(engine.prepare(segment).map_err(|source| HybridError::Prepare {
                        part: number,
                        name: segment.name.clone(),
                        source,
                    })?)
                }
                Part::Board(part) => {
                    let ready = Ready::prepare(Arc::new((**part).clone()), board, mesh, options);
                    Runner::Board(Some(Box::new(ready.map_err(|source| board_error(number, &part.name, source))?)))
                }
            });
        }
        Ok(Self { model, runners })
    }

    /// The network.
    pub fn model(&self) -> &Arc<HybridModel> {
        &self.model
    }

    /// What of each board part runs where, in order.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.ready().map(Ready::mapping)
    }

    /// Whether layers keep frames from one sample to the next, so that a batch is a stream.
    pub fn stateful(&self) -> bool {
        self.ready().any(Ready::stateful)
    }

    /// Known inputs of every board part with their answers; plain loops, so this takes a while.
    ///
    /// # Errors
    /// [`HybridError::Board`] when the reference takes no such input.
    pub fn answers(&self, samples: usize) -> Result<HybridAnswers, HybridError> {
        let mut answers = Vec::new();
        for (number, runner) in self.runners.iter().enumerate() {
            if let Runner::Board(Some(ready)) = runner {
                let known = KnownAnswers::new(ready.model().clone(), samples);
                answers.push((number, known.map_err(|source| board_error(number, &ready.model().name, source))?));
            }
        }
        Ok(HybridAnswers(answers))
    }

    fn ready(&self) -> impl Iterator<Item = &Ready> {
        self.runners.iter().filter_map(|runner| match runner {
            Runner::Board(ready) => ready.as_deref(),
            Runner::Host(_) => None,
        })
    }
}

/// Known inputs of the board parts of a network, and every integer the reference makes of them.
pub struct HybridAnswers(pub(super) Vec<(usize, KnownAnswers)>);

/// Takes the first board part out.
pub(super) fn take_first(runners: &mut [Runner]) -> Option<(usize, Box<Ready>)> {
    runners.iter_mut().enumerate().find_map(|(number, runner)| match runner {
        Runner::Board(ready) => ready.take().map(|ready| (number, ready)),
        Runner::Host(_) => None,
    })
}

/// Frames that a temporal layer keeps must not be lost between two calls.
fn check_streams(model: &HybridModel) -> Result<(), HybridError> {
    let parts = model.boards().count();
    let temporal = |kind: &LayerKind| matches!(kind, LayerKind::Conv(conv) if conv.kind.temporal());
    let layer = model.boards().flat_map(|(_, m)| &m.layers).find(|layer| temporal(&layer.kind));
    match layer {
        Some(layer) if parts > 1 => Err(HybridError::Streams { layer: layer.name.clone(), parts }),
        _ => Ok(()),
    }
}
