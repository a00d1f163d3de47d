//! Networks at the edge of what people convert: `large-networks make DIR` writes an ONNX file of 200 MB and one of 10,000
//! nodes; `large-networks convert FILE` converts one, prints the time of each stage and the most memory in use, and fails
//! above 4 GiB. tests/large runs both.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use akida_converter::calibrate::{observe, random_samples};
use akida_converter::import::{ImportOptions, import};
use akida_converter::onnx::{self, DType, Dim, Graph, Node, Tensor, Value, ValueType};
use akida_converter::prepare::prepare;
use akida_converter::quantize::{QuantizeOptions, quantize_prepared};
use akida_tests::generate::Random;
use nix::sys::resource::{UsageWho, getrusage};

/// Samples of calibration.
const SAMPLES: usize = 8;
/// What a conversion may take, in KiB.
const LIMIT: i64 = 4 << 20;

/// A chain of 3x3 convolutions with ReLU over a small map, with this many channels everywhere.
fn chain(convolutions: usize, channels: usize) -> Graph {
    let shape = |channels: usize| vec![Dim::Named("N".into()), Dim::Fixed(channels), Dim::Fixed(4), Dim::Fixed(4)];
    let mut random = Random::new(1);
    let mut graph = Graph { name: "chain".into(), ir_version: 8, ..Graph::default() };
    graph.opsets.insert(String::new(), 17);
    graph.inputs.push(Value { name: "input".into(), ty: ValueType::new(DType::F32, shape(3)) });
    let mut at = String::from("input");
    let mut depth = 3;
    for number in 0..convolutions {
        let [weights, bias, sums, out] = ["weights", "bias", "sums", "out"].map(|what| format!("{what}{number}"));
        // As wide as keeps the spread of values from layer to layer.
        let spread = (6.0 / (9.0 * depth as f32)).sqrt();
        let values: Vec<f32> = (0..channels * depth * 9)
            .map(|_| (random.bits() >> 40) as f32 / (1 << 23) as f32 * spread - spread)
            .collect();
        graph.initializers.insert(weights.clone(), Tensor::new([channels, depth, 3, 3], &values));
        graph.initializers.insert(bias.clone(), Tensor::new([channels], &vec![0.01f32; channels]));
        let conv = Node::new("Conv", &[&at, &weights, &bias], &sums)
            .with("kernel_shape", vec![3i64, 3])
            .with("pads", vec![1i64; 4]);
        graph.nodes.extend([conv, Node::new("Relu", &[&sums], &out)]);
        (at, depth) = (out, channels);
    }
    graph.outputs.push(Value { name: at, ty: ValueType::new(DType::F32, shape(channels)) });
    graph
}

fn convert(path: &Path) -> Result<(), Box<dyn Error>> {
    let mut last = Instant::now();
    let mut stage = |name: &str| {
        let peak = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss());
        println!("| {name} | {:.2} s | {} MiB |", last.elapsed().as_secs_f64(), peak >> 10);
        last = Instant::now();
    };
    println!("| stage | time | most memory so far |\n|---|---:|---:|");
    let graph = onnx::load(path)?;
    stage("read");
    let (prepared, _) = prepare(graph, None)?;
    stage("prepare");
    let shape = prepared.inputs.first().and_then(|input| input.ty.without_batch()).ok_or("an input without a shape")?;
    let ranges = observe(&prepared, random_samples(SAMPLES, &shape).view(), &mut |_, _| {})?;
    stage("calibrate");
    let (quantized, _) = quantize_prepared(&prepared, &ranges, &QuantizeOptions::default())?;
    stage("quantize");
    let imported = import(&quantized, ImportOptions { allow_float_tail: true, require_functions: true })?;
    stage("convert");
    imported.model.save(path.with_extension("akm"))?;
    stage("save");
    let peak = getrusage(UsageWho::RUSAGE_SELF)?.max_rss();
    if peak > LIMIT {
        Err(format!("{} MiB in use, the limit is {} MiB", peak >> 10, LIMIT >> 10).into())
    } else {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", folder] => {
            let folder = Path::new(folder);
            chain(22, 512).save(&folder.join("200-megabytes.onnx"))?;
            chain(5000, 4).save(&folder.join("10000-nodes.onnx"))?;
            Ok(())
        }
        ["convert", file] => convert(Path::new(file)),
        _ => Err("usage: large-networks make DIR | convert FILE".into()),
    }
}
