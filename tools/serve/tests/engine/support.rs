//! A repository of real networks, boards, and somebody who asks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use akida_converter::import::{ImportOptions, import_network};
use akida_converter::onnx;
use akida_serve::engine::Engine;
use akida_serve::engine::model::ModelDefaults;
use akida_serve::engine::scheduler::{Limits, Policy};
use akida_serve::engine::settings::{BoardSettings, HealthSettings, RepositorySettings, Settings};
use akida_serve::error::ServeError;
use akida_serve::request::{DataType, InferRequest, InferResponse, NamedTensor, RequestedOutput};
use akida_serve::service::{Service, Ticket};
use akida_tools::device::Simulation;
use tempfile::TempDir;

/// Nothing in these tests takes so long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A file of a conformance case.
pub fn case(name: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/conformance").join(name).join(file)
}

/// A repository folder.
pub struct Repository(pub TempDir);

impl Repository {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where a version's file is.
    pub fn file(&self, name: &str, version: u32) -> PathBuf {
        self.path().join(name).join(version.to_string()).join("model.akm")
    }

    /// Puts a conformance network there.
    pub fn put(&self, name: &str, version: u32, case_name: &str) {
        let file = self.file(name, version);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        let graph = onnx::load(&case(case_name, "quantized.onnx")).expect("a graph");
        let network = import_network(&graph, ImportOptions::default()).expect("a network");
        network.save(&file).expect("a file");
    }

    /// Writes a file beside the versions.
    pub fn write(&self, name: &str, file: &str, text: &str) {
        let folder = self.path().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(file), text).expect("a file");
    }
}

/// Settings for these boards: `sim:akida2`, or with faults `sim:akida2!PLAN`.
pub fn settings(repository: &Repository, boards: &[&str]) -> Settings {
    let board = |(number, text): (usize, &&str)| {
        let (selector, faults) = text.split_once('!').unwrap_or((text, ""));
        BoardSettings {
            name: format!("{selector}#{number}"),
            selector: selector.parse().expect("a board"),
            simulation: Simulation { faults: Some(faults.parse().expect("a plan")), real_time: false, threads: 1 },
            timeout: Duration::from_secs(5),
        }
    };
    Settings {
        boards: boards.iter().enumerate().map(board).collect(),
        repository: RepositorySettings {
            path: repository.path().to_owned(),
            explicit: false,
            load: Vec::new(),
            // Tests say when to look.
            poll: Duration::from_secs(3600),
            self_test: 1,
            max_bytes: 1 << 30,
        },
        limits: Limits { requests: 4096, bytes: 1 << 28 },
        policy: Policy::default(),
        defaults: ModelDefaults { max_batch: 64, delay: Duration::ZERO },
        preparers: 2,
        health: HealthSettings {
            retest: Duration::ZERO,
            failures: 3,
            window: Duration::from_secs(600),
            stuck: Duration::from_secs(60),
        },
    }
}

pub fn start(settings: Settings) -> Arc<Engine> {
    Engine::start(settings).unwrap_or_else(|e| panic!("{e}"))
}

/// The answer that will come.
pub struct Pending {
    pub answer: Receiver<Result<InferResponse, ServeError>>,
    pub ticket: Ticket,
}

impl Pending {
    #[track_caller]
    pub fn wait(self) -> Result<InferResponse, ServeError> {
        let answer = self.answer.recv_timeout(PATIENCE).expect("an answer");
        drop(self.ticket);
        assert!(self.answer.recv().is_err(), "one answer");
        answer
    }
}

pub fn send(engine: &Engine, request: InferRequest) -> Pending {
    let (reply, answer) = channel();
    let done = Box::new(move |result| {
        // A test that does not want the answer any more.
        let _ = reply.send(result);
    });
    Pending { ticket: engine.submit(request, done), answer }
}

#[track_caller]
pub fn ask(engine: &Engine, request: InferRequest) -> Result<InferResponse, ServeError> {
    send(engine, request).wait()
}

pub fn request(model: &str, input: NamedTensor) -> InferRequest {
    InferRequest {
        model: model.to_owned(),
        version: None,
        id: "a request".to_owned(),
        client: "a client".to_owned(),
        inputs: vec![input],
        outputs: Vec::new(),
        priority: 0,
        deadline: None,
        trace: None,
    }
}

pub fn wanted(names: &[(&str, usize)]) -> Vec<RequestedOutput> {
    let output = |&(name, classification): &(&str, usize)| RequestedOutput { name: name.to_owned(), classification };
    names.iter().map(output).collect()
}

pub fn tensor(name: &str, datatype: DataType, shape: &[usize], data: Vec<u8>) -> NamedTensor {
    NamedTensor { name: name.to_owned(), datatype, shape: shape.to_vec(), data: data.into() }
}

/// Pixels that are the same on every machine.
pub fn pixels(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// The name of a model's input.
pub fn input_name(engine: &Engine, model: &str) -> String {
    engine.model(model, None).expect("a model").inputs[0].name.clone()
}

/// A request of `samples` digits for mnist_cnn, in pixels.
pub fn digits(engine: &Engine, model: &str, samples: usize, seed: u64) -> InferRequest {
    let name = input_name(engine, model);
    request(model, tensor(&name, DataType::Uint8, &[samples, 28, 28, 1], pixels(samples * 784, seed)))
}

pub fn floats(data: &[u8]) -> Vec<f32> {
    data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

pub fn texts(data: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    let mut data = data;
    while let Some((len, rest)) = data.split_first_chunk::<4>() {
        let (text, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
        all.push(String::from_utf8(text.to_vec()).expect("text"));
        data = rest;
    }
    all
}
