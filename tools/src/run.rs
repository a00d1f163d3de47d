//! `akida-run`: samples in, a board, results out.

mod activity;
mod args;
mod bench;
mod engine;
mod list;
mod pin;
mod remote;
mod report;
mod text;
mod verify;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use akida_runtime::edge;
use akida_runtime::hybrid::{HostValues, HybridModel};
use akida_runtime::model::{Model, Tensor};
use ndarray::{ArrayD, ArrayViewD, Axis, Slice};

pub use args::Args;
use args::{Command, Format, Show};
use engine::{Engine, Feed, Results};
use report::{Accuracy, Report, Sample, Score, Statistics, Throughput};

use crate::arrays::{Array, npy_bytes, write_npz};
use crate::command::Common;
use crate::exit::{Exit, Failure};
use crate::files::write_whole;
use crate::samples::{self, Data, Expected, Labels, Normalize, Preparation, Samples};
use crate::terminal::{Colours, Picture};

/// The command.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Exit, Failure> {
    if let Some(Command::Bench(bench)) = &args.command {
        return bench::run(bench, &args.common, out);
    }
    if args.list {
        return list::run(args.format, out);
    }
    if let Some(server) = &args.server {
        return remote::run(args, server, out);
    }
    let (Some(model_file), Some(input_file)) = (&args.model, &args.input) else {
        return Err(Failure::new(Exit::Usage, "a model and --input are needed", "akida-run --help"));
    };
    let model = crate::convert::load_network(model_file)?;
    let samples = read_samples(args, &Expected::of(&model), input_file)?;
    let labels = read_labels(args, model.outputs[0].len(), &samples)?;
    let names = args.class_names.as_deref().map(samples::read_names).transpose()?;
    let shown = Show::indices(args.show.as_ref(), samples.data.len())
        .map_err(|e| Failure::new(Exit::Usage, format!("--show: {e}"), "samples count from 0"))?;
    let feed = feed(&model, &samples.data)?;

    let model = Arc::new(model);
    let mut engine = Engine::open(args, model.clone())?;
    let results = engine.run(&feed, args.intermediates, &args.common)?;
    let verify = match args.verify {
        true => Some(verify::verify(&model, &feed, &results, &args.common)?),
        false => None,
    };
    let scores = &results.floats[0];

    let report = Report {
        schema: report::SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        board: engine.board(),
        model: engine.model(model_file),
        input: report::Input {
            file: input_file.display().to_string(),
            samples: samples.data.len(),
            dtype: samples.data.dtype(),
            shape: samples.data.shape()[1..].to_vec(),
            quantized: matches!(samples.data, Data::Floats(_)),
        },
        outputs: model
            .outputs
            .iter()
            .zip(&results.floats)
            .map(|(o, a)| report::Output { name: o.name.clone(), shape: a.shape()[1..].to_vec() })
            .collect(),
        samples: shown
            .iter()
            .map(|&i| sample_report(i, &samples, labels.as_ref(), names.as_deref(), scores, args.top))
            .collect(),
        accuracy: labels.as_ref().map(|l| accuracy(scores, l)).transpose()?,
        throughput: Throughput::new(feed.len(), results.elapsed),
        statistics: match args.statistics {
            true => Some(Statistics {
                activity: engine.activity(&feed, &results)?,
                ..Statistics::new(&results.statistics, !args.real_time)
            }),
            false => None,
        },
        verify,
    };

    engine.close()?;

    let picture = |index| Picture::of(&samples.data, Expected::of(&model).layout, index);
    deliver(args, &report, arrays(args, &model, &results), scores, &shown, picture, out)?;

    match &report.verify {
        Some(v) if v.differences > 0 => {
            args.common.notice(format_args!(
                "akida-run: {} of {} integers differ from the reference\nhelp: please report this with the model and the input",
                v.differences, v.elements
            ));
            Ok(Exit::Different)
        }
        _ => Ok(Exit::Done),
    }
}

/// Hands over what was made.
fn deliver(
    args: &Args,
    report: &Report,
    arrays: Vec<(String, Array)>,
    scores: &ArrayD<f32>,
    shown: &[usize],
    picture: impl Fn(usize) -> Option<Picture>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    // Files first: what is promised is on disk before anything is said.
    if let Some(path) = &args.output {
        write_npz(path, arrays.iter().map(|(name, array)| (name.clone(), array)))?;
    }
    if let Some(path) = &args.save_image {
        save_image(path, shown.first().and_then(|&i| picture(i)))?;
    }
    let colours = Colours::of_stdout();
    match args.format {
        Format::Text => {
            let mut text = text::summary(report);
            for (sample, &index) in report.samples.iter().zip(shown) {
                let image = if args.picture.on_stdout() { picture(index) } else { None };
                text.push_str(&text::sample(sample, image.as_ref(), colours));
            }
            out.write_all(text.as_bytes())
        }
        Format::Json => serde_json::to_writer_pretty(&mut *out, report)
            .map_err(std::io::Error::from)
            .and_then(|()| out.write_all(b"\n")),
        Format::Npy => out.write_all(&npy_bytes(&Array::F32(scores.clone()))?),
    }
    .map_err(|e| Failure::stdout(&e))
}

fn read_samples(args: &Args, expected: &Expected, path: &Path) -> Result<Samples, Failure> {
    let normalize = match args.mean.is_empty() {
        true => None,
        false => Some(Normalize::new(&args.mean, &args.std)?),
    };
    let preparation = Preparation { normalize, resize: args.resize };
    let mut samples = samples::read(path, expected, &preparation)?;
    if let Some(limit) = args.limit.filter(|&n| n < samples.data.len()) {
        if limit == 0 {
            return Err(Failure::new(Exit::Usage, "--limit 0 leaves nothing to run", "give at least 1"));
        }
        let first = Slice::from(..limit);
        samples.data = match samples.data {
            Data::Floats(a) => Data::Floats(a.slice_axis(Axis(0), first).to_owned()),
            Data::Pixels(a) => Data::Pixels(a.slice_axis(Axis(0), first).to_owned()),
            Data::Integers(a) => Data::Integers(a.slice_axis(Axis(0), first).to_owned()),
        };
        if let Some(labels) = &mut samples.labels {
            labels.0.truncate(limit);
        }
    }
    Ok(samples)
}

/// Labels of `--labels`, else those beside the samples, checked against samples and classes.
fn read_labels(args: &Args, classes: usize, samples: &Samples) -> Result<Option<Labels>, Failure> {
    let (mut labels, what) = match (&args.labels, &samples.labels) {
        (Some(path), _) => (samples::read_labels(path)?, path.display().to_string()),
        (None, Some(labels)) => (labels.clone(), "array labels of the input".to_string()),
        (None, None) => return Ok(None),
    };
    if let Some(limit) = args.limit {
        labels.0.truncate(limit);
    }
    labels.check(samples.data.len(), classes, &what)?;
    Ok(Some(labels))
}

/// What enters the network: the integers of its first layer, or floats where the host computes first.
fn feed(network: &HybridModel, data: &Data) -> Result<Feed, Failure> {
    let bytes = match (first_board(network), data) {
        (None, Data::Floats(a)) => return Ok(Feed::Floats(a.clone())),
        (None, _) => {
            let message = "the network begins with operations on the host, which take float32, not integers";
            return Err(Failure::new(Exit::Data, message, "give float32, or pixels with --mean and --std"));
        }
        (Some(model), Data::Floats(a)) => edge::quantize_input(model, a.view())?,
        (Some(model), Data::Pixels(a)) => {
            let bytes =
                |s: ArrayViewD<'_, u8>| s.to_slice().map_or_else(|| s.iter().copied().collect(), <[u8]>::to_vec);
            a.outer_iter().map(|s| edge::chip_order(&model.input, bytes(s))).collect()
        }
        (Some(model), Data::Integers(a)) => {
            let bytes = |s: ArrayViewD<'_, i8>| s.iter().map(|&v| v as u8).collect();
            a.outer_iter().map(|s| edge::chip_order(&model.input, bytes(s))).collect()
        }
    };
    Ok(Feed::Bytes(bytes))
}

/// The board part that takes the network's input, when nothing else does.
pub fn first_board(network: &HybridModel) -> Option<&Model> {
    let on_host = network.segments().any(|(_, s)| s.inputs.iter().any(|port| port.name == network.input.name));
    let mut takers = network.boards().map(|(_, model)| model).filter(|model| model.input.name == network.input.name);
    let first = takers.next().filter(|_| !on_host)?;
    // Two of them may quantize in different ways.
    takers.next().is_none().then_some(first)
}

/// A tensor's integers in the type the ONNX graph has for them.
fn integers(tensor: &Tensor, values: &ArrayD<i32>) -> Array {
    match (tensor.bits, tensor.signed) {
        (32, _) => Array::I32(values.clone()),
        (_, true) => Array::I8(values.mapv(|v| v as i8)),
        (_, false) => Array::U8(values.mapv(|v| v as u8)),
    }
}

fn accuracy(output: &ArrayD<f32>, labels: &Labels) -> Result<Accuracy, Failure> {
    report::accuracy(output, labels).ok_or_else(|| {
        Failure::new(
            Exit::Data,
            "labels were given, but the first output is a map and no list of class scores",
            "leave --labels out, or take `labels` out of the .npz",
        )
    })
}

fn sample_report(
    index: usize,
    samples: &Samples,
    labels: Option<&Labels>,
    names: Option<&[String]>,
    output: &ArrayD<f32>,
    top: usize,
) -> Sample {
    let ranking = report::ranking(output, index).unwrap_or_default();
    let score =
        |&(class, score): &(usize, f32)| Score { class, name: names.and_then(|n| n.get(class).cloned()), score };
    Sample {
        index,
        name: samples.names.as_ref().and_then(|n| n.get(index).cloned()),
        label: labels.and_then(|l| l.0.get(index).copied()),
        top: ranking.iter().take(top).map(score).collect(),
    }
}

/// What `--output` writes.
fn arrays(args: &Args, network: &HybridModel, results: &Results) -> Vec<(String, Array)> {
    let mut arrays: Vec<(String, Array)> = Vec::new();
    for (i, values) in results.outputs.iter().enumerate() {
        arrays.push((
            format!("out{i}"),
            match values {
                HostValues::F32(array) => Array::F32(array.clone()),
                HostValues::I64(array) => Array::I64(array.clone()),
            },
        ));
    }
    let boards = || network.boards().map(|(_, model)| model).zip(&results.boards);
    if args.raw {
        for (i, port) in network.outputs.iter().enumerate() {
            for (model, board) in boards() {
                let made = model.outputs.iter().zip(&board.raw).filter(|(output, _)| output.name == port.name);
                arrays.extend(made.map(|(o, array)| (format!("raw{i}"), integers(model.tensor(o.tensor), array))));
            }
        }
    }
    for (model, board) in boards() {
        for layer in &board.layers {
            arrays.push((layer.name.clone(), integers(model.tensor(layer.tensor), &layer.values)));
        }
    }
    arrays
}

fn save_image(path: &Path, picture: Option<Picture>) -> Result<(), Failure> {
    let picture = picture.ok_or_else(|| {
        let message = "--save-image: there is no printed sample that is an image of 1 or 3 channels";
        Failure::new(Exit::Usage, message, "choose a sample with --show, or leave --save-image out")
    })?;
    let png = picture.png().map_err(|e| {
        Failure::because(Exit::Internal, "cannot encode a picture", &e, "please report this with the input")
    })?;
    write_whole(path, |file| file.write_all(&png))
}

impl Common {
    /// Whether progress bars are wanted.
    pub(crate) fn bars(&self) -> bool {
        !self.quiet && self.verbose == 0
    }
}
