//! Exact integer arithmetic of Akida neural processors, and of the layers a host computes for them.
//!
//! A layer, or the part of it one NP makes (a [`Tile`]), is prepared once: weights are checked and packed for the
//! machine's kernels ([`Kernels`]). After that [`Layer::run`] computes without allocating. Tensors are (height, width,
//! channels), one byte per element; coordinates are always those of the whole layer.
//!
//! Results are exact: integers as in quantization.md sections 5 and 6.4, saturating where the chip does
//! ([`Arithmetic::Chip`]) or nowhere, as the quantized graph ([`Arithmetic::Graph`]). Every kernel set gives the same
//! bits; `scalar` is the oracle.

mod aligned;
mod diagonal;
mod ending;
mod error;
mod fifo;
mod finish;
mod geometry;
pub mod isa;
mod layer;
mod merge;
mod operator;
mod planes;
mod pool;
mod stage;
mod tensor;
mod trim;

pub use aligned::{Aligned, Bytes};
pub use ending::Ending;
pub use error::{PrepareError, RunError};
pub use fifo::Fifo;
pub use finish::{Activation, Arithmetic, Finish, Scale, Steps};
pub use geometry::{Geometry, Kind, Pool, Tile};
pub use isa::{Kernels, available, best, forced, scalar};
pub use layer::{Layer, LayerSpec, Scratch, Weights};
pub use merge::{Add, concat};
pub use tensor::{Output, View};
