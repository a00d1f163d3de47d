//! What people run: `akida-convert`, `akida-run`, `akida-ctl`, `akida-sim`.
//!
//! The binaries are thin; everything that can be tested is here. The libraries below do the work, this crate knows
//! files, terminals, command lines and exit codes (docs/exit-codes.md), and introduces boards to the runtime.

pub mod arrays;
pub mod command;
pub mod convert;
pub mod ctl;
pub mod device;
pub mod drawing;
mod errors;
pub mod exit;
pub mod files;
pub mod manual;
pub mod mapping;
pub mod run;
pub mod samples;
pub mod sim;
pub mod terminal;
pub mod trace;
