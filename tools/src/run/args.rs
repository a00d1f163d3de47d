//! Arguments of `akida-run`.

use std::path::PathBuf;

use akida_hal::device::Verify;
use akida_simulator::FaultPlan;
use clap::builder::TypedValueParser;
use clap::{Parser, ValueEnum};

use crate::command::Common;
use crate::device::Selector;
use crate::mapping::MappingArgs;
use crate::terminal::When;

/// Run a converted network on an Akida board or a simulated one.
#[derive(Clone, Debug, Parser)]
#[command(name = "akida-run", version, max_term_width = 100, after_help = AFTER)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    #[allow(missing_docs)]
    pub command: Option<Command>,

    /// Network: .akm as made by akida-convert, or an .onnx file already quantized by QuantizeML; with --server NAME or
    /// NAME/VERSION
    #[arg(required_unless_present = "list")]
    pub model: Option<PathBuf>,

    /// Samples: .npy, .npz, .png, .jpg, .raw, or a directory of images
    #[arg(short, long, required_unless_present = "list", value_name = "PATH")]
    pub input: Option<PathBuf>,

    /// Board: auto, sim, sim:akd1000, sim:akd1500, sim:akida2, sim:akida2-2node, vfio-user:SOCKET, pci:0000:03:00.0,
    /// node:/dev/akida0; vfio-noiommu:0000:03:00.0 is a board that no IOMMU keeps from any memory of the machine
    #[arg(short, long, default_value = "auto", env = "AKIDA_DEVICE", value_name = "BOARD")]
    pub device: Selector,

    /// Run on the boards of a service, http://HOST:PORT, instead of --device
    #[arg(
        long,
        value_name = "URL",
        conflicts_with_all = ["list", "verify", "intermediates", "statistics", "faults", "real_time", "interrupts", "trace", "read_back"]
    )]
    pub server: Option<String>,
    /// With --server: file with a bearer token
    #[arg(long, value_name = "FILE", requires = "server")]
    pub token_file: Option<PathBuf>,

    /// List the boards there are, and the simulated ones, and stop
    #[arg(long, conflicts_with_all = ["model", "input"])]
    pub list: bool,

    /// Compare every integer of the outputs (with --intermediates: of every layer) with the reference; exit code 1 on a
    /// difference
    #[arg(long)]
    pub verify: bool,

    /// Run at most this many samples, the first ones
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<usize>,

    /// Mean that is subtracted from pixels divided by 255: makes floats of pixels as torchvision's Normalize does
    #[arg(
        long,
        value_name = "M[,M,M]",
        value_delimiter = ',',
        allow_negative_numbers = true,
        requires = "std",
        help_heading = "Samples"
    )]
    pub mean: Vec<f32>,
    /// Deviation that pixels are divided by after that
    #[arg(long, value_name = "S[,S,S]", value_delimiter = ',', requires = "mean", help_heading = "Samples")]
    pub std: Vec<f32>,
    /// Scale images to the network's size
    #[arg(long, help_heading = "Samples")]
    pub resize: bool,
    /// True classes, for the accuracy: .npy, .npz or text. Default: the array `labels` of an .npz input
    #[arg(long, value_name = "FILE", help_heading = "Samples")]
    pub labels: Option<PathBuf>,
    /// Names of the classes, one a line
    #[arg(long, value_name = "FILE", help_heading = "Samples")]
    pub class_names: Option<PathBuf>,

    /// Write the outputs to this .npz: out0, out1, ... (float32, ONNX layout, batch first)
    #[arg(short, long, value_name = "FILE.npz", help_heading = "Results")]
    pub output: Option<PathBuf>,
    /// Also write raw0, raw1, ...: the integers before the dequantizer, in the layout of the ONNX tensor
    #[arg(long, requires = "output", help_heading = "Results")]
    pub raw: bool,
    /// Also write the integers of every layer, under the name of the ONNX tensor
    #[arg(long, requires = "output", help_heading = "Results")]
    pub intermediates: bool,
    /// What goes to standard output
    #[arg(long, default_value = "text", help_heading = "Results")]
    pub format: Format,
    /// How many classes to print for a sample
    #[arg(short = 'k', long, default_value_t = 5, value_name = "K", help_heading = "Results")]
    pub top: usize,
    /// Samples to print, for example 0,7,20-29 or all or none. Default: all if there are up to 3, else the first
    #[arg(long, value_name = "WHICH", help_heading = "Results")]
    pub show: Option<Show>,
    /// Draw the printed samples in the terminal
    #[arg(long, default_value = "auto", value_name = "WHEN", help_heading = "Results")]
    pub picture: When,
    /// Write the first printed sample as a PNG file
    #[arg(long, value_name = "FILE.png", help_heading = "Results")]
    pub save_image: Option<PathBuf>,
    /// Print where the time went, how sparse activations were, and estimates of what the chip would take
    #[arg(long, help_heading = "Results")]
    pub statistics: bool,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub mapping: MappingArgs,

    /// Simulated boards only: what goes wrong, for example "stall-link@3; all-ones@100x5"
    #[arg(long, value_name = "PLAN", help_heading = "Board")]
    pub faults: Option<FaultPlan>,
    /// Simulated boards only: compute in a thread of the board, in real time. Otherwise time is virtual
    #[arg(long, help_heading = "Board")]
    pub real_time: bool,
    /// Simulated boards only: threads that compute jobs side by side in virtual time. Results are the same. Default: as many as
    /// there are processors
    #[arg(long, value_name = "N", help_heading = "Board", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Jobs in flight; a board takes at most 32
    #[arg(long, default_value_t = 32, value_name = "N", help_heading = "Board", value_parser = clap::value_parser!(u8).range(1..=32).map(usize::from))]
    pub jobs: usize,
    /// Wait for interrupts instead of polling
    #[arg(long, help_heading = "Board")]
    pub interrupts: bool,
    /// Write every access to the board to this file, for `akida-ctl trace compare`
    #[arg(long, value_name = "FILE", help_heading = "Board")]
    pub trace: Option<PathBuf>,
    /// What is read back from the board and compared. Default: programs; with --faults: jobs, so that even a flipped
    /// address that hits valid memory is noticed
    #[arg(long, value_name = "WHAT", help_heading = "Board")]
    pub read_back: Option<ReadBack>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// What else there is to do with a network and a board.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    #[allow(missing_docs)]
    Bench(super::bench::BenchArgs),
}

/// What `bench` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchFormat {
    /// For people.
    Text,
    /// One document, for programs.
    Json,
}

const AFTER: &str = "\
Samples are arrays with the batch first (.npz: the array `samples`, or `x`, or the only one beside `labels`).
  float32  layout of the ONNX input; passes the input quantizer
  uint8    pixels, (N, height, width, channels); enter the first layer as they are,
           or become floats with --mean and --std: (pixel / 255 - mean) / std

Exit codes: 0 done, 1 --verify found a difference, 64 usage, 65 bad data, 66 no input, 69 no board,
70 internal, 71 system, 73 cannot create output, 74 I/O, 75 time-out, 76 board error, 77 permission,
141 standard output closed (docs/exit-codes.md).";

/// What standard output carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document with a schema version; nothing else.
    Json,
    /// The first output as a .npy file; nothing else.
    Npy,
}

/// Which samples to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    /// Every one.
    All,
    /// None.
    None,
    /// These, as first and last index.
    Ranges(Vec<(usize, usize)>),
}

impl std::str::FromStr for Show {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Show::All),
            "none" => return Ok(Show::None),
            _ => {}
        }
        let parse = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.trim().parse(), last.trim().parse()) {
                (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
                _ => Err(format!("{part:?} is neither a sample number nor a range like 20-29")),
            }
        };
        text.split(',').map(parse).collect::<Result<_, _>>().map(Show::Ranges)
    }
}

impl Show {
    /// Indices among `count` samples, in the order asked for.
    pub fn indices(this: Option<&Show>, count: usize) -> Result<Vec<usize>, String> {
        match this {
            None if count <= 3 => Ok((0..count).collect()),
            None => Ok(vec![0]),
            Some(Show::All) => Ok((0..count).collect()),
            Some(Show::None) => Ok(Vec::new()),
            Some(Show::Ranges(ranges)) => match ranges.iter().find(|r| r.1 >= count) {
                Some((_, last)) => Err(format!("sample {last} is asked for, there are {count}, counted from 0")),
                None => Ok(ranges.iter().flat_map(|&(first, last)| first..=last).collect()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn declaration_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_argument_is_documented() {
        for arg in Args::command().get_arguments() {
            assert!(arg.get_help().is_some() || matches!(arg.get_id().as_str(), "help" | "version"), "{arg}");
        }
    }

    #[test]
    fn which_samples() {
        let parse = |text: &str| text.parse::<Show>();
        let indices = |text: &str, n| Show::indices(Some(&parse(text).unwrap()), n);
        assert_eq!(indices("0,7,2-4", 10), Ok(vec![0, 7, 2, 3, 4]));
        assert_eq!(indices("all", 3), Ok(vec![0, 1, 2]));
        assert_eq!(indices("none", 3), Ok(vec![]));
        assert_eq!(Show::indices(None, 3), Ok(vec![0, 1, 2]));
        assert_eq!(Show::indices(None, 2000), Ok(vec![0]));
        assert!(indices("0-10", 10).unwrap_err().contains("sample 10"));
        for wrong in ["", "a", "3-2", "1,,2", "-1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

/// What is read back from the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReadBack {
    /// Nothing
    Nothing,
    /// Programs: tracks, registers and memories of NPs
    Programs,
    /// Also every input, descriptor and output, with one job in flight
    Jobs,
}

impl Args {
    /// How many threads a simulated board computes with.
    pub fn threads(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(processors, usize::from)
    }

    /// How the driver is told to check what it moves.
    pub fn verify_transfers(&self) -> Verify {
        match (self.read_back, &self.faults) {
            (Some(ReadBack::Nothing), _) => Verify::Off,
            (Some(ReadBack::Programs), _) | (None, None) => Verify::Program,
            (Some(ReadBack::Jobs), _) | (None, Some(_)) => Verify::Jobs,
        }
    }
}
