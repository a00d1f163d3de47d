//! Conformance cases and how to compare with them.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};

use akida_converter::onnx::Graph;
use akida_converter::quantize::{InputType, QuantizeOptions};
use serde_json::Value;

pub fn data() -> PathBuf {
    match std::env::var_os("CONFORMANCE") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/conformance"),
    }
}

pub struct Case {
    pub name: String,
    pub json: Value,
}

pub fn all_cases() -> Vec<Case> {
    let mut names: Vec<String> = std::fs::read_dir(data())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("quantized.graph.txt").exists())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.iter().map(|name| Case::load(name)).collect()
}

impl Case {
    pub fn load(name: &str) -> Self {
        let text = std::fs::read_to_string(data().join(name).join("case.json")).unwrap();
        Self { name: name.to_owned(), json: serde_json::from_str(&text).unwrap() }
    }

    pub fn file(&self, file: &str) -> PathBuf {
        data().join(&self.name).join(file)
    }

    /// The float model, which several cases may share.
    pub fn model(&self) -> PathBuf {
        self.file(self.json["model_file"].as_str().unwrap_or("model.onnx"))
    }

    pub fn options(&self) -> QuantizeOptions {
        let parameters = &self.json["quantization_params"];
        QuantizeOptions {
            input_dtype: if parameters["input_dtype"] == "int8" { InputType::I8 } else { InputType::U8 },
            per_tensor: parameters["per_tensor_activations"] == true,
            last_output_bits: parameters["last_output_bits"].as_u64().map(|bits| bits as u32),
            quantize_until: self.json["quantize_kwargs"]["quantize_until"].as_str().map(str::to_owned),
            further_regions: false,
            input_shape: Some(
                self.json["input"]["float_shape"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|d| d.as_u64().unwrap() as usize)
                    .collect(),
            ),
            ..QuantizeOptions::default()
        }
    }
}

/// Names the reference drew at random.
pub fn is_random(name: &str) -> bool {
    name.len() >= 36
        && name.as_bytes()[name.len() - 36..].iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// Compares two quantized graphs; the error names the first difference.
pub fn same_graph(ours: &Graph, reference: &Graph) -> Result<(), String> {
    // Constants of nodes that stayed float come in an order of ONNX Runtime's.
    let names = |graph: &Graph| {
        let mut names: Vec<String> = graph.initializers.keys().cloned().collect();
        let integers = names.iter().rposition(|name| name.starts_with("dequantizer_scale")).map_or(0, |n| n + 1);
        names[integers..].sort();
        names
    };
    if ours.name != reference.name {
        return Err(format!("graph name '{}', not '{}'", ours.name, reference.name));
    }
    let mut ours = ours.clone();
    let mut renamed = std::collections::HashMap::new();
    for (index, theirs) in reference.nodes.iter().enumerate() {
        let Some(node) = ours.nodes.get(index) else { return Err(format!("node '{}' is missing", theirs.name)) };
        let mut node = node.clone();
        if is_random(&theirs.name) {
            // The reference drew the node's name, and with it those of its constants.
            let prefix = format!("{}_", node.name);
            for input in &mut node.inputs {
                if let Some(suffix) = input.strip_prefix(&prefix).filter(|s| ["Wi", "B", "M", "S_out"].contains(s)) {
                    renamed.insert(input.clone(), format!("{}_{suffix}", theirs.name));
                    *input = renamed[input.as_str()].clone();
                }
            }
            node.name = theirs.name.clone();
        }
        if let (Some(ours), Some(theirs)) = (node.attributes.get_mut("model_id"), theirs.attributes.get("model_id")) {
            *ours = theirs.clone(); // theirs is a checksum of the file
        }
        if node != *theirs {
            return Err(format!("node {index}:\n   ours {node:?}\n   ref. {theirs:?}"));
        }
    }
    if ours.nodes.len() != reference.nodes.len() {
        return Err(format!("{} nodes, not {}", ours.nodes.len(), reference.nodes.len()));
    }
    ours.initializers = std::mem::take(&mut ours.initializers)
        .into_iter()
        .map(|(name, tensor)| (renamed.get(&name).cloned().unwrap_or(name), tensor))
        .collect();
    if names(&ours) != names(reference) {
        return Err(format!("initializers\n   ours {:?}\n   ref. {:?}", names(&ours), names(reference)));
    }
    for (name, theirs) in &reference.initializers {
        let tensor = &ours.initializers[name];
        if tensor.dtype() != theirs.dtype() || tensor.dims() != theirs.dims() {
            let (a, b) = ((tensor.dtype(), tensor.dims()), (theirs.dtype(), theirs.dims()));
            return Err(format!("{name}: {a:?}, not {b:?}"));
        }
        let (a, b) = (tensor.bytes().unwrap(), theirs.bytes().unwrap());
        if a != b {
            let size = tensor.dtype().size();
            let wrong = a.chunks(size).zip(b.chunks(size)).filter(|(a, b)| a != b).count();
            let first = a.chunks(size).zip(b.chunks(size)).position(|(a, b)| a != b).unwrap();
            let show = |bytes: &[u8]| format!("{:?}", &bytes[first * size..][..size]);
            return Err(format!(
                "{name}: {wrong} of {} differ, [{first}] is {}, not {}",
                tensor.len(),
                show(&a),
                show(&b)
            ));
        }
    }
    if ours.outputs != reference.outputs {
        return Err(format!("outputs {:?}, not {:?}", ours.outputs, reference.outputs));
    }
    for (name, ty) in &reference.values {
        if ours.values.get(name) != Some(ty) {
            return Err(format!("value '{name}' is {:?}, not {ty:?}", ours.values.get(name)));
        }
    }
    Ok(())
}

/// Compares the nodes of a prepared graph with the text of the reference's; names of constants may differ.
pub fn same_nodes(ours: &Graph, reference: &str) -> Result<(), String> {
    let body = |text: &str| -> Vec<String> {
        text.lines().skip_while(|line| *line != ") {").skip(1).map(|line| line.trim().to_owned()).collect()
    };
    // Names drawn at random are compared by what stands before them.
    let plain = |line: &str, constant: &dyn Fn(&str) -> bool| -> String {
        let line = match line.split_once("model_id = '") {
            Some((head, tail)) => &format!("{head}{}", tail.split_once('\'').map_or("", |(_, rest)| rest)),
            None => line,
        };
        let Some((head, arguments)) = line.rsplit_once('(') else { return line.to_owned() };
        let name = |name: &str| {
            let name = name.trim_start_matches('%');
            if constant(name) {
                return "CONSTANT".to_owned();
            }
            let length = name.len();
            if is_random(name) { name[..length - 36].trim_end_matches('_').to_owned() } else { name.to_owned() }
        };
        let arguments: Vec<String> = arguments.trim_end_matches(')').split(", ").map(name).collect();
        let (output, rest) = head.split_once(" = ").unwrap_or((head, ""));
        format!("{} = {rest}({})", name(output), arguments.join(", "))
    };
    let listed: Vec<String> = reference
        .lines()
        .skip_while(|line| !line.contains("initializers"))
        .skip(1)
        .take_while(|line| *line != ") {")
        .map(|line| line.trim().trim_start_matches('%').rsplit_once('[').unwrap().0.to_owned())
        .collect();
    let text = ours.to_string();
    let (a, b) = (body(&text), body(reference));
    let ours_constant = |name: &str| ours.initializers.contains_key(name);
    let their_constant = |name: &str| listed.iter().any(|listed| listed == name);
    for (index, theirs) in b.iter().enumerate() {
        let theirs = plain(theirs, &their_constant);
        let line = a.get(index).map(|line| plain(line, &ours_constant)).unwrap_or_default();
        if line != theirs {
            return Err(format!("prepared line {index}:\n   ours {line}\n   ref. {theirs}"));
        }
    }
    if a.len() == b.len() { Ok(()) } else { Err(format!("{} prepared lines, not {}", a.len(), b.len())) }
}

/// The calibration samples of a case, as the graph takes them.
pub fn samples(case: &Case) -> ndarray::ArrayD<f32> {
    let file = std::fs::File::open(case.file("calib.npz")).unwrap();
    let mut npz = ndarray_npy::NpzReader::new(file).unwrap();
    if let Ok(samples) = npz.by_name::<ndarray::OwnedRepr<f32>, ndarray::IxDyn>("samples") {
        return samples;
    }
    let name = if npz.names().unwrap().iter().any(|n| n.starts_with("samples_u8")) { "samples_u8" } else { "samples" };
    let bytes: ndarray::ArrayD<u8> = npz.by_name(name).unwrap();
    let formula = case.json["u8_to_float"].as_str().unwrap_or("");
    let float = |b: u8| match formula {
        _ if name == "samples" => f32::from(b),
        f if f.contains("(float32(u8) / 255 - 0.5) / 0.5") => (f32::from(b) / 255.0 - 0.5) / 0.5,
        f if f.contains("float32(u8) / 255") => f32::from(b) / 255.0,
        other => panic!("{}: unknown formula '{other}'", case.name),
    };
    bytes.mapv(float)
}

/// The reference's ranges, under the names our preparation gives: without what the reference drew at random.
pub fn ranges(case: &Case) -> akida_converter::calibrate::Ranges {
    let theirs = akida_converter::calibrate::load_ranges(&case.file("calibration_ranges.npz")).unwrap();
    let mut ranges = akida_converter::calibrate::Ranges::new();
    for (name, range) in theirs.iter() {
        let plain = if is_random(name) { name[..name.len() - 36].trim_end_matches('_') } else { name };
        ranges.insert(plain, range.clone());
    }
    ranges
}

/// The first array of an npz file as `f32`, if there is such a file.
pub fn array(path: &Path) -> Option<ndarray::ArrayD<f32>> {
    use ndarray::{ArrayD, IxDyn, OwnedRepr};
    let mut npz = ndarray_npy::NpzReader::new(std::fs::File::open(path).ok()?).unwrap();
    let name = npz.names().unwrap()[0].clone();
    if let Ok(values) = npz.by_name::<OwnedRepr<f32>, IxDyn>(&name) {
        return Some(values);
    }
    let values: ArrayD<i64> = npz.by_name::<OwnedRepr<i64>, IxDyn>(&name).unwrap();
    Some(values.mapv(|v| v as f32))
}
