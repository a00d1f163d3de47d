//! `akida-convert quantize` and `akida-convert import`.

use std::io::Write;
use std::path::{Path, PathBuf};

use akida_converter::calibrate::{Calibration, RangeCache, load_ranges};
use akida_converter::import::{self, ImportOptions};
use akida_converter::onnx::{self, DType, Graph};
use akida_converter::prepare::prepare_observed;
use akida_converter::qdq::{import_qdq, is_qdq};
use akida_converter::quantize::{Bits, InputType, LayerBits, QuantizeOptions};
use akida_converter::stages::Stage;
use akida_converter::{ConvertError, Converted};
use akida_runtime::hybrid::HybridModel;
use akida_runtime::model::Target;
use ndarray::ArrayD;

use super::akida1;
use super::args::{Import, InputDtype, Quantize};
use super::parts;
use super::stages::{self, Dumps};
use crate::command::Common;
use crate::exit::{Exit, Failure};
use crate::samples::{self, Normalize, Preparation};
use crate::terminal::progress;

/// Quantizes and converts a float network.
pub fn run(args: &Quantize, common: &Common, out: &mut dyn Write) -> Result<Exit, Failure> {
    if stages::listed(args) {
        return stages::list(out);
    }
    let mut dumps = Dumps::of(args)?;
    if args.target.is_v1() {
        return run_akida1(args, common, dumps);
    }
    let converted = convert(args, common, &mut dumps);
    dumps.end()?;
    let converted = converted?;
    let Converted { network, quantized } = &converted;
    for warning in &quantized.warnings {
        common.notice(format_args!("warning: {warning}"));
    }
    if let Some(file) = &quantized.known_ranges {
        let file = file.display();
        common.notice(format_args!("ranges are known from an earlier time ({file}); --no-cache observes them again"));
    }
    if let Some(path) = &args.save_quantized {
        quantized.graph.save(path)?;
    }
    network.save(&args.output)?;
    if args.print_graph {
        writeln!(out, "{}", quantized.graph).map_err(|e| Failure::stdout(&e))?;
    }
    for line in parts::text(network).lines() {
        common.notice(format_args!("{line}"));
    }
    wrote(&args.output, network, common);
    Ok(Exit::Done)
}

/// The same for Akida 1.0.
fn run_akida1(args: &Quantize, common: &Common, mut dumps: Dumps) -> Result<Exit, Failure> {
    akida1::refuse_foreign(args)?;
    if let Some(stage) = dumps.wants_after(Stage::Prepared) {
        let message = format!("--dump-stage {stage}: the last stage that is ONNX for {} is prepared", args.target);
        return Err(Failure::new(Exit::Usage, message, "leave it out, or look at the model with `akida-convert show`"));
    }
    let samples = read_samples(args)?;
    if !args.dump_stage.is_empty() {
        let (graph, shape) = (onnx::load(&args.model)?, samples.shape().get(1..).unwrap_or(&[]));
        let prepared = prepare_observed(graph, Some(shape), &mut |stage, graph| {
            dumps.observe(stage, graph, &QuantizeOptions::default());
        });
        dumps.end()?;
        prepared.map_err(ConvertError::from)?;
    }
    let quantized = akida1::quantize(args, samples.view(), common)?;
    for warning in &quantized.warnings {
        common.notice(format_args!("warning: {warning}"));
    }
    quantized.model.save(&args.output)?;
    wrote(&args.output, &HybridModel::of(quantized.model), common);
    Ok(Exit::Done)
}

/// The conversion without files written.
fn convert(args: &Quantize, common: &Common, dumps: &mut Dumps) -> Result<Converted, Failure> {
    let (bits, layer_bits) = bits(args)?;
    let options = QuantizeOptions {
        bits,
        layer_bits,
        input_dtype: match args.input_dtype {
            InputDtype::Uint8 => InputType::U8,
            InputDtype::Int8 => InputType::I8,
        },
        per_tensor: args.per_tensor,
        last_output_bits: args.last_output_bits,
        quantize_until: args.quantize_until.clone(),
        further_regions: !args.one_region,
        input_shape: args.input_shape.clone(),
    };
    if let Some(path) = &args.ranges {
        let ranges = load_ranges(path).map_err(|e| {
            let exit = if path.exists() { Exit::Data } else { Exit::NoInput };
            Failure::because(exit, "--ranges", &e, "arrays are min/TENSOR and max/TENSOR, float32")
        })?;
        return through(&args.model, &Calibration::Ranges(&ranges), &options, common, dumps);
    }
    let samples = read_samples(args)?;
    match cache().filter(|_| !args.no_cache) {
        Some(cache) => through(&args.model, &Calibration::Cached(samples.view(), &cache), &options, common, dumps),
        None => through(&args.model, &Calibration::Samples(samples.view()), &options, common, dumps),
    }
}

/// Ranges known from earlier times, in the user's own cache folder; None when there is no such folder.
fn cache() -> Option<RangeCache> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(RangeCache::new(caches.join("akida/ranges")))
}

/// Calibration samples as the network takes them.
fn read_samples(args: &Quantize) -> Result<ArrayD<f32>, Failure> {
    let Some(path) = &args.samples else {
        return Err(Failure::new(Exit::Usage, "neither --samples nor --ranges is given", "give calibration samples"));
    };
    let graph = onnx::load(&args.model)?;
    let input = graph.inputs.first().map(|i| &i.ty);
    let dims = input.and_then(|ty| ty.without_batch());
    let bytes = input.is_some_and(|ty| ty.dtype == Some(DType::U8));
    let normalize = if args.mean.is_empty() { None } else { Some(Normalize::new(&args.mean, &args.std)?) };
    let preparation = Preparation { normalize, resize: args.resize };
    samples::read_floats(path, dims.as_deref(), bytes, &preparation)
}

/// Converts with a bar over the calibration.
fn through(
    path: &Path,
    calibration: &Calibration,
    options: &QuantizeOptions,
    common: &Common,
    dumps: &mut Dumps,
) -> Result<Converted, Failure> {
    let bar = progress(1, "calibrating", !common.bars());
    let mut count = |done: usize, of: usize| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    };
    let mut observe = |stage: Stage, graph: &Graph| dumps.observe(stage, graph, options);
    let converted = akida_converter::convert_observed(path, calibration, options, &mut count, &mut observe);
    bar.finish_and_clear();
    Ok(converted?)
}

/// Converts a quantized graph.
pub fn import(args: &Import, common: &Common, _out: &mut dyn Write) -> Result<Exit, Failure> {
    let graph = onnx::load(&args.model)?;
    if is_qdq(&graph) {
        return import_qdq_graph(graph, args, common);
    }
    let network = read_quantized(&args.model, args.target)?;
    network.save(&args.output)?;
    for line in parts::text(&network).lines() {
        common.notice(format_args!("{line}"));
    }
    wrote(&args.output, &network, common);
    Ok(Exit::Done)
}

/// The same for QuantizeLinear and DequantizeLinear, with a line for each layer that says how exact it is.
fn import_qdq_graph(graph: onnx::Graph, args: &Import, common: &Common) -> Result<Exit, Failure> {
    let imported = import_qdq(graph).map_err(|error| match error {
        ConvertError::Qdq(akida_converter::qdq::QdqError::Onnx(error)) => error.into(),
        ConvertError::Qdq(error) => Failure::because(
            Exit::Data,
            args.model.display(),
            &error,
            "docs/converter.md lists the QDQ forms there are",
        ),
        error => Failure::from(error),
    })?;
    if imported.model.target != args.target {
        return Err(other_target(&args.model, imported.model.target, args.target));
    }
    for warning in &imported.warnings {
        common.notice(format_args!("warning: {warning}"));
    }
    if !imported.float_tail.is_empty() {
        return Err(Failure::new(
            Exit::Data,
            format!("{}: no board computes {}", args.model.display(), imported.float_tail.join(", ")),
            "end the network before these operations and quantize it again",
        ));
    }
    for layer in &imported.layers {
        common.notice(format_args!("{layer}"));
    }
    imported.model.save(&args.output)?;
    wrote(&args.output, &HybridModel::of(imported.model), common);
    Ok(Exit::Done)
}

/// Reads a quantized ONNX graph as a network of `target`.
pub fn read_quantized(path: &Path, target: Target) -> Result<HybridModel, Failure> {
    let graph = onnx::load(path)?;
    let model = import::import_network(&graph, ImportOptions::default()).map_err(ConvertError::from)?;
    if model.target != target {
        return Err(other_target(path, model.target, target));
    }
    Ok(model)
}

fn other_target(path: &Path, found: Target, target: Target) -> Failure {
    Failure::new(
        Exit::Data,
        format!("{} holds a network quantized for {found}, not for {target}", path.display()),
        format!("use --target {found}, or quantize the float network for {target}"),
    )
}

fn wrote(path: &Path, network: &HybridModel, common: &Common) {
    let layers: usize = network.boards().map(|(_, model)| model.layers.len()).sum();
    let weights: u64 = network.boards().map(|(_, model)| model.weight_bytes()).sum();
    let segments = match network.segments().count() {
        0 => String::new(),
        count => format!(" in {} parts, {count} of them on the host", network.parts.len()),
    };
    common.notice(format_args!(
        "wrote {}: {layers} layers{segments}, {weights} bytes of weights, for {}",
        path.display(),
        network.target
    ));
}

/// `--bits` and `--layer-bits` of Akida 2.0.
fn bits(args: &Quantize) -> Result<(Bits, Vec<LayerBits>), Failure> {
    let all = args.bits.as_deref().map_or(Ok(Bits::default()), str::parse);
    let all = all.map_err(|e| Failure::new(Exit::Usage, e.to_string(), "write WEIGHTS/ACTIVATIONS, as in 4/8"))?;
    let one = |text: &String| {
        let parts = text.rsplit_once('=').and_then(|(layer, bits)| {
            let (weights, activations) = bits.split_once('/')?;
            let bits = Bits { weights: weights.parse().ok()?, activations: activations.parse().ok()? };
            Some(LayerBits { layer: layer.to_owned(), bits })
        });
        parts.ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!("--layer-bits {text}"),
                "write LAYER=WEIGHTS/ACTIVATIONS, as in conv2=4/8",
            )
        })
    };
    let layers: Vec<LayerBits> = args.layer_bits.iter().map(one).collect::<Result<_, _>>()?;
    let four = all != Bits::default() || layers.iter().any(|layer| layer.bits != Bits::default());
    if four && args.save_quantized.is_some() {
        let message = "--save-quantized with 4 bits: the operators of quantized graphs have 8";
        return Err(Failure::new(Exit::Usage, message, "leave --save-quantized out"));
    }
    Ok((all, layers))
}
