//! `akida-convert check`: whether a network can run on a target, layer by layer, and what stands in the way.

mod assess;
mod document;
mod html;
mod text;

use std::io::Write;

use super::args::{Check, CheckFormat};
use crate::command::Common;
use crate::exit::{Exit, Failure};
use crate::files::write_whole;

/// Prints or writes the report. Exit code 65 when a part of the network would run nowhere.
pub fn run(args: &Check, _common: &Common, out: &mut dyn Write) -> Result<Exit, Failure> {
    let document = assess::assess(args)?;
    let report = match args.format {
        CheckFormat::Text => text::text(&document),
        CheckFormat::Html => html::page(&document),
        CheckFormat::Json => serde_json::to_string_pretty(&document)
            .map(|json| json + "\n")
            .map_err(|e| Failure::because(Exit::Internal, "the report", &e, "please report this"))?,
    };
    match &args.output {
        Some(path) => write_whole(path, |file| file.write_all(report.as_bytes()))?,
        None => out.write_all(report.as_bytes()).map_err(|e| Failure::stdout(&e))?,
    }
    let refused: Vec<_> = document.refusals.iter().filter(|r| r.runs_on == document::Fate::Refused).collect();
    let Some(first) = refused.first() else { return Ok(Exit::Done) };
    let names: Vec<String> = refused.iter().map(|r| format!("{} ({})", r.node, r.op)).collect();
    let what = match first.node.is_empty() {
        true => format!("{}: {}", first.rule, first.value),
        false => format!("no board computes {}", names.join(", ")),
    };
    Err(Failure::new(Exit::Data, format!("{}: {what}", args.model.display()), first.remedy.clone()))
}
