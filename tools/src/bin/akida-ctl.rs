//! `akida-ctl`: the boards of this machine, what is wrong with them, and who drives them.

use std::process::ExitCode;

use akida_tools::{command, ctl};

fn main() -> ExitCode {
    command::main("akida-ctl", |args: &ctl::Args| &args.common, ctl::run)
}
