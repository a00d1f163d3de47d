//! `--dump-stage`: the graph on its way, as ONNX files.

use std::io::Write;
use std::path::PathBuf;

use akida_converter::onnx::Graph;
use akida_converter::quantize::{QuantizeOptions, patterns};
use akida_converter::stages::{Stage, to_bytes};

use super::args::Quantize;
use crate::exit::{Exit, Failure};
use crate::files::write_whole;

/// Stages that are wanted, with their files, and the first failure to write one.
pub struct Dumps {
    wanted: Vec<(Stage, PathBuf)>,
    failure: Option<Failure>,
}

/// Whether the stages are asked to be listed.
pub fn listed(args: &Quantize) -> bool {
    args.dump_stage.iter().any(|text| text == "list")
}

/// Lists all stages.
pub fn list(out: &mut dyn Write) -> Result<Exit, Failure> {
    for stage in Stage::ALL {
        let (name, about) = stage.describe();
        writeln!(out, "{name:<13} {about}").map_err(|e| Failure::stdout(&e))?;
    }
    Ok(Exit::Done)
}

impl Dumps {
    /// What the command line asks for.
    pub fn of(args: &Quantize) -> Result<Self, Failure> {
        let wanted = args.dump_stage.iter().map(|text| {
            let (name, file) = text.split_once('=').map_or((text.as_str(), None), |(name, file)| (name, Some(file)));
            let Some(stage) = Stage::named(name) else {
                let message = format!("--dump-stage {text}: there is no stage '{name}'");
                return Err(Failure::new(Exit::Usage, message, "--dump-stage list names them all"));
            };
            let file = file.map_or_else(|| args.output.with_extension(format!("{name}.onnx")), PathBuf::from);
            Ok((stage, file))
        });
        Ok(Self { wanted: wanted.collect::<Result<_, _>>()?, failure: None })
    }

    /// Whether a stage of `Stage::ALL` from this one on is wanted.
    pub fn wants_after(&self, stage: Stage) -> Option<&'static str> {
        let at = |stage: Stage| Stage::ALL.iter().position(|s| *s == stage);
        self.wanted.iter().find(|(wanted, _)| at(*wanted) > at(stage)).map(|(wanted, _)| wanted.describe().0)
    }

    /// Writes the graph if its stage is wanted. What the patterns are is seen in the prepared graph.
    pub fn observe(&mut self, stage: Stage, graph: &Graph, options: &QuantizeOptions) {
        if stage == Stage::Prepared && self.wanted.iter().any(|(wanted, _)| *wanted == Stage::Patterns) {
            // A graph without layers is refused right after this, with the reason.
            if let Ok(named) = patterns(graph, options) {
                self.observe(Stage::Patterns, &named, options);
            }
        }
        for (_, file) in self.wanted.iter().filter(|(wanted, _)| *wanted == stage) {
            let written =
                to_bytes(graph).map_err(Failure::from).and_then(|bytes| write_whole(file, |out| out.write_all(&bytes)));
            if let Err(failure) = written {
                self.failure.get_or_insert(failure);
            }
        }
    }

    /// The first failure, if there was one.
    pub fn end(self) -> Result<(), Failure> {
        self.failure.map_or(Ok(()), Err)
    }
}
