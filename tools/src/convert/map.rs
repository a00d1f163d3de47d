//! `akida-convert map`: where every layer of a model runs, and why. No board is needed.

use std::fmt::Write as _;
use std::io::Write;

use akida_runtime::mapping::{self, Mapping};
use akida_runtime::model::Model;
use akida_runtime::summary::{Form, mapped_summary};
use serde_json::json;

use super::args::{Format, Map};
use crate::device::board_of;
use crate::exit::{Exit, Failure};

/// Version of the JSON document.
const SCHEMA: &str = "akida-map/1";

/// Prints the mapping of a model.
pub fn run(args: &Map, out: &mut dyn Write) -> Result<Exit, Failure> {
    let model = super::load_model(&args.model)?;
    let board = args.device.unwrap_or(board_of(model.target));
    let mapping = mapping::map(&model, &board.mesh(), &args.mapping.options())?;
    let written = match args.format {
        Format::Text => {
            let mut text = mapped_summary(&model, &mapping, Form::WithoutQuantizer);
            text.push_str(&notes(&model, &mapping));
            if args.explain {
                let _ = write!(text, "\n{}", mapping.text(&model));
            }
            out.write_all(text.as_bytes())
        }
        Format::Json => {
            let document = json!({
                "schema": SCHEMA,
                "model": { "name": model.name, "target": model.target.to_string() },
                "board": board.name(),
                "mapping": mapping.json(&model),
            });
            serde_json::to_writer_pretty(&mut *out, &document)
                .map_err(std::io::Error::from)
                .and_then(|()| writeln!(out))
        }
    };
    written.map(|()| Exit::Done).map_err(|e| Failure::stdout(&e))
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
