//! What `akida-serve` is told: a file, and command-line flags that go before it.

mod args;
mod file;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use akida_tools::device::{Selector, Simulation};
use akida_tools::exit::{Exit, Failure};

pub use args::{Args, Control, LogFormat};
pub use file::File;

use crate::engine::model::{MAX_BATCH, ModelDefaults};
use crate::engine::scheduler::{Limits, Policy};
use crate::engine::settings::{BoardSettings, HealthSettings, RepositorySettings, Settings};

/// An address to listen on: `ADDRESS:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("unix: needs a path behind it".to_owned()),
            Some(path) => Ok(Address::Unix(path.into())),
            None => text
                .parse()
                .map(Address::Tcp)
                .map_err(|_| format!("{text:?} is no address: 127.0.0.1:8000, [::1]:8000 or unix:/run/akida.sock")),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Everything, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from, for reports.
    pub file: Option<PathBuf>,
    /// As a file that says all of it.
    pub effective: File,
    /// Boards, models, queues.
    pub engine: Settings,
    /// HTTP/REST.
    pub http: Vec<Address>,
    /// gRPC.
    pub grpc: Vec<Address>,
    /// Metrics and the status page.
    pub metrics: Vec<Address>,
    /// What listeners are told.
    pub net: crate::net::Options,
    /// How long requests that were taken may still run when the service is told to end.
    pub drain: Duration,
    /// How logs are written.
    pub log: LogFormat,
}

fn config(message: impl Into<String>, help: &str) -> Failure {
    Failure::new(Exit::Config, message, help)
}

/// A number of seconds within bounds.
fn seconds(name: &str, value: f64, least: f64, most: f64) -> Result<Duration, Failure> {
    let fits = (least..=most).contains(&value);
    let duration = if fits { Duration::try_from_secs_f64(value).ok() } else { None };
    duration.ok_or_else(|| config(format!("{name} = {value}; it goes from {least} to {most}"), "change it in the file"))
}

fn count(name: &str, value: usize, least: usize, most: usize) -> Result<usize, Failure> {
    match (least..=most).contains(&value) {
        true => Ok(value),
        false => Err(config(format!("{name} = {value}; it goes from {least} to {most}"), "change it in the file")),
    }
}

impl Config {
    /// Reads the file that is named and puts the flags before it.
    ///
    /// # Errors
    /// Names file, line, column and key, or the flag.
    pub fn read(args: &Args) -> Result<Self, Failure> {
        let mut file = match &args.config {
            None => File::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| Failure::input(path, &e))?;
                File::parse(&text).map_err(|e| {
                    config(format!("{}: {e}", path.display()), "docs/service.md has every key; --check-config checks")
                })?
            }
        };
        args.apply(&mut file);
        Self::check(file, args.config.as_deref())
    }

    /// Checks what a file says.
    ///
    /// # Errors
    /// Names the key, its value and its limits.
    pub fn check(file: File, path: Option<&Path>) -> Result<Self, Failure> {
        let Some(repository) = file.repository.clone() else {
            return Err(Failure::new(Exit::Usage, "there is no repository", "name its folder with --repository"));
        };
        let boards = boards(&file)?;
        if [&file.http, &file.grpc, &file.metrics].iter().all(|l| l.is_empty())
            && std::env::var_os("LISTEN_FDS").is_none()
        {
            return Err(Failure::new(Exit::Usage, "there is no address to listen on", "give --http 127.0.0.1:8000"));
        }
        let addresses = |name: &str, all: &[String]| -> Result<Vec<Address>, Failure> {
            let parse = |text: &String| text.parse().map_err(|e| config(format!("{name}: {e}"), "change it"));
            all.iter().map(parse).collect()
        };
        let net = file.net();
        net.limits.check().map_err(|e| config(e, "change it in the file"))?;
        let (models, scheduler, health) = (&file.models, &file.scheduler, &file.health);
        let delay = seconds("models.batch_delay_ms", models.batch_delay_ms, 0.0, 60_000.0)? / 1000;
        let engine = Settings {
            boards,
            repository: RepositorySettings {
                path: repository,
                explicit: models.control == Control::Explicit,
                load: models.load.clone(),
                poll: seconds("models.poll", models.poll, 0.1, 86_400.0)?,
                self_test: count("models.self_test", models.self_test, 0, 64)?,
                max_bytes: models.max_model_bytes,
            },
            limits: Limits {
                requests: count("scheduler.queue_requests", scheduler.queue_requests, 1, 1 << 24)?,
                bytes: count("scheduler.queue_bytes", scheduler.queue_bytes, 1 << 16, 1 << 40)?,
            },
            policy: Policy {
                slice: seconds("scheduler.slice_ms", scheduler.slice_ms, 0.0, 60_000.0)? / 1000,
                slices: count("scheduler.slices", scheduler.slices, 1, 1000)? as u32,
                ..Policy::default()
            },
            defaults: ModelDefaults { max_batch: count("models.max_batch", models.max_batch, 1, MAX_BATCH)?, delay },
            preparers: count("scheduler.preparers", scheduler.preparers, 1, 64)?,
            health: HealthSettings {
                retest: seconds("health.retest", health.retest, 0.0, 86_400.0)?,
                failures: count("health.failures", health.failures, 1, 1000)?,
                window: seconds("health.window", health.window, 1.0, 86_400.0)?,
                stuck: seconds("health.stuck", health.stuck, 1.0, 3600.0)?,
            },
        };
        Ok(Self {
            file: path.map(Path::to_owned),
            engine,
            http: addresses("http", &file.http)?,
            grpc: addresses("grpc", &file.grpc)?,
            metrics: addresses("metrics", &file.metrics)?,
            net,
            drain: seconds("drain", file.drain, 0.0, 3600.0)?,
            log: file.log,
            effective: file,
        })
    }
}

/// The boards of a file: `device = [...]`, then `[[board]]`. Names are unique: of several boards with one name each gets a
/// number.
fn boards(file: &File) -> Result<Vec<BoardSettings>, Failure> {
    let plain = file.device.iter().map(|device| file::Board { device: device.clone(), ..file::Board::default() });
    let all: Vec<file::Board> = plain.chain(file.board.iter().cloned()).collect();
    if all.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "there is no board",
            "name one: --device sim:akida2 or --device 03:00.0",
        ));
    }
    count("the number of boards", all.len(), 1, 64)?;
    let timeout = seconds("health.step_timeout", file.health.step_timeout, 0.01, 600.0)?;
    let mut boards: Vec<BoardSettings> = Vec::with_capacity(all.len());
    for board in &all {
        let selector: Selector =
            board.device.parse().map_err(|e: String| config(e, "akida-run --list shows boards"))?;
        if matches!(selector, Selector::Auto | Selector::Sim) {
            let message = format!("{selector} leaves the choice of a board to the service");
            return Err(config(
                message,
                "name the board: sim:akida2, sim:akd1000, or its address as akida-run --list shows it",
            ));
        }
        // Who reaches the service would be a bug of ours away from every byte of the machine.
        if matches!(selector, Selector::Unconfined(_)) {
            let message = format!("{selector}: no IOMMU confines that board, which a service does not drive");
            return Err(config(message, "switch the IOMMU on; akida-run and akida-ctl take such a board"));
        }
        let simulated = matches!(selector, Selector::Model(_));
        if !simulated && (!board.faults.is_empty() || board.real_time) {
            let message = format!("faults and real_time are for boards simulated in this process, not for {selector}");
            return Err(config(message, "leave them out"));
        }
        let faults = board.faults.parse().map_err(|e| config(format!("faults: {e}"), "docs/simulator.md has them"))?;
        let simulation = match simulated {
            true => Simulation {
                faults: (!board.faults.is_empty()).then_some(faults),
                real_time: board.real_time,
                threads: 1,
            },
            false => Simulation::default(),
        };
        let wanted = board.name.clone().unwrap_or_else(|| selector.to_string());
        if wanted.is_empty() || wanted.len() > 128 || wanted.chars().any(char::is_control) {
            return Err(config(format!("{wanted:?} is no name of a board"), "1 to 128 characters"));
        }
        let taken = |name: &str| boards.iter().any(|b| b.name == name);
        if board.name.is_some() && taken(&wanted) {
            return Err(config(format!("two boards are called {wanted:?}"), "give each a name of its own"));
        }
        if boards.iter().any(|b| b.selector == selector && !simulated) {
            return Err(config(format!("{selector} is named twice"), "a board has one owner"));
        }
        let names = (2..).map(|n| format!("{wanted}#{n}"));
        let name = std::iter::once(wanted.clone()).chain(names).find(|n| !taken(n)).unwrap_or(wanted);
        boards.push(BoardSettings { name, selector, simulation, timeout });
    }
    Ok(boards)
}
