//! What several test files share.

pub mod float_nets;
pub mod networks;
