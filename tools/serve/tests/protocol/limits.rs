//! Clients that are slow, silent, too many or too large.

use std::io::Write;
use std::time::{Duration, Instant};

use akida_serve::net::{Limits, Options};

use crate::scripted::Bench;
use crate::wire::{ask, connect, exchange, get, parse, read_all, request};

fn with(change: impl FnOnce(&mut Limits)) -> Bench {
    let mut options = Options::default();
    change(&mut options.limits);
    Bench::new(options)
}

const PATH: &str = "/v2/models/echo/infer";

#[test]
fn large_bodies_are_refused_before_they_are_read() {
    let bench = with(|l| l.body_bytes = 1000);
    // Nothing of the body is sent: the announced length is enough.
    let mut stream = connect(bench.address);
    stream.write_all(format!("POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\n\r\n").as_bytes()).unwrap();
    let reply = parse(&read_all(&mut stream));
    assert_eq!(reply.status, 413);
    assert!(reply.error().contains("1001") && reply.error().contains("1000"), "{}", reply.error());
    // Without an announcement, as soon as it is too much.
    let chunk = format!("3e8\r\n{}\r\n", "a".repeat(1000));
    let text = format!("POST {PATH} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}");
    assert_eq!(parse(&exchange(bench.address, text.as_bytes())).status, 413);
    assert_eq!(ask(bench.address, "POST", PATH, &[("inference-header-content-length", "0")], &[7; 990]).status, 200);
}

#[test]
fn large_heads_are_refused() {
    let bench = with(|l| l.header_bytes = 8 << 10);
    let long = "a".repeat(20_000);
    assert_eq!(ask(bench.address, "GET", "/v2", &[("x", &long)], b"").status, 431);
    let many: String = (0..500).map(|i| format!("x{i}: 1\r\n")).collect();
    let reply = parse(&exchange(bench.address, format!("GET /v2 HTTP/1.1\r\nhost: a\r\n{many}\r\n").as_bytes()));
    assert_eq!(reply.status, 431);
}

/// How long until the other end closes, with what it said.
fn until_closed(bench: &Bench, bytes: &[u8]) -> (Duration, Vec<u8>) {
    let start = Instant::now();
    let mut stream = connect(bench.address);
    stream.write_all(bytes).unwrap();
    let said = read_all(&mut stream);
    (start.elapsed(), said)
}

#[test]
fn slow_clients_are_let_go() {
    let short = Duration::from_millis(300);
    let bench = with(|l| {
        l.handshake = short;
        l.header = short;
        l.stall = short;
    });
    let half_body = [&request("POST", PATH, &[], &[7; 100])[..], b""].concat();
    let cases: [(&str, Vec<u8>, Option<u16>); 6] = [
        ("says nothing", Vec::new(), None),
        ("stops in the method", b"PO".to_vec(), None),
        ("stops in the head", b"GET /v2 HTTP/1.1\r\nhost: a\r\n".to_vec(), None),
        ("stops in the body", half_body[..half_body.len() - 1].to_vec(), Some(504)),
        ("stops in the preface", b"PRI * HTTP/2.0\r\n\r\nSM".to_vec(), None),
        ("is silent after an answer", b"GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), Some(200)),
    ];
    for (name, bytes, status) in cases {
        let (time, said) = until_closed(&bench, &bytes);
        assert!(time < Duration::from_secs(20), "{name}: {time:?}");
        match status {
            Some(status) => assert_eq!(parse(&said).status, status, "{name}"),
            // A time-out may be told, but nothing else.
            None => assert!(said.is_empty() || parse(&said).status == 408, "{name}: {said:?}"),
        }
    }
    assert_eq!(get(bench.address, "/v2").status, 200);
}

#[test]
fn a_body_in_drops_has_an_end() {
    let bench = with(|l| {
        l.stall = Duration::from_secs(5);
        l.body = Duration::from_millis(400);
    });
    let mut stream = connect(bench.address);
    stream.write_all(format!("POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n").as_bytes()).unwrap();
    let start = Instant::now();
    // Each byte comes in time, all of them never.
    while start.elapsed() < Duration::from_secs(20) {
        if stream.write_all(b"a").is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(start.elapsed() < Duration::from_secs(20), "the body went on");
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let bench = with(|l| l.connections = 4);
    // The limit counts all listeners.
    let open: Vec<_> = (0..4).map(|_| connect(bench.address)).collect();
    let limit = Instant::now() + Duration::from_secs(20);
    let opened = || bench.server.as_ref().unwrap().counters().connections.load(std::sync::atomic::Ordering::Relaxed);
    while opened() < 4 {
        assert!(Instant::now() < limit);
        std::thread::yield_now();
    }
    assert_eq!(read_all(&mut connect(bench.address)), b"");
    drop(open);
    loop {
        let bytes = exchange(bench.address, &request("GET", "/v2", &[], b""));
        if !bytes.is_empty() {
            assert_eq!(parse(&bytes).status, 200);
            break;
        }
        assert!(Instant::now() < limit, "connections that ended still count");
    }
    assert!(bench.server.as_ref().unwrap().counters().refused.load(std::sync::atomic::Ordering::Relaxed) >= 1);
}

#[test]
fn all_bodies_together_have_a_limit() {
    let bench = with(|l| {
        l.body_bytes = 1000;
        l.memory_bytes = 1500;
    });
    let body = br#"{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}"#;
    let body = [&body[..], &[b' '; 800]].concat();
    let mut held = connect(bench.address);
    held.write_all(&request("POST", "/v2/models/hold/infer", &[], &body)).unwrap();
    bench.service.wait_for_held(1);
    let refused = ask(bench.address, "POST", "/v2/models/double/infer", &[], &body);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.error().contains("memory_bytes"), "{}", refused.error());
    bench.service.release();
    assert_eq!(parse(&read_all(&mut held)).status, 200);
    assert_eq!(ask(bench.address, "POST", "/v2/models/double/infer", &[], &body).status, 200);
}

#[test]
fn limits_nothing_could_work_with_are_refused_at_the_start() {
    let mut options = Options::default();
    options.limits.connections = 0;
    let refused = Bench::try_new(options).err().unwrap();
    assert!(refused.contains("limits.connections is 0"), "{refused}");
}
