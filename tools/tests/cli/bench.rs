//! `akida-run bench`: what it says, not how fast it is.

use serde_json::Value;

use crate::support::*;

#[test]
fn the_document_has_all_figures_and_names_the_board() {
    let ended = akida_run("bench {} --device sim:akida2 --batch 2 --seconds 0.05 --format json", &[model()]).ok();
    let report: Value = serde_json::from_str(&ended.out).unwrap_or_else(|e| panic!("{e}:\n{}", ended.out));
    assert_eq!(report["schema"], "akida-run-bench/1");
    assert_eq!((&report["simulated"], &report["batch"]), (&Value::Bool(true), &Value::from(2)));
    assert!(report["board"].as_str().is_some_and(|name| name.contains("akida2")), "{}", report["board"]);
    let latency = ["p50", "p90", "p99", "p999", "max"].map(|p| report["latency_us"][p].as_f64().expect("a number"));
    assert!(latency[0] > 0.0 && latency.is_sorted(), "{latency:?}");
    for key in ["throughput_per_s", "compute_us", "calls"] {
        assert!(report[key].as_f64().is_some_and(|v| v > 0.0), "{key}: {}", report[key]);
    }
    assert!(report["overhead_us"].is_number() && report["kernels"].is_string() && report["pinned"].is_null());

    let text = akida_run("bench {} --device sim:akida2 --seconds 0.02", &[model()]).ok().out;
    assert!(text.contains("SIMULATED") && text.contains("p99.9"), "{text}");
}

/// Held to the first processor it may run on, which is 0 where nobody holds the test itself.
#[test]
fn a_measurement_is_held_to_processors() {
    let refused = akida_run("bench {} --device sim:akida2 --pin 1023 --seconds 0.02", &[model()])
        .expect(64, "may not run on processor 1023");
    let help = refused.err.split("name some of ").nth(1).expect("those there are");
    let first: String = help.chars().take_while(char::is_ascii_digit).collect();
    let line = format!("bench {{}} --device sim:akida2 --pin {first} --seconds 0.02 --format json");
    let report: Value = serde_json::from_str(&akida_run(&line, &[model()]).ok().out).expect("a document");
    assert_eq!((&report["pinned"], &report["processors"]), (&Value::from(first), &Value::from(1)));
}

#[test]
fn what_cannot_be_measured_is_refused() {
    akida_run("bench {} --device sim:akida2 --seconds 0", &[model()]).expect(64, "no time to measure");
    akida_run("bench {} --device sim:akida2 --batch 0", &[model()]).expect(64, "--batch");
    akida_run("bench {} --device sim:akida2 --jobs 33", &[model()]).expect(64, "--jobs");
    akida_run("bench {} --device sim:akida2 --pin 2-1", &[model()]).expect(64, "ends before it begins");
}
