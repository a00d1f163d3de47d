//! The network: model and its file, reference arithmetic, mapping to a mesh, sessions on a board.
//!
//! Data flows one way: model, mapping, program, board. This crate never names a kind of board.

pub mod edge;
pub mod estimate;
pub mod hybrid;
pub mod mapping;
pub mod model;
pub mod reference;
pub mod session;
pub mod summary;
