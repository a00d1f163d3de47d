//! `akida-manuals SHARE`: writes manual pages and shell completions of all tools below a folder that stands for `/usr/share`. For
//! packages (tools/package); not installed.

use std::path::PathBuf;
use std::process::ExitCode;

use akida_serve::manual::commands;
use akida_tools::command::{self, Common};
use akida_tools::exit::Exit;
use clap::Parser;

/// Write manual pages and shell completions of all tools
#[derive(Clone, Debug, Parser)]
#[command(name = "akida-manuals", version)]
struct Args {
    /// The folder, /usr/share of the package
    share: PathBuf,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    command::main(
        "akida-manuals",
        |args: &Args| &args.common,
        |args, _| akida_tools::manual::write(&args.share, commands()).map(|_| Exit::Done),
    )
}
