//! The machine: registers, packets, DMA, boards and the driver sequence of BrainChip Akida PCIe boards.
//!
//! Three seams, each a small trait or type (docs/architecture.md):
//!
//! - [`Board`]: a PCI function. Configuration space, BARs, DMA memory, interrupt, reset.
//! - [`Transport`]: bytes to and from *device* addresses over a board (iATU, eDMA or HDMA, BAR windows).
//! - [`Device`]: the Akida core over a transport: identify, scan the mesh, program, enqueue, fetch.
//!
//! This crate knows nothing of networks, layers or ONNX. How a layer is laid out in NP registers and SRAM is declared
//! in [`np`]; the mapper encodes with it, the simulated mesh decodes with it.

mod barrier;
pub mod board;
pub mod descriptor;
pub mod device;
pub mod dma;
pub mod error;
pub mod format;
pub mod memory_map;
pub mod mesh;
pub mod node;
pub mod np;
pub mod packet;
pub mod program;
pub mod program_file;
pub mod regs;
pub mod selftest;
pub mod sysfs;
#[cfg(test)]
mod testing;
pub mod trace;
pub mod transport;
pub mod vfio;
pub mod vfio_user;
pub mod wait;

pub use board::Board;
pub use device::Device;
pub use error::{Error, ErrorKind, Result};
pub use transport::Transport;
