//! `akida-convert quantize` and `akida-convert import`.

use std::io::Write;
use std::path::Path;

use akida_converter::import::{self, ImportOptions};
use akida_converter::onnx;
use akida_runtime::model::{Model, Target};

use super::args::Import;
use crate::command::Common;
use crate::exit::{Exit, Failure};

/// Converts a quantized graph.
pub fn import(args: &Import, common: &Common, _out: &mut dyn Write) -> Result<Exit, Failure> {
    let model = read_quantized(&args.model, args.target)?;
    model.save(&args.output)?;
    common.notice(format_args!("wrote {}: {} layers for {}", args.output.display(), model.layers.len(), model.target));
    Ok(Exit::Done)
}

/// Reads a quantized ONNX graph as a model of `target`.
pub fn read_quantized(path: &Path, target: Target) -> Result<Model, Failure> {
    let graph = onnx::load(path)?;
    let model = import::import(&graph, ImportOptions::default())?.model;
    if model.target != target {
        return Err(Failure::new(
            Exit::Data,
            format!("{} holds a network quantized for {}, not for {target}", path.display(), model.target),
            format!("use --target {}, or quantize the float network for {target}", model.target),
        ));
    }
    Ok(model)
}
