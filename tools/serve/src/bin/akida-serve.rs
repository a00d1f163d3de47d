//! `akida-serve`: boards as a network service.

use std::io::Write;
use std::process::ExitCode;

use akida_serve::config::Args;
use akida_serve::{lifecycle, logging};
use akida_tools::exit::Exit;
use clap::Parser;
use clap::error::ErrorKind;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to standard output; a reader that went away there is no mistake worth a message.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done.into(),
                _ => Exit::Usage.into(),
            };
        }
    };
    let format = akida_serve::config::Config::read(&args).map(|c| c.log).unwrap_or_default();
    logging::start(&args.common, args.log_format.unwrap_or(format));
    match lifecycle::run(&args, &mut std::io::stdout().lock()) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // Nowhere left to report to if this fails; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "akida-serve: {failure}");
            failure.exit.into()
        }
    }
}
