//! The command line.

use std::path::PathBuf;

use akida_tools::command::Common;
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use super::file::File;

/// Serve models on Akida boards to the network: Open Inference Protocol v2 over HTTP and gRPC
#[derive(Clone, Debug, Parser)]
#[command(name = "akida-serve", version)]
pub struct Args {
    /// Configuration file; flags go before it
    #[arg(short, long, value_name = "FILE", env = "AKIDA_SERVE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder of models: NAME/VERSION/model.akm
    #[arg(short, long, value_name = "DIR")]
    pub repository: Option<PathBuf>,
    /// A board: sim:akida2, 03:00.0, vfio-user:SOCKET. Give one --device for each
    #[arg(short, long, value_name = "BOARD")]
    pub device: Vec<String>,
    /// Address for HTTP/REST: ADDR:PORT or unix:PATH; may be given again
    #[arg(long, value_name = "ADDR")]
    pub http: Vec<String>,
    /// Address for gRPC; the same as one of --http speaks both
    #[arg(long, value_name = "ADDR")]
    pub grpc: Vec<String>,
    /// Address for metrics and the status page
    #[arg(long, value_name = "ADDR")]
    pub metrics: Vec<String>,
    /// Which models are served: those in the folder, or those that are asked for
    #[arg(long, value_name = "MODE")]
    pub model_control: Option<Control>,
    /// With --model-control explicit: loaded at the start; may be given again
    #[arg(long, value_name = "NAME")]
    pub load_model: Vec<String>,
    /// How logs are written
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Check the configuration and end
    #[arg(long)]
    pub check_config: bool,
    /// Print the configuration that holds, with all defaults, and end
    #[arg(long)]
    pub print_config: bool,
    /// Messages.
    #[command(flatten)]
    pub common: Common,
}

/// Which models are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Control {
    /// What is in the repository's folder, as it changes
    #[default]
    Poll,
    /// What is asked for by the protocol's load and unload
    Explicit,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text for people and journald
    #[default]
    Text,
    /// A JSON object a line
    Json,
}

impl Args {
    /// Puts the flags before what the file says.
    pub fn apply(&self, file: &mut File) {
        fn replace<T: Clone>(to: &mut Vec<T>, from: &[T]) {
            if !from.is_empty() {
                *to = from.to_vec();
            }
        }
        if let Some(repository) = &self.repository {
            file.repository = Some(repository.clone());
        }
        if !self.device.is_empty() {
            file.board.clear();
        }
        replace(&mut file.device, &self.device);
        replace(&mut file.http, &self.http);
        replace(&mut file.grpc, &self.grpc);
        replace(&mut file.metrics, &self.metrics);
        replace(&mut file.models.load, &self.load_model);
        file.models.control = self.model_control.unwrap_or(file.models.control);
        file.log = self.log_format.unwrap_or(file.log);
    }
}
