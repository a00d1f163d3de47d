//! `akida-convert compare`: where a model lost accuracy against the float network it was made of.

use std::io::Write;
use std::path::Path;

use akida_converter::compare::{CompareError, Comparison, compare};
use akida_converter::{ConvertError, onnx, prepare, quantize};
use akida_runtime::model::Model;
use serde::Serialize;

use super::args::{Compare, Format};
use crate::command::Common;
use crate::drawing::escape;
use crate::drawing::plot::{Row, bars};
use crate::exit::{Exit, Failure};
use crate::files::write_whole;
use crate::samples::{self, Normalize, Preparation};
use crate::terminal::{progress, table};

/// Version of the JSON document. It changes when a key changes its meaning or goes; new keys may come at any time.
const SCHEMA: &str = "akida-compare/1";

#[derive(Serialize)]
struct Document<'c> {
    schema: &'static str,
    float: String,
    model: String,
    target: String,
    /// Names of layers by what is lost in them, most first.
    ranking: Vec<&'c str>,
    #[serde(flatten)]
    comparison: &'c Comparison,
}

/// Compares, prints the table and writes the plot.
pub fn run(args: &Compare, common: &Common, out: &mut dyn Write) -> Result<Exit, Failure> {
    let graph = onnx::load(&args.float)?;
    quantize::check_float(&graph).map_err(ConvertError::from)?;
    let model = Model::open(&args.model)?;
    let dims = graph.inputs.first().and_then(|i| i.ty.without_batch());
    let bytes = graph.inputs.first().is_some_and(|i| i.ty.dtype == Some(onnx::DType::U8));
    let normalize = if args.mean.is_empty() { None } else { Some(Normalize::new(&args.mean, &args.std)?) };
    let preparation = Preparation { normalize, resize: args.resize };
    let samples = samples::read_floats(&args.samples, dims.as_deref(), bytes, &preparation)?;
    let shape = samples.shape().get(1..).unwrap_or(&[]).to_vec();
    let (prepared, _) = prepare::prepare(graph, Some(&shape)).map_err(ConvertError::from)?;

    let bar = progress(1, "comparing", !common.bars());
    let comparison = compare(&prepared, &model, samples.view(), &mut |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let comparison = comparison.map_err(|e| match e {
        CompareError::Float(e) => ConvertError::from(e).into(),
        e => {
            let help = "give the float network that the model was made of, and samples it takes";
            Failure::because(Exit::Data, args.model.display(), &e, help)
        }
    })?;
    if let Some(path) = &args.plot {
        let plot = plot(args, &comparison)?;
        write_whole(path, |file| file.write_all(plot.as_bytes()))?;
    }
    let report = match args.format {
        Format::Text => text(args, &model, &comparison),
        Format::Json => {
            let document = Document {
                schema: SCHEMA,
                float: args.float.display().to_string(),
                model: args.model.display().to_string(),
                target: model.target.to_string(),
                ranking: comparison.ranking().iter().map(|l| l.layer.as_str()).collect(),
                comparison: &comparison,
            };
            let json = serde_json::to_string_pretty(&document);
            json.map_err(|e| Failure::because(Exit::Internal, "the report", &e, "please report this"))? + "\n"
        }
    };
    out.write_all(report.as_bytes()).map_err(|e| Failure::stdout(&e))?;
    Ok(Exit::Done)
}

fn text(args: &Compare, model: &Model, comparison: &Comparison) -> String {
    let mut table =
        table(&["rank", "layer", "lost", "SQNR dB", "SMAPE", "largest error", "saturated", "worst channel"]);
    let ranking = comparison.ranking();
    for layer in &comparison.layers {
        let rank = ranking.iter().position(|l| std::ptr::eq(*l, layer)).map_or(0, |n| n + 1);
        table.add_row([
            rank.to_string(),
            layer.layer.clone(),
            format!("{:.2e}", layer.lost),
            layer.sqnr_db.map_or("-".to_owned(), |db| format!("{db:.1}")),
            format!("{:.4}", layer.smape),
            format!("{:.4}", layer.largest),
            format!("{:.2} %", 100.0 * layer.saturated),
            format!("{} ({:.1e})", layer.worst_channel, layer.worst_noise),
        ]);
    }
    let mut text = format!(
        "{} ({}) beside {}, {} samples, computed on the host\n\n{}\n",
        args.model.display(),
        model.target,
        args.float.display(),
        comparison.samples,
        table.trim_fmt()
    );
    for name in &comparison.without_counterpart {
        text.push_str(&format!(
            "{name}: makes no tensor of the float network; what it loses shows in the layers behind it\n"
        ));
    }
    for o in &comparison.outputs {
        text.push_str(&format!("output {}: top-1 equal {:.2} %, cosine {:.6}\n", o.output, 100.0 * o.top1, o.cosine));
    }
    if let Some(first) = ranking.first().filter(|l| l.lost > 0.0) {
        text.push_str(&format!("most is lost in {}\n", first.layer));
    }
    text
}

/// The plot, as the ending of the file's name says.
fn plot(args: &Compare, comparison: &Comparison) -> Result<String, Failure> {
    let path: &Path = args.plot.as_deref().unwrap_or(Path::new(""));
    let rows: Vec<Row> = comparison
        .layers
        .iter()
        .map(|l| Row { name: l.layer.clone(), values: vec![l.sqnr_db, Some(l.lost), Some(l.smape)] })
        .collect();
    let title = format!("{} beside {}", args.model.display(), args.float.display());
    let svg = bars(&title, &["SQNR dB (more is better)", "noise added here", "SMAPE"], &rows);
    match path.extension().and_then(|e| e.to_str()) {
        Some("svg") => Ok(svg),
        Some("html") => Ok(format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><title>{}</title></head>\n<body>\n{svg}</body>\
             </html>\n",
            escape(&title)
        )),
        _ => Err(Failure::new(
            Exit::Usage,
            format!("--plot {}: the ending is neither .svg nor .html", path.display()),
            "name the plot FILE.svg or FILE.html",
        )),
    }
}
