//! `akida-convert show`: what is in a file.

use std::io::Write;

use akida_converter::onnx;
use akida_runtime::hybrid::{HybridModel, Port};
use akida_runtime::model::{Layer, LayerKind, Model, Tensor};
use akida_runtime::summary::{Form, summary};
use serde::Serialize;

use super::args::{Format, Show};
use super::{is_onnx, parts};
use crate::exit::{Exit, Failure};

/// Version of the JSON document. It changes when a key changes its meaning or goes; new keys may come at any time.
const SCHEMA: &str = "akida-model/1";

#[derive(Serialize)]
struct Document<'m> {
    schema: &'static str,
    name: &'m str,
    target: String,
    input: InputEntry<'m>,
    layers: Vec<LayerEntry<'m>>,
    outputs: Vec<OutputEntry<'m>>,
    weights_bytes: u64,
    /// Null when a board computes all of it.
    hybrid: Option<parts::PartsEntry<'m>>,
}

#[derive(Serialize)]
struct TensorEntry<'m> {
    name: &'m str,
    /// (height, width, channels).
    shape: [usize; 3],
    bits: u8,
    signed: bool,
    onnx_shape: Vec<usize>,
}

#[derive(Serialize)]
struct InputEntry<'m> {
    name: &'m str,
    onnx_shape: Vec<usize>,
    tensor: TensorEntry<'m>,
    /// Real per integer; null when the model takes integers only.
    scale: Option<&'m [f32]>,
    zero_point: Option<&'m [i32]>,
}

#[derive(Serialize)]
struct LayerEntry<'m> {
    name: &'m str,
    op: &'m str,
    kind: &'static str,
    inputs: Vec<&'m str>,
    output: TensorEntry<'m>,
    /// (filters, height, width, channels) of each set of weights.
    weights_shapes: Vec<[usize; 4]>,
    weights_bits: Vec<u8>,
    /// Multiply-adds of one sample.
    macs: u64,
}

#[derive(Serialize)]
struct OutputEntry<'m> {
    name: &'m str,
    /// The integers it is made of; null when a host segment makes it.
    tensor: Option<&'m str>,
    onnx_shape: Vec<usize>,
    /// Whether integers become floats.
    dequantized: bool,
}

/// Prints a model or a graph.
pub fn run(args: &Show, out: &mut dyn Write) -> Result<Exit, Failure> {
    let written = if is_onnx(&args.model) {
        let graph = onnx::load(&args.model)?;
        if args.format == Format::Json {
            let message = format!("{} is an ONNX file; JSON is for models", args.model.display());
            return Err(Failure::new(Exit::Usage, message, "use --format text, or convert it first"));
        }
        writeln!(out, "{graph}")
    } else {
        let network = super::load_network(&args.model)?;
        match args.format {
            Format::Text => {
                let form = if args.with_quantizer { Form::WithQuantizer } else { Form::WithoutQuantizer };
                let models: String = network.boards().map(|(_, model)| summary(model, form)).collect();
                out.write_all((models + &parts::text(&network)).as_bytes())
            }
            Format::Json => serde_json::to_writer_pretty(&mut *out, &document(&network)?)
                .map_err(std::io::Error::from)
                .and_then(|()| out.write_all(b"\n")),
        }
    };
    written.map(|()| Exit::Done).map_err(|e| Failure::stdout(&e))
}

/// Layers are those of all board parts; input and outputs those of the network.
fn document(network: &HybridModel) -> Result<Document<'_>, Failure> {
    let first = network.boards().map(|(_, model)| model).next();
    let Some(first) = first else {
        return Err(Failure::new(Exit::Internal, "a network without a board part", "please report this"));
    };
    let quantizer = first.input.quantizer.as_ref();
    let output = |port: &'_ Port| {
        network.boards().flat_map(|(_, m)| m.outputs.iter().map(move |o| (m, o))).find(|(_, o)| o.name == port.name)
    };
    Ok(Document {
        schema: SCHEMA,
        name: &network.name,
        target: network.target.to_string(),
        input: InputEntry {
            name: &network.input.name,
            onnx_shape: network.input.dims[1..].to_vec(),
            tensor: tensor(&first.input.tensor),
            scale: quantizer.map(|q| q.scale.as_slice()),
            zero_point: quantizer.map(|q| q.zero_point.as_slice()),
        },
        layers: network.boards().flat_map(|(_, model)| layers(model)).collect(),
        outputs: network
            .outputs
            .iter()
            .map(|port| OutputEntry {
                name: &port.name,
                tensor: output(port).map(|(model, o)| model.tensor(o.tensor).name.as_str()),
                onnx_shape: port.dims[1..].to_vec(),
                dequantized: output(port).is_some_and(|(_, o)| o.dequantizer.is_some()),
            })
            .collect(),
        weights_bytes: network.boards().map(|(_, model)| model.weight_bytes()).sum(),
        hybrid: network.whole().is_none().then(|| parts::entry(network)),
    })
}

fn layers(model: &Model) -> Vec<LayerEntry<'_>> {
    model.layers.iter().zip(model.macs()).map(|(l, macs)| layer(model, l, macs)).collect()
}

fn layer<'m>(model: &'m Model, layer: &'m Layer, macs: u64) -> LayerEntry<'m> {
    LayerEntry {
        name: &layer.name,
        op: &layer.op,
        kind: match layer.kind {
            LayerKind::Conv(_) => "conv",
            LayerKind::Dense(_) => "dense",
            LayerKind::Add(_) => "add",
            LayerKind::Concat => "concat",
        },
        inputs: layer.inputs.iter().map(|&t| model.tensor(t).name.as_str()).collect(),
        output: tensor(&layer.output),
        weights_shapes: layer.kind.weights().map(|w| w.shape).collect(),
        weights_bits: layer.kind.weights().map(|w| w.bits).collect(),
        macs,
    }
}

fn tensor(t: &Tensor) -> TensorEntry<'_> {
    TensorEntry { name: &t.name, shape: t.shape, bits: t.bits, signed: t.signed, onnx_shape: t.layout.dims(t.shape) }
}
