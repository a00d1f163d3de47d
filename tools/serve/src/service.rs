//! What the listeners need of whatever runs the models: the scheduler, or a scripted one in tests of the protocols.
//!
//! Everything here is plain data and one trait; no async, no protocol. Calls return at once unless they say that they
//! block.

use serde::Serialize;

use crate::error::ServeError;
use crate::request::{DataType, InferRequest, InferResponse};

/// Called once with the end of a request, on a thread of the scheduler: it must not block.
pub type Done = Box<dyn FnOnce(Result<InferResponse, ServeError>) + Send>;

/// A request that was handed over. Dropping it withdraws the request: its client went away.
#[must_use = "dropping a ticket cancels the request"]
pub struct Ticket(Option<Box<dyn FnOnce() + Send>>);

impl Ticket {
    /// A ticket that calls `cancel` when it is dropped. `cancel` does nothing when the request has ended already.
    pub fn new(cancel: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(cancel)))
    }

    /// A ticket for a request that has ended, or that cannot be withdrawn.
    pub fn ended() -> Self {
        Self(None)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(cancel) = self.0.take() {
            cancel();
        }
    }
}

/// Models on boards, as a listener sees them.
pub trait Service: Send + Sync + 'static {
    /// Whether the process works at all: false asks the supervisor for a restart.
    fn live(&self) -> bool;

    /// Whether requests are taken: boards have passed the known-answer test, models are loaded, nothing drains.
    fn ready(&self) -> bool;

    /// Hands a request over. `done` is called exactly once, also for requests that are refused at once.
    fn submit(&self, request: InferRequest, done: Done) -> Ticket;

    /// Every version of every model in the repository.
    fn models(&self) -> Vec<IndexEntry>;

    /// One model; no version: the newest that is ready, or the newest.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::NotFound`] for names and versions that are not in the repository.
    fn model(&self, name: &str, version: Option<u32>) -> Result<ModelInfo, ServeError>;

    /// Loads or reloads a model. Blocks until it is ready.
    ///
    /// # Errors
    ///
    /// Why it cannot be served; the version before it goes on.
    fn load(&self, name: &str) -> Result<(), ServeError>;

    /// Takes a model out of service. Blocks until its requests have ended.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::NotFound`].
    fn unload(&self, name: &str) -> Result<(), ServeError>;

    /// Counters of all models, or of one and a version of it.
    ///
    /// # Errors
    ///
    /// [`crate::error::Kind::NotFound`].
    fn statistics(&self, name: Option<&str>, version: Option<u32>) -> Result<Vec<ModelStatistics>, ServeError>;

    /// Appends OpenMetrics, families complete with HELP and TYPE, without the mark of the end: listeners add theirs.
    fn metrics(&self, text: &mut String);

    /// What the status page shows.
    fn status(&self) -> Status;
}

/// A version of a model in the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IndexEntry {
    /// Name: the folder's.
    pub name: String,
    /// Version: the folder's in it.
    pub version: u32,
    /// What it is in.
    pub state: ModelState,
    /// Why, when it is not ready.
    pub reason: String,
}

/// States of the repository extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ModelState {
    /// Answers requests.
    Ready,
    /// Being read, mapped and tested.
    Loading,
    /// Finishes what it took; takes nothing new.
    Unloading,
    /// In the repository, but not served; the reason says why.
    Unavailable,
}

impl ModelState {
    /// The protocol's word.
    pub fn as_str(self) -> &'static str {
        match self {
            ModelState::Ready => "READY",
            ModelState::Loading => "LOADING",
            ModelState::Unloading => "UNLOADING",
            ModelState::Unavailable => "UNAVAILABLE",
        }
    }
}

/// A model as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// Name.
    pub name: String,
    /// The version this describes.
    pub version: u32,
    /// All versions in the repository, oldest first.
    pub versions: Vec<u32>,
    /// Whether this version answers requests.
    pub ready: bool,
    /// What made it: `akida_akm`.
    pub platform: String,
    /// Largest batch of one request.
    pub max_batch: usize,
    /// Inputs.
    pub inputs: Vec<TensorInfo>,
    /// Outputs.
    pub outputs: Vec<TensorInfo>,
    /// Whatever else clients may want to know, for the configuration's parameters: `target`, `layout` (nchw, nhwc, flat), `devices`.
    pub parameters: Vec<(String, String)>,
}

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name.
    pub name: String,
    /// Type that the metadata names.
    pub datatype: DataType,
    /// Its dimensions, batch first as -1.
    pub shape: Vec<i64>,
    /// Other types that are taken under this name, each with its shape: pixels (`Uint8`, batch, height, width, channels),
    /// encoded images (`Bytes`, batch).
    pub also: Vec<(DataType, Vec<i64>)>,
}

/// A count of events and the time they took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Events.
    pub count: u64,
    /// Nanoseconds, all together.
    pub ns: u64,
}

/// Counters of a version since it was loaded, as the statistics extension has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelStatistics {
    /// Name.
    pub name: String,
    /// Version.
    pub version: u32,
    /// When the last request came, milliseconds since 1970; 0: never.
    pub last_inference_ms: u64,
    /// Samples inferred: a request of batch 8 counts 8.
    pub inference_count: u64,
    /// Runs of a board for them.
    pub execution_count: u64,
    /// Requests answered, from hand-over to answer.
    pub success: Tally,
    /// Requests that failed.
    pub fail: Tally,
    /// Waiting for a board.
    pub queue: Tally,
    /// Making the board's input of the request.
    pub compute_input: Tally,
    /// On the board.
    pub compute_infer: Tally,
    /// Making the answer of the board's output.
    pub compute_output: Tally,
    /// Requests whose client went away.
    pub cancel: Tally,
    /// By batch size, ascending.
    pub batches: Vec<BatchStatistics>,
}

/// Counters of runs with one batch size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchStatistics {
    /// Samples of a run.
    pub batch_size: u64,
    /// Making the board's input.
    pub compute_input: Tally,
    /// On the board.
    pub compute_infer: Tally,
    /// Making the answer.
    pub compute_output: Tally,
}

/// The document of `/status.json`: what the status page shows. Counters only grow, so a page makes rates of two of them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Version of this software.
    pub version: String,
    /// Seconds since the start.
    pub uptime_seconds: f64,
    /// As [`Service::live`].
    pub live: bool,
    /// As [`Service::ready`].
    pub ready: bool,
    /// In words: `serving`, `starting`, `draining`, or what is wrong.
    pub state: String,
    /// Boards in the order they were given.
    pub boards: Vec<BoardStatus>,
    /// Versions of models that are, or should be, in service.
    pub models: Vec<ModelStatus>,
    /// The last failures, newest first.
    pub errors: Vec<RecentError>,
}

/// A board.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BoardStatus {
    /// `sim:akida2`, `0000:03:00.0`.
    pub name: String,
    /// The chip: `akida2`, `akd1000`.
    pub kind: String,
    /// Whether no silicon is involved.
    pub simulated: bool,
    /// `healthy`, `testing`, `resetting`, `quarantined`.
    pub state: String,
    /// Why, when it is not healthy.
    pub reason: String,
    /// The model it is programmed with, `name/version`.
    pub model: String,
    /// Requests it answered.
    pub requests: u64,
    /// Samples of these.
    pub samples: u64,
    /// Seconds it worked.
    pub busy_seconds: f64,
    /// Times it was programmed for another model.
    pub programmed: u64,
    /// Times it was reset.
    pub resets: u64,
    /// Bytes moved to it and from it.
    pub dma_bytes: u64,
    /// Where the board can tell.
    pub temperature_celsius: Option<f64>,
    /// Where the board can tell.
    pub power_watts: Option<f64>,
}

/// A version of a model and its queue.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelStatus {
    /// Name.
    pub name: String,
    /// Version.
    pub version: u32,
    /// The repository extension's word.
    pub state: String,
    /// Why, when it is not ready.
    pub reason: String,
    /// Names of the boards that serve it.
    pub boards: Vec<String>,
    /// Requests that wait.
    pub queued: u64,
    /// How many requests may be taken and not answered, of all models together.
    pub queue_limit: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Requests that were refused because the queue was full.
    pub refused: u64,
    /// Samples inferred.
    pub samples: u64,
    /// Runs of a board for them.
    pub executions: u64,
    /// Seconds all requests waited together.
    pub queue_seconds: f64,
    /// Seconds all requests took together, waiting included.
    pub total_seconds: f64,
}

/// A failure that somebody should know of.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecentError {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// What it concerns: a board, a model, a listener.
    pub about: String,
    /// What happened.
    pub message: String,
    /// The request, where there was one.
    pub request: String,
}
