//! A scheduler that does what a model's name says, at once and without boards.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use akida_serve::error::{Kind, ServeError};
use akida_serve::net::{Listener, Options, Server, Serves, Socket};
use akida_serve::request::{DataType, InferRequest, InferResponse, NamedTensor};
use akida_serve::service::{
    Done, IndexEntry, ModelInfo, ModelState, ModelStatistics, Service, Status, Tally, TensorInfo, Ticket,
};
use bytes::Bytes;

/// Every failure has a model of its name.
pub const FAILURES: [(&str, Kind); 9] = [
    ("invalid", Kind::Invalid),
    ("missing", Kind::NotFound),
    ("large", Kind::TooLarge),
    ("forbidden", Kind::Forbidden),
    ("busy", Kind::Busy),
    ("unavailable", Kind::Unavailable),
    ("late", Kind::Deadline),
    ("cancelled", Kind::Cancelled),
    ("internal", Kind::Internal),
];

/// The models: `double` and `image` give `y = 2 x` and `sum`; `echo` gives its BYTES back; `hold` waits for [`Scripted::release`];
/// those of [`FAILURES`] fail.
#[derive(Default)]
pub struct Scripted {
    pub not_ready: AtomicBool,
    pub cancelled: Arc<AtomicUsize>,
    pub loads: Mutex<Vec<String>>,
    /// What was submitted, without elements.
    pub seen: Mutex<Vec<InferRequest>>,
    held: Mutex<HashMap<usize, (InferRequest, Done)>>,
    arrived: Condvar,
}

impl Scripted {
    /// Waits until so many requests are held.
    pub fn wait_for_held(&self, count: usize) {
        let held = self.held.lock().unwrap();
        let limit = Duration::from_secs(30);
        let (held, outcome) = self.arrived.wait_timeout_while(held, limit, |h| h.len() < count).unwrap();
        assert!(!outcome.timed_out(), "{} requests instead of {count}", held.len());
    }

    /// Answers what is held, last first.
    pub fn release(&self) {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        let mut held: Vec<_> = held.into_iter().collect();
        held.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
        for (_, (request, done)) in held {
            done(Ok(double(&request)));
        }
    }

    /// Waits until so many requests were withdrawn.
    pub fn wait_for_cancelled(&self, count: usize) {
        let limit = std::time::Instant::now() + Duration::from_secs(30);
        while self.cancelled.load(Ordering::SeqCst) < count {
            assert!(std::time::Instant::now() < limit, "nothing was withdrawn");
            std::thread::yield_now();
        }
    }
}

fn double(request: &InferRequest) -> InferResponse {
    let x = &request.inputs[0];
    let floats: Vec<f32> = x.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b) * 2.0).collect();
    let sum = floats.iter().sum::<f32>() as i32;
    let all = [
        NamedTensor {
            name: "y".into(),
            datatype: DataType::Fp32,
            shape: x.shape.clone(),
            data: floats.iter().flat_map(|v| v.to_le_bytes()).collect(),
        },
        NamedTensor {
            name: "sum".into(),
            datatype: DataType::Int32,
            shape: vec![1],
            data: Bytes::copy_from_slice(&sum.to_le_bytes()),
        },
    ];
    let held = |t: &NamedTensor| request.model != "image" || t.name == "y";
    let wanted = |t: &NamedTensor| request.outputs.is_empty() || request.outputs.iter().any(|o| o.name == t.name);
    let mut outputs: Vec<NamedTensor> = all.into_iter().filter(|t| held(t) && wanted(t)).collect();
    for output in &mut outputs {
        let classes = request.outputs.iter().find(|o| o.name == output.name).map_or(0, |o| o.classification);
        if classes > 0 {
            let mut best: Vec<(usize, f32)> = floats.iter().copied().enumerate().collect();
            best.sort_by(|a, b| b.1.total_cmp(&a.1));
            let texts = best.iter().take(classes).map(|(i, v)| format!("{v}:{i}"));
            output.shape = vec![1, classes.min(best.len())];
            output.datatype = DataType::Bytes;
            output.data = texts.flat_map(|t| [&(t.len() as u32).to_le_bytes(), t.as_bytes()].concat()).collect();
        }
    }
    InferResponse {
        model: request.model.clone(),
        version: request.version.unwrap_or(2),
        id: request.id.clone(),
        device: "sim:scripted (simulated)".into(),
        outputs,
    }
}

impl Service for Scripted {
    fn live(&self) -> bool {
        true
    }

    fn ready(&self) -> bool {
        !self.not_ready.load(Ordering::SeqCst)
    }

    fn submit(&self, request: InferRequest, done: Done) -> Ticket {
        self.seen.lock().unwrap().push(request.clone());
        if let Some((name, kind)) = FAILURES.iter().find(|(name, _)| *name == request.model) {
            let retry_after = (*kind == Kind::Busy).then_some(Duration::from_millis(1500));
            done(Err(ServeError { kind: *kind, message: format!("this is {name}"), retry_after }));
            return Ticket::ended();
        }
        match request.model.as_str() {
            "double" | "image" if request.inputs.len() == 1 && request.inputs[0].datatype == DataType::Fp32 => {
                done(Ok(double(&request)));
                Ticket::ended()
            }
            "echo" => {
                let mut outputs = request.inputs.clone();
                outputs.iter_mut().for_each(|o| o.name = "out".into());
                let (model, id) = (request.model, request.id);
                done(Ok(InferResponse { model, version: 1, id, device: "sim:scripted (simulated)".into(), outputs }));
                Ticket::ended()
            }
            "hold" => {
                let mut held = self.held.lock().unwrap();
                let number = held.keys().max().map_or(0, |n| n + 1);
                held.insert(number, (request, done));
                self.arrived.notify_all();
                let cancelled = self.cancelled.clone();
                Ticket::new(move || {
                    cancelled.fetch_add(1, Ordering::SeqCst);
                })
            }
            "double" => {
                done(Err(ServeError::new(Kind::Invalid, "model 'double' takes one input, FP32")));
                Ticket::ended()
            }
            other => {
                done(Err(ServeError::new(Kind::NotFound, format!("there is no model '{other}'"))));
                Ticket::ended()
            }
        }
    }

    fn models(&self) -> Vec<IndexEntry> {
        let entry = |version, state, reason: &str| IndexEntry {
            name: "double".into(),
            version,
            state,
            reason: reason.to_string(),
        };
        vec![entry(1, ModelState::Unavailable, "not the newest"), entry(2, ModelState::Ready, "")]
    }

    fn model(&self, name: &str, version: Option<u32>) -> Result<ModelInfo, ServeError> {
        if !matches!(name, "double" | "hold" | "echo" | "image") || version.is_some_and(|v| v > 2) {
            return Err(ServeError::new(Kind::NotFound, format!("there is no model '{name}'")));
        }
        let tensor = |name: &str, datatype, shape: &[i64], also| TensorInfo {
            name: name.into(),
            datatype,
            shape: shape.to_vec(),
            also,
        };
        let also = vec![(DataType::Uint8, vec![-1, 4]), (DataType::Bytes, vec![-1])];
        Ok(ModelInfo {
            name: name.into(),
            version: version.unwrap_or(2),
            versions: vec![1, 2],
            ready: version != Some(1),
            platform: "akida_akm".into(),
            max_batch: 64,
            inputs: vec![match name {
                "echo" => tensor("x", DataType::Bytes, &[-1], vec![]),
                "image" => tensor("x", DataType::Fp32, &[-1, 1, 2, 2], vec![(DataType::Uint8, vec![-1, 2, 2, 1])]),
                _ => tensor("x", DataType::Fp32, &[-1, 4], also),
            }],
            // Clients that split their samples over requests can do so only where every output has a batch.
            outputs: match name {
                "image" => vec![tensor("y", DataType::Fp32, &[-1, 1, 2, 2], vec![])],
                _ => vec![tensor("y", DataType::Fp32, &[-1, 4], vec![]), tensor("sum", DataType::Int32, &[1], vec![])],
            },
            parameters: vec![("target".into(), "akida2".into())],
        })
    }

    fn load(&self, name: &str) -> Result<(), ServeError> {
        self.model(name, None)?;
        self.loads.lock().unwrap().push(format!("load {name}"));
        Ok(())
    }

    fn unload(&self, name: &str) -> Result<(), ServeError> {
        self.model(name, None)?;
        self.loads.lock().unwrap().push(format!("unload {name}"));
        Ok(())
    }

    fn statistics(&self, name: Option<&str>, version: Option<u32>) -> Result<Vec<ModelStatistics>, ServeError> {
        if let Some(name) = name {
            self.model(name, version)?;
        }
        let success = Tally { count: 3, ns: 4_000 };
        let one =
            ModelStatistics { name: "double".into(), version: 2, inference_count: 9, success, ..Default::default() };
        Ok(vec![one])
    }

    fn metrics(&self, text: &mut String) {
        text.push_str("# HELP akida_scripted One.\n# TYPE akida_scripted gauge\nakida_scripted 1\n");
    }

    fn status(&self) -> Status {
        Status { version: "0".into(), live: true, ready: self.ready(), state: "serving".into(), ..Status::default() }
    }
}

/// A server with a scripted scheduler. Dropped, it cuts its connections.
pub struct Bench {
    pub service: Arc<Scripted>,
    /// HTTP and gRPC.
    pub address: SocketAddr,
    /// Metrics and status page.
    pub status: SocketAddr,
    pub server: Option<Server>,
}

impl Bench {
    pub fn new(options: Options) -> Self {
        Self::try_new(options).unwrap()
    }

    pub fn try_new(options: Options) -> Result<Self, String> {
        let service = Arc::new(Scripted::default());
        let sockets = [Serves::Both, Serves::Status].map(|serves| {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            (socket.local_addr().unwrap(), Listener { socket: Socket::Tcp(socket), serves })
        });
        let [(address, both), (status, page)] = sockets;
        let server = Server::start(service.clone(), [both, page], options)?;
        Ok(Self { service, address, status, server: Some(server) })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.drain(Duration::ZERO);
        }
    }
}
