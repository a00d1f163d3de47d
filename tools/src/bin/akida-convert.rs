//! `akida-convert`: ONNX networks into models for Akida boards.

use std::process::ExitCode;

use akida_tools::{command, convert};

fn main() -> ExitCode {
    command::main("akida-convert", |args: &convert::Args| &args.common, convert::run)
}
