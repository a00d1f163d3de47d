//! `akida-run --server` and `akida-bench` against the scripted scheduler.

use std::path::Path;

use akida_serve::load;
use akida_serve::net::Options;
use akida_tools::arrays::{Archive, Array, write_npz};
use akida_tools::exit::{Exit, Failure};
use akida_tools::run;
use clap::Parser;
use ndarray::ArrayD;
use serde_json::{Value, json};

use crate::scripted::Bench;

fn akida_run(args: &[&str]) -> Result<String, Failure> {
    let args = run::Args::try_parse_from([&["akida-run"], args].concat()).unwrap();
    let mut out = Vec::new();
    run::run(&args, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn samples(folder: &Path, count: usize) -> String {
    let path = folder.join("x.npz");
    let values = (0..count * 4).map(|v| v as f32 / 2.0).collect();
    let array = Array::F32(ArrayD::from_shape_vec(vec![count, 1, 2, 2], values).unwrap());
    write_npz(&path, [("x".to_string(), &array)]).unwrap();
    path.display().to_string()
}

#[test]
fn akida_run_on_a_service() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(Options::default());
    let server = format!("http://{}", bench.address);
    // More samples than one request takes.
    let (x, y) = (samples(folder.path(), 150), folder.path().join("y.npz").display().to_string());
    let run = |model: &str, more: &[&str]| {
        akida_run(&[&["--server", &server, model, "--input", &x, "--output", &y, "--quiet"], more].concat())
    };
    let report: Value = serde_json::from_str(&run("image", &["--format", "json"]).unwrap()).unwrap();
    assert_eq!(report["board"]["name"], "sim:scripted (simulated)");
    assert_eq!((&report["board"]["simulated"], &report["board"]["server"]), (&json!(true), &json!(server)));
    assert_eq!(report["input"]["samples"], 150);
    let Some(Array::F32(out)) = Archive::open(Path::new(&y)).unwrap().get("out0").unwrap() else { panic!("no floats") };
    assert_eq!(out.shape(), [150, 1, 2, 2]);
    assert!(out.iter().enumerate().all(|(i, &v)| v == i as f32));
    assert_eq!(bench.service.seen.lock().unwrap().len(), 3, "requests for 150 samples of at most 64");
    assert!(run("image/2", &[]).unwrap().contains(&format!("of the service {server}")));
    for (model, exit, part) in [
        ("nothing", Exit::Data, "404"),
        ("image/9", Exit::Data, "404"),
        ("image/x", Exit::Usage, "names no model"),
        // Its input is not that of an image.
        ("echo", Exit::Board, "incomplete"),
    ] {
        let refused = run(model, &[]).unwrap_err();
        assert!(refused.exit == exit && refused.message.contains(part), "{model}: {refused}");
    }
    drop(bench);
    assert_eq!(run("image", &[]).unwrap_err().exit, Exit::Unavailable);
}

#[test]
fn akida_bench_on_a_service() {
    let bench = Bench::new(Options::default());
    let run = |url: &str, model: &str, more: &[&str]| {
        let fixed = ["akida-bench", url, model, "--seconds", "0.2", "--warmup", "0.05", "--format", "json"];
        let args = load::Args::try_parse_from([&fixed, more].concat()).unwrap();
        let mut out = Vec::new();
        let end = load::run(&args, &mut out);
        (end.map_err(|e| e.exit), serde_json::from_slice::<Value>(&out).unwrap_or_default())
    };
    let (http, grpc) = (format!("http://{}", bench.address), format!("grpc://{}", bench.address));
    for (url, more) in [
        (&http, &["--concurrency", "3"][..]),
        (&http, &["--json", "--batch", "5"]),
        (&http, &["--rate", "200", "--concurrency", "4", "--arrivals", "poisson"]),
        (&grpc, &["--concurrency", "3"]),
        (&grpc, &["--stream", "--rate", "200", "--concurrency", "4"]),
    ] {
        let (end, report) = run(url, "double", more);
        assert!(end.is_ok(), "{url} {more:?}: {end:?}");
        let requests = report["requests"].as_u64().unwrap();
        assert!(requests > 0 && report["failures"] == 0, "{url} {more:?}: {report}");
        let time = |name: &str| report["latency_us"][name].as_u64().unwrap();
        assert!(time("min") <= time("p50") && time("p50") <= time("p99") && time("p99") <= time("max"), "{report}");
    }
    // What fails is counted, with its reason.
    let (end, report) = run(&http, "double", &["--datatype", "UINT8"]);
    assert_eq!(end.err(), Some(Exit::Unavailable));
    assert!(report["failed"].as_object().unwrap().keys().all(|why| why.contains("takes one input")), "{report}");
    assert_eq!(run(&http, "none", &[]).0.err(), Some(Exit::Unavailable));
    assert_eq!(run(&http, "double", &["--datatype", "INT32"]).0.err(), Some(Exit::Usage));
    assert_eq!(run(&http, "double", &["--stream"]).0.err(), Some(Exit::Usage));
}
