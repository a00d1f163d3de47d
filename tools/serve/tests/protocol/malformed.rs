//! Requests nobody should send. Every one gets an answer of the client's own kind, and the server goes on.

use std::io::Write;

use akida_serve::net::Options;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::scripted::Bench;
use crate::wire::{ask, connect, get, parse, read_all};

const PATH: &str = "/v2/models/double/infer";

#[test]
fn inference_requests_that_are_wrong() {
    let bench = Bench::new(Options::default());
    let input = |rest: &str| format!(r#"{{"inputs": [{{"name": "x", "shape": [1, 4], "datatype": "FP32"{rest}}}]}}"#);
    let deep = "[".repeat(100_000);
    let cases: [(String, &str); 26] = [
        (String::new(), "EOF"),
        ("{".into(), "EOF"),
        ("[]".into(), "inference request"),
        ("{}".into(), "inputs"),
        (r#"{"inputs": 1}"#.into(), "expected a sequence"),
        (r#"{"inputs": [{}]}"#.into(), "name"),
        (r#"{"id": 7, "inputs": []}"#.into(), "invalid type"),
        (input(""), "neither data nor binary_data_size"),
        (input(r#", "data": [1, 2, 3]"#), "4 elements, 3 came"),
        (input(r#", "data": [1, 2, 3, 4, 5]"#), "4 elements, 5 came"),
        (input(r#", "data": [1, 2, 3, "4"]"#), "a string is not FP32"),
        (input(r#", "data": [1, 2, 3, null]"#), "null"),
        (input(r#", "data": [1, 2, 3, 1e999]"#), "number out of range"),
        (input(r#", "data": 7"#), "list"),
        (input(&format!(r#", "data": {deep}"#)), ""),
        (input(r#", "data": [1,2,3,4], "parameters": {"binary_data_size": 16}"#), "one of them"),
        (input(r#", "parameters": {"binary_data_size": 16}"#), "0 bytes are left"),
        (input(r#", "parameters": {"binary_data_size": -1}"#), "0 or more"),
        (input(r#", "parameters": {"binary_data_size": 1e3}"#), "0 or more"),
        (input(r#", "parameters": {"shared_memory_region": "a"}, "data": [1,2,3,4]"#), "no such extension"),
        (input(r#", "parameters": {"a": [1]}, "data": [1,2,3,4]"#), "did not match"),
        (r#"{"inputs": [{"name": "x", "shape": [1, -4], "datatype": "FP32", "data": []}]}"#.into(), "none is negative"),
        (
            r#"{"inputs": [{"name": "x", "shape": [9223372036854775807, 9], "datatype": "FP32", "data": []}]}"#.into(),
            "memory",
        ),
        (r#"{"inputs": [{"name": "x", "shape": [1.5], "datatype": "FP32", "data": []}]}"#.into(), "invalid type"),
        (r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "BOOL", "data": [true]}]}"#.into(), "none of FP32"),
        (r#"{"parameters": {"sequence_id": 5}, "inputs": []}"#.into(), "no such extension"),
    ];
    let mut wrong = Vec::new();
    for (body, why) in &cases {
        let reply = ask(bench.address, "POST", PATH, &[], body.as_bytes());
        if reply.status != 400 || !reply.error().contains(why) {
            wrong.push((&body[..body.len().min(200)], why, reply.status, reply.error()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let good = input(r#", "parameters": {"binary_data_size": 16}"#);
    for (length, data, why) in [
        ("5", 16, "EOF"),
        ("100000", 16, "the body has"),
        ("-1", 16, "length of the JSON"),
        ("x", 16, "length of the JSON"),
        ("99999999999999999999", 16, "length of the JSON"),
        (&good.len().to_string(), 15, "15 bytes are left"),
        (&good.len().to_string(), 17, "17 bytes follow the JSON"),
        ("0", 15, "no batch of input"),
    ] {
        let body = [good.as_bytes(), &vec![0; data]].concat();
        let body = if length == "0" { &body[good.len()..] } else { &body };
        let reply = ask(bench.address, "POST", PATH, &[("inference-header-content-length", length)], body);
        // The model takes encoded images too, so bytes of any length go on to it, which refuses them.
        let why = if length == "0" { "takes one input" } else { why };
        assert!(reply.status == 400 && reply.error().contains(why), "{length} {data}: {reply:?}");
    }
    assert_eq!(get(bench.address, "/v2/health/ready").status, 200);
}

#[test]
fn what_is_no_http() {
    let bench = Bench::new(Options::default());
    for bytes in [
        &b"\r\n\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET /v2 HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\n\n",
        b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
        b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut stream = connect(bench.address);
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let said = read_all(&mut stream);
        if said.starts_with(b"HTTP/1.1") {
            assert!((400..500).contains(&parse(&said).status), "{bytes:?}: {said:?}");
        }
        assert_eq!(get(bench.address, "/v2").status, 200, "after {bytes:?}");
    }
}

/// JSON that is nearly right, cut or changed anywhere, with any length announced for it.
#[test]
fn any_body_is_answered() {
    let bench = Bench::new(Options::default());
    let good =
        br#"{"id": "1", "parameters": {"priority": 1}, "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32",
        "parameters": {"binary_data_size": 16}}], "outputs": [{"name": "y", "parameters": {"binary_data": true}}]}"#;
    let edit = (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..4), 0usize..6);
    let strategy = (prop::collection::vec(edit, 0..5), 0usize..40, prop::option::of(0usize..400));
    let mut runner = TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&strategy, |(edits, data, announced)| {
        let mut body = good.to_vec();
        for (at, bytes, removed) in edits {
            let at = at.index(body.len() + 1);
            let end = body.len().min(at + removed);
            body.splice(at..end, bytes);
        }
        let length = announced.unwrap_or(body.len()).to_string();
        body.extend(std::iter::repeat_n(0u8, data));
        let reply = ask(bench.address, "POST", PATH, &[("inference-header-content-length", &length)], &body);
        prop_assert!(reply.status == 200 || (reply.status == 400 && !reply.error().is_empty()), "{reply:?}");
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(get(bench.address, "/v2/health/ready").status, 200);
}

/// Messages of gRPC, changed anywhere, over a connection of their own.
#[test]
fn any_message_is_answered() {
    use akida_serve::proto::inference::{ModelInferRequest, model_infer_request::InferInputTensor};
    use prost::Message;
    let good = ModelInferRequest {
        model_name: "double".into(),
        inputs: vec![InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![1, 4],
            ..Default::default()
        }],
        raw_input_contents: vec![bytes::Bytes::from_static(&[0; 16])],
        ..Default::default()
    };
    let bench = Bench::new(Options::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let endpoint = tonic::transport::Endpoint::new(format!("http://{}", bench.address)).unwrap();
    let channel = runtime.block_on(endpoint.connect()).unwrap();
    let edit = (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..4), 0usize..4);
    let strategy = prop::collection::vec(edit, 1..4);
    let mut runner = TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&strategy, |edits| {
        let mut message = good.encode_to_vec();
        for (at, bytes, removed) in edits {
            let at = at.index(message.len() + 1);
            let end = message.len().min(at + removed);
            message.splice(at..end, bytes);
        }
        let frame = [&[0u8][..], &(message.len() as u32).to_be_bytes(), &message].concat();
        let request = http::Request::post("/inference.GRPCInferenceService/ModelInfer")
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::new(http_body_util::Full::new(bytes::Bytes::from(frame))))
            .unwrap();
        let status = runtime.block_on(async {
            use http_body_util::BodyExt;
            use tower::{Service, ServiceExt};
            let mut channel = channel.clone();
            let response = channel.ready().await.unwrap().call(request).await.unwrap();
            let head = response.headers().get("grpc-status").cloned();
            let trailers = response.into_body().collect().await.unwrap().trailers().cloned().unwrap_or_default();
            head.or_else(|| trailers.get("grpc-status").cloned()).expect("a status")
        });
        // Fine, wrong argument, no such model, or no message at all.
        prop_assert!(["0", "3", "5", "13"].contains(&status.to_str().unwrap()), "{status:?}");
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(get(bench.address, "/v2/health/ready").status, 200);
}
