//! Open Inference Protocol over HTTP: tables of requests and what must come of them.

use std::io::{Read, Write};
use std::sync::atomic::Ordering;

use akida_serve::net::Options;
use akida_serve::request::{DataType, RequestedOutput};
use serde_json::json;

use crate::scripted::{Bench, FAILURES};
use crate::wire::{Reply, ask, connect, get, parse, post, read_all, request};

const X: &str = r#"{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2.5, -3, 0]}"#;

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// JSON, then binary elements.
fn binary(bench: &Bench, path: &str, json: &str, data: &[u8]) -> Reply {
    let length = json.len().to_string();
    let body = [json.as_bytes(), data].concat();
    ask(bench.address, "POST", path, &[("Inference-Header-Content-Length", &length)], &body)
}

#[test]
fn what_is_known_of_server_and_models() {
    let bench = Bench::new(Options::default());
    let at = bench.address;
    let server = get(at, "/v2").json();
    assert_eq!(server["name"], "akida-serve");
    assert!(server["extensions"].as_array().unwrap().contains(&json!("binary_tensor_data")));
    let model = json!({
        "name": "double", "versions": ["1", "2"], "platform": "akida_akm",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}, {"name": "sum", "datatype": "INT32", "shape": [1]}],
    });
    for path in ["/v2/models/double", "/v2/models/double/versions/1"] {
        assert_eq!(get(at, path).json(), model, "{path}");
    }
    let config = get(at, "/v2/models/double/config").json();
    assert_eq!(config["max_batch_size"], 64);
    assert_eq!(config["input"], json!([{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]));
    assert_eq!(config["parameters"]["also.x"]["string_value"], "UINT8[-1,4] BYTES[-1]");
    assert_eq!(config["parameters"]["target"]["string_value"], "akida2");
    let statistics = get(at, "/v2/models/stats").json();
    assert_eq!(statistics, get(at, "/v2/models/double/versions/2/stats").json());
    assert_eq!(statistics["model_stats"][0]["inference_stats"]["success"], json!({"count": 3, "ns": 4000}));
    let entry = |v, state, reason| json!({"name": "double", "version": v, "state": state, "reason": reason});
    let (one, two) = (entry("1", "UNAVAILABLE", "not the newest"), entry("2", "READY", ""));
    assert_eq!(post(at, "/v2/repository/index", "").json(), json!([one, two]));
    assert_eq!(post(at, "/v2/repository/index", r#"{"ready": true}"#).json(), json!([two]));
    assert_eq!(post(at, "/v2/repository/index", r#"{"repository_name": "other"}"#).json(), json!([]));
}

#[test]
fn statuses() {
    let bench = Bench::new(Options::default());
    for (method, path, body, status) in [
        ("GET", "/v2/health/live", "", 200),
        ("GET", "/v2/health/ready", "", 200),
        ("GET", "/v2/models/double/ready", "", 200),
        ("GET", "/v2/models/double/versions/1/ready", "", 400),
        ("GET", "/v2/models/none/ready", "", 404),
        ("GET", "/v2/models/none", "", 404),
        ("GET", "/v2/models/none/config", "", 404),
        ("GET", "/v2/models/none/stats", "", 404),
        ("GET", "/v2/models/double/versions/9", "", 404),
        ("GET", "/v2/models/double/versions/x", "", 400),
        ("GET", "/v2/models/double/versions/+1", "", 400),
        ("GET", "/v2/models/double/versions/0", "", 400),
        ("GET", "/v2/models/%ff/ready", "", 400),
        ("GET", "/v2/models/..%2f..%2fetc%2fpasswd", "", 404),
        ("GET", "/", "", 404),
        ("GET", "/v2/models", "", 404),
        ("GET", "/v2/systemsharedmemory/status", "", 404),
        ("POST", "/v2/health/live", "", 405),
        ("GET", "/v2/models/double/infer", "", 405),
        ("POST", "/v2/repository/models/double/load", "", 200),
        ("POST", "/v2/repository/models/double/unload", r#"{"parameters": {"unload_dependents": false}}"#, 200),
        ("POST", "/v2/repository/models/none/load", "", 404),
        ("POST", "/v2/repository/models/double/load", r#"{"parameters": {"config": "{}"}}"#, 400),
        ("POST", "/v2/repository/models/double/load", r#"{"parameters": {"file:1/model.akm": "AAAA"}}"#, 400),
        ("POST", "/v2/repository/models/double/load", "[", 400),
        ("POST", "/v2/repository/index", "{", 400),
    ] {
        let reply = ask(bench.address, method, path, &[], body.as_bytes());
        assert_eq!(reply.status, status, "{method} {path} {body}: {}", String::from_utf8_lossy(&reply.body));
        if status != 200 && !path.ends_with("1/ready") && !path.contains("%ff") {
            assert!(!reply.error().is_empty(), "{path} says nothing");
        }
    }
    assert_eq!(*bench.service.loads.lock().unwrap(), ["load double", "unload double"]);
    bench.service.not_ready.store(true, Ordering::SeqCst);
    assert_eq!(get(bench.address, "/v2/health/ready").status, 400);
    assert_eq!(get(bench.address, "/v2/health/live").status, 200);
}

#[test]
fn failures_of_the_scheduler() {
    let bench = Bench::new(Options::default());
    let statuses = [400, 404, 413, 403, 503, 503, 504, 499, 500];
    for ((model, _), status) in FAILURES.into_iter().zip(statuses) {
        let reply = post(bench.address, &format!("/v2/models/{model}/infer"), &format!(r#"{{"inputs": [{X}]}}"#));
        assert_eq!((reply.status, reply.error()), (status, format!("this is {model}")));
        assert_eq!(reply.header("retry-after"), (model == "busy").then_some("2"), "{model}");
    }
}

#[test]
fn inference_in_json() {
    let bench = Bench::new(Options::default());
    let ask = |body: &str| post(bench.address, "/v2/models/double/infer", body);
    let y = json!({"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [2.0, 5.0, -6.0, 0.0]});
    let sum = json!({"name": "sum", "datatype": "INT32", "shape": [1], "data": [1]});
    let all = json!({
        "id": "a\"b", "model_name": "double", "model_version": "2",
        "parameters": {"device": "sim:scripted (simulated)"}, "outputs": [y, sum],
    });
    let reply = ask(&format!(r#"{{"id": "a\"b", "inputs": [{X}]}}"#));
    assert_eq!((reply.status, reply.json(), reply.header("content-type")), (200, all, Some("application/json")));
    assert_eq!(reply.header("inference-header-content-length"), None);
    let one = ask(&format!(r#"{{"outputs": [{{"name": "sum"}}], "inputs": [{X}], "unknown": {{"a": [1]}}}}"#)).json();
    assert_eq!((&one["outputs"], one.get("id")), (&json!([sum]), None));
    let nested = r#"{"inputs": [{"data": [[1, 2.5], [-3, 0]], "datatype": "FP32", "shape": [2, 2], "name": "x"}]}"#;
    assert_eq!(ask(nested).json()["outputs"][0]["data"], y["data"]);
    let versioned = post(bench.address, "/v2/models/double/versions/1/infer", &format!(r#"{{"inputs": [{X}]}}"#));
    assert_eq!(versioned.json()["model_version"], "1");
}

#[test]
fn parameters_reach_the_scheduler() {
    let bench = Bench::new(Options::default());
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = format!(
        r#"{{"id": "7", "parameters": {{"priority": 3, "timeout": 60000000, "own": "x"}}, "inputs": [{X}],
        "outputs": [{{"name": "y", "parameters": {{"classification": 2}}}}, {{"name": "sum"}}]}}"#
    );
    for given in [trace, "00-bad"] {
        let reply = ask(bench.address, "POST", "/v2/models/double/infer", &[("traceparent", given)], body.as_bytes());
        assert_eq!(reply.status, 200);
    }
    let seen = bench.service.seen.lock().unwrap();
    let request = &seen[0];
    assert_eq!((request.id.as_str(), request.priority, request.client.as_str()), ("7", 3, "127.0.0.1"));
    assert_eq!((request.trace.as_deref(), seen[1].trace.as_deref()), (Some(trace), None));
    let left = request.deadline.unwrap().saturating_duration_since(std::time::Instant::now()).as_secs();
    assert!((1..=60).contains(&left), "{left} s left");
    let output = |name: &str, classification| RequestedOutput { name: name.into(), classification };
    assert_eq!(request.outputs, [output("y", 2), output("sum", 0)]);
    assert_eq!((request.inputs[0].datatype, &request.inputs[0].shape[..]), (DataType::Fp32, &[1, 4][..]));
}

#[test]
fn the_binary_extension_both_ways() {
    let bench = Bench::new(Options::default());
    let path = "/v2/models/double/infer";
    let x = r#"{"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}"#;
    let data = floats(&[1.0, 2.5, -3.0, 0.0]);
    let y = floats(&[2.0, 5.0, -6.0, 0.0]);
    let sum = 1i32.to_le_bytes();

    // Binary in, JSON out.
    let reply = binary(&bench, path, &format!(r#"{{"inputs": [{x}]}}"#), &data);
    assert_eq!(reply.json()["outputs"][0]["data"], json!([2.0, 5.0, -6.0, 0.0]));

    // Everything binary, as clients ask for it that name no outputs.
    let reply =
        binary(&bench, path, &format!(r#"{{"parameters": {{"binary_data_output": true}}, "inputs": [{x}]}}"#), &data);
    let length: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
    let head: serde_json::Value = serde_json::from_slice(&reply.body[..length]).unwrap();
    assert_eq!(head["outputs"][0]["parameters"], json!({"binary_data_size": 16}));
    assert_eq!(head["outputs"][0].get("data"), None);
    assert_eq!(&reply.body[length..], [&y[..], &sum].concat());

    // One output binary, the other not; the default is the other way round.
    let outputs = r#"[{"name": "y", "parameters": {"binary_data": false}}, {"name": "sum"}]"#;
    let json = format!(r#"{{"parameters": {{"binary_data_output": true}}, "inputs": [{x}], "outputs": {outputs}}}"#);
    let reply = binary(&bench, path, &json, &data);
    let length: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    let head: serde_json::Value = serde_json::from_slice(&reply.body[..length]).unwrap();
    assert_eq!(head["outputs"][0]["data"], json!([2.0, 5.0, -6.0, 0.0]));
    assert_eq!(&reply.body[length..], sum);

    // No JSON at all.
    let reply = binary(&bench, path, "", &data);
    let length: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    assert_eq!(&reply.body[length..], [&y[..], &sum].concat());
    let seen = bench.service.seen.lock().unwrap();
    assert_eq!(seen.last().unwrap().inputs[0].shape, [1, 4]);
    drop(seen);
    let reply = binary(&bench, "/v2/models/echo/infer", "", b"\xff\xd8 an image");
    let length: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    assert_eq!(&reply.body[length + 4..], b"\xff\xd8 an image");
}

#[test]
fn classification_by_output_and_by_query() {
    let bench = Bench::new(Options::default());
    let by_output =
        format!(r#"{{"inputs": [{X}], "outputs": [{{"name": "y", "parameters": {{"classification": 2}}}}]}}"#);
    let want = json!([{"name": "y", "datatype": "BYTES", "shape": [1, 2], "data": ["5:1", "2:0"]}]);
    assert_eq!(post(bench.address, "/v2/models/double/infer", &by_output).json()["outputs"], want);
    let plain = format!(r#"{{"inputs": [{X}], "outputs": [{{"name": "y"}}]}}"#);
    assert_eq!(post(bench.address, "/v2/models/double/infer?classification=2", &plain).json()["outputs"], want);
    let all = post(bench.address, "/v2/models/double/infer?a=b&classification=1", &format!(r#"{{"inputs": [{X}]}}"#));
    assert_eq!(all.json()["outputs"][0]["data"], json!(["5:1"]));
    assert_eq!(all.json()["outputs"][1]["datatype"], "BYTES");
    for wrong in ["x", "-1", "99999999999999999999"] {
        let reply = post(bench.address, &format!("/v2/models/double/infer?classification={wrong}"), &plain);
        assert_eq!(reply.status, 400, "{wrong}");
    }
}

#[test]
fn packed_bodies() {
    use std::process::{Command, Stdio};
    let bench = Bench::new(Options::default());
    let json = format!(r#"{{"inputs": [{X}]}}{}"#, " ".repeat(5000));
    // Another implementation of gzip than ours.
    let mut gzip = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(json.as_bytes()).unwrap();
    let mut packed = Vec::new();
    gzip.stdout.take().unwrap().read_to_end(&mut packed).unwrap();
    gzip.wait().unwrap();
    let path = "/v2/models/double/infer";
    let reply = ask(bench.address, "POST", path, &[("content-encoding", "gzip"), ("accept-encoding", "gzip")], &packed);
    // The answer is short: packing would not help.
    assert_eq!((reply.status, reply.header("content-encoding")), (200, None));
    assert_eq!(reply.json()["outputs"][0]["data"], json!([2.0, 5.0, -6.0, 0.0]));
    let many: Vec<String> = (0..2000).map(|i| i.to_string()).collect();
    let body = format!(
        r#"{{"inputs": [{{"name": "x", "shape": [500, 4], "datatype": "FP32", "data": [{}]}}]}}"#,
        many.join(",")
    );
    let reply = ask(bench.address, "POST", path, &[("accept-encoding", "gzip")], body.as_bytes());
    assert_eq!(reply.header("content-encoding"), Some("gzip"));
    assert!(reply.body.len() < 8000 && reply.body.starts_with(&[0x1f, 0x8b]));
    for (encoding, body) in [("br", &packed[..]), ("gzip", &packed[..packed.len() - 9]), ("deflate", &packed[..])] {
        assert_eq!(ask(bench.address, "POST", path, &[("content-encoding", encoding)], body).status, 400, "{encoding}");
    }
}

#[test]
fn a_client_that_goes_away_withdraws_its_request() {
    let bench = Bench::new(Options::default());
    let body = format!(r#"{{"inputs": [{X}]}}"#);
    let mut gone = connect(bench.address);
    gone.write_all(&request("POST", "/v2/models/hold/infer", &[], body.as_bytes())).unwrap();
    let mut stays = connect(bench.address);
    stays.write_all(&request("POST", "/v2/models/hold/infer", &[], body.as_bytes())).unwrap();
    bench.service.wait_for_held(2);
    drop(gone);
    bench.service.wait_for_cancelled(1);
    bench.service.release();
    assert_eq!(parse(&read_all(&mut stays)).status, 200);
}

#[test]
fn a_drain_answers_what_was_taken_and_takes_no_more() {
    let mut bench = Bench::new(Options::default());
    let body = format!(r#"{{"inputs": [{X}]}}"#);
    let mut open = connect(bench.address);
    let text = String::from_utf8(request("POST", "/v2/models/hold/infer", &[], body.as_bytes())).unwrap();
    open.write_all(text.replace("connection: close\r\n", "").as_bytes()).unwrap();
    bench.service.wait_for_held(1);
    // One that is taken, and has said nothing yet: the answer on the next connection comes after it was taken.
    let mut fresh = connect(bench.address);
    assert_eq!(get(bench.address, "/v2/health/live").status, 200);
    let (server, service) = (bench.server.take().unwrap(), bench.service.clone());
    let drain = std::thread::spawn(move || server.drain(std::time::Duration::from_secs(30)));
    // Nobody listens once the drain has begun; until then a connection may still be taken.
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while std::net::TcpStream::connect(bench.address).is_ok() {
        assert!(std::time::Instant::now() < limit, "connections are still taken");
    }
    fresh.write_all(&request("GET", "/v2/health/live", &[], b"")).unwrap();
    assert_eq!(parse(&read_all(&mut fresh)).status, 200);
    service.release();
    assert_eq!(parse(&read_all(&mut open)).status, 200);
    assert_eq!(drain.join().unwrap(), 0);
}

#[test]
fn the_address_of_operators() {
    let bench = Bench::new(Options::default());
    get(bench.address, "/v2/models/none");
    let metrics = get(bench.status, "/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.ends_with("\n# EOF\n") && metrics.matches("EOF").count() == 1, "{metrics}");
    for line in ["akida_scripted 1", "akida_serve_answers_total{protocol=\"http\",status=\"404\"} 1"] {
        assert!(metrics.lines().any(|l| l == line), "{line} is missing in\n{metrics}");
    }
    let status = get(bench.status, "/status.json");
    assert_eq!((status.header("content-type"), &status.json()["state"]), (Some("application/json"), &json!("serving")));
    let page = get(bench.status, "/");
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    assert_eq!((get(bench.status, "/live").status, get(bench.status, "/v2").status), (200, 404));
    bench.service.not_ready.store(true, Ordering::SeqCst);
    assert_eq!(get(bench.status, "/ready").status, 503);
}
