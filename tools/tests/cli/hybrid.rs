//! Networks that a board computes in part, from the float network to results.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{akida_convert, akida_run};

fn case(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/conformance/partial_avgpool").join(file)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}:\n{text}"))
}

#[test]
fn an_unsupported_middle_runs_on_the_host_and_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, out) = (folder.path().join("m.akm"), folder.path().join("o.npz"));
    let made = akida_convert(
        "quantize {} --target akida2 --samples {} -o {}",
        &[&case("model.onnx"), &case("calib.npz"), &model],
    );
    let made = made.expect(0, "host, in floating point: AveragePool");
    assert!(made.err.contains("no layer holds AveragePool"), "{}", made.err);
    assert!(made.err.contains("moved for one inference"), "{}", made.err);
    assert!(made.err.contains("in 3 parts, 1 of them on the host"), "{}", made.err);

    let shown = json(&akida_convert("show {} --format json", &[&model]).ok().out);
    let places: Vec<&str> =
        shown["hybrid"]["parts"].as_array().expect("parts").iter().filter_map(|p| p["place"].as_str()).collect();
    assert_eq!(places, ["board", "host", "board"]);
    assert_eq!(shown["hybrid"]["parts"][1]["operations"][0]["op"], "AveragePool");
    let bytes: u64 =
        shown["hybrid"]["boundaries"].as_array().expect("boundaries").iter().filter_map(|b| b["bytes"].as_u64()).sum();
    // 3x32x32 in, 16x16x16 out, 16x8x8 in, and 5 sums of 4 bytes out.
    assert_eq!(bytes, 3 * 32 * 32 + 16 * 16 * 16 + 16 * 8 * 8 + 5 * 4);
    assert_eq!(shown["hybrid"]["bytes_per_inference"], bytes);

    let mapped = json(&akida_convert("map {} --device sim:akida2 --format json", &[&model]).ok().out);
    assert_eq!(mapped["mappings"].as_array().map(Vec::len), Some(2));
    akida_convert("map {} --device sim:akida2 --hw-only", &[&model]).expect(65, "(AveragePool)");

    let inputs = case("inputs.npz");
    let ran = akida_run(
        "{} --device sim:akida2 --input {} --output {} --raw --verify --intermediates --format json",
        &[&model, &inputs, &out],
    );
    let ran = json(&ran.ok().out);
    assert_eq!(ran["verify"]["differences"], 0);
    assert!(ran["verify"]["elements"].as_u64() > Some(1000));
    let float: Vec<bool> =
        ran["model"]["sequences"].as_array().expect("sequences").iter().filter_map(|s| s["float"].as_bool()).collect();
    assert_eq!(float.iter().filter(|f| **f).count(), 1);
    assert_eq!(ran["model"]["boundaries"].as_array().map(Vec::len), Some(4));
    assert_eq!(ran["outputs"][0]["name"], "outputs/dequantize");
    akida_run("{} --device sim:akida2 --input {} --hw-only", &[&model, &inputs]).expect(65, "(AveragePool)");
}

#[test]
fn one_region_is_what_quantizeml_makes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, quantized) = (folder.path().join("m.akm"), folder.path().join("q.onnx"));
    let made = akida_convert(
        "quantize {} --target akida2 --one-region --samples {} -o {} --save-quantized {}",
        &[&case("model.onnx"), &case("calib.npz"), &model, &quantized],
    );
    made.expect(0, "in 2 parts, 1 of them on the host");
    // What was saved is imported again, with its float tail.
    let again = folder.path().join("again.akm");
    akida_convert("import {} --target akida2 -o {}", &[&quantized, &again]).expect(0, "in 2 parts");
    let read = |path: &Path| std::fs::read(path).expect("a file");
    assert_eq!(read(&model), read(&again), "the same network");
}
