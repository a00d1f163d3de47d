//! Float networks to models for Akida 1.0: `akida-convert quantize --target akd1000` and `check`.

use std::path::Path;

use akida_converter::ConvertError;
use akida_converter::akida1::{self, LayerBits, Options, Quantized, Tools};
use akida_converter::calibrate::random_samples;
use akida_converter::onnx;
use akida_runtime::model::Target;
use ndarray::ArrayViewD;

use super::args::{InputDtype, Quantize};
use crate::command::Common;
use crate::exit::{Exit, Failure};
use crate::terminal::progress;

/// Quantizes with the options of the command line.
pub fn quantize(args: &Quantize, samples: ArrayViewD<f32>, common: &Common) -> Result<Quantized, Failure> {
    let bits = args.bits.as_deref().map_or(Ok(akida1::Bits::default()), str::parse);
    let options = Options {
        bits: bits.map_err(ConvertError::from)?,
        layers: args.layer_bits.iter().map(|text| layer_bits(text)).collect::<Result<_, _>>()?,
        until: args.quantize_until.clone(),
        ..Options::new(args.target)
    };
    let bar = progress(1, "quantizing layers", !common.bars());
    let quantized = akida1::convert(&args.model, samples, &options, &mut |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let quantized = quantized?;
    for note in &quantized.notes {
        common.notice(format_args!("note: {note}"));
    }
    Ok(quantized)
}

/// Refuses options that belong to Akida 2.0 only.
pub fn refuse_foreign(args: &Quantize) -> Result<(), Failure> {
    let foreign = [
        ("--ranges", args.ranges.is_some()),
        ("--save-quantized", args.save_quantized.is_some()),
        ("--print-graph", args.print_graph),
        ("--last-output-bits", args.last_output_bits.is_some()),
        ("--input-dtype int8", args.input_dtype == InputDtype::Int8),
    ];
    match foreign.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => Err(Failure::new(
            Exit::Usage,
            format!("{option} is for akida2, not for {}", args.target),
            "leave it out: Akida 1.0 is quantized from samples to a model, in one step",
        )),
    }
}

/// `LAYER=WEIGHTS/ACTIVATIONS`.
fn layer_bits(text: &str) -> Result<LayerBits, Failure> {
    let parsed = || {
        let (layer, bits) = text.rsplit_once('=')?;
        let (weights, activations) = bits.split_once('/')?;
        Some(LayerBits { layer: layer.into(), weights: weights.parse().ok()?, activations: activations.parse().ok()? })
    };
    parsed().ok_or_else(|| {
        Failure::new(Exit::Usage, format!("--layer-bits {text}"), "write LAYER=WEIGHTS/ACTIVATIONS, as in conv2=2/4")
    })
}

/// A model calibrated with noise: enough to know whether and where its layers run; or why there is none.
pub fn rough(path: &Path, target: Target) -> Result<Result<Quantized, ConvertError>, Failure> {
    let graph = onnx::load(path)?;
    let shape = graph.inputs.first().and_then(|input| input.ty.without_batch()).ok_or_else(|| {
        let message = format!("{}: the size of the input is open", path.display());
        Failure::new(Exit::Data, message, "export the network with fixed channels, height and width")
    })?;
    let options = Options { tools: Tools::NONE, ..Options::new(target) };
    Ok(akida1::quantize(graph, random_samples(2, &shape).view(), &options, &mut |_, _| {}))
}
