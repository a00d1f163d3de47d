//! Arguments of `akida-convert`.

use std::path::PathBuf;

use akida_runtime::model::Target;
use akida_simulator::Model as SimModel;
use clap::{Parser, Subcommand, ValueEnum};

use crate::command::Common;
use crate::mapping::MappingArgs;

/// Turn ONNX networks into models for Akida boards.
#[derive(Clone, Debug, Parser)]
#[command(name = "akida-convert", version, max_term_width = 100, after_help = AFTER)]
pub struct Args {
    #[command(subcommand)]
    #[allow(missing_docs)]
    pub command: Command,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

const AFTER: &str = "\
Exit codes: 0 done, 64 usage, 65 bad or unsupported model, 66 no input, 70 internal, 73 cannot create output,
74 I/O, 141 standard output closed (docs/exit-codes.md).";

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Quantize a float ONNX network with samples and convert it
    Quantize(Box<Quantize>),
    /// Convert an ONNX network that is quantized already: by QuantizeML, ONNX Runtime (QDQ) or PyTorch (QAT)
    Import(Import),
    /// Print a network: a summary of an .akm, the graph of an .onnx
    Show(Show),
    /// Say whether a network can run on a target, and what stands in the way
    Check(Check),
    /// Say where a model lost accuracy against the float network it was made of
    Compare(Compare),
    /// Say where every layer of a model runs on a board, and why
    Map(Map),
}

/// `akida-convert quantize`
#[derive(Clone, Debug, clap::Args)]
pub struct Quantize {
    /// Float network, as torch.onnx.export writes it
    pub model: PathBuf,
    /// What it is made for: akida2, akd1000, akd1500
    #[arg(short, long)]
    pub target: Target,
    /// Samples for calibration, batch first: .npz (array `samples`, or the only one), .npy, a directory of images
    #[arg(short, long, value_name = "FILE", required_unless_present = "ranges")]
    pub samples: Option<PathBuf>,
    /// Model to write
    #[arg(short, long, value_name = "OUT.akm")]
    pub output: PathBuf,
    /// Ranges of tensors instead of a calibration of our own: .npz with arrays min/TENSOR and max/TENSOR, or min0, max0,
    /// ... beside a case.json that lists the tensors (`calibration_ranges`)
    #[arg(long, value_name = "FILE.npz")]
    pub ranges: Option<PathBuf>,
    /// Calibrate even when the ranges of this network on these samples are known from an earlier time
    #[arg(long)]
    pub no_cache: bool,
    /// Also write the quantized graph as ONNX
    #[arg(long, value_name = "Q.onnx")]
    pub save_quantized: Option<PathBuf>,
    /// Print the quantized graph
    #[arg(long)]
    pub print_graph: bool,
    /// Also write the graph at a stage as ONNX, to FILE or to OUT.NAME.onnx; any number of times; `list` names them
    #[arg(long, value_name = "NAME[=FILE]")]
    pub dump_stage: Vec<String>,
    /// Bits of the first layer's weights, of all other weights and of activations (akd1000, akd1500; default 8/4/4); of weights and activations (akida2: 8/8, 4/8, 4/4 or 8/4)
    #[arg(long, value_name = "8/4/4", help_heading = "Quantization")]
    pub bits: Option<String>,
    /// Another number of bits for the weights and the output of one layer; any number of times
    #[arg(long, value_name = "LAYER=W/A", help_heading = "Quantization")]
    pub layer_bits: Vec<String>,
    /// Integers the first layer takes
    #[arg(long, default_value = "uint8", value_name = "TYPE", help_heading = "Quantization")]
    pub input_dtype: InputDtype,
    /// One range for a whole activation tensor instead of one per channel
    #[arg(long, help_heading = "Quantization")]
    pub per_tensor: bool,
    /// Reduce the last layer's output to this many bits (8) instead of giving its 32-bit sums
    #[arg(long, value_name = "BITS", help_heading = "Quantization")]
    pub last_output_bits: Option<u32>,
    /// Quantize one region only, as QuantizeML does: all behind the first operator that no board computes stays float
    #[arg(long, help_heading = "Quantization")]
    pub one_region: bool,
    /// Stop quantizing at this tensor. What follows stays float and runs on the host
    #[arg(long, value_name = "TENSOR", help_heading = "Quantization")]
    pub quantize_until: Option<String>,
    /// Shape of the input without the batch, where the network leaves it open and there are no samples
    #[arg(long, value_name = "D,D,D", value_delimiter = ',', help_heading = "Quantization")]
    pub input_shape: Option<Vec<usize>>,
    /// Mean that is subtracted from pixels divided by 255, for samples that are images or uint8
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
}

/// `akida-convert import`
#[derive(Clone, Debug, clap::Args)]
pub struct Import {
    /// Network quantized by QuantizeML, or with QuantizeLinear and DequantizeLinear
    pub model: PathBuf,
    /// What it is made for
    #[arg(short, long)]
    pub target: Target,
    /// Model to write
    #[arg(short, long, value_name = "OUT.akm")]
    pub output: PathBuf,
}

/// `akida-convert show`
#[derive(Clone, Debug, clap::Args)]
pub struct Show {
    /// Model (.akm) or network (.onnx)
    pub model: PathBuf,
    /// Show the software quantizer in front of the model as a layer
    #[arg(long)]
    pub with_quantizer: bool,
    /// What to print
    #[arg(long, default_value = "text")]
    pub format: Format,
}

/// `akida-convert check`
#[derive(Clone, Debug, clap::Args)]
pub struct Check {
    /// Network (.onnx, float or quantized) or model (.akm)
    pub model: PathBuf,
    /// What it shall run on
    #[arg(short, long)]
    pub target: Target,
    /// What to write: html is one page with the graph drawn
    #[arg(long, default_value = "text")]
    pub format: CheckFormat,
    /// Write the report to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `akida-convert compare`
#[derive(Clone, Debug, clap::Args)]
pub struct Compare {
    /// Float network
    pub float: PathBuf,
    /// Model that was made of it (.akm)
    pub model: PathBuf,
    /// Samples to run through both: as for quantize
    #[arg(short, long, value_name = "FILE")]
    pub samples: PathBuf,
    /// Also draw the table, to FILE.svg or FILE.html
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// What to print
    #[arg(long, default_value = "text")]
    pub format: Format,
    /// Mean that is subtracted from pixels divided by 255, for samples that are images or uint8
    #[arg(long, value_name = "M[,M,M]", value_delimiter = ',', allow_negative_numbers = true, requires = "std")]
    pub mean: Vec<f32>,
    /// Deviation that pixels are divided by after that
    #[arg(long, value_name = "S[,S,S]", value_delimiter = ',', requires = "mean")]
    pub std: Vec<f32>,
    /// Scale images to the network's size
    #[arg(long)]
    pub resize: bool,
}

/// `akida-convert map`
#[derive(Clone, Debug, clap::Args)]
pub struct Map {
    /// Model (.akm)
    pub model: PathBuf,
    /// Kind of board: akd1000, akd1500, akida2 (six nodes), akida2-2node. Default: the one the model was made for
    #[arg(short, long, value_name = "BOARD", value_parser = board)]
    pub device: Option<SimModel>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub mapping: MappingArgs,
    /// Also say what every NP holds and why the layers were cut as they are
    #[arg(long)]
    pub explain: bool,
    /// What to print
    #[arg(long, default_value = "text")]
    pub format: MapFormat,
    /// Write what would be printed to this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Also write the program, where there is exactly one, as a program file for akida-ctl program
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

/// `--format` of `akida-convert map`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MapFormat {
    /// For people.
    Text,
    /// One JSON document with a schema version.
    Json,
    /// A page with the mesh drawn.
    Html,
}

/// `--input-dtype`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InputDtype {
    /// Pixels, with a zero point
    Uint8,
    /// Symmetric
    Int8,
}

/// What standard output carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document with a schema version.
    Json,
}

/// What `check` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people, at a terminal.
    Text,
    /// One JSON document with a schema version.
    Json,
    /// One page for a browser.
    Html,
}

/// The name of a simulated board, or its `sim:` selector.
fn board(text: &str) -> Result<SimModel, String> {
    text.strip_prefix("sim:").unwrap_or(text).parse().map_err(|e: akida_simulator::UnknownModel| e.to_string())
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
        for command in Args::command().get_subcommands() {
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {arg}", command.get_name());
            }
        }
    }
}
