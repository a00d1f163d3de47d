//! The JSON documents keep their keys: a program written against them keeps working.

use serde_json::Value;

use crate::support::*;

/// Paths of all keys, arrays as `[]`, in order.
fn keys(value: &Value) -> Vec<String> {
    fn walk(value: &Value, path: &str, keys: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(k, v)| {
                let path = format!("{path}.{k}");
                keys.push(path.clone());
                walk(v, &path, keys);
            }),
            Value::Array(items) => items.iter().take(1).for_each(|v| walk(v, &format!("{path}[]"), keys)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    walk(value, "", &mut all);
    all.sort();
    all
}

#[track_caller]
fn has(document: &Value, wanted: &str) {
    let keys = keys(document);
    for key in wanted.split_whitespace() {
        assert!(keys.iter().any(|k| k == key), "{key} is gone; there are\n{}", keys.join("\n"));
    }
}

fn parse(ended: Ended) -> Value {
    serde_json::from_str(&ended.ok().out).expect("one JSON document and nothing else on standard output")
}

#[test]
fn a_run() {
    let dir = tempfile::tempdir().unwrap();
    let digits = digits(dir.path(), 3);
    let arguments = "{} -d auto -i {} --format json --statistics --verify --top 2";
    let document = parse(akida_run(arguments, &[model(), &digits]));
    assert_eq!(document["schema"], "akida-run/1");
    has(
        &document,
        ".version .board.name .board.simulated .board.hardware_version .board.nps .model.file .model.name .model.target \
         .model.sequences[].place .model.sequences[].layers .model.sequences[].nps .model.sequences[].passes \
         .model.sequences[].program_bytes .input.file .input.samples .input.dtype .input.shape .input.quantized \
         .outputs[].name .outputs[].shape .samples[].index .samples[].name .samples[].label .samples[].top[].class \
         .samples[].top[].name .samples[].top[].score .accuracy.correct .accuracy.samples .accuracy.top1_fraction \
         .throughput.elapsed_ns .throughput.samples_per_second .statistics.board_clock .statistics.recoveries \
         .statistics.sequences[].samples .statistics.sequences[].programmed .statistics.sequences[].programming_ns \
         .statistics.sequences[].copy_in_mean_ns .statistics.sequences[].doorbell_to_completion_mean_ns \
         .statistics.sequences[].copy_out_mean_ns .statistics.sequences[].host_computing_mean_ns .verify.samples \
         .verify.elements .verify.differences .verify.first",
    );
    assert_eq!(document["board"]["simulated"], true);
    assert_eq!(document["samples"][0]["top"][0]["class"], 7);
    assert_eq!(document["samples"].as_array().map(Vec::len), Some(3));
    assert_eq!(document["verify"]["differences"], 0);
    assert_eq!(document["input"]["quantized"], false);
    // Akida 2.0: sparsity, and why there is no estimate.
    let activity = &document["statistics"]["activity"][0];
    assert!(activity["estimate"].is_null() && activity["no_estimate"].is_string(), "{activity}");
    assert!(activity["mean_sparsity_fraction"].as_f64().is_some_and(|s| s > 0.0 && s < 1.0), "{activity}");
    let plain = parse(akida_run("{} -d sim -i {} --format json", &[model(), &digits]));
    assert!(plain["statistics"].is_null() && plain["verify"].is_null());
}

#[test]
fn the_list_of_boards() {
    let document = parse(akida_run("--list --format json", &[]));
    assert_eq!(document["schema"], "akida-run-list/1");
    has(&document, ".boards[].device .boards[].simulated .boards[].chip .boards[].nps .boards[].usable .boards[].note");
    let names: Vec<&str> = document["boards"].as_array().unwrap().iter().filter_map(|b| b["device"].as_str()).collect();
    for name in ["sim:akd1000", "sim:akd1500", "sim:akida2-6node", "sim:akida2-2node"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
}

#[test]
fn a_model_its_mapping_and_its_check() {
    let document = parse(akida_convert("show {} --format json", &[model()]));
    assert_eq!(document["schema"], "akida-model/1");
    has(
        &document,
        ".name .target .input.name .input.onnx_shape .input.scale .input.zero_point .input.tensor.shape .input.tensor.bits \
         .layers[].name .layers[].op .layers[].kind .layers[].inputs .layers[].output.name .layers[].output.shape \
         .layers[].weights_shapes .layers[].weights_bits .layers[].macs .outputs[].name .outputs[].dequantized \
         .weights_bytes",
    );
    let document = parse(akida_convert("map {} --format json", &[model()]));
    assert_eq!(document["schema"], "akida-map/1");
    has(&document, ".board .model.name .model.target .mapping.version .mapping.sequences .mapping.remarks");
    let document = parse(akida_convert("check {} --target akida2 --format json", &[model()]));
    assert_eq!(document["schema"], "akida-check/1");
    has(&document, ".file .target .verdict .layers[].layer .layers[].op .layers[].runs_on .layers[].reason .warnings");
}
