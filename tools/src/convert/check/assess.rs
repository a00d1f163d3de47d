//! What of a network becomes a model, where that runs, and what stands in the way.

use std::collections::HashMap;

use akida_converter::calibrate::Calibration;
use akida_converter::import::{ImportOptions, import_network};
use akida_converter::onnx::{self, BRAINCHIP, Graph};
use akida_converter::prepare::PrepareError;
use akida_converter::qdq::{QdqError, import_qdq, is_qdq};
use akida_converter::quantize::{QuantizeError, QuantizeOptions, Warning, is_float};
use akida_converter::{ConvertError, convert};
use akida_runtime::hybrid::HybridModel;
use akida_runtime::mapping::{self, MapOptions};
use akida_runtime::model::Model;

use super::document::{Document, Fate, Node, Refusal, SCHEMA, Share, Verdict};
use crate::convert::args::Check;
use crate::convert::{akida1, is_onnx};
use crate::device::board_of;
use crate::exit::{Exit, Failure};

/// Checks a file.
///
/// # Errors
/// When the file cannot be read, or is a model for another target. What a network lacks is in the document.
pub fn assess(args: &Check) -> Result<Document, Failure> {
    let mut document = Document {
        schema: SCHEMA,
        file: args.model.display().to_string(),
        target: args.target.to_string(),
        verdict: "refused",
        share: Share::default(),
        nodes: Vec::new(),
        layers: Vec::new(),
        refusals: Vec::new(),
        warnings: Vec::new(),
    };
    if is_onnx(&args.model) {
        network(args, &mut document)?;
    } else {
        parts(&HybridModel::open(&args.model)?, args, &mut document)?;
    }
    document.sum_up();
    Ok(document)
}

/// An ONNX file: quantized already, or float.
fn network(args: &Check, document: &mut Document) -> Result<(), Failure> {
    let graph = onnx::load(&args.model)?;
    if graph.nodes.iter().any(|n| n.domain == BRAINCHIP && n.op == "InputQuantizer") {
        let network = import_network(&graph, ImportOptions::default()).map_err(ConvertError::from)?;
        boards(&network, args, document)?;
        float_nodes(&graph, &[], document);
        return Ok(());
    }
    let result = if is_qdq(&graph) {
        import_qdq(graph.clone()).map(|imported| {
            document.warnings = imported.layers.iter().map(ToString::to_string).collect();
            (HybridModel::of(imported.model), Some((imported.graph, imported.warnings)))
        })
    } else if args.target.is_v1() {
        akida1::rough(&args.model, args.target)?.map(|rough| {
            let notes = rough.notes.iter().map(ToString::to_string);
            document.warnings = rough.warnings.iter().map(ToString::to_string).chain(notes).collect();
            (HybridModel::of(rough.model), None)
        })
    } else {
        let options = QuantizeOptions { further_regions: true, ..QuantizeOptions::default() };
        convert(&args.model, &Calibration::Random(1), &options, &mut |_, _| {})
            .map(|rough| (rough.network, Some((rough.quantized.graph, rough.quantized.warnings))))
    };
    match result {
        Ok((made, quantized)) => {
            boards(&made, args, document)?;
            if let Some((quantized, warnings)) = quantized {
                // Noise is what was asked for.
                let told = warnings.iter().filter(|w| !matches!(w, Warning::RandomSamples));
                document.warnings.extend(told.map(ToString::to_string));
                float_nodes(&quantized, &warnings, document);
            }
            Ok(())
        }
        Err(ConvertError::Onnx(error)) => Err(error.into()),
        Err(error) => {
            let refusal = refusal(&error);
            plain_nodes(&graph, document);
            if let Some(node) = document.nodes.iter_mut().find(|n| !n.name.is_empty() && n.name == refusal.node) {
                node.runs_on = Fate::Refused;
            }
            document.refusals.push(refusal);
            Ok(())
        }
    }
}

/// All parts of a converted network.
fn parts(network: &HybridModel, args: &Check, document: &mut Document) -> Result<(), Failure> {
    boards(network, args, document)?;
    for operation in network.segments().flat_map(|(_, segment)| &segment.operations) {
        document.refusals.push(Refusal {
            node: operation.name.clone(),
            op: operation.op.clone(),
            rule: format!("onnx.operator.{}", operation.op.to_lowercase()),
            limit: operation.rule.clone(),
            value: operation.found.clone(),
            remedy: ON_HOST.to_owned(),
            runs_on: Fate::HostFloat,
        });
        document.nodes.push(Node {
            name: operation.name.clone(),
            op: operation.op.clone(),
            runs_on: Fate::HostFloat,
            inputs: Vec::new(),
            shape: Vec::new(),
            macs: 0,
        });
    }
    Ok(())
}

/// Layers of all board parts.
fn boards(network: &HybridModel, args: &Check, document: &mut Document) -> Result<(), Failure> {
    network.boards().try_for_each(|(_, part)| model(part, args, document))
}

/// What can be done about an operator in floating point.
const ON_HOST: &str = "it runs on the host in floating point; to put it on the board, change the network there";

/// Layers of a model.
fn model(model: &Model, args: &Check, document: &mut Document) -> Result<(), Failure> {
    if model.target != args.target {
        return Err(Failure::new(
            Exit::Data,
            format!("{} was made for {}, not for {}", args.model.display(), model.target, args.target),
            format!("convert the float network with --target {}", args.target),
        ));
    }
    let mapping = mapping::map(model, &board_of(args.target).mesh(), &MapOptions::default())?;
    let verdict = |l: &akida_runtime::model::Layer| Verdict {
        layer: l.name.clone(),
        op: l.op.clone(),
        runs_on: Fate::Board,
        reason: None,
    };
    let (first, before) = (document.layers.len(), document.nodes.len());
    document.layers.extend(model.layers.iter().map(verdict));
    for (step, reason) in mapping.host_steps() {
        let layer = &mut document.layers[first + step.layer()];
        layer.runs_on = match step {
            mapping::HostStep::Layer(_) => Fate::Host,
            mapping::HostStep::Finish { .. } => Fate::BoardAndHost,
        };
        layer.reason = Some(reason.clone());
        document.refusals.push(Refusal {
            node: layer.layer.clone(),
            op: layer.op.clone(),
            rule: reason.rule.to_owned(),
            limit: reason.limit.clone(),
            value: reason.value.clone(),
            remedy: reason.remedy.clone(),
            runs_on: layer.runs_on,
        });
    }
    for ((layer, verdict), macs) in model.layers.iter().zip(&document.layers[first..]).zip(model.macs()) {
        document.nodes.push(Node {
            name: layer.name.clone(),
            op: layer.op.clone(),
            runs_on: verdict.runs_on,
            // Tensor 0 is the input, n the output of layer n - 1.
            inputs: layer.inputs.iter().filter_map(|tensor| Some(before + tensor.checked_sub(1)?)).collect(),
            shape: layer.output.layout.dims(layer.output.shape),
            macs,
        });
    }
    Ok(())
}

/// Float operators of a quantized graph, after the layers: the host computes them.
fn float_nodes(graph: &Graph, warnings: &[Warning], document: &mut Document) {
    let mut makers: HashMap<String, usize> = HashMap::new();
    for node in graph.nodes.iter().filter(|n| !is_float(n)) {
        if let Some(at) = document.nodes.iter().position(|n| n.name == node.name) {
            makers.extend(node.outputs.iter().map(|output| (output.clone(), at)));
        } else if node.op.starts_with("Dequantizer") {
            // Operands are a tensor and its scale by turns.
            for (output, input) in node.outputs.iter().zip(node.inputs.iter().step_by(2)) {
                if let Some(&at) = makers.get(input) {
                    makers.insert(output.clone(), at);
                }
            }
        }
    }
    let layers = document.nodes.len();
    for node in graph.nodes.iter().filter(|n| is_float(n)) {
        let inputs: Vec<usize> = node.inputs.iter().filter_map(|name| makers.get(name).copied()).collect();
        let refused = warnings.iter().find_map(|warning| match warning {
            Warning::NotALayer { nodes, reasons } if nodes.iter().any(|(name, _)| *name == node.name) => reasons.last(),
            _ => None,
        });
        let id = |kind: &str| format!("onnx.{kind}.{}", node.op.to_lowercase());
        let (rule, limit, value) = match refused {
            Some(reason) => (id("layer"), reason.rule.clone(), reason.found.clone()),
            None if inputs.iter().any(|&at| at >= layers) => (
                "onnx.behind".to_owned(),
                "what a layer reads is integers".to_owned(),
                "it reads an operator that stays in floating point".to_owned(),
            ),
            None => (
                id("operator"),
                "operators that become layers, docs/converter.md".to_owned(),
                format!("{} is not, or not in this place", node.op),
            ),
        };
        document.refusals.push(Refusal {
            node: node.name.clone(),
            op: node.op.clone(),
            rule,
            limit,
            value,
            remedy: ON_HOST.to_owned(),
            runs_on: Fate::HostFloat,
        });
        makers.extend(node.outputs.iter().map(|output| (output.clone(), document.nodes.len())));
        document.nodes.push(graph_node(graph, node, inputs, Fate::HostFloat));
    }
}

/// All nodes of a graph that did not become a model.
fn plain_nodes(graph: &Graph, document: &mut Document) {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for node in graph.nodes.iter().filter(|n| n.op != "Constant") {
        let inputs = node.inputs.iter().filter_map(|name| makers.get(name.as_str()).copied()).collect();
        makers.extend(node.outputs.iter().map(|output| (output.as_str(), document.nodes.len())));
        document.nodes.push(graph_node(graph, node, inputs, Fate::Unknown));
    }
}

fn graph_node(graph: &Graph, node: &onnx::Node, mut inputs: Vec<usize>, runs_on: Fate) -> Node {
    inputs.dedup();
    let shape = node.outputs.first().and_then(|name| graph.value_type(name)).and_then(|ty| ty.without_batch());
    let shape = shape.unwrap_or_default();
    // Each weight of a convolution meets each position of its output once, each of a matrix product once.
    let weights = node.input(1).and_then(|name| graph.initializers.get(name)).map_or(0, |w| w.len() as u64);
    let positions = match node.op.as_str() {
        "Conv" => shape.iter().skip(1).map(|&d| d as u64).product(),
        "Gemm" | "MatMul" => 1,
        _ => 0,
    };
    Node {
        name: node.name.clone(),
        op: node.op.clone(),
        runs_on,
        inputs,
        shape,
        macs: weights.saturating_mul(positions),
    }
}

/// The rule an error is about.
fn refusal(error: &ConvertError) -> Refusal {
    let whole = |rule: &str, limit: &str, value: String, remedy: &str| Refusal {
        node: String::new(),
        op: String::new(),
        rule: rule.to_owned(),
        limit: limit.to_owned(),
        value,
        remedy: remedy.to_owned(),
        runs_on: Fate::Refused,
    };
    match error {
        ConvertError::Quantize(QuantizeError::Node { node, op, rule, found, remedy }) => Refusal {
            node: node.clone(),
            op: op.clone(),
            ..whole(&format!("onnx.layer.{}", op.to_lowercase()), rule, found.clone(), remedy)
        },
        ConvertError::Quantize(QuantizeError::Graph { rule, found, remedy, .. }) => {
            whole("onnx.graph", rule, found.clone(), remedy)
        }
        ConvertError::Qdq(QdqError::Node { node, op, rule, found, remedy }) => {
            Refusal { node: node.clone(), op: op.clone(), ..whole("onnx.qdq", rule, found.clone(), remedy) }
        }
        ConvertError::Prepare(PrepareError::Domain { node, domain, op }) => Refusal {
            node: node.clone(),
            op: op.clone(),
            ..whole(
                "onnx.domain",
                "operators of ONNX itself",
                format!("{domain}:{op}"),
                "export the network without it",
            )
        },
        ConvertError::Prepare(error) => whole(
            "onnx.prepare",
            "what docs/converter.md accepts",
            error.to_string(),
            "change the network or its export",
        ),
        other => whole(
            "onnx.convert",
            "what docs/converter.md accepts",
            other.to_string(),
            "see the message; `akida-convert quantize` with samples may say more",
        ),
    }
}
