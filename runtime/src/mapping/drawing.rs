//! A mapping as a page: every pass of every hardware sequence as a drawn mesh, with a table of its layers. One file, no
//! scripts, nothing loaded from elsewhere.

use std::fmt::Write as _;

use akida_hal::mesh::{Mesh, NpAddress, NpTypes};

use super::explain::{components, layers, role, span, why};
use super::{HardwareSequence, HostStep, Mapping, PassPlan, Placed, Sequence};
use crate::estimate::{Densities, estimate};
use crate::model::Model;

/// Side of one NP, and the space around the four of a node.
const NP: [u32; 2] = [86, 56];
const MARGIN: u32 = 14;
const NODE: [u32; 2] = [2 * NP[0] + 6 + MARGIN, 2 * NP[1] + 6 + MARGIN + 14];

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2em;color:#222;max-width:70em}\
h1{font-size:1.5em}h2{font-size:1.2em;margin-top:2em}table{border-collapse:collapse;margin:1em 0}\
td,th{border-bottom:1px solid #ddd;padding:.25em .8em;text-align:left;vertical-align:top}\
td.n{text-align:right}i.c{display:inline-block;width:1em;height:1em;border-radius:3px;vertical-align:-2px;margin-right:.4em}\
svg text{font:11px system-ui,sans-serif;fill:#222}svg .d{fill:#777}p.k{color:#555}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A colour of its own for each of the first dozens of layers.
fn colour(layer: usize) -> String {
    format!("hsl({} {}% {}%)", layer * 67 % 360, 60 + layer % 3 * 12, 72 + layer % 2 * 8)
}

fn kind(types: NpTypes) -> String {
    types.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join("+")
}

impl Mapping {
    /// The page. `board` is a name for the title.
    pub fn html(&self, model: &Model, board: &str) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write_html(&mut out, model, board);
        out
    }

    fn write_html(&self, out: &mut String, model: &Model, board: &str) -> std::fmt::Result {
        let title = format!("{} on {board}", escape(&model.name));
        writeln!(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>")?;
        writeln!(out, "<style>{STYLE}</style></head><body>\n<h1>{title}</h1>")?;
        writeln!(
            out,
            "<p class=\"k\">Each square is a node of four NPs; a coloured NP holds a part of the layer with that number. Bars: input \
             packets, weights, parameters, of the SRAM there is. SRAM sizes are not public (docs/silicon.md). Point at an NP for \
             its part.</p>"
        )?;
        if let Ok(estimate) = estimate(model, self, &Densities::assumed(model)) {
            for line in estimate.text().lines() {
                writeln!(out, "<p class=\"k\">{}</p>", escape(line))?;
            }
        }
        for (number, sequence) in self.sequences.iter().enumerate() {
            match sequence {
                Sequence::Hardware(h) => self.hardware_html(out, model, number, h)?,
                Sequence::Host(h) => {
                    writeln!(
                        out,
                        "<h2>Sequence {number}: host</h2>\n<table><tr><th>layer<th>why it is not on the board</tr>"
                    )?;
                    for (step, reason) in &h.steps {
                        let end = if matches!(step, HostStep::Finish { .. }) { " (end)" } else { "" };
                        let name = escape(&model.layers[step.layer()].name);
                        writeln!(out, "<tr><td>{name}{end}<td>{}</tr>", escape(&reason.to_string()))?;
                    }
                    writeln!(out, "</table>")?;
                }
            }
        }
        if !self.remarks.is_empty() {
            writeln!(out, "<h2>Rewritten</h2><ul>")?;
            for remark in &self.remarks {
                let name = escape(&model.layers[remark.layer].name);
                writeln!(out, "<li>{name}: {}</li>", escape(&remark.text))?;
            }
            writeln!(out, "</ul>")?;
        }
        writeln!(out, "</body></html>")
    }

    fn hardware_html(&self, out: &mut String, model: &Model, number: usize, h: &HardwareSequence) -> std::fmt::Result {
        writeln!(
            out,
            "<h2>Sequence {number}: board, {} passes, program {} bytes, {} multiply-adds a sample</h2>",
            h.passes.len(),
            h.bytes(),
            h.macs()
        )?;
        for (n, pass) in h.passes.iter().enumerate() {
            let nps = pass.placed.iter().filter(|p| !p.kind.is_empty()).count();
            writeln!(out, "<h3>Pass {n}: {nps} of {} NPs</h3>", self.mesh.nps.len())?;
            mesh(out, model, &self.mesh, pass)?;
            table(out, model, &self.mesh, pass)?;
        }
        Ok(())
    }
}

fn table(out: &mut String, model: &Model, mesh: &Mesh, pass: &PassPlan) -> std::fmt::Result {
    writeln!(
        out,
        "<table><tr><th>#<th>layer<th>NPs<th>busiest NP, multiply-adds<th>packet SRAM<th>filter SRAM<th>why so many NPs</tr>"
    )?;
    for parts in layers(pass) {
        let layer = parts[0].layer;
        let most = |f: fn(&Placed) -> u64| parts.iter().map(f).max().unwrap_or(0);
        let filter = if parts[0].kind.is_empty() { mesh.sram.hrc } else { mesh.sram.filter };
        let of = |used: u64, size: u32| format!("{used} of {size}");
        writeln!(
            out,
            "<tr><td class=\"n\"><i class=\"c\" style=\"background:{}\"></i>{layer}<td>{}{}<td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td>{}</tr>",
            colour(layer),
            escape(&model.layers[layer].name),
            role(parts[0].role),
            components(parts),
            most(|p| p.macs),
            of(most(|p| p.sram.packet.into()), mesh.sram.packet),
            of(most(|p| p.sram.filter.into()), filter),
            escape(&why(parts, mesh))
        )?;
    }
    writeln!(out, "</table>")
}

fn mesh(out: &mut String, model: &Model, mesh: &Mesh, pass: &PassPlan) -> std::fmt::Result {
    // The HRC has no place in the grid: it is drawn in front of it.
    let left = if mesh.hrc { NP[0] + 2 * MARGIN } else { 0 };
    let (width, height) = (left + u32::from(mesh.columns) * NODE[0], u32::from(mesh.rows) * NODE[1] + 4);
    writeln!(out, "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">")?;
    if mesh.hrc {
        let placed = pass.placed.iter().find(|p| p.np == NpAddress::HRC);
        np(out, model, mesh, [0, 16], "HRC", placed)?;
    }
    for column in 1..=mesh.columns {
        for row in 1..=mesh.rows {
            let x = left + u32::from(column - 1) * NODE[0];
            let y = u32::from(row - 1) * NODE[1];
            let here = |a: &NpAddress| a.column == column && a.row == row;
            if !mesh.nps.iter().any(|(a, _)| here(a)) && !here(&mesh.dma_event) {
                continue;
            }
            writeln!(
                out,
                "<rect x=\"{x}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"6\" fill=\"none\" stroke=\"#bbb\"/>\
                 <text class=\"d\" x=\"{}\" y=\"{}\">node {column},{row}</text>",
                y + 1,
                NODE[0] - 6,
                NODE[1] - 6,
                x + 6,
                y + 13
            )?;
            for id in 0..4u8 {
                let at = [x + 5 + u32::from(id % 2) * (NP[0] + 4), y + 17 + u32::from(id / 2) * (NP[1] + 4)];
                let address = NpAddress { column, row, id };
                match mesh.nps.iter().find(|(a, _)| *a == address) {
                    Some((_, types)) => {
                        let placed = pass.placed.iter().find(|p| p.np == address);
                        np(out, model, mesh, at, &kind(*types), placed)?;
                    }
                    None if address == mesh.dma_event || address == mesh.dma_config => {
                        writeln!(out, "<text class=\"d\" x=\"{}\" y=\"{}\">DMA</text>", at[0] + 30, at[1] + 30)?;
                    }
                    None => {}
                }
            }
        }
    }
    writeln!(out, "</svg>")
}

fn np(
    out: &mut String,
    model: &Model,
    mesh: &Mesh,
    at: [u32; 2],
    types: &str,
    placed: Option<&Placed>,
) -> std::fmt::Result {
    let [x, y] = at;
    let fill = placed.map_or("#f4f4f4".into(), |p| colour(p.layer));
    write!(out, "<g><rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"4\" fill=\"{fill}\"/>", NP[0], NP[1])?;
    let Some(p) = placed else {
        return writeln!(out, "<text class=\"d\" x=\"{}\" y=\"{}\">{types}</text></g>", x + 5, y + 15);
    };
    let l = &p.part;
    let configured = if p.kind.is_empty() { "HRC".into() } else { kind(p.kind) };
    write!(out, "<text x=\"{}\" y=\"{}\" font-weight=\"bold\">{}</text>", x + 5, y + 15, p.layer)?;
    write!(out, "<text x=\"{}\" y=\"{}\">{configured}</text>", x + 26, y + 15)?;
    let filters = span(l.filters.origin, l.filters.len);
    write!(out, "<text x=\"{}\" y=\"{}\">f {filters}</text>", x + 5, y + 28)?;
    let filter_size = if p.kind.is_empty() { mesh.sram.hrc } else { mesh.sram.filter };
    for (i, (used, size)) in
        [(p.sram.packet, mesh.sram.packet), (p.sram.filter, filter_size), (p.sram.parameter, mesh.sram.parameter)]
            .into_iter()
            .enumerate()
    {
        let (full, top) = (NP[0] - 10, y + 34 + 6 * i as u32);
        let filled = (u64::from(full) * u64::from(used)).div_ceil(u64::from(size.max(1))).min(full.into());
        write!(out, "<rect x=\"{}\" y=\"{top}\" width=\"{full}\" height=\"4\" fill=\"#fff\" opacity=\".6\"/>", x + 5)?;
        write!(out, "<rect x=\"{}\" y=\"{top}\" width=\"{filled}\" height=\"4\" fill=\"#444\"/>", x + 5)?;
    }
    writeln!(
        out,
        "<title>{} {}\n{}{}\nrows {} columns {} filters {filters}\npacket {} filter {} parameter {} device memory {} bytes\n{} multiply-adds</title></g>",
        p.np,
        types,
        escape(&model.layers[p.layer].name),
        role(p.role),
        span(l.out_rows.origin, l.out_rows.len),
        span(l.out_columns.origin, l.out_columns.len),
        p.sram.packet,
        p.sram.filter,
        p.sram.parameter,
        p.sram.external,
        p.macs
    )
}
