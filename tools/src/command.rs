//! What the binaries have in common: arguments, logs, errors, exit codes.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use log::LevelFilter;

use crate::exit::{Exit, Failure};

/// Arguments every command has.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Common {
    /// Log more to standard error: -v what is done, -vv every step, -vvv every register access. RUST_LOG overrides
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = "Messages")]
    pub verbose: u8,
    /// No progress bars and no notices on standard error, errors only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Messages")]
    pub quiet: bool,
}

impl Common {
    /// Says something to a person, on standard error.
    pub fn notice(&self, text: std::fmt::Arguments<'_>) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }
}

/// Runs a command and turns its result into an exit code (docs/exit-codes.md).
pub fn main<A: Parser>(
    name: &str,
    common: impl Fn(&A) -> &Common,
    run: impl FnOnce(&A, &mut dyn Write) -> Result<Exit, Failure>,
) -> ExitCode {
    let args = match A::try_parse() {
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
    start_log(common(&args));
    let mut out = std::io::stdout().lock();
    let result = run(&args, &mut out).and_then(|exit| match out.flush() {
        Ok(()) => Ok(exit),
        Err(error) => Err(Failure::stdout(&error)),
    });
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if failure.exit != Exit::BrokenPipe {
                // Nowhere left to report to if this fails; the exit code still tells.
                let _ = writeln!(std::io::stderr(), "{name}: {failure}");
            }
            failure.exit.into()
        }
    }
}

fn start_log(common: &Common) {
    let level = match common.verbose {
        _ if common.quiet => LevelFilter::Error,
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .parse_env(env_logger::Env::default().filter("RUST_LOG"))
        .format_timestamp_micros()
        .init();
}
