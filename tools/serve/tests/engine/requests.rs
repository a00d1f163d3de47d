//! Requests that are wrong, wait, are withdrawn, come too late or too many.

use std::time::{Duration, Instant};

use akida_serve::engine::scheduler::Limits;
use akida_serve::error::Kind;
use akida_serve::request::{DataType, InferRequest};
use akida_serve::service::Service;

use crate::support::*;

/// A model that holds every request back until its batch is full.
fn held_back(requests: usize) -> (Repository, std::sync::Arc<akida_serve::engine::Engine>) {
    let repository = Repository::new();
    repository.put("m", 1, "mnist_cnn");
    repository.write("m", "model.toml", "batch_delay_ms = 50000\nmax_batch = 16\n");
    let mut settings = settings(&repository, &["sim:akida2"]);
    settings.limits = Limits { requests, bytes: 1 << 28 };
    (repository, start(settings))
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    let repository = Repository::new();
    repository.put("m", 1, "mnist_cnn");
    let engine = start(settings(&repository, &["sim:akida2"]));
    let name = input_name(&engine, "m");
    let good = |samples: usize| tensor(&name, DataType::Uint8, &[samples, 28, 28, 1], vec![0; samples * 784]);
    let of = |t| request("m", t);
    let with = |change: &dyn Fn(&mut InferRequest)| {
        let mut request = of(good(1));
        change(&mut request);
        request
    };
    let output = engine.model("m", None).expect("a model").outputs[0].name.clone();
    let nan: Vec<u8> = (0..784).flat_map(|i| if i == 9 { f32::NAN } else { 0.5 }.to_le_bytes()).collect();
    let cases: Vec<(&str, InferRequest, Kind, Vec<&str>)> = vec![
        ("model", request("n", good(1)), Kind::NotFound, vec!["no model \"n\""]),
        ("version", with(&|r| r.version = Some(7)), Kind::NotFound, vec!["no version 7", "[1]"]),
        ("no input", with(&|r| r.inputs.clear()), Kind::Invalid, vec!["0 inputs", &name]),
        ("two inputs", with(&|r| r.inputs.push(r.inputs[0].clone())), Kind::Invalid, vec!["2 inputs"]),
        ("name", with(&|r| r.inputs[0].name = "z".into()), Kind::Invalid, vec!["no input \"z\"", &name]),
        (
            "type",
            of(tensor(&name, DataType::Int8, &[1, 28, 28, 1], vec![0; 784])),
            Kind::Invalid,
            vec!["INT8", "UINT8"],
        ),
        ("int64", of(tensor(&name, DataType::Int64, &[1, 784], vec![0; 6272])), Kind::Invalid, vec!["INT64", "FP32"]),
        (
            "shape",
            of(tensor(&name, DataType::Uint8, &[1, 28, 27, 1], vec![0; 756])),
            Kind::Invalid,
            vec!["27", "28, 28, 1"],
        ),
        (
            "no batch",
            of(tensor(&name, DataType::Uint8, &[28, 28, 1], vec![0; 784])),
            Kind::Invalid,
            vec!["[-1, 28, 28, 1]"],
        ),
        ("scalar", of(tensor(&name, DataType::Fp32, &[], vec![0; 4])), Kind::Invalid, vec!["FP32 []"]),
        ("bytes", of(tensor(&name, DataType::Uint8, &[1, 28, 28, 1], vec![0; 783])), Kind::Invalid, vec!["783", "784"]),
        ("nothing", of(good(0)), Kind::Invalid, vec!["no samples"]),
        ("too many", of(good(65)), Kind::Invalid, vec!["65 samples", "64"]),
        (
            "nan",
            of(tensor(&name, DataType::Fp32, &[1, 1, 28, 28], nan)),
            Kind::Invalid,
            vec!["sample 0", "element 9", "NaN"],
        ),
        ("cut", of(tensor(&name, DataType::Bytes, &[1], vec![9, 0, 0, 0, 1])), Kind::Invalid, vec!["cut short"]),
        ("strings", of(tensor(&name, DataType::Bytes, &[2], vec![0; 4])), Kind::Invalid, vec!["1 elements", "says 2"]),
        (
            "no image",
            of(tensor(&name, DataType::Bytes, &[1], vec![1, 0, 0, 0, 7])),
            Kind::Invalid,
            vec!["image 0", "PNG"],
        ),
        ("output", with(&|r| r.outputs = wanted(&[("q", 0)])), Kind::Invalid, vec!["no output \"q\"", &output]),
        ("twice", with(&|r| r.outputs = wanted(&[(&output, 0), (&output, 1)])), Kind::Invalid, vec!["twice"]),
        ("late", with(&|r| r.deadline = Some(Instant::now())), Kind::Deadline, vec!["deadline"]),
    ];
    let count = cases.iter().filter(|(_, r, ..)| r.model == "m" && r.version.is_none()).count() as u64;
    for (what, request, kind, parts) in cases {
        let error = ask(&engine, request).expect_err(what);
        assert_eq!(error.kind, kind, "{what}: {error}");
        for part in parts {
            assert!(error.message.contains(part), "{what}: {error}");
        }
    }
    assert!(ask(&engine, of(good(64))).is_ok(), "nothing is broken by it");
    let statistics = engine.statistics(Some("m"), None).expect("statistics");
    assert_eq!((statistics[0].fail.count, statistics[0].success.count), (count, 1));
    assert!(engine.statistics(Some("n"), None).is_err());
}

#[test]
fn requests_that_come_together_are_run_together_and_answered_apart() {
    let (_repository, engine) = held_back(4096);
    let alone: Vec<_> = (0..4).map(|i| send(&engine, digits(&engine, "m", 16, i))).collect();
    let alone: Vec<_> = alone.into_iter().map(|p| p.wait().expect("an answer").outputs).collect();
    // 16 samples of four sizes make one batch; it waits for no bound of 50 s.
    let sizes = [1usize, 5, 8, 2];
    let pending: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(i, &n)| {
            let mut request = digits(&engine, "m", 16, i as u64);
            request.client = format!("client {i}");
            request.inputs[0].shape[0] = n;
            request.inputs[0].data.truncate(n * 784);
            send(&engine, request)
        })
        .collect();
    for ((pending, alone), n) in pending.into_iter().zip(&alone).zip(sizes) {
        let answer = pending.wait().expect("an answer");
        assert_eq!(answer.outputs[0].shape, [n, 10]);
        assert_eq!(answer.outputs[0].data, alone[0].data[..n * 40], "its own samples");
    }
    let statistics = engine.statistics(Some("m"), Some(1)).expect("statistics").remove(0);
    assert_eq!((statistics.success.count, statistics.inference_count, statistics.execution_count), (8, 80, 5));
    assert_eq!(statistics.batches.iter().map(|b| (b.batch_size, b.compute_infer.count)).collect::<Vec<_>>(), [(16, 5)]);
    // A place is given back behind its answer, so that draining waits for answers.
    let limit = Instant::now() + Duration::from_secs(60);
    let text = loop {
        let mut text = String::new();
        engine.metrics(&mut text);
        if text.contains("akida_held_requests 0") || Instant::now() > limit {
            break text;
        }
        std::thread::yield_now();
    };
    for line in [
        "akida_requests_total{model=\"m\",version=\"1\",result=\"ok\"} 8",
        "akida_samples_total{model=\"m\",version=\"1\"} 80",
        "akida_batch_samples_count{model=\"m\",version=\"1\"} 5",
        "akida_held_requests 0",
        "akida_board_healthy{board=\"sim:akida2#0\"} 1",
        "# UNIT akida_queue_duration_seconds seconds",
        "# HELP akida_board_dma_bytes ",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("EOF"));
}

#[test]
fn a_withdrawn_request_ends_at_once_and_gives_its_place_back() {
    let (_repository, engine) = held_back(2);
    let first = send(&engine, digits(&engine, "m", 1, 1));
    let busy = ask(&engine, digits(&engine, "m", 1, 2)).expect_err("one client may hold half");
    assert_eq!(busy.kind, Kind::Busy);
    assert!(busy.retry_after.is_some_and(|t| t >= Duration::from_millis(1)), "{busy:?}");
    assert!(busy.message.contains("1 of 2 requests"), "{busy}");
    let Pending { answer, ticket } = first;
    assert!(answer.try_recv().is_err(), "it waits");
    drop(ticket);
    assert_eq!(answer.recv_timeout(PATIENCE).expect("an answer").expect_err("withdrawn").kind, Kind::Cancelled);
    let second = send(&engine, digits(&engine, "m", 16, 3));
    assert!(second.wait().is_ok(), "there is room again");
    let statistics = engine.statistics(Some("m"), None).expect("statistics").remove(0);
    assert_eq!((statistics.cancel.count, statistics.fail.count, statistics.success.count), (1, 1, 1));
}

#[test]
fn a_deadline_ends_the_wait() {
    let (_repository, engine) = held_back(16);
    let mut request = digits(&engine, "m", 1, 1);
    request.deadline = Some(Instant::now() + Duration::from_millis(20));
    let error = ask(&engine, request.clone()).expect_err("nobody runs it in time");
    assert_eq!(error.kind, Kind::Deadline);
    assert!(Instant::now() >= request.deadline.expect("one"), "not before it");
}

#[test]
fn draining_answers_what_was_taken_and_refuses_the_rest() {
    let (_repository, engine) = held_back(64);
    let pending: Vec<_> = (0..5).map(|i| send(&engine, digits(&engine, "m", 1, i))).collect();
    assert!(engine.ready());
    // When this one has come too late the board has long gone to sleep, until the bound of the others.
    let mut late = digits(&engine, "m", 1, 5);
    late.deadline = Some(Instant::now() + Duration::from_millis(50));
    assert_eq!(ask(&engine, late).expect_err("it waits for its batch").kind, Kind::Deadline);
    let bound = Instant::now() + Duration::from_secs(40);
    assert_eq!(engine.drain(bound), 0, "draining waits for no bound of 50 s");
    for pending in pending {
        assert!(pending.wait().is_ok());
    }
    let late = ask(&engine, digits(&engine, "m", 1, 9)).expect_err("it takes no more");
    assert_eq!(late.kind, Kind::Unavailable);
    assert!(!engine.ready() && engine.live());
    assert_eq!(engine.status().state, "draining");
    engine.stop();
}

#[test]
fn stopping_answers_what_is_left() {
    let (_repository, engine) = held_back(64);
    let pending = send(&engine, digits(&engine, "m", 1, 1));
    engine.stop();
    assert_eq!(pending.wait().expect_err("it was not run").kind, Kind::Unavailable);
}

#[test]
fn many_at_once_from_many_threads() {
    let repository = Repository::new();
    repository.put("m", 1, "mnist_cnn");
    repository.put("t", 1, "mlp");
    let engine = start(settings(&repository, &["sim:akida2", "sim:akida2"]));
    let expected: Vec<_> =
        (0..4).map(|seed| ask(&engine, digits(&engine, "m", 3, seed)).expect("an answer").outputs).collect();
    let info = engine.model("t", None).expect("a model");
    let shape: Vec<usize> = [1].into_iter().chain(info.inputs[0].shape[1..].iter().map(|&d| d as usize)).collect();
    let size = 4 * shape.iter().product::<usize>();
    let other = || request("t", tensor(&info.inputs[0].name, DataType::Fp32, &shape, vec![0; size]));
    let zeros = ask(&engine, other()).expect("an answer").outputs;
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let (engine, expected, other, zeros) = (&engine, &expected, &other, &zeros);
            scope.spawn(move || {
                for round in 0..25 {
                    let seed = (thread + round) % 4;
                    let mut request = digits(engine, "m", 3, seed);
                    request.client = format!("thread {thread}");
                    let pending = (send(engine, request), send(engine, other()));
                    let answer = pending.0.wait().expect("an answer");
                    assert_eq!(answer.outputs, expected[seed as usize]);
                    assert_eq!(pending.1.wait().expect("an answer").outputs, *zeros);
                }
            });
        }
    });
    let status = engine.status();
    assert_eq!(status.boards.iter().map(|b| b.requests).sum::<u64>(), 6 * 25 * 2 + 5);
    assert!(status.errors.is_empty(), "{:?}", status.errors);
    let all = engine.statistics(None, None).expect("statistics");
    assert_eq!(all.iter().map(|s| s.success.count).sum::<u64>(), 6 * 25 * 2 + 5);
}
