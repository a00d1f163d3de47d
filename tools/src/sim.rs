//! `akida-sim`: simulated boards as processes of their own.

mod control;

use std::io::Write;
use std::path::PathBuf;

use akida_simulator::serve::{Dma, Server};
use akida_simulator::{FaultPlan, SimSpec};
use clap::{Parser, Subcommand, ValueEnum};

use crate::command::Common;
use crate::exit::{Exit, Failure};

use self::control::Control;

/// Simulated Akida boards, served to virtual machines and to other processes.
#[derive(Clone, Debug, Parser)]
#[command(name = "akida-sim", version, max_term_width = 100, after_help = AFTER)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

const AFTER: &str = "\
QEMU 10.1 and later shows a served board to a guest, whose kernel finds a PCI function:
  -device '{\"driver\":\"vfio-user-pci\",\"socket\":{\"type\":\"unix\",\"path\":\"S\"}}'
The tools of this project drive it without a kernel: --device vfio-user:S

Faults can be changed while a board is served with --control CTRL:
  akida-sim fault --socket CTRL abort-link@5

Exit codes: 0 done, 64 usage, 69 nobody serves, 71 system (docs/exit-codes.md).";

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Serve boards over vfio-user until ended (SIGINT, SIGTERM)
    Serve(Serve),
    /// Change the fault plan of a board that is being served, and say which faults have happened
    Fault(Fault),
}

#[derive(Clone, Debug, clap::Args)]
struct Fault {
    /// The --control socket of the serving process
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Which of its boards, counted from 0
    #[arg(long, default_value_t = 0, value_name = "N")]
    board: usize,
    /// Replaces what is left of the plan; "" takes all faults away. Left out: only asks
    plan: Option<String>,
    /// Bring back a board that lose-device has taken away
    #[arg(long, conflicts_with = "plan")]
    reconnect: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct Serve {
    /// UNIX socket to listen on; once for each board
    #[arg(long, required = true, value_name = "PATH")]
    socket: Vec<PathBuf>,
    /// Board: akd1000, akd1500, akida2, akida2-2node; the first is for the first socket, and so on
    #[arg(long, required = true, value_name = "BOARD")]
    board: Vec<SimSpec>,
    /// What goes wrong, for example "drop-interrupt@2; abort-link@5", or @FILE
    #[arg(long, value_name = "PLAN")]
    faults: Option<String>,
    /// UNIX socket on which `akida-sim fault` may change the faults while boards are served
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// How the board reaches the host's memory
    #[arg(long, value_enum, default_value_t = Road::Files)]
    dma: Road,
}

/// How the board reaches the host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Road {
    /// Through files that the host hands over: fast, checked by the board's own table
    Files,
    /// By messages: translated and checked by the host's IOMMU, piece by piece
    Messages,
}

/// The command.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    match &args.command {
        Command::Serve(serve) => run_serve(serve, out),
        Command::Fault(fault) => run_fault(fault, out),
    }
}

fn run_fault(args: &Fault, out: &mut dyn Write) -> Result<Exit, Failure> {
    if args.reconnect {
        control::ask(&args.socket, args.board, "!")?;
    }
    let text = args.plan.as_deref().map(lines).transpose()?;
    let answer = control::ask(&args.socket, args.board, text.as_deref().unwrap_or("?"))?;
    let mut said = match answer.armed.as_deref() {
        None => String::new(),
        Some("") => "no faults are armed\n".to_string(),
        Some(plan) => format!("armed: {plan}\n"),
    };
    for fired in &answer.fired {
        said += &format!("happened: {fired}\n");
    }
    out.write_all(said.as_bytes()).map_err(|e| Failure::stdout(&e))?;
    Ok(Exit::Done)
}

fn run_serve(args: &Serve, out: &mut dyn Write) -> Result<Exit, Failure> {
    if args.socket.len() != args.board.len() {
        let message = format!("{} sockets for {} boards", args.socket.len(), args.board.len());
        return Err(Failure::new(Exit::Usage, message, "give --socket and --board as often as each other"));
    }
    let faults = args.faults.as_deref().map(plan).transpose()?.unwrap_or_default();
    let dma = match args.dma {
        Road::Files => Dma::Files,
        Road::Messages => Dma::Messages,
    };
    let control = args.control.as_deref().map(|path| {
        Control::bind(path).map_err(|e| {
            let what = format!("cannot listen on {}", path.display());
            Failure::because(Exit::Os, what, &e, "name a socket that no other process serves")
        })
    });
    let control = control.transpose()?;
    let mut servers = Vec::new();
    for (path, spec) in args.socket.iter().zip(&args.board) {
        let spec = spec.clone().with_faults(faults.clone());
        let server = Server::bind(path, &spec, dma).map_err(|e| {
            let what = format!("cannot listen on {}", path.display());
            Failure::because(Exit::Os, what, &e, "name a socket that no other process serves")
        })?;
        servers.push(server);
        // For those who wait for it: from this line on a host can connect.
        writeln!(out, "{}: serving {spec} (simulated)", path.display()).map_err(|e| Failure::stdout(&e))?;
    }
    out.flush().map_err(|e| Failure::stdout(&e))?;
    std::thread::scope(|scope| {
        if let Some(control) = &control {
            scope.spawn(|| control.serve(&servers));
        }
        let result = serve_all(scope, &servers);
        if let Some(control) = &control {
            control.stop();
        }
        result
    })
}

fn serve_all<'a>(scope: &'a std::thread::Scope<'a, '_>, servers: &'a [Server]) -> Result<Exit, Failure> {
    {
        let threads: Vec<_> = servers.iter().map(|server| scope.spawn(|| server.run())).collect();
        for thread in threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return Err(Failure::because(Exit::Os, "cannot serve", &e, "run again with -v")),
                Err(_) => {
                    let help = "please report it with RUST_LOG=debug output";
                    return Err(Failure::new(Exit::Internal, "a board's thread panicked", help));
                }
            }
        }
        Ok(Exit::Done)
    }
}

/// A plan, or a file with one: blank lines and lines that begin with # are left out.
fn plan(text: &str) -> Result<FaultPlan, Failure> {
    lines(text)?.parse().map_err(|e: akida_simulator::faults::FaultSyntax| {
        Failure::because(Exit::Usage, "--faults", &e, "the plan's language is described in docs/simulator.md")
    })
}

/// The text of a plan, on one line.
fn lines(text: &str) -> Result<String, Failure> {
    Ok(match text.strip_prefix('@') {
        None => text.to_string(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|e| Failure::input(path.as_ref(), &e))?
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .collect::<Vec<_>>()
            .join(";"),
    })
}
