//! `akida-ctl`: the boards of this machine, what is wrong with them, and who drives them.

mod bind;
mod devices;
mod doctor;
mod dump;
mod host;
mod info;
pub mod known;
mod monitor;
mod open;
mod program;
mod selftest;
#[cfg(test)]
mod tests;
mod trace;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use akida_hal::sysfs::{self, Sysfs};
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::command::Common;
use crate::exit::{Exit, Failure};

use open::Which;

/// Look after Akida boards: list, diagnose, bind to vfio-pci, reset, test.
#[derive(Clone, Debug, Parser)]
#[command(name = "akida-ctl", version, max_term_width = 100, after_help = AFTER)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t = Format::Text, global = true, help_heading = "Results")]
    format: Format,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

const AFTER: &str = "\
A board is a PCI address as lspci shows it (0000:03:00.0 or 03:00.0), a simulated one (sim:akd1000),
or one in another process (vfio-user:SOCKET, served by akida-sim). `info` also takes the node of the
vendor's kernel module (node:/dev/akida0). vfio-noiommu:ADDRESS is a PCI board on a machine without an
IOMMU, which nothing keeps from overwriting any memory of that machine.

Exit codes: 0 done, 1 traces differ, 64 usage, 65 no trace, 69 no board, 70 internal, 71 system, 75 busy or time-out, 76 board error,
77 permission, 78 the machine is not set up for boards (docs/exit-codes.md).";

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List the boards, and the simulated ones
    Devices,
    /// What one board says of itself: hardware version, mesh, memory
    Info {
        /// Board
        board: Which,
    },
    /// Say in plain words what keeps the boards from working, and the command that changes it
    Doctor,
    /// Give a board to vfio-pci, so that this project's tools can drive it; switches ASPM off (root)
    Bind {
        /// PCI address; vfio-noiommu:ADDRESS where there is no IOMMU, and then nothing keeps the board from any memory of the machine
        address: String,
    },
    /// Give a board back to the driver it had (root)
    Unbind {
        /// PCI address
        address: String,
    },
    /// For udev: succeed when an IOMMU group holds Akida boards and nothing else but bridges
    #[command(hide = true)]
    OwnsGroup {
        /// Number of the group, the name of its node under /dev/vfio
        group: u32,
    },
    /// Reset a board and look whether it came back
    Reset {
        /// Board
        board: Which,
    },
    /// Test registers, memory, DMA and interrupt of a board; what runs on it is lost
    Selftest {
        /// Board
        board: Which,
        /// Write every access to the board to this file
        #[arg(long, value_name = "FILE")]
        trace: Option<PathBuf>,
    },
    /// Show what the boards are doing, again and again; piped: a line for each board each time
    Monitor {
        /// Look once
        #[arg(long)]
        once: bool,
        /// Seconds between two looks
        #[arg(long, default_value_t = 2.0, value_name = "S", value_parser = interval)]
        interval: f64,
    },
    /// Collect what somebody who is to help must know, as text: versions, devices, doctor's findings, PCI configuration, kernel
    /// log lines about boards. No secrets, no host memory
    Dump {
        /// Also registers of this board, which is opened and brought up for that
        board: Option<Which>,
        /// Write to this file and list what it holds
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Read program files of the vendor's format, and play them into boards
    Program {
        #[command(subcommand)]
        command: ProgramCommand,
    },
    /// Look at traces that --trace wrote
    Trace {
        #[command(subcommand)]
        command: TraceCommand,
    },
}

#[derive(Clone, Debug, Subcommand)]
enum ProgramCommand {
    /// Check a program file and print what is in it: passes, tracks and packets, event generator words
    Show {
        /// Program file
        file: PathBuf,
    },
    /// Program a board with it, read registers and memories of NPs back and compare; the board is reset afterwards
    Load {
        /// Program file
        file: PathBuf,
        /// Board
        #[arg(short, long)]
        device: Which,
    },
}

#[derive(Clone, Debug, Subcommand)]
enum TraceCommand {
    /// Say where two traces part: accesses, in order, with host addresses by name; exit code 1 when they do
    Compare {
        /// A trace
        first: PathBuf,
        /// Another one
        second: PathBuf,
    },
}

/// Seconds from a tenth to an hour.
fn interval(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.1 to 3600".into()),
    }
}

/// What standard output carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document with a schema version; nothing else.
    Json,
}

/// The command.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    let sysfs = Sysfs::system();
    let mut page = Page { format: args.format, out };
    match &args.command {
        Command::Devices => devices::run(&sysfs, &mut page),
        Command::Info { board } => info::run(&sysfs, board, &mut page),
        Command::Doctor => doctor::run(&sysfs, &host::Host::read(&sysfs), &mut page),
        Command::Bind { address } => bind::bind(&sysfs, address, &mut page),
        Command::Unbind { address } => bind::unbind(&sysfs, address, &mut page),
        Command::OwnsGroup { group } => match sysfs.is_akida_group(*group) {
            true => Ok(Exit::Done),
            false => Err(Failure::new(
                Exit::Config,
                format!("IOMMU group {group} is not one of Akida boards only"),
                "akida-ctl doctor says who shares it",
            )),
        },
        Command::Reset { board } => info::reset(&sysfs, board, &mut page),
        Command::Selftest { board, trace } => selftest::run(&sysfs, board, trace.as_deref(), &mut page),
        Command::Monitor { once, interval } => {
            monitor::run(&sysfs, *once, Duration::from_secs_f64(*interval), &mut page)
        }
        Command::Dump { board, output } => dump::run(&sysfs, board.as_ref(), output.as_deref(), &mut page),
        Command::Program { command: ProgramCommand::Show { file } } => program::show(file, &mut page),
        Command::Program { command: ProgramCommand::Load { file, device } } => {
            program::load(&sysfs, file, device, &mut page)
        }
        Command::Trace { command: TraceCommand::Compare { first, second } } => trace::compare(first, second, &mut page),
    }
}

/// Standard output in the chosen format.
struct Page<'a> {
    format: Format,
    out: &'a mut dyn Write,
}

impl Page<'_> {
    /// Prints a document: `schema` and its fields as JSON, or `text`.
    fn print<T: Serialize>(
        &mut self,
        schema: &str,
        document: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Document<'a, T> {
            schema: &'a str,
            version: &'static str,
            #[serde(flatten)]
            rest: &'a T,
        }
        let written = match self.format {
            Format::Json => {
                let document = Document { schema, version: env!("CARGO_PKG_VERSION"), rest: document };
                serde_json::to_writer_pretty(&mut *self.out, &document)
                    .map_err(std::io::Error::from)
                    .and_then(|()| self.out.write_all(b"\n"))
            }
            Format::Text => self.out.write_all(text().as_bytes()),
        };
        written.map_err(|e| Failure::stdout(&e))
    }
}

/// What discovery and binding errors mean to a shell.
impl From<sysfs::Error> for Failure {
    fn from(error: sysfs::Error) -> Self {
        use sysfs::Error as E;
        let exit = match &error {
            E::NotAnAddress { .. } => Exit::Usage,
            E::NoSuchFunction { .. } | E::NotAkida { .. } => Exit::Unavailable,
            E::Write { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => Exit::Permission,
            E::InUse { .. } => Exit::Retry,
            E::SharedGroup { .. }
            | E::NoIommu { .. }
            | E::Unconfined { .. }
            | E::Confined { .. }
            | E::NoIommuMode { .. }
            | E::NoDriver { .. } => Exit::Config,
            _ => Exit::Os,
        };
        let help = error.advice().into_owned();
        Self::new(exit, crate::exit::chain(&error), help)
    }
}
