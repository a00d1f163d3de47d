//! A mapping as text and JSON: what is where, how full the NPs are, why the model is cut, what does not fit and by how
//! much.

use std::fmt::Write as _;

use akida_hal::mesh::Mesh;
use akida_hal::np::{NpLayer, Op, Span};
use akida_hal::program::{InputKind, OutputKind, Program};
use serde_json::{Value, json};

use super::stage::Role;
use super::{HardwareOutput, HardwareSequence, HostStep, Mapping, PassPlan, Placed, Sequence};
use crate::estimate::{Densities, estimate};
use crate::model::Model;

/// One hardware layer of a pass: the parts that share a layer id.
pub(super) fn layers(pass: &PassPlan) -> Vec<&[Placed]> {
    pass.placed.chunk_by(|a, b| a.part.layer == b.part.layer).collect()
}

/// `8 CNP1`, `1 HRC`, `1 FNP2, 2 FNP3`.
pub fn components(parts: &[Placed]) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for part in parts {
        let kind = if part.kind.is_empty() {
            "HRC".to_owned()
        } else {
            part.kind.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join("+")
        };
        match counts.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, n)) => *n += 1,
            None => counts.push((kind, 1)),
        }
    }
    counts.iter().map(|(kind, n)| format!("{n} {kind}")).collect::<Vec<_>>().join(", ")
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Layer => "",
        Role::PassThrough => " (identity)",
    }
}

pub(super) fn span(origin: u16, len: u16) -> String {
    format!("{origin}..{}", u32::from(origin) + u32::from(len))
}

/// Why a layer is on as many NPs as it is: which SRAM the whole of it would not fit, and by how much; or that NPs were
/// spare. Empty for a layer in one piece.
pub(super) fn why(parts: &[Placed], mesh: &Mesh) -> String {
    if parts.len() < 2 {
        return String::new();
    }
    let first = &parts[0].part;
    let all = |len: u16| Span { origin: 0, len };
    let end =
        |f: fn(&Placed) -> Span| parts.iter().map(f).map(|s| u32::from(s.origin) + u32::from(s.len)).max().unwrap_or(0);
    let filters = end(|p| p.part.filters).min(u16::MAX.into()) as u16;
    let rows = if first.op == Op::Dense { first.in_rows } else { all(first.input[0]) };
    let columns = if first.op == Op::Dense { first.in_columns } else { all(first.input[1]) };
    let whole = NpLayer { filters: all(filters), in_rows: rows, in_columns: columns, external: None, ..first.clone() };
    let generation = mesh.version.generation();
    let over: Vec<String> = [
        ("its input", "packet", whole.packet_bytes(), mesh.sram.packet),
        ("weights", "filter", whole.filter_bytes(), mesh.sram.filter),
        ("parameters", "parameter", whole.parameter_bytes(generation), mesh.sram.parameter),
    ]
    .into_iter()
    .filter(|(_, _, bytes, size)| *bytes > *size as usize)
    .map(|(what, memory, bytes, size)| {
        let more = bytes - size as usize;
        format!("{what} would take {bytes} bytes of {memory} SRAM, an NP has {size} ({more} too many)")
    })
    .collect();
    if over.is_empty() { "shares the work among spare NPs".into() } else { over.join("; ") }
}

fn hardware_text(
    out: &mut String,
    model: &Model,
    mesh: &Mesh,
    number: usize,
    sequence: &HardwareSequence,
) -> std::fmt::Result {
    let nps: usize = sequence.passes.iter().flat_map(|p| &p.placed).filter(|p| !p.kind.is_empty()).count();
    writeln!(
        out,
        "sequence {number}: hardware, {} pass, {nps} NPs, program {} bytes, {} multiply-adds",
        sequence.passes.len(),
        sequence.bytes(),
        sequence.macs()
    )?;
    let Program { input, output, .. } = &sequence.program;
    writeln!(out, "  in: {}; out: {}", input_road(input.kind), output_form(output.kind))?;
    for (number, pass) in sequence.passes.iter().enumerate() {
        if sequence.passes.len() > 1 {
            writeln!(out, " pass {number}")?;
        }
        for parts in layers(pass) {
            let layer = &model.layers[parts[0].layer];
            writeln!(out, "  {}{}: {}", layer.name, role(parts[0].role), components(parts))?;
            let why = why(parts, mesh);
            if !why.is_empty() {
                writeln!(out, "    cut: {why}")?;
            }
            for p in parts {
                let (s, l) = (&p.sram, &p.part);
                write!(
                    out,
                    "    {:<12} rows {} columns {} filters {}",
                    p.np.to_string(),
                    span(l.out_rows.origin, l.out_rows.len),
                    span(l.out_columns.origin, l.out_columns.len),
                    span(l.filters.origin, l.filters.len)
                )?;
                if l.inputs.len > 0 {
                    write!(out, " inputs {}", span(l.inputs.origin, l.inputs.len))?;
                }
                write!(out, "; SRAM packet {} filter {} parameter {}", s.packet, s.filter, s.parameter)?;
                if s.external > 0 {
                    write!(out, "; device memory {}", s.external)?;
                }
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

/// How the input of a program enters.
pub fn input_road(kind: InputKind) -> &'static str {
    match kind {
        InputKind::Dense => "dense",
        InputKind::CnpEvents => "CNP events",
        InputKind::FnpEvents => "FNP events",
    }
}

/// How its output leaves.
pub fn output_form(kind: OutputKind) -> &'static str {
    match kind {
        OutputKind::Dense => "dense",
        OutputKind::CnpEvents => "CNP events",
        OutputKind::FnpEvents => "FNP events",
        OutputKind::HrcEvents => "HRC events",
    }
}

impl Mapping {
    /// For people.
    pub fn text(&self, model: &Model) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write_text(&mut out, model);
        out
    }

    fn write_text(&self, out: &mut String, model: &Model) -> std::fmt::Result {
        for (number, sequence) in self.sequences.iter().enumerate() {
            match sequence {
                Sequence::Hardware(h) => hardware_text(out, model, &self.mesh, number, h)?,
                Sequence::Host(h) => {
                    writeln!(out, "sequence {number}: host")?;
                    for (step, reason) in &h.steps {
                        let what = match step {
                            HostStep::Layer(_) => "",
                            HostStep::Finish { .. } => " (end)",
                        };
                        writeln!(out, "  {}{what}: {reason}", model.layers[step.layer()].name)?;
                    }
                }
            }
        }
        for remark in &self.remarks {
            writeln!(out, "note: {}: {}", model.layers[remark.layer].name, remark.text)?;
        }
        if let Ok(estimate) = estimate(model, self, &Densities::assumed(model)) {
            out.write_str(&estimate.text())?;
        }
        Ok(())
    }

    /// For programs. Keys stay.
    pub fn json(&self, model: &Model) -> Value {
        let name = |layer: usize| model.layers[layer].name.as_str();
        let sequences: Vec<Value> = self
            .sequences
            .iter()
            .map(|sequence| match sequence {
                Sequence::Host(h) => json!({
                    "on": "host",
                    "steps": h.steps.iter().map(|(step, reason)| json!({
                        "layer": name(step.layer()),
                        "finishes_slices": match step { HostStep::Finish { slices, .. } => *slices, HostStep::Layer(_) => 0 },
                        "reason": reason,
                    })).collect::<Vec<_>>(),
                }),
                Sequence::Hardware(h) => json!({
                    "on": "hardware",
                    "layers": h.layers.iter().map(|&l| name(l)).collect::<Vec<_>>(),
                    "program_bytes": h.bytes(),
                    "input_as": input_road(h.program.input.kind),
                    "output_as": output_form(h.program.output.kind),
                    "macs": h.macs(),
                    "slices": match h.output { HardwareOutput::Slices { slices, .. } => slices, HardwareOutput::Tensor(_) => 1 },
                    "passes": h.passes.iter().map(|pass| layers(pass).into_iter().map(|parts| json!({
                        "layer": name(parts[0].layer),
                        "role": parts[0].role,
                        "components": components(parts),
                        "why": why(parts, &self.mesh),
                        "parts": parts.iter().map(part_json).collect::<Vec<_>>(),
                    })).collect::<Vec<_>>()).collect::<Vec<_>>(),
                }),
            })
            .collect();
        json!({
            "version": self.mesh.version.to_string(),
            "sram": {
                "packet": self.mesh.sram.packet,
                "filter": self.mesh.sram.filter,
                "parameter": self.mesh.sram.parameter,
                "hrc": self.mesh.sram.hrc,
            },
            "sequences": sequences,
            // Null where nothing is published to calibrate on.
            "estimate": estimate(model, self, &Densities::assumed(model)).ok(),
            "remarks": self.remarks.iter().map(|r| json!({ "layer": name(r.layer), "text": r.text })).collect::<Vec<_>>(),
        })
    }
}

fn part_json(p: &Placed) -> Value {
    let l = &p.part;
    json!({
        "np": p.np.to_string(),
        "rows": [l.out_rows.origin, l.out_rows.len],
        "columns": [l.out_columns.origin, l.out_columns.len],
        "filters": [l.filters.origin, l.filters.len],
        "inputs": [l.inputs.origin, l.inputs.len],
        "sram": p.sram,
        "macs": p.macs,
    })
}
