//! The report for people.

use std::fmt::Write;

use super::activity::Activity;
use super::report::{Report, Sample, Statistics};
use crate::arrays::shape_text;
use crate::terminal::{Colours, Picture, bars, table};

/// Everything but the pictures of samples.
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    let board = &report.board;
    let simulated = if board.simulated { "SIMULATED board, " } else { "" };
    if let (Some(version), Some(nps)) = (&board.hardware_version, board.nps) {
        line("board", format!("{}: {simulated}hardware version {version}, {nps} NPs", board.name));
    }
    if let Some(server) = &board.server {
        // The service's own words for the board say whether it is simulated.
        line("board", format!("{}, of the service {server}", board.name));
    }
    line("model", format!("{} ({}), made for {}", report.model.file, report.model.name, report.model.target));
    for (i, s) in report.model.sequences.iter().enumerate() {
        let place = match s.place {
            "hardware" if s.passes > 1 => format!("{} NPs, {} passes", s.nps, s.passes),
            "hardware" => format!("{} NPs", s.nps),
            _ if s.float => "host, in floating point".to_string(),
            _ => "host".to_string(),
        };
        let events = |road: Option<&str>, what: &str| match road {
            Some(road) if road != "dense" => format!(", {road} {what}"),
            _ => String::new(),
        };
        let roads = events(s.input_as, "in") + &events(s.output_as, "out");
        line(&format!("sequence {i}"), format!("{place}{roads}: {}", s.layers.join(" → ")));
    }
    if report.model.sequences.iter().any(|s| s.float) {
        for because in report.model.sequences.iter().filter(|s| s.float).flat_map(|s| &s.because) {
            line("host", because.clone());
        }
        for b in &report.model.boundaries {
            line(
                "moved",
                format!("{}: {} bytes for one inference, '{}' at layer {}", b.direction, b.bytes, b.tensor, b.layer),
            );
        }
    }
    let input = &report.input;
    let road = if input.quantized { "through the input quantizer" } else { "straight into the first layer" };
    line("input", format!("{}: {} x {} {}, {road}", input.file, input.samples, input.dtype, shape_text(&input.shape)));
    for output in &report.outputs {
        line("output", format!("{} {}", output.name, shape_text(&output.shape)));
    }
    if let Some(a) = &report.accuracy {
        line("accuracy", format!("{:.4} ({} of {} right)", a.top1_fraction, a.correct, a.samples));
    }
    let t = &report.throughput;
    let wall = if board.simulated { " of the simulation, not of a chip" } else { "" };
    line("speed", format!("{:.1} inferences/s{wall} ({:.3} s)", t.samples_per_second, t.elapsed_ns as f64 / 1e9));
    if let Some(v) = &report.verify {
        let verdict = match &v.first {
            None => format!("all {} integers of {} samples equal the reference", v.elements, v.samples),
            Some(d) => format!(
                "{} of {} integers DIFFER; first: {} at {}: board {}, reference {}",
                v.differences,
                v.elements,
                d.tensor,
                shape_text(&d.index),
                d.board,
                d.reference
            ),
        };
        line("verify", verdict);
    }
    if let Some(s) = &report.statistics {
        text.push('\n');
        text.push_str(&statistics(s));
    }
    text
}

fn statistics(s: &Statistics) -> String {
    let clock = if s.board_clock == "simulated" { "SIMULATED TIME" } else { "host time" };
    let mut table = table(&["mean of one inference", "sequence", "by", "µs"]);
    for (number, sequence) in s.sequences.iter().enumerate() {
        let host = sequence.programmed == 0;
        let rows = [
            ("copy in", sequence.copy_in_mean_ns, clock, !host),
            ("doorbell to completion", sequence.doorbell_to_completion_mean_ns, clock, !host),
            ("copy out", sequence.copy_out_mean_ns, clock, !host),
            ("layers on the host", sequence.host_computing_mean_ns, "host time", host),
            ("programming, altogether", sequence.programming_ns, "host time", !host),
        ];
        for (name, ns, clock, _) in rows.into_iter().filter(|r| r.3) {
            table.add_row([name.into(), number.to_string(), clock.into(), format!("{:.3}", ns as f64 / 1e3)]);
        }
    }
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    let mut text = format!("{}\n", table.trim_fmt());
    if s.recoveries > 0 {
        let _ = writeln!(text, "the board failed and was recovered {} times", s.recoveries);
    }
    s.activity.iter().for_each(|a| text.push_str(&activity(a)));
    text
}

/// Zeros, measured; cycles, estimated.
fn activity(a: &Activity) -> String {
    let mut table = table(&["layer", "zeros of its output, %", "ESTIMATED cycles"]);
    let cycles = |name: &str| {
        let estimate = a.estimate.as_ref()?;
        let mut of = estimate.layers.iter().filter(|l| l.layer == name).map(|l| l.cycles).peekable();
        of.peek().is_some().then_some(of.sum::<u64>())
    };
    for layer in &a.layers {
        let cycles = cycles(&layer.layer).map_or("-".into(), |c| c.to_string());
        table.add_row([layer.layer.clone(), format!("{:.1}", layer.sparsity_fraction * 100.0), cycles]);
    }
    for number in [1, 2] {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
    let mean = a.mean_sparsity_fraction * 100.0;
    let mut text = format!("\n{}\n", table.trim_fmt());
    let _ = writeln!(text, "{mean:.1} % of all activations of {} samples are 0", a.samples);
    match (&a.estimate, a.no_estimate) {
        (Some(estimate), _) => text.push_str(&estimate.text()),
        (None, Some(why)) => {
            let _ = writeln!(text, "no estimate of cycles and energy: {why}");
        }
        (None, None) => {}
    }
    text
}

/// One sample: heading, picture, scores.
pub fn sample(sample: &Sample, picture: Option<&Picture>, colours: Colours) -> String {
    let mut text = format!("\nsample {}", sample.index);
    if let Some(name) = &sample.name {
        let _ = write!(text, " ({name})");
    }
    if let Some(best) = sample.top.first() {
        let class = best.name.clone().unwrap_or_else(|| best.class.to_string());
        let _ = write!(text, ": class {class}");
        match sample.label {
            Some(label) if label == best.class => text.push_str(", right"),
            Some(label) => {
                let _ = write!(text, ", WRONG: labelled {label}");
            }
            None => {}
        }
    }
    text.push('\n');
    if let Some(picture) = picture {
        text.push_str(&picture.render(64, colours));
    }
    let rows: Vec<(String, f32)> =
        sample.top.iter().map(|s| (s.name.clone().unwrap_or_else(|| s.class.to_string()), s.score)).collect();
    text.push_str(&bars(&rows, 40));
    text
}
