//! The configuration file. Every key may be left out; unknown ones are refused.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::args::{Control, LogFormat};

/// `/etc/akida/serve.toml`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Folder of models, `NAME/VERSION/model.akm`.
    pub repository: Option<PathBuf>,
    /// Boards.
    pub device: Vec<String>,
    /// Addresses for HTTP/REST; an address that is also in `grpc` speaks both.
    pub http: Vec<String>,
    /// Addresses for gRPC.
    pub grpc: Vec<String>,
    /// Addresses for metrics and the status page.
    pub metrics: Vec<String>,
    /// Seconds that requests may still run when the service is told to end.
    pub drain: f64,
    /// `text` or `json`.
    pub log: LogFormat,
    /// With Landlock: nothing but the repository, secrets and boards can be opened once the service runs.
    pub confine: bool,
    /// File of callers and what they may do.
    pub access: Option<PathBuf>,
    /// Refuses load and unload to everyone.
    pub no_repository_control: bool,
    /// Models.
    pub models: Models,
    /// Queues.
    pub scheduler: Scheduler,
    /// Failing boards.
    pub health: Health,
    /// Limits of listeners.
    pub limits: crate::net::Limits,
    /// TLS of TCP listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<crate::net::TlsFiles>,
    /// Boards with more to say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub board: Vec<Board>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            repository: None,
            device: Vec::new(),
            http: Vec::new(),
            grpc: Vec::new(),
            metrics: Vec::new(),
            drain: 30.0,
            log: LogFormat::Text,
            confine: true,
            access: None,
            no_repository_control: false,
            models: Models::default(),
            scheduler: Scheduler::default(),
            health: Health::default(),
            limits: crate::net::Limits::default(),
            tls: None,
            board: Vec::new(),
        }
    }
}

/// `[models]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// `poll`: what is in the folder is served; `explicit`: what is asked for.
    pub control: Control,
    /// Explicit: loaded at the start.
    pub load: Vec<String>,
    /// Seconds between two looks at the folder.
    pub poll: f64,
    /// Samples of the known-answer test of each model on each board; 0: none.
    pub self_test: usize,
    /// Largest model file, in bytes.
    pub max_model_bytes: u64,
    /// Most samples of a request and of a batch.
    pub max_batch: usize,
    /// How long a request may wait for others of its batch, in milliseconds.
    pub batch_delay_ms: f64,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            control: Control::Poll,
            load: Vec::new(),
            poll: 2.0,
            self_test: 1,
            max_model_bytes: 4 << 30,
            max_batch: 128,
            batch_delay_ms: 0.0,
        }
    }
}

/// `[scheduler]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scheduler {
    /// Requests that are taken and not answered.
    pub queue_requests: usize,
    /// Bytes of their inputs.
    pub queue_bytes: usize,
    /// Shortest time a board stays with a model while another waits, in milliseconds.
    pub slice_ms: f64,
    /// The same as a multiple of what programming costs.
    pub slices: usize,
    /// Threads that decode images and make large inputs and answers.
    pub preparers: usize,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self { queue_requests: 4096, queue_bytes: 256 << 20, slice_ms: 10.0, slices: 4, preparers: 2 }
    }
}

/// `[health]`; times in seconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// Deadline of each step of the driver.
    pub step_timeout: f64,
    /// How long after a quarantine began the board is tested again; twice as long each time, up to 16 times. 0: never.
    pub retest: f64,
    /// Failures within the window that quarantine a board although it passes its tests.
    pub failures: usize,
    /// The window.
    pub window: f64,
    /// A board that works at one thing for longer is stuck: the watchdog is fed no more.
    pub stuck: f64,
}

impl Default for Health {
    fn default() -> Self {
        Self { step_timeout: 5.0, retest: 60.0, failures: 3, window: 600.0, stuck: 60.0 }
    }
}

/// `[[board]]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Board {
    /// Which.
    pub device: String,
    /// Its name in responses, logs and metrics; the device's, unless said.
    pub name: Option<String>,
    /// Simulated boards: what goes wrong (docs/simulator.md).
    pub faults: String,
    /// Simulated boards: a thread of the board computes.
    pub real_time: bool,
}

impl File {
    /// Reads a file's text.
    ///
    /// # Errors
    /// Line, column and key.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())
    }

    /// The text of a file that says all of this.
    ///
    /// # Errors
    /// None that a file could cause.
    pub fn print(&self) -> Result<String, String> {
        toml::to_string(self).map_err(|e| e.to_string())
    }

    /// What listeners are told.
    pub fn net(&self) -> crate::net::Options {
        crate::net::Options {
            limits: self.limits.clone(),
            tls: self.tls.clone(),
            access: self.access.clone(),
            no_repository_control: self.no_repository_control,
        }
    }
}
