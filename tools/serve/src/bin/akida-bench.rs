//! `akida-bench`: load for a service that speaks Open Inference Protocol v2.

use std::process::ExitCode;

use akida_serve::load;
use akida_tools::command;

fn main() -> ExitCode {
    command::main("akida-bench", |args: &load::Args| &args.common, load::run)
}
