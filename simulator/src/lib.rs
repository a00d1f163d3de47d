//! An Akida board made of software: a PCI function with configuration space, BARs, DMA engines and a mesh.
//!
//! It sees what a chip sees: configuration and register accesses, and the host memory it was given. [`SimBoard`] puts
//! it below the same [`Board`](akida_hal::Board) trait as silicon; [`chip`] is the device model itself, for other
//! servers. What goes wrong on a board is configuration too ([`faults`]).
//!
//! ```
//! use akida_hal::Board;
//! use akida_simulator::{SimBoard, SimSpec};
//!
//! let board = SimBoard::open(&"akd1000".parse::<SimSpec>()?)?;
//! assert_eq!(board.config_read(0)?, 0xBCA1_1E7C);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod board;
pub mod chip;
mod clock;
pub mod faults;
mod interrupt;
mod iommu;
pub mod mesh;
pub mod serve;
mod spec;
mod team;

pub use board::{Inspection, SimBoard};
pub use clock::Clock;
pub use faults::FaultPlan;
pub use iommu::HostAccess;
pub use spec::{Model, SimSpec, UnknownModel};
