//! Networks against references: what is converted, its integers, its accuracy.

mod support;

mod akida1_conformance;
mod akida1_nets;
mod conformance_akida1;
mod conformance_reference;
mod conformance_summary;
mod defects;
mod four_bits;
mod hybrid;
mod import;
mod qdq;
