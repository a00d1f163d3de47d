//! Arguments of `akida-bench`.

use std::path::PathBuf;
use std::time::Duration;

use akida_tools::command::Common;
use akida_tools::exit::{Exit, Failure};
use clap::{Parser, ValueEnum};

/// Load a service that speaks Open Inference Protocol v2, and tell how long inferences took.
#[derive(Clone, Debug, Parser)]
#[command(name = "akida-bench", version, max_term_width = 100)]
pub struct Args {
    /// Service: http://HOST:PORT or grpc://HOST:PORT; with TLS https://HOST:PORT or grpcs://HOST:PORT
    pub url: String,
    /// Model
    pub model: String,
    /// Its version; the newest unless said
    #[arg(long, default_value = "", hide_default_value = true, value_name = "N")]
    pub model_version: String,
    /// Samples of a request
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Type of the input, where the model takes several: FP32, UINT8, INT8
    #[arg(long, value_name = "TYPE")]
    pub datatype: Option<String>,
    /// Clients that ask at the same time; in an open loop the most that may wait for an answer
    #[arg(short, long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10000))]
    pub concurrency: u16,
    /// Open loop: requests a second that begin when they are due, answered or not
    #[arg(short, long, value_name = "N")]
    pub rate: Option<f64>,
    /// How an open loop spaces its requests
    #[arg(long, default_value = "constant")]
    pub arrivals: Arrivals,
    /// How long to measure
    #[arg(short, long, default_value_t = 5.0, value_name = "S")]
    pub seconds: f64,
    /// How long to ask before that
    #[arg(long, default_value_t = 1.0, value_name = "S")]
    pub warmup: f64,
    /// Time-out of a request, told to the service
    #[arg(long, default_value_t = 30.0, value_name = "S")]
    pub timeout: f64,
    /// gRPC: one stream of inferences for each client instead of single calls
    #[arg(long)]
    pub stream: bool,
    /// HTTP: elements as JSON instead of the binary extension
    #[arg(long)]
    pub json: bool,
    /// TLS: file in PEM with the authority that the service's certificate is from
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// File with a bearer token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// What goes to standard output
    #[arg(long, default_value = "text")]
    pub format: Format,
    /// Messages
    #[command(flatten)]
    pub common: Common,
}

/// How requests of an open loop follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// At equal distances.
    Constant,
    /// At random, as those of many clients that know nothing of each other.
    Poisson,
}

/// What standard output carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// Longest measurement.
const LONGEST: f64 = 24.0 * 3600.0;

impl Args {
    /// Refuses what nothing could be measured with.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let usage = |message: String, help: String| Err(Failure::new(Exit::Usage, message, help));
        for (name, value, least) in
            [("--seconds", self.seconds, 0.01), ("--warmup", self.warmup, 0.0), ("--timeout", self.timeout, 0.001)]
        {
            if !(value >= least && value <= LONGEST) {
                return usage(format!("{name} {value} is no time to measure"), format!("{least} to {LONGEST} seconds"));
            }
        }
        if let Some(rate) = self.rate.filter(|r| !(*r > 0.0 && *r <= 1e6)) {
            return usage(format!("--rate {rate}"), "more than 0, at most 1000000 requests a second".into());
        }
        let grpc = self.url.starts_with("grpc://") || self.url.starts_with("grpcs://");
        match (grpc, self.stream, self.json) {
            (false, true, _) => usage("--stream is for grpc:// and grpcs://".into(), "leave it out for HTTP".into()),
            (true, _, true) => usage("--json is for http:// and https://".into(), "leave it out for gRPC".into()),
            _ => Ok(()),
        }
    }

    /// The token of `--token-file`.
    pub(super) fn token(&self) -> Result<Option<String>, Failure> {
        let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(|e| Failure::input(path, &e));
        let token = self.token_file.as_ref().map(read).transpose()?;
        Ok(token.map(|t| format!("Bearer {}", t.trim())))
    }

    /// Time-out of a request.
    pub(super) fn time_limit(&self) -> Duration {
        Duration::from_secs_f64(self.timeout)
    }
}
