//! The command lines, run as a shell runs them: exit codes, refusals, files, JSON, numbers.
//!
//! The network is `mnist_cnn` of the conformance data (real handwritten digits), on simulated boards.

mod bench;
mod boards;
mod convert;
mod exit_codes;
mod hybrid;
mod json;
mod refusals;
mod results;
mod support;
