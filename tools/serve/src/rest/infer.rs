//! Inference over HTTP: JSON, and the binary tensor extension both ways.

use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, HeaderName, Response};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::compress;
use super::parameters::{Parameters, Value};
use crate::error::{Kind, ServeError};
use crate::infer::{Pending, deadline, priority};
use crate::net::body::Collected;
use crate::net::{Caller, Shared};
use crate::request::{DataType, InferRequest, InferResponse, NamedTensor, RequestedOutput};
use crate::service::Service;
use crate::tensor::{self, invalid, short};

/// Where the JSON of a body ends and binary elements begin.
pub const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Larger bodies are taken apart beside the threads that move bytes.
const LARGE: usize = 256 << 10;

/// More inputs or outputs than any network has.
const MOST_TENSORS: usize = 256;

/// What a request names beside its body.
#[derive(Debug)]
pub struct Target {
    /// Model name.
    pub model: String,
    /// Version.
    pub version: Option<u32>,
    /// `?classification=N`: for all outputs that say nothing of it.
    pub classification: Option<usize>,
}

/// In what form a client wants its answer.
#[derive(Debug, PartialEq, Eq)]
struct Form {
    /// Outputs of which the client said whether they are binary.
    named: Vec<(String, bool)>,
    /// The others.
    binary: bool,
}

#[derive(Deserialize)]
struct Document<'a> {
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(default)]
    outputs: Option<Vec<Output>>,
}

#[derive(Deserialize)]
struct Input<'a> {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default)]
    parameters: Parameters,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

/// Answers `POST .../infer`.
pub async fn infer(
    shared: Arc<Shared>,
    caller: Caller,
    target: Target,
    headers: HeaderMap,
    body: Collected,
) -> Result<Response<Body>, ServeError> {
    let trace = crate::trace::parent(&headers).map(str::to_string);
    let most = shared.options.limits.body_bytes;
    let packed = compress::of_request(&headers)?;
    let length = header_length(&headers)?;
    let (large, service) = (body.bytes.len() > LARGE || packed.is_some(), shared.service.clone());
    let (mut ask, form, claim) = beside(large, move || {
        let body = match packed {
            Some(encoding) => compress::unpack(body, encoding, most)?,
            None => body,
        };
        let (request, form) = match length {
            Some(0) => raw(&*service, &target, body.bytes)?,
            length => parse(&target, body.bytes, length)?,
        };
        Ok((with_classes(&*service, request, target.classification)?, form, body.claim))
    })
    .await?;
    ask.client = caller.name;
    ask.trace = trace;
    let answer = Pending::submit(&*shared.service, ask).answer().await?;
    let large = answer.outputs.iter().map(|o| o.data.len()).sum::<usize>() > LARGE;
    let response = beside(large, move || encode(&answer, &form, &headers)).await;
    // Until here the memory of the body is counted.
    drop(claim);
    response
}

/// Runs work beside the threads that move bytes when it is `large`.
async fn beside<T: Send + 'static>(
    large: bool,
    work: impl FnOnce() -> Result<T, ServeError> + Send + 'static,
) -> Result<T, ServeError> {
    if !large {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(ServeError::new(Kind::Internal, format!("a request could not be taken apart: {e}"))),
    }
}

fn header_length(headers: &HeaderMap) -> Result<Option<usize>, ServeError> {
    let Some(value) = headers.get(&HEADER_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|v| v.trim().parse().ok());
    length
        .map(Some)
        .ok_or_else(|| invalid(format!("{HEADER_LENGTH} is {value:?}; it is the length of the JSON in bytes")))
}

/// Takes a body apart: JSON of `length` bytes (all of it, when none is said), then binary elements in the order of inputs.
fn parse(target: &Target, body: Bytes, length: Option<usize>) -> Result<(InferRequest, Form), ServeError> {
    let length = length.unwrap_or(body.len());
    if length > body.len() {
        return Err(invalid(format!("{HEADER_LENGTH} is {length}, the body has {} bytes", body.len())));
    }
    let document: Document = serde_json::from_slice(&body[..length])
        .map_err(|e| invalid(format!("the request is no inference request in JSON: {e}")))?;
    let outputs = document.outputs.unwrap_or_default();
    if document.inputs.len().max(outputs.len()) > MOST_TENSORS {
        return Err(invalid(format!("more than {MOST_TENSORS} inputs or outputs")));
    }
    refuse_unknown(&document.parameters, &["sequence_id", "sequence_start", "sequence_end"])?;
    let mut at = length;
    let mut inputs = Vec::with_capacity(document.inputs.len());
    for input in &document.inputs {
        inputs.push(read_input(input, &body, &mut at)?);
    }
    if at != body.len() {
        let message = format!(
            "{} bytes follow the JSON, inputs take {} by their binary_data_size",
            body.len() - length,
            at - length
        );
        return Err(invalid(message));
    }
    let parameters = &document.parameters;
    let mut form = Form { named: Vec::new(), binary: parameters.flag("binary_data_output")?.unwrap_or(false) };
    let mut requested = Vec::with_capacity(outputs.len());
    for output in outputs {
        refuse_unknown(&output.parameters, &["shared_memory_region"])?;
        if let Some(binary) = output.parameters.flag("binary_data")? {
            form.named.push((output.name.clone(), binary));
        }
        let classes = output.parameters.unsigned("classification")?.or(target.classification.map(|n| n as u64));
        requested.push(RequestedOutput { name: output.name, classification: classification(classes)? });
    }
    let request = InferRequest {
        model: target.model.clone(),
        version: target.version,
        id: document.id.unwrap_or_default(),
        client: String::new(),
        inputs,
        outputs: requested,
        priority: priority(parameters.unsigned("priority")?)?,
        deadline: deadline(parameters.unsigned("timeout")?),
        trace: None,
    };
    Ok((request, form))
}

/// Refuses parameters whose meaning would be lost.
fn refuse_unknown(parameters: &Parameters, names: &[&str]) -> Result<(), ServeError> {
    for name in names {
        match parameters.get(name) {
            None | Some(Value::Null(()) | Value::Bool(false) | Value::Integer(0)) => {}
            Some(_) => return Err(invalid(format!("parameter '{name}': this service has no such extension"))),
        }
    }
    Ok(())
}

fn read_input(input: &Input, body: &Bytes, at: &mut usize) -> Result<NamedTensor, ServeError> {
    let name = short(&input.name);
    refuse_unknown(&input.parameters, &["shared_memory_region"])?;
    let datatype = tensor::datatype(&input.name, &input.datatype)?;
    let (shape, count) = tensor::shape(&input.name, &input.shape)?;
    let data = match (input.parameters.unsigned("binary_data_size")?, input.data) {
        (Some(_), Some(_)) => {
            return Err(invalid(format!("input '{name}' has data and binary_data_size; one of them")));
        }
        (None, None) => return Err(invalid(format!("input '{name}' has neither data nor binary_data_size"))),
        (None, Some(data)) => tensor::from_json(&input.name, datatype, count, data.get())?,
        (Some(size), None) => {
            let end = usize::try_from(size).ok().and_then(|size| at.checked_add(size)).filter(|&end| end <= body.len());
            let Some(end) = end else {
                let left = body.len() - *at;
                return Err(invalid(format!(
                    "input '{name}': binary_data_size is {size}, {left} bytes are left in the body"
                )));
            };
            let data = body.slice(*at..end);
            *at = end;
            tensor::check(&input.name, datatype, count, &data)?;
            data
        }
    };
    Ok(NamedTensor { name: input.name.clone(), datatype, shape, data })
}

fn classification(classes: Option<u64>) -> Result<usize, ServeError> {
    let classes = classes.unwrap_or(0);
    usize::try_from(classes)
        .ok()
        .filter(|&n| n <= 1 << 20)
        .ok_or_else(|| invalid(format!("classification {classes}: no output has so many classes")))
}

/// A body without JSON (`Inference-Header-Content-Length: 0`): the elements of a model's only input.
fn raw(service: &dyn Service, target: &Target, body: Bytes) -> Result<(InferRequest, Form), ServeError> {
    let info = service.model(&target.model, target.version)?;
    let [input] = &info.inputs[..] else {
        let message =
            format!("a body without JSON is for models of one input, '{}' has {}", info.name, info.inputs.len());
        return Err(invalid(message));
    };
    let dims = input.shape.iter().skip(1).map(|&d| usize::try_from(d).unwrap_or(0));
    let sample = input.datatype.size().map(|size| size * dims.clone().product::<usize>()).filter(|&n| n > 0);
    let binary = Form { named: Vec::new(), binary: true };
    if let Some(batch) = sample.filter(|n| !body.is_empty() && body.len().is_multiple_of(*n)).map(|n| body.len() / n) {
        let shape = std::iter::once(batch).chain(dims).collect();
        return Ok((
            request(target, NamedTensor { name: input.name.clone(), datatype: input.datatype, shape, data: body }),
            binary,
        ));
    }
    if input.datatype == DataType::Bytes || input.also.iter().any(|(datatype, _)| *datatype == DataType::Bytes) {
        // An encoded image has any length.
        let mut data = BytesMut::with_capacity(body.len() + 4);
        tensor::push_string(&mut data, &body);
        let (datatype, data) = (DataType::Bytes, data.freeze());
        return Ok((request(target, NamedTensor { name: input.name.clone(), datatype, shape: vec![1], data }), binary));
    }
    Err(invalid(format!(
        "{} bytes are no batch of input '{}' ({} {:?})",
        body.len(),
        input.name,
        input.datatype,
        input.shape
    )))
}

/// A request of one input and nothing else.
fn request(target: &Target, input: NamedTensor) -> InferRequest {
    InferRequest {
        model: target.model.clone(),
        version: target.version,
        id: String::new(),
        client: String::new(),
        inputs: vec![input],
        outputs: Vec::new(),
        priority: 0,
        deadline: None,
        trace: None,
    }
}

/// `?classification=N` with no outputs named: all of them.
fn with_classes(
    service: &dyn Service,
    mut request: InferRequest,
    classes: Option<usize>,
) -> Result<InferRequest, ServeError> {
    if let (Some(classes), true) = (classes, request.outputs.is_empty()) {
        let info = service.model(&request.model, request.version)?;
        let named = |o: &crate::service::TensorInfo| RequestedOutput { name: o.name.clone(), classification: classes };
        request.outputs = info.outputs.iter().map(named).collect();
    }
    Ok(request)
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    model_name: &'a str,
    model_version: String,
    parameters: AnswerParameters<'a>,
    outputs: Vec<AnswerOutput<'a>>,
}

#[derive(Serialize)]
struct AnswerParameters<'a> {
    device: &'a str,
}

#[derive(Serialize)]
struct AnswerOutput<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Binary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Elements<'a>>,
}

#[derive(Serialize)]
struct Binary {
    binary_data_size: usize,
}

struct Elements<'a>(&'a NamedTensor);

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        tensor::to_json(self.0, to)
    }
}

/// Makes the answer: JSON, and behind it the elements of outputs the client wants in binary.
fn encode(answer: &InferResponse, form: &Form, headers: &HeaderMap) -> Result<Response<Body>, ServeError> {
    let binary = |o: &NamedTensor| form.named.iter().find(|(name, _)| *name == o.name).map_or(form.binary, |(_, b)| *b);
    let outputs = answer.outputs.iter().map(|output| AnswerOutput {
        name: &output.name,
        datatype: output.datatype.as_str(),
        shape: &output.shape,
        parameters: binary(output).then_some(Binary { binary_data_size: output.data.len() }),
        data: (!binary(output)).then_some(Elements(output)),
    });
    let document = Answer {
        id: &answer.id,
        model_name: &answer.model,
        model_version: answer.version.to_string(),
        parameters: AnswerParameters { device: &answer.device },
        outputs: outputs.collect(),
    };
    let mut bytes = serde_json::to_vec(&document).map_err(|e| invalid(e.to_string()))?;
    let mut response = Response::new(Body::empty());
    let of_headers = response.headers_mut();
    let any_binary = answer.outputs.iter().any(binary);
    if any_binary {
        of_headers.insert(HEADER_LENGTH, HeaderValue::from(bytes.len()));
        bytes.reserve(answer.outputs.iter().map(|o| o.data.len()).sum());
        for output in answer.outputs.iter().filter(|o| binary(o)) {
            bytes.extend_from_slice(&output.data);
        }
    }
    let content = if any_binary { "application/octet-stream" } else { "application/json" };
    of_headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    let bytes = match compress::of_answer(headers, bytes.len()) {
        None => bytes.into(),
        Some(encoding) => {
            of_headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.as_str()));
            compress::pack(&bytes, encoding)
                .map_err(|e| ServeError::new(Kind::Internal, format!("cannot pack the answer: {e}")))?
        }
    };
    *response.body_mut() = Body::from(bytes);
    Ok(response)
}
