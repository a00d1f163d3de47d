//! The summary of a model as a table, in the manner users know from the vendor's tools (quantization.md 7.5).
//!
//! For a model that is not mapped the text is theirs to the byte. The mapped form follows the same rules, with numbers
//! of our mapping.

mod rows;
mod table;

use crate::{
    mapping::{HostStep, Mapping, Sequence, explain::components},
    model::{LayerKind, Model},
};
use rows::{Row, dequantizer_row, front_rows, hides_input_data, layer_row, list};
use table::{Table, banner};

/// Whether the software quantizer in front of the model is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Float input in the layout of the ONNX graph.
    WithQuantizer,
    /// Integers in (height, width, channels) order, as the board takes them.
    WithoutQuantizer,
}

/// Rows that run one after another.
struct Section {
    title: Title,
    rows: Vec<Row>,
}

enum Title {
    Software,
    Hardware { bytes: usize },
}

impl Section {
    fn title(&self) -> String {
        let name = |row: Option<&Row>| row.map_or(String::new(), |row| row.name.clone());
        let [first, last] = [name(self.rows.first()), name(self.rows.last())];
        match self.title {
            Title::Software => format!("SW/{first}-{last} (Software)"),
            Title::Hardware { bytes } => format!("HW/{first}-{last} (Hardware) - size: {bytes} bytes"),
        }
    }
}

/// The summary of a model that is not mapped: one software sequence.
pub fn summary(model: &Model, form: Form) -> String {
    let mut rows = front_rows(model, form);
    rows.extend((0..model.layers.len()).map(|index| layer_row(model, index)));
    rows.extend(dequantizer_row(model));
    let layers = rows.len() + usize::from(hides_input_data(model, form));
    let section = Section { title: Title::Software, rows };

    let mut table = Table::new(["Input shape", "Output shape", "Sequences", "Layers"]);
    table.row([input_shape(model, form), output_shape(model), "1".into(), layers.to_string()]);
    let mut text = table.titled("Model Summary");
    text.push('\n');
    text.push_str(&layer_table(&[section], false));
    text
}

/// The summary of a mapped model: which sequence runs where, on how many NPs, and how large its program is.
pub fn mapped_summary(model: &Model, mapping: &Mapping, form: Form) -> String {
    let mut sections: Vec<Section> = mapping.sequences.iter().map(|sequence| section(model, sequence)).collect();
    // Quantizer and dequantizer are counted in the sequence they touch.
    if let Some(first) = sections.first_mut() {
        let front = front_rows(model, form);
        first.rows.splice(0..0, front);
    }
    let complete = model.outputs.iter().all(|output| mapping.outputs.contains(&output.tensor));
    if let (Some(last), true) = (sections.last_mut(), complete) {
        last.rows.extend(dequantizer_row(model));
    }
    let layers = sections.iter().map(|s| s.rows.len()).sum::<usize>() + usize::from(hides_input_data(model, form));
    let parts: Vec<_> = mapping.hardware().flat_map(|h| &h.passes).flat_map(|pass| &pass.placed).collect();
    let nps = parts.iter().filter(|part| !part.kind.is_empty()).count();
    let external: u64 = parts.iter().map(|part| u64::from(part.sram.external)).sum();
    let merges = |layer: &&usize| matches!(model.layers[**layer].kind, LayerKind::Add(_) | LayerKind::Concat);
    let skips = mapping.hardware().flat_map(|h| &h.layers).filter(merges).count();

    let mut table = Table::new([
        "Input shape",
        "Output shape",
        "Sequences",
        "Layers",
        "NPs",
        "Skip DMAs",
        "External Memory (Bytes)",
    ]);
    let output = mapping.outputs.first().map_or_else(String::new, |&id| list(&model.tensor(id).shape));
    table.row([
        input_shape(model, form),
        output,
        sections.len().to_string(),
        layers.to_string(),
        nps.to_string(),
        skips.to_string(),
        external.to_string(),
    ]);
    let mut text = table.titled("Model Summary");
    text.push('\n');
    text.push_str(&component_table(mapping));
    text.push('\n');
    text.push_str(&layer_table(&sections, true));
    text
}

fn section(model: &Model, sequence: &Sequence) -> Section {
    match sequence {
        Sequence::Hardware(hardware) => {
            let placed: Vec<_> = hardware.passes.iter().flat_map(|pass| &pass.placed).cloned().collect();
            let row = |&layer: &usize| {
                let own: Vec<_> = placed.iter().filter(|part| part.layer == layer).cloned().collect();
                Row { components: components(&own), ..layer_row(model, layer) }
            };
            let rows = hardware.layers.iter().map(row).collect();
            Section { title: Title::Hardware { bytes: hardware.bytes() }, rows }
        }
        Sequence::Host(host) => {
            let row = |step: &HostStep| match step {
                HostStep::Layer(layer) => layer_row(model, *layer),
                HostStep::Finish { layer, slices } => {
                    Row { components: format!("sum of {slices} slices"), ..layer_row(model, *layer) }
                }
            };
            let rows = host.steps.iter().map(|(step, _)| row(step)).collect();
            Section { title: Title::Software, rows }
        }
    }
}

fn input_shape(model: &Model, form: Form) -> String {
    let shape = model.input.tensor.shape;
    match (&model.input.quantizer, form) {
        (Some(_), Form::WithQuantizer) => match model.input.layout.dims(shape).as_slice() {
            &[channels] => list(&[1, 1, channels]),
            dims => list(dims),
        },
        _ => list(&rows::quantized_shape(model)),
    }
}

fn output_shape(model: &Model) -> String {
    model.outputs.first().map_or_else(String::new, |output| list(&model.tensor(output.tensor).shape))
}

/// How many of each kind of component the hardware sequences use.
fn component_table(mapping: &Mapping) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for part in mapping.hardware().flat_map(|h| &h.passes).flat_map(|pass| &pass.placed) {
        let kind = components(std::slice::from_ref(part)).trim_start_matches("1 ").to_owned();
        match counts.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => counts.push((kind, 1)),
        }
    }
    counts.sort();
    let mut table = Table::new(["Component (type)", "Count"]);
    for (kind, count) in counts {
        table.row([kind, count.to_string()]);
    }
    table.untitled()
}

fn layer_table(sections: &[Section], with_components: bool) -> String {
    let cells = |row: &Row, line: usize| {
        let kernel = row.kernel.get(line).cloned().unwrap_or_default();
        match line {
            0 => vec![format!("{} ({})", row.name, row.kind), row.output.clone(), kernel, row.components.clone()],
            _ => vec![String::new(), String::new(), kernel, String::new()],
        }
    };
    let columns = if with_components { 4 } else { 3 };
    let mut table =
        Table::new(["Layer (type)", "Output shape", "Kernel shape", "Components"].into_iter().take(columns));
    for section in sections {
        for row in &section.rows {
            for line in 0..row.kernel.len() {
                table.row(cells(row, line).into_iter().take(columns));
            }
        }
    }
    let rule = table.rule('_');
    let mut text = format!("{rule}{}", table.header());
    let mut lines = table.lines();
    for section in sections {
        text.push_str(&format!("\n{}\n\n", banner(&section.title(), table.width())));
        for row in &section.rows {
            text.extend(lines.by_ref().take(row.kernel.len()));
            text.push_str(&rule);
        }
    }
    text
}

#[cfg(test)]
mod tests;
