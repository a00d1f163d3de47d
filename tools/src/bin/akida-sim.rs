//! `akida-sim`: simulated boards as processes of their own.

use std::process::ExitCode;

use akida_tools::{command, sim};

fn main() -> ExitCode {
    command::main("akida-sim", |args: &sim::Args| &args.common, sim::run)
}
