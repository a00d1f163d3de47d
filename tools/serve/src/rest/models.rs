//! Documents about the server and its models.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::parameters::{Parameters, Value};
use crate::error::ServeError;
use crate::request::DataType;
use crate::service::{IndexEntry, ModelInfo, ModelState, ModelStatistics, Tally, TensorInfo};
use crate::tensor::invalid;

/// `GET /v2`.
#[derive(Serialize)]
pub struct Server<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub extensions: &'a [&'a str],
}

/// `GET /v2/models/M`.
#[derive(Serialize)]
pub struct Metadata<'a> {
    name: &'a str,
    versions: Vec<String>,
    platform: &'a str,
    inputs: Vec<Tensor<'a>>,
    outputs: Vec<Tensor<'a>>,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [i64],
}

/// A model's metadata.
pub fn metadata(info: &ModelInfo) -> Metadata<'_> {
    fn tensors(all: &[TensorInfo]) -> Vec<Tensor<'_>> {
        all.iter().map(|t| Tensor { name: &t.name, datatype: t.datatype.as_str(), shape: &t.shape }).collect()
    }
    Metadata {
        name: &info.name,
        versions: info.versions.iter().map(u32::to_string).collect(),
        platform: &info.platform,
        inputs: tensors(&info.inputs),
        outputs: tensors(&info.outputs),
    }
}

/// What a model's configuration calls a type.
pub fn configuration_type(datatype: DataType) -> &'static str {
    match datatype {
        DataType::Fp32 => "TYPE_FP32",
        DataType::Uint8 => "TYPE_UINT8",
        DataType::Int8 => "TYPE_INT8",
        DataType::Int32 => "TYPE_INT32",
        DataType::Int64 => "TYPE_INT64",
        DataType::Bytes => "TYPE_STRING",
    }
}

/// What else is known of a model, as texts: its own parameters, and the other types its inputs take as `also.INPUT`:
/// `UINT8[-1,28,28,1] BYTES[-1]`.
pub fn parameters(info: &ModelInfo) -> Vec<(String, String)> {
    let mut all = info.parameters.clone();
    for input in info.inputs.iter().filter(|i| !i.also.is_empty()) {
        let form = |(datatype, shape): &(DataType, Vec<i64>)| {
            let dims: Vec<String> = shape.iter().map(i64::to_string).collect();
            format!("{datatype}[{}]", dims.join(","))
        };
        let forms: Vec<String> = input.also.iter().map(form).collect();
        all.push((format!("also.{}", input.name), forms.join(" ")));
    }
    all
}

/// `GET /v2/models/M/config`.
pub fn config(info: &ModelInfo) -> Json {
    let tensor = |t: &TensorInfo| json!({"name": t.name, "data_type": configuration_type(t.datatype), "dims": t.shape.get(1..).unwrap_or(&[])});
    let parameters: Map<String, Json> =
        parameters(info).into_iter().map(|(name, value)| (name, json!({"string_value": value}))).collect();
    json!({
        "name": info.name,
        "platform": info.platform,
        "backend": "akida",
        "max_batch_size": info.max_batch,
        "input": info.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "output": info.outputs.iter().map(tensor).collect::<Vec<_>>(),
        "parameters": parameters,
    })
}

/// `POST /v2/repository/index`.
#[derive(Default, Deserialize)]
pub struct IndexRequest {
    #[serde(default)]
    repository_name: String,
    #[serde(default)]
    ready: bool,
}

/// Versions of the one repository, which has no name.
pub fn index(all: &[IndexEntry], wanted: &IndexRequest) -> Json {
    let chosen = all
        .iter()
        .filter(|_| wanted.repository_name.is_empty())
        .filter(|e| !wanted.ready || e.state == ModelState::Ready)
        .map(|e| json!({"name": e.name, "version": e.version.to_string(), "state": e.state, "reason": e.reason}));
    chosen.collect()
}

/// `POST /v2/repository/models/M/load` and `unload`.
#[derive(Default, Deserialize)]
pub struct ControlRequest {
    #[serde(default)]
    parameters: Parameters,
}

impl ControlRequest {
    /// Refuses models and configurations that come with a request: no request reaches the file system.
    pub fn check(&self) -> Result<(), ServeError> {
        match self.parameters.names().find(|n| *n != "unload_dependents") {
            None => self.parameters.flag("unload_dependents").map(drop),
            Some(name) => Err(invalid(format!(
                "parameter '{}': models and their configuration come from the repository's folder only",
                crate::tensor::short(name)
            ))),
        }
    }
}

impl Parameters {
    /// Names of parameters that have a value.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries().filter(|(_, value)| !matches!(value, Value::Null(()))).map(|(name, _)| name)
    }
}

/// `GET .../stats`.
pub fn statistics(all: &[ModelStatistics]) -> Json {
    let none = Tally::default();
    let models = all.iter().map(|s| {
        let batches = s.batches.iter().map(|b| {
            json!({
                "batch_size": b.batch_size,
                "compute_input": b.compute_input,
                "compute_infer": b.compute_infer,
                "compute_output": b.compute_output,
            })
        });
        json!({
            "name": s.name,
            "version": s.version.to_string(),
            "last_inference": s.last_inference_ms,
            "inference_count": s.inference_count,
            "execution_count": s.execution_count,
            "inference_stats": {
                "success": s.success,
                "fail": s.fail,
                "queue": s.queue,
                "compute_input": s.compute_input,
                "compute_infer": s.compute_infer,
                "compute_output": s.compute_output,
                "cache_hit": none,
                "cache_miss": none,
                "cancel": s.cancel,
            },
            "batch_stats": batches.collect::<Vec<_>>(),
        })
    });
    json!({"model_stats": models.collect::<Vec<_>>()})
}
