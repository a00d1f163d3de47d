//! How an engine is set up. Files and command lines are read elsewhere ([`crate::config`]).

use std::path::PathBuf;
use std::time::Duration;

use akida_tools::device::{Selector, Simulation};

use super::model::ModelDefaults;
use super::scheduler::{Limits, Policy};

/// Everything an engine needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Boards, at least one. Their names are unique.
    pub boards: Vec<BoardSettings>,
    /// Models.
    pub repository: RepositorySettings,
    /// What is held at most.
    pub limits: Limits,
    /// How boards are shared.
    pub policy: Policy,
    /// For models that say nothing.
    pub defaults: ModelDefaults,
    /// Threads that decode images and make large inputs and answers.
    pub preparers: usize,
    /// What is done about failing boards.
    pub health: HealthSettings,
}

/// A board.
#[derive(Clone, Debug)]
pub struct BoardSettings {
    /// Its name in responses, logs and metrics.
    pub name: String,
    /// Which.
    pub selector: Selector,
    /// What is said about simulated boards.
    pub simulation: Simulation,
    /// Deadline of each step of the driver.
    pub timeout: Duration,
}

/// Where models come from.
#[derive(Clone, Debug)]
pub struct RepositorySettings {
    /// The folder: `NAME/VERSION/model.akm`.
    pub path: PathBuf,
    /// Models are loaded when they are asked for, in place of whenever the folder changes.
    pub explicit: bool,
    /// Explicit: loaded at the start.
    pub load: Vec<String>,
    /// How often the folder is looked at.
    pub poll: Duration,
    /// Samples of the known-answer test of each model on each board; 0: none.
    pub self_test: usize,
    /// Largest model file.
    pub max_bytes: u64,
}

/// What is done about failing boards.
#[derive(Clone, Copy, Debug)]
pub struct HealthSettings {
    /// How long after a quarantine began the board is tried again, twice as long each time, up to 16 times; and after how
    /// long without work a healthy one is tested. 0: never.
    pub retest: Duration,
    /// So many failures within the window are one too many, although the board passes its tests.
    pub failures: usize,
    /// The window.
    pub window: Duration,
    /// A board that works at one thing for longer is stuck, and the process with it.
    pub stuck: Duration,
}
