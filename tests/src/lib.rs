//! What the tests that cross crates share.

pub mod accesses;
pub mod akida1;
pub mod akida1_nets;
pub mod conformance;
pub mod faults;
pub mod generate;
pub mod published;
pub mod suite;
pub mod transfers;
pub mod zoo;
