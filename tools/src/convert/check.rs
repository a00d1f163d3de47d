//! `akida-convert check`: whether a network can run on a target, layer by layer, and what stands in the way.

use std::io::Write;

use akida_converter::import::{ImportOptions, import};
use akida_converter::{ConvertError, onnx};
use akida_runtime::mapping::{self, MapOptions};
use akida_runtime::model::Model;
use serde::Serialize;

use super::args::{Check, Format};
use super::{akida1, is_onnx, quantize};
use crate::command::Common;
use crate::device::board_of;
use crate::exit::{Exit, Failure};
use crate::terminal::table;

/// Version of the JSON document.
const SCHEMA: &str = "akida-check/1";

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    file: String,
    target: String,
    /// `hardware`: all of it; `partly`: with layers on the host; `refused`: not at all.
    verdict: &'static str,
    /// Every layer; empty when refused.
    layers: Vec<Verdict>,
    /// Operations that no layer is made of, and other warnings of the quantizer.
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Verdict {
    layer: String,
    op: String,
    /// `board`, `board and host`, `host`.
    runs_on: &'static str,
    /// Rule, limit, value and remedy where the host has a part.
    reason: Option<mapping::Reason>,
}

/// Prints the verdict. Exit code 65 when a part of the network would run nowhere.
pub fn run(args: &Check, common: &Common, out: &mut dyn Write) -> Result<Exit, Failure> {
    let (model, mut warnings, tail) = load(args, common)?;
    if model.target != args.target {
        return Err(Failure::new(
            Exit::Data,
            format!("{} was made for {}, not for {}", args.model.display(), model.target, args.target),
            format!("convert the float network with --target {}", args.target),
        ));
    }
    let mapping = mapping::map(&model, &board_of(args.target).mesh(), &MapOptions::default())?;
    let mut layers: Vec<Verdict> = model
        .layers
        .iter()
        .map(|l| Verdict { layer: l.name.clone(), op: l.op.clone(), runs_on: "board", reason: None })
        .collect();
    for (step, reason) in mapping.host_steps() {
        let verdict = &mut layers[step.layer()];
        verdict.runs_on = match step {
            mapping::HostStep::Layer(_) => "host",
            mapping::HostStep::Finish { .. } => "board and host",
        };
        verdict.reason = Some(reason.clone());
    }
    let partly = layers.iter().any(|l| l.reason.is_some());
    warnings.extend(tail.iter().map(|op| format!("{op} runs neither on a board nor here")));
    let verdict = if !tail.is_empty() {
        "refused"
    } else if partly {
        "partly"
    } else {
        "hardware"
    };
    let document = Document {
        schema: SCHEMA,
        file: args.model.display().to_string(),
        target: args.target.to_string(),
        verdict,
        layers,
        warnings,
    };
    let written = match args.format {
        Format::Text => out.write_all(text(&document).as_bytes()),
        Format::Json => serde_json::to_writer_pretty(&mut *out, &document)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out)),
    };
    written.map_err(|e| Failure::stdout(&e))?;
    match tail.is_empty() {
        true => Ok(Exit::Done),
        false => Err(Failure::new(
            Exit::Data,
            format!("{}: no board computes {}", args.model.display(), tail.join(", ")),
            "end the network before these operations, or quantize with --quantize-until",
        )),
    }
}

/// The model, warnings, and operations that are not in it.
fn load(args: &Check, common: &Common) -> Result<(Model, Vec<String>, Vec<String>), Failure> {
    if !is_onnx(&args.model) {
        return Ok((Model::open(&args.model)?, Vec::new(), Vec::new()));
    }
    let graph = onnx::load(&args.model)?;
    if graph.nodes.iter().any(|n| n.domain == onnx::BRAINCHIP && n.op == "InputQuantizer") {
        let options = ImportOptions { allow_float_tail: true, ..ImportOptions::default() };
        let imported = import(&graph, options).map_err(ConvertError::from)?;
        return Ok((imported.model, Vec::new(), imported.float_tail));
    }
    if args.target.is_v1() {
        let rough = akida1::rough(&args.model, args.target)?;
        let notes = rough.notes.iter().map(ToString::to_string);
        let warnings = rough.warnings.iter().map(ToString::to_string).chain(notes).collect();
        return Ok((rough.model, warnings, Vec::new()));
    }
    let rough = quantize::rough(&args.model, common)?;
    // Noise is what was asked for.
    let random =
        |w: &&akida_converter::quantize::Warning| !matches!(w, akida_converter::quantize::Warning::RandomSamples);
    let warnings = rough.quantized.warnings.iter().filter(random).map(ToString::to_string).collect();
    Ok((rough.model, warnings, rough.float_tail))
}

fn text(document: &Document) -> String {
    let mut table = table(&["layer", "operator", "runs on", "because"]);
    for l in &document.layers {
        let because = l.reason.as_ref().map_or(String::new(), ToString::to_string);
        table.add_row([l.layer.as_str(), &l.op, l.runs_on, &because]);
    }
    let verdict = match document.verdict {
        "hardware" => "all of it runs on the board",
        "partly" => "it runs, with layers on the host",
        _ => "REFUSED: a part of it runs nowhere",
    };
    let mut text = format!("{} on {}: {verdict}\n\n{}\n", document.file, document.target, table.trim_fmt());
    for warning in &document.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}
