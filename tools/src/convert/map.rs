//! `akida-convert map`: where every layer of a model runs, and why. No board is needed.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use akida_hal::program_file::ProgramFile;
use akida_runtime::hybrid::refuse_segments;
use akida_runtime::mapping::{self, HardwareOutput, MapError, Mapping};
use akida_runtime::model::{DequantizeBy, Model};
use akida_runtime::summary::{Form, mapped_summary};
use serde_json::json;

use super::args::{Map, MapFormat};
use super::parts;
use crate::device::board_of;
use crate::exit::{Exit, Failure};
use crate::files;

/// Version of the JSON document.
const SCHEMA: &str = "akida-map/1";

/// Prints the mapping of a model.
pub fn run(args: &Map, out: &mut dyn Write) -> Result<Exit, Failure> {
    let network = super::load_network(&args.model)?;
    let board = args.device.unwrap_or(board_of(network.target));
    let options = args.mapping.options();
    if options.hw_only {
        refuse_segments(&network)?;
    }
    let map = |(number, model)| Ok((number, model, mapping::map(model, &board.mesh(), &options)?));
    let mapped: Vec<(usize, &Model, Mapping)> = network.boards().map(map).collect::<Result<_, MapError>>()?;
    if let Some(path) = &args.program {
        let (model, mapping) = only(&mapped, "--program", "a program file")?;
        write_program(model, mapping, path)?;
    }
    let document = match args.format {
        MapFormat::Text => {
            let mut text = String::new();
            for (_, model, mapping) in &mapped {
                text.push_str(&mapped_summary(model, mapping, Form::WithoutQuantizer));
                text.push_str(&notes(model, mapping));
                if args.explain {
                    let _ = write!(text, "\n{}", mapping.text(model));
                }
            }
            text.push_str(&parts::text(&network));
            text
        }
        MapFormat::Html => {
            let (model, mapping) = only(&mapped, "--format html", "a page")?;
            mapping.html(model, board.name())
        }
        MapFormat::Json => {
            let mut document = json!({
                "schema": SCHEMA,
                "model": { "name": network.name, "target": network.target.to_string() },
                "board": board.name(),
                // Of the first board part; all of them are in `mappings`.
                "mapping": mapped.first().map(|(_, model, mapping)| mapping.json(model)),
            });
            if network.whole().is_none() {
                let all = mapped.iter().map(|(part, model, m)| json!({ "part": part, "mapping": m.json(model) }));
                document["mappings"] = all.collect();
                document["hybrid"] = json!(parts::entry(&network));
            }
            format!("{document:#}\n")
        }
    };
    match &args.output {
        Some(path) => files::write_whole(path, |file| file.write_all(document.as_bytes()))?,
        None => out.write_all(document.as_bytes()).map_err(|e| Failure::stdout(&e))?,
    }
    Ok(Exit::Done)
}

/// The only board part of a network.
fn only<'m>(
    mapped: &'m [(usize, &'m Model, Mapping)],
    option: &str,
    holder: &str,
) -> Result<(&'m Model, &'m Mapping), Failure> {
    match mapped {
        [(_, model, mapping)] => Ok((model, mapping)),
        _ => Err(Failure::new(
            Exit::Data,
            format!("the network has {} board parts, {holder} holds one", mapped.len()),
            format!("leave {option} away, or use --format json for all parts"),
        )),
    }
}

/// The program as a file, with the dequantizer of its output.
fn write_program(model: &Model, mapping: &Mapping, path: &Path) -> Result<(), Failure> {
    let mut hardware = mapping.hardware();
    let (Some(sequence), None) = (hardware.next(), hardware.next()) else {
        return Err(Failure::new(
            Exit::Data,
            format!("{} has {} hardware sequences, a program file holds one", model.name, mapping.hardware().count()),
            "leave --program away, or make the model fit into one sequence",
        ));
    };
    let mut file = ProgramFile::new(sequence.program.clone());
    let output = model.outputs.iter().find(|o| sequence.output == HardwareOutput::Tensor(o.tensor));
    if let Some(dequantizer) = output.and_then(|o| o.dequantizer.as_ref()) {
        let channels = file.program.output.shape[2] as usize;
        // One value for all channels is written for each.
        let each = |n: usize| if n == 1 { channels } else { n };
        file.scales = dequantizer.scale.iter().copied().cycle().take(each(dequantizer.scale.len())).collect();
        file.shifts = dequantizer.offset.iter().copied().cycle().take(each(dequantizer.offset.len())).collect();
        if dequantizer.by == DequantizeBy::Multiply {
            file.scales.iter_mut().for_each(|s| *s = 1.0 / *s);
        }
    }
    let bytes = file.write()?;
    files::write_whole(path, |out| out.write_all(&bytes))
}

/// Why layers are on the host, and what was rewritten.
fn notes(model: &Model, mapping: &Mapping) -> String {
    let mut text = String::new();
    for (step, reason) in mapping.host_steps() {
        let _ = writeln!(text, "host: {}: {reason}", model.layers[step.layer()].name);
    }
    for remark in &mapping.remarks {
        let _ = writeln!(text, "note: {}: {}", model.layers[remark.layer].name, remark.text);
    }
    text
}
