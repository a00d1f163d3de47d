//! An Akida board made of software.

pub mod mesh;
