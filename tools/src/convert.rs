//! `akida-convert`: ONNX in, models out.

mod akida1;
mod args;
mod check;
mod compare;
mod map;
mod parts;
mod quantize;
mod show;
mod stages;

use std::io::Write;
use std::path::Path;

use akida_runtime::hybrid::HybridModel;
use akida_runtime::model::Target;

pub use args::Args;
use args::Command;

use crate::exit::{Exit, Failure};

/// The command.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    match &args.command {
        Command::Quantize(quantize) => quantize::run(quantize, &args.common, out),
        Command::Import(import) => quantize::import(import, &args.common, out),
        Command::Show(show) => show::run(show, out),
        Command::Check(check) => check::run(check, &args.common, out),
        Command::Compare(compare) => compare::run(compare, &args.common, out),
        Command::Map(map) => map::run(map, out),
    }
}

fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
}

/// A network: an `.akm` file, or an ONNX graph of QuantizeML.
pub(crate) fn load_network(path: &Path) -> Result<HybridModel, Failure> {
    if is_onnx(path) { quantize::read_quantized(path, Target::Akida2) } else { Ok(HybridModel::open(path)?) }
}
