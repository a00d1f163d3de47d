//! `akida-convert`: what it writes and prints.

use std::fs;
use std::path::Path;

use akida_tools::arrays::Array;

use crate::support::*;

/// Given the reference's ranges, the quantized graph is the reference's, as printed, and gives its integers.
#[test]
fn quantizing_with_given_ranges_prints_the_reference_graph() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let (model, quantized, out) = (d.join("m.akm"), d.join("q.onnx"), d.join("out.npz"));
    let ended = akida_convert(
        "quantize {} --target akida2 --ranges {} -o {} --save-quantized {} --print-graph",
        &[&case("model.onnx"), &case("calibration_ranges.npz"), &model, &quantized],
    )
    .ok();
    let reference = fs::read_to_string(case("quantized.graph.txt")).unwrap();
    assert_eq!(ended.out.trim_end(), reference.trim_end());
    assert_eq!(akida_convert("show {}", &[&quantized]).ok().out.trim_end(), reference.trim_end());

    let digits = digits(d, 100);
    akida_run("{} -d sim:akida2 -i {} --mean 0.5 --std 0.5 -o {} --raw", &[&model, &digits, &out]).ok();
    let (Array::I32(got), Array::I32(want)) = (array(&out, "raw0"), array(&case("quantized_outputs.npz"), "raw0"))
    else {
        panic!("int32")
    };
    assert_eq!(got, want.slice(ndarray::s![..100, ..]).to_owned().into_dyn());

    // What was saved is a whole quantized graph: it can be imported, and is the same model.
    let again = d.join("again.akm");
    akida_convert("import {} --target akida2 -o {}", &[&quantized, &again]).ok();
    let show = |path| akida_convert("show {} --format json", &[path]).ok().out;
    assert_eq!(show(&model), show(&again));
}

#[test]
fn calibrating_with_samples_works_from_npz() {
    let dir = tempfile::tempdir().unwrap();
    let (model, digits) = (dir.path().join("m.akm"), digits(dir.path(), 50));
    akida_convert("quantize {} --target akida2 --samples {} -o {}", &[&case("model.onnx"), &case("calib.npz"), &model])
        .ok();
    let ended = akida_run("{} -d sim -i {} --show none", &[&model, &digits]).ok();
    assert!(ended.out.contains("accuracy   1.0000"), "{}", ended.out);
    // The digits are bytes: without normalization they are no samples, with it they are.
    akida_convert("quantize {} --target akida2 --samples {} -o {}", &[&case("model.onnx"), &digits, &model])
        .expect(65, "uint8");
    let quantize = "quantize {} --target akida2 --samples {} -o {} --mean 0.5 --std 0.5";
    akida_convert(quantize, &[&case("model.onnx"), &digits, &model]).ok();
}

/// Ranges are observed once for a network and its samples, and the model is the same from the cache.
#[test]
fn ranges_are_kept_for_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let convert = |options: &str, model: &Path| {
        let line = format!("quantize {{}} --target akida2 --samples {{}} -o {{}} {options}");
        let paths = [&*case("model.onnx"), &*case("calib.npz"), model];
        let mut command = command(env!("CARGO_BIN_EXE_akida-convert"), &line, &paths);
        command.env("XDG_CACHE_HOME", dir.path());
        (run(command).ok().err, fs::read(model).unwrap())
    };
    let model = dir.path().join("m.akm");
    let (said, first) = convert("--no-cache", &model);
    assert!(!said.contains("known") && !dir.path().join("akida").exists(), "{said}");
    for known in [false, true] {
        let (said, again) = convert("", &model);
        assert_eq!(said.contains("known from an earlier time"), known, "{said}");
        assert!(again == first);
    }
    let kept: Vec<_> = fs::read_dir(dir.path().join("akida/ranges")).unwrap().collect();
    assert_eq!(kept.len(), 1);
}

/// The tutorial network with 4 bits on a simulated AKD1000, nothing on the host.
#[test]
fn quantizing_for_akida_1_runs_on_its_boards() {
    let dir = tempfile::tempdir().unwrap();
    let (model, digits) = (dir.path().join("m.akm"), digits(dir.path(), 50));
    let quantize = "quantize {} --target akd1000 --samples {} -o {}";
    akida_convert(quantize, &[&case("model.onnx"), &case("calib.npz"), &model]).ok();
    let ended = akida_run("{} -d sim:akd1000 -i {} --mean 0.5 --std 0.5 --show none", &[&model, &digits]).ok();
    assert!(ended.out.contains("accuracy   1.0000"), "{}", ended.out);
    // Another chip: refused before it is opened, so nothing is traced but the head of the file.
    let trace = dir.path().join("trace");
    akida_run("{} -d sim:akd1500 -i {} --trace {}", &[&model, &digits, &trace]).expect(65, "made for akd1000");
    assert!(!trace.exists(), "{:?}", fs::read_to_string(&trace));
    statistics_and_roads(&model, &digits);
    for (option, said) in [("--bits 8/3/4", "8/3/4"), ("--layer-bits x=4/4", "'x'"), ("--layer-bits x", "WEIGHTS")] {
        let line = format!("{quantize} {option}");
        let ended = akida_convert(&line, &[&case("model.onnx"), &case("calib.npz"), &model]);
        assert!([64, 65].contains(&ended.code) && ended.err.contains(said), "{option}: {} {}", ended.code, ended.err);
    }
    let foreign = format!("{quantize} --print-graph");
    akida_convert(&foreign, &[&case("model.onnx"), &case("calib.npz"), &model]).expect(64, "--print-graph");
    let other = "quantize {} --target akida2 --samples {} -o {} --bits 8/4/4";
    akida_convert(other, &[&case("model.onnx"), &case("calib.npz"), &model]).expect(64, "--bits");
    akida_convert("check {} --target akd1500", &[&case("model.onnx")]).ok();
}

/// Sparsity and estimates of an Akida 1.0 network, in text and JSON; events out, with the same integers.
fn statistics_and_roads(model: &Path, digits: &Path) {
    let line = "{} -d sim:akd1000 -i {} --mean 0.5 --std 0.5 --show none --statistics --verify --hw-only";
    let text = akida_run(line, &[model, digits]).ok().out;
    for said in [
        "zeros of its output",
        "ESTIMATED cycles",
        "estimate, not a measurement, with the sparsity of 50 samples",
        "floor",
        "dynamic",
    ] {
        assert!(text.contains(said), "{said} in\n{text}");
    }
    let line = format!("{line} --output-as events --format json");
    let document: serde_json::Value = serde_json::from_str(&akida_run(&line, &[model, digits]).ok().out).unwrap();
    assert_eq!(document["verify"]["differences"], 0);
    assert_eq!(document["model"]["sequences"][0]["input_as"], "dense");
    assert_eq!(document["model"]["sequences"][0]["output_as"], "FNP events");
    let activity = &document["statistics"]["activity"][0];
    assert_eq!((&activity["samples"], &activity["no_estimate"]), (&50.into(), &serde_json::Value::Null));
    let estimate = &activity["estimate"];
    assert_eq!(estimate["kind"], "estimate, not a measurement");
    let number = |value: &serde_json::Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {estimate}"));
    let energy = &estimate["energy"];
    let sum = number(&energy["floor_mj"]) + number(&energy["dynamic_mj"]);
    assert!((sum - number(&energy["total_mj"])).abs() < 1e-9 && sum > 0.0, "{energy}");
    assert!(number(&estimate["cycles"]) > 1000.0 && number(&estimate["fps"]) > 1.0, "{estimate}");
    let sparsity = activity["layers"].as_array().unwrap().iter().map(|l| number(&l["sparsity_fraction"]));
    assert!(sparsity.clone().all(|s| (0.0..=1.0).contains(&s)) && sparsity.sum::<f64>() > 0.1, "{activity}");
    // What the HRC takes is an image.
    akida_run("{} -d sim:akd1000 -i {} --mean 0.5 --std 0.5 --hw-only --input-as events", &[model, digits])
        .expect(65, "input.events.hrc");
    let explained = akida_convert("map {} --hw-only --explain", &[model]).ok().out;
    assert!(
        explained.contains("in: dense; out: dense") && explained.contains("estimate, not a measurement"),
        "{explained}"
    );
}

/// The table users know, to the byte.
#[test]
fn show_prints_the_summary() {
    for (flag, file) in [("", "akida_summary_without_quantizer.txt"), ("--with-quantizer", "akida_summary.txt")] {
        let ended = akida_convert(&format!("show {{}} {flag}"), &[model()]).ok();
        assert_eq!(ended.out, fs::read_to_string(case(file)).unwrap(), "{file}");
    }
}

#[test]
fn check_takes_float_quantized_and_converted_networks() {
    for file in [case("model.onnx"), case("quantized.onnx"), model().to_path_buf()] {
        let ended = akida_convert("check {} --target akida2", &[&file]).ok();
        for layer in ["/0/Conv", "/3/Conv", "/7/Gemm", "/10/Gemm"] {
            assert!(ended.out.contains(layer), "{}: {}", file.display(), ended.out);
        }
    }
}

#[test]
fn map_says_where_layers_run_on_every_board_of_the_target() {
    for board in ["akida2", "akida2-2node"] {
        let ended = akida_convert(&format!("map {{}} --device {board} --explain"), &[model()]).ok();
        assert!(ended.out.contains("HRC") && ended.out.contains("NP("), "{}", ended.out);
    }
    akida_convert("map {} --device akd1000", &[model()]).expect(65, "made for akida2");
}

/// The page of a network that runs on the host in part: it is written whole and names the node and its rule.
#[test]
fn check_writes_pages() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("report.html");
    let partial = case("../partial_avgpool/model.onnx");
    akida_convert("check {} --target akida2 --format html -o {}", &[&partial, &page]).ok();
    let html = fs::read_to_string(&page).unwrap();
    assert!(
        html.contains("onnx.operator.averagepool") && html.contains("/4/AveragePool") && html.ends_with("</html>\n"),
        "{html}"
    );
    assert_eq!(files(dir.path()), ["report.html"]);
    for target in ["akida2", "akd1000", "akd1500"] {
        let ended = akida_convert(&format!("check {{}} --target {target} --format json"), &[&case("model.onnx")]).ok();
        assert!(ended.out.contains("\"schema\": \"akida-check/1\"") && ended.out.contains("\"board_macs\": "));
    }
}

/// Every stage becomes a graph that can be read again; a stage nobody knows is refused before anything is done.
#[test]
fn stages_are_dumped_as_onnx() {
    let dir = tempfile::tempdir().unwrap();
    let (model, named) = (dir.path().join("m.akm"), dir.path().join("shape.onnx"));
    let quantize = "quantize {} --target akida2 --ranges {} -o {}";
    let paths: &[&std::path::Path] = &[&case("model.onnx"), &case("calibration_ranges.npz"), &model];
    let listed = akida_convert(&format!("{quantize} --dump-stage list"), paths).ok().out;
    let names: Vec<&str> = listed.lines().map(|l| l.split_whitespace().next().unwrap()).collect();
    assert_eq!(names.len(), 11, "{listed}");
    akida_convert(&format!("{quantize} --dump-stage nonsense"), paths).expect(64, "there is no stage 'nonsense'");
    assert!(files(dir.path()).is_empty());
    let dumps: String = names.iter().map(|name| format!(" --dump-stage {name}")).collect();
    let all = format!("{quantize}{dumps} --dump-stage shaped={}", named.display());
    akida_convert(&all, paths).ok();
    assert_eq!(files(dir.path()).len(), names.len() + 2);
    for name in names {
        let shown = akida_convert("show {}", &[&dir.path().join(format!("m.{name}.onnx"))]).ok().out;
        assert_eq!(shown.contains("QuantizedInputConv2D"), name == "quantized", "{name}: {shown}");
        assert!(shown.contains(" return %outputs"), "{name}: {shown}");
    }
    // Nothing is written of a stage whose file cannot be.
    let lost = format!("{quantize} --dump-stage prepared=/nonexistent/p.onnx");
    akida_convert(&lost, paths).expect(73, "/nonexistent/p.onnx");
    // For Akida 1.0 the quantized network is no ONNX graph.
    let one = "quantize {} --target akd1000 --samples {} -o {} --dump-stage quantized";
    akida_convert(one, &[&case("model.onnx"), &case("calib.npz"), &model]).expect(64, "is prepared");
}

/// The table ranks layers, the plots are whole documents, the JSON has a schema.
#[test]
fn compare_prints_and_draws() {
    let dir = tempfile::tempdir().unwrap();
    let (svg, html) = (dir.path().join("plot.svg"), dir.path().join("plot.html"));
    let compare = "compare {} {} --samples {} --plot {}";
    let (float, samples) = (case("model.onnx"), case("calib.npz"));
    let ended = akida_convert(compare, &[&float, model(), &digits(dir.path(), 5), &svg]);
    ended.expect(65, "uint8");
    let text = akida_convert(compare, &[&float, model(), &samples, &svg]).ok().out;
    assert!(text.contains("most is lost in ") && text.contains("top-1 equal 100.00 %"), "{text}");
    let json = akida_convert(&format!("{compare} --format json"), &[&float, model(), &samples, &html]).ok().out;
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["schema"], "akida-compare/1");
    assert_eq!(document["ranking"].as_array().unwrap().len(), 5, "{json}");
    let (drawn, page) = (fs::read_to_string(&svg).unwrap(), fs::read_to_string(&html).unwrap());
    assert!(drawn.starts_with("<svg ") && drawn.contains("/7/Gemm") && page.contains(drawn.lines().nth(1).unwrap()));
    akida_convert(compare, &[&float, model(), &samples, &dir.path().join("p.png")]).expect(64, ".svg");
}
