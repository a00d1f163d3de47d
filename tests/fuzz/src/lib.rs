//! What the fuzz targets share: everything behind the reader of a network, as the tools would call it.

pub mod edit;
pub mod road;
