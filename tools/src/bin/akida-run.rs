//! `akida-run`: networks on Akida boards and simulated ones.

use std::process::ExitCode;

use akida_tools::{command, run};

fn main() -> ExitCode {
    command::main("akida-run", |args: &run::Args| &args.common, run::run)
}
