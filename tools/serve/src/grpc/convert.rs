//! Messages to requests, and responses to messages.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tonic::metadata::MetadataMap;

use crate::error::ServeError;
use crate::infer::{deadline, earlier, priority, version};
use crate::proto::inference as proto;
use crate::proto::inference::infer_parameter::ParameterChoice as Choice;
use crate::request::{DataType, InferRequest, InferResponse, NamedTensor, RequestedOutput};
use crate::service::{ModelStatistics, Tally, TensorInfo};
use crate::tensor::{self, invalid, short};

type Parameters = HashMap<String, proto::InferParameter>;

/// More inputs or outputs than any network has.
const MOST_TENSORS: usize = 256;

/// What a call tells beside its message.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Who calls.
    pub client: String,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// The trace it belongs to.
    pub trace: Option<String>,
}

impl Context {
    /// From the head of a call.
    pub fn new(client: String, metadata: &MetadataMap) -> Self {
        let text = |name: &str| metadata.get(name).and_then(|v| v.to_str().ok());
        Self {
            client,
            deadline: text("grpc-timeout").and_then(timeout).and_then(|t| Instant::now().checked_add(t)),
            trace: text("traceparent").filter(|t| crate::trace::is_valid(t)).map(str::to_string),
        }
    }
}

/// gRPC's time-out: at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// A number that is at least 0.
fn unsigned(parameters: &Parameters, name: &str) -> Result<Option<u64>, ServeError> {
    let Some(choice) = parameters.get(name).and_then(|p| p.parameter_choice.as_ref()) else { return Ok(None) };
    let found = match choice {
        Choice::Int64Param(n) => u64::try_from(*n).ok(),
        Choice::Uint64Param(n) => Some(*n),
        Choice::StringParam(text) => text.parse().ok(),
        Choice::BoolParam(_) | Choice::DoubleParam(_) => None,
    };
    found.map(Some).ok_or_else(|| {
        invalid(format!("parameter '{name}' is {}; it is a whole number, 0 or more", short(&format!("{choice:?}"))))
    })
}

/// Refuses parameters whose meaning would be lost.
fn refuse(parameters: &Parameters, names: &[&str]) -> Result<(), ServeError> {
    for name in names {
        match parameters.get(*name).and_then(|p| p.parameter_choice.as_ref()) {
            None | Some(Choice::BoolParam(false) | Choice::Int64Param(0)) => {}
            Some(Choice::StringParam(text)) if text.is_empty() => {}
            Some(_) => return Err(invalid(format!("parameter '{name}': this service has no such extension"))),
        }
    }
    Ok(())
}

/// Bytes of a request's elements, for the memory they are counted against.
pub fn size(request: &proto::ModelInferRequest) -> usize {
    let raw: usize = request.raw_input_contents.iter().map(Bytes::len).sum();
    let typed = request.inputs.iter().filter_map(|i| i.contents.as_ref()).map(|c| {
        let strings: usize = c.bytes_contents.iter().map(Bytes::len).sum();
        let four = c.int_contents.len() + c.uint_contents.len() + c.fp32_contents.len();
        strings + 4 * four + 8 * c.int64_contents.len()
    });
    raw + typed.sum::<usize>()
}

/// A message as a request.
///
/// # Errors
///
/// [`crate::error::Kind::Invalid`].
pub fn request(message: proto::ModelInferRequest, context: &Context) -> Result<InferRequest, ServeError> {
    if message.inputs.len().max(message.outputs.len()) > MOST_TENSORS {
        return Err(invalid(format!("more than {MOST_TENSORS} inputs or outputs")));
    }
    refuse(&message.parameters, &["sequence_id", "sequence_start", "sequence_end"])?;
    let raw = message.raw_input_contents;
    if !raw.is_empty() && raw.len() != message.inputs.len() {
        let message = format!("{} raw_input_contents for {} inputs; one for each", raw.len(), message.inputs.len());
        return Err(invalid(message));
    }
    let mut inputs = Vec::with_capacity(message.inputs.len());
    for (index, input) in message.inputs.into_iter().enumerate() {
        refuse(&input.parameters, &["shared_memory_region"])?;
        let datatype = tensor::datatype(&input.name, &input.datatype)?;
        let (shape, count) = tensor::shape(&input.name, &input.shape)?;
        let data = match (raw.get(index), input.contents) {
            (Some(_), Some(_)) => {
                let message =
                    format!("input '{}' has contents beside raw_input_contents; one of them", short(&input.name));
                return Err(invalid(message));
            }
            (Some(data), None) => data.clone(),
            (None, Some(contents)) => typed(&input.name, datatype, contents)?,
            (None, None) if count == 0 => Bytes::new(),
            (None, None) => return Err(invalid(format!("input '{}' has no contents", short(&input.name)))),
        };
        tensor::check(&input.name, datatype, count, &data)?;
        inputs.push(NamedTensor { name: input.name, datatype, shape, data });
    }
    let mut outputs = Vec::with_capacity(message.outputs.len());
    for output in message.outputs {
        refuse(&output.parameters, &["shared_memory_region"])?;
        let classes = unsigned(&output.parameters, "classification")?.unwrap_or(0);
        let classification = usize::try_from(classes).ok().filter(|&n| n <= 1 << 20);
        let classification = classification
            .ok_or_else(|| invalid(format!("classification {classes}: no output has so many classes")))?;
        outputs.push(RequestedOutput { name: output.name, classification });
    }
    Ok(InferRequest {
        version: version(&message.model_version)?,
        model: message.model_name,
        id: message.id,
        client: context.client.clone(),
        inputs,
        outputs,
        priority: priority(unsigned(&message.parameters, "priority")?)?,
        deadline: earlier(deadline(unsigned(&message.parameters, "timeout")?), context.deadline),
        trace: context.trace.clone(),
    })
}

/// Elements of typed contents, as bytes.
fn typed(name: &str, datatype: DataType, contents: proto::InferTensorContents) -> Result<Bytes, ServeError> {
    let name = short(name);
    let outside = |v: i64| invalid(format!("input '{name}': {v} is outside {datatype}"));
    let c = contents;
    let lists = [
        ("bool_contents", c.bool_contents.len()),
        ("int_contents", c.int_contents.len()),
        ("int64_contents", c.int64_contents.len()),
        ("uint_contents", c.uint_contents.len()),
        ("uint64_contents", c.uint64_contents.len()),
        ("fp32_contents", c.fp32_contents.len()),
        ("fp64_contents", c.fp64_contents.len()),
        ("bytes_contents", c.bytes_contents.len()),
    ];
    let own = match datatype {
        DataType::Fp32 => "fp32_contents",
        DataType::Uint8 => "uint_contents",
        DataType::Int8 | DataType::Int32 => "int_contents",
        DataType::Int64 => "int64_contents",
        DataType::Bytes => "bytes_contents",
    };
    if let Some((other, _)) = lists.iter().find(|(list, len)| *len > 0 && *list != own) {
        return Err(invalid(format!("input '{name}' has {other}; {datatype} comes in {own}")));
    }
    Ok(match datatype {
        DataType::Fp32 => c.fp32_contents.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::Int32 => c.int_contents.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::Int64 => c.int64_contents.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DataType::Uint8 => {
            let byte = |&v: &u32| u8::try_from(v).map_err(|_| outside(v.into()));
            c.uint_contents.iter().map(byte).collect::<Result<Vec<u8>, _>>()?.into()
        }
        DataType::Int8 => {
            let byte = |&v: &i32| i8::try_from(v).map(|v| v as u8).map_err(|_| outside(v.into()));
            c.int_contents.iter().map(byte).collect::<Result<Vec<u8>, _>>()?.into()
        }
        DataType::Bytes => {
            let mut out = BytesMut::new();
            for string in &c.bytes_contents {
                tensor::push_string(&mut out, string);
            }
            out.freeze()
        }
    })
}

/// A parameter of text.
pub fn text(value: &str) -> proto::InferParameter {
    proto::InferParameter { parameter_choice: Some(Choice::StringParam(value.to_string())) }
}

/// A response as a message.
pub fn response(answer: InferResponse) -> proto::ModelInferResponse {
    let mut message = proto::ModelInferResponse {
        model_name: answer.model,
        model_version: answer.version.to_string(),
        id: answer.id,
        parameters: HashMap::from([("device".to_string(), text(&answer.device))]),
        ..Default::default()
    };
    for output in answer.outputs {
        message.outputs.push(proto::model_infer_response::InferOutputTensor {
            name: output.name,
            datatype: output.datatype.to_string(),
            shape: output.shape.iter().map(|&d| d as i64).collect(),
            ..Default::default()
        });
        message.raw_output_contents.push(output.data);
    }
    message
}

/// A tensor's metadata.
pub fn tensor_metadata(info: &TensorInfo) -> proto::model_metadata_response::TensorMetadata {
    proto::model_metadata_response::TensorMetadata {
        name: info.name.clone(),
        datatype: info.datatype.to_string(),
        shape: info.shape.clone(),
    }
}

/// What a configuration calls a type.
pub fn configuration_type(datatype: DataType) -> i32 {
    let datatype = match datatype {
        DataType::Fp32 => proto::DataType::TypeFp32,
        DataType::Uint8 => proto::DataType::TypeUint8,
        DataType::Int8 => proto::DataType::TypeInt8,
        DataType::Int32 => proto::DataType::TypeInt32,
        DataType::Int64 => proto::DataType::TypeInt64,
        DataType::Bytes => proto::DataType::TypeString,
    };
    datatype as i32
}

fn duration(tally: Tally) -> Option<proto::StatisticDuration> {
    Some(proto::StatisticDuration { count: tally.count, ns: tally.ns })
}

/// A version's counters.
pub fn statistics(s: ModelStatistics) -> proto::ModelStatistics {
    let batches = s.batches.iter().map(|b| proto::InferBatchStatistics {
        batch_size: b.batch_size,
        compute_input: duration(b.compute_input),
        compute_infer: duration(b.compute_infer),
        compute_output: duration(b.compute_output),
    });
    proto::ModelStatistics {
        batch_stats: batches.collect(),
        name: s.name,
        version: s.version.to_string(),
        last_inference: s.last_inference_ms,
        inference_count: s.inference_count,
        execution_count: s.execution_count,
        inference_stats: Some(proto::InferStatistics {
            success: duration(s.success),
            fail: duration(s.fail),
            queue: duration(s.queue),
            compute_input: duration(s.compute_input),
            compute_infer: duration(s.compute_infer),
            compute_output: duration(s.compute_output),
            cache_hit: duration(Tally::default()),
            cache_miss: duration(Tally::default()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_callers_wait() {
        for (text, want) in [
            ("1S", Some(Duration::from_secs(1))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("5u", Some(Duration::from_micros(5))),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("1", None),
            ("-1S", None),
            ("1é", None),
        ] {
            assert_eq!(timeout(text), want, "{text}");
        }
    }
}
