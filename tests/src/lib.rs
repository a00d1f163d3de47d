//! What the tests that cross crates share.

pub mod conformance;
pub mod generate;
