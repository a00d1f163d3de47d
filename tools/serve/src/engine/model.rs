//! A version of a model in service: its network, what clients are told of it, and what it counted.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use akida_runtime::hybrid::{Elements, HybridModel, Port};
use akida_runtime::model::{Model, OnnxLayout};
use akida_tools::run::first_board;
use akida_tools::samples::{Normalize, read_names};
use serde::Deserialize;

use super::scheduler::{BoardId, ModelId};
use super::stats::Stats;
use crate::request::DataType;
use crate::service::{ModelInfo, TensorInfo};

/// The file beside a model's versions that says how to serve it: `model.toml`. Every key may be left out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelFile {
    /// Names of classes, one a line, for the classification extension. A file beside this one.
    pub labels: Option<String>,
    /// Most samples of a request, and of a batch.
    pub max_batch: Option<usize>,
    /// How long a request may wait for others of its batch, in milliseconds.
    pub batch_delay_ms: Option<f64>,
    /// Boards by name, in place of all boards of one kind.
    pub boards: Option<Vec<String>>,
    /// At most so many boards, in place of all.
    pub instances: Option<usize>,
    /// How many of the newest versions are served. 1 unless said.
    pub versions: Option<usize>,
    /// What happens to encoded images.
    pub image: Option<ImageFile>,
}

/// How encoded images become the network's input.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageFile {
    /// Images of another size are scaled; refused otherwise.
    pub resize: bool,
    /// `(pixel / 255 - mean) / std`, then the input quantizer; without, pixels enter the first layer as they are.
    pub mean: Vec<f32>,
    /// Deviations; as many as means, or one.
    pub std: Vec<f32>,
}

/// The same, checked.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// Names of classes.
    pub labels: Vec<String>,
    /// Most samples of a request, and of a batch.
    pub max_batch: usize,
    /// How long a request may wait for others of its batch.
    pub delay: Duration,
    /// Boards by name.
    pub boards: Option<Vec<String>>,
    /// At most so many.
    pub instances: Option<usize>,
    /// Versions served.
    pub versions: usize,
    /// Images of another size are scaled.
    pub resize: bool,
    /// Makes floats of pixels.
    pub normalize: Option<Normalize>,
}

/// What holds for models that say nothing themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelDefaults {
    /// Most samples of a request, and of a batch.
    pub max_batch: usize,
    /// How long a request may wait for others of its batch.
    pub delay: Duration,
}

/// Largest batch that can be asked for.
pub const MAX_BATCH: usize = 4096;

impl ModelOptions {
    /// What holds without a file.
    pub fn plain(defaults: ModelDefaults) -> Self {
        Self {
            labels: Vec::new(),
            max_batch: defaults.max_batch,
            delay: defaults.delay,
            boards: None,
            instances: None,
            versions: 1,
            resize: false,
            normalize: None,
        }
    }

    /// From the text of `file`.
    ///
    /// # Errors
    /// Says file, line, key, limit and value.
    pub fn read(file: &Path, text: &str, defaults: ModelDefaults) -> Result<Self, String> {
        let wrong = |what: String| format!("{}: {what}", file.display());
        let read: ModelFile = toml::from_str(text).map_err(|e| wrong(e.to_string().trim_end().to_owned()))?;
        let mut options = Self::plain(defaults);
        if let Some(labels) = &read.labels {
            // A name, not a way out of the folder.
            if Path::new(labels).components().count() != 1 || labels.starts_with('.') {
                return Err(wrong(format!("labels = {labels:?} is no file name: put the file beside model.toml")));
            }
            options.labels = read_names(&file.with_file_name(labels)).map_err(|e| wrong(e.message))?;
        }
        let ranged = |name: &str, value: Option<usize>, most: usize| match value {
            Some(v) if v == 0 || v > most => Err(wrong(format!("{name} = {v}; it goes from 1 to {most}"))),
            other => Ok(other),
        };
        options.max_batch = ranged("max_batch", read.max_batch, MAX_BATCH)?.unwrap_or(defaults.max_batch);
        options.instances = ranged("instances", read.instances, 1024)?;
        options.versions = ranged("versions", read.versions, 1024)?.unwrap_or(1);
        options.boards = read.boards;
        if let Some(ms) = read.batch_delay_ms {
            let delay = Duration::try_from_secs_f64(ms / 1e3).ok().filter(|d| d.as_secs() < 60);
            options.delay =
                delay.ok_or_else(|| wrong(format!("batch_delay_ms = {ms}; it goes from 0 to less than 60000")))?;
        }
        if let Some(image) = read.image {
            options.resize = image.resize;
            if !image.mean.is_empty() || !image.std.is_empty() {
                options.normalize = Some(Normalize::new(&image.mean, &image.std).map_err(|e| wrong(e.message))?);
            }
        }
        Ok(options)
    }
}

/// A version in service.
pub struct Served {
    /// Its number in the scheduler: a reload gets another.
    pub id: ModelId,
    /// Name.
    pub name: Arc<str>,
    /// Version.
    pub version: u32,
    /// The network.
    pub network: Arc<HybridModel>,
    /// How it is served.
    pub options: ModelOptions,
    /// Boards that have it.
    pub boards: Mutex<Vec<BoardId>>,
    /// What sort of board that is; empty when boards were named.
    pub kind: String,
    /// Samples of a request are a stream: temporal layers keep frames.
    pub stateful: bool,
    /// Counters since it was loaded.
    pub stats: Mutex<Stats>,
}

impl Served {
    /// The board part that takes the network's input, when nothing else does.
    pub fn first_board(&self) -> Option<&Model> {
        first_board(&self.network)
    }

    /// `name/version`, for logs and reports.
    pub fn label(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }

    /// What clients are told.
    pub fn info(&self, versions: Vec<u32>, devices: &[String]) -> ModelInfo {
        let mut parameters = vec![
            ("target".to_owned(), self.network.target.to_string()),
            ("devices".to_owned(), devices.join(", ")),
            ("parts".to_owned(), self.network.parts.len().to_string()),
        ];
        if let Some(model) = self.first_board() {
            parameters.push(("layout".to_owned(), layout(model.input.layout).to_owned()));
        }
        if self.stateful {
            parameters.push(("stateful".to_owned(), "each request is a stream of its own".to_owned()));
        }
        ModelInfo {
            name: self.name.to_string(),
            version: self.version,
            versions,
            ready: true,
            platform: "akida_akm".to_owned(),
            max_batch: self.options.max_batch,
            inputs: vec![self.input()],
            outputs: self.network.outputs.iter().map(output).collect(),
            parameters,
        }
    }

    fn input(&self) -> TensorInfo {
        let port = &self.network.input;
        let floats = (DataType::Fp32, batched(&port.dims[1..]));
        let Some(model) = self.first_board() else {
            return TensorInfo { name: port.name.clone(), datatype: floats.0, shape: floats.1, also: self.images() };
        };
        let tensor = &model.input.tensor;
        let raw = (if tensor.signed { DataType::Int8 } else { DataType::Uint8 }, batched(&tensor.shape));
        let mut all = if model.input.quantizer.is_some() { vec![floats, raw] } else { vec![raw] };
        all.extend(self.images());
        let (datatype, shape) = all.remove(0);
        TensorInfo { name: port.name.clone(), datatype, shape, also: all }
    }

    /// Encoded images, where the network takes pictures.
    fn images(&self) -> Vec<(DataType, Vec<i64>)> {
        let channels = akida_tools::samples::Expected::of(&self.network).shape[2];
        let raw = self.first_board().is_some_and(|m| !m.input.tensor.signed);
        let takes = matches!(channels, 1 | 3) && (raw || self.options.normalize.is_some());
        if takes { vec![(DataType::Bytes, vec![-1])] } else { Vec::new() }
    }
}

fn batched(dims: &[usize]) -> Vec<i64> {
    [-1].into_iter().chain(dims.iter().map(|&d| d as i64)).collect()
}

/// An output: floats, and its integers under another name where a board makes them (`NAME:raw`).
fn output(port: &Port) -> TensorInfo {
    let datatype = match port.elements {
        Elements::F32 => DataType::Fp32,
        Elements::I64 => DataType::Int64,
    };
    let rest = if port.dims.first() == Some(&1) { &port.dims[1..] } else { &port.dims[..] };
    TensorInfo { name: port.name.clone(), datatype, shape: batched(rest), also: Vec::new() }
}

fn layout(layout: OnnxLayout) -> &'static str {
    match layout {
        OnnxLayout::Nchw | OnnxLayout::NchwTurned => "nchw",
        OnnxLayout::Nhwc | OnnxLayout::NhwcTurned => "nhwc",
        OnnxLayout::Flat => "flat",
    }
}
