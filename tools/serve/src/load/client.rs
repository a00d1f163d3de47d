//! Clients of the two protocols, and what they ask.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use akida_tools::exit::{Exit, Failure};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::args::Args;
use super::connect::Road;
use crate::proto::inference as proto;
use crate::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use crate::request::{DataType, NamedTensor};
use crate::rest::HEADER_LENGTH;
use crate::tensor;

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether it is gRPC.
    pub grpc: bool,
    /// Whether it is behind TLS.
    pub tls: bool,
    /// `HOST:PORT`.
    pub authority: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let schemes =
            [("http://", false, false), ("grpc://", true, false), ("https://", false, true), ("grpcs://", true, true)];
        let found = schemes.iter().find_map(|&(scheme, grpc, tls)| Some((grpc, tls, text.strip_prefix(scheme)?)));
        let Some((grpc, tls, rest)) = found else {
            return Err(format!("{text:?} begins with neither http:// nor grpc://, nor https:// or grpcs:// for TLS"));
        };
        let authority = rest.trim_end_matches('/');
        let port = authority.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        match port {
            Some((host, _)) if !host.is_empty() && !authority.contains('/') => {
                Ok(Url { grpc, tls, authority: authority.to_string() })
            }
            _ => Err(format!("{text:?} has no host and port")),
        }
    }
}

/// A service, a model on it, and the request that is sent again and again.
#[derive(Clone)]
pub struct Target {
    url: Url,
    road: Road,
    token: Option<String>,
    path: String,
    head_length: Option<usize>,
    body: Bytes,
    message: proto::ModelInferRequest,
    time_limit: Duration,
    stream: bool,
    /// What is sent, in words.
    pub input: String,
}

impl Target {
    /// Asks what the model takes, and makes the request: random elements, the same on every run.
    pub async fn find(args: &Args, url: Url, token: Option<String>) -> Result<Self, Failure> {
        let version =
            if args.model_version.is_empty() { String::new() } else { format!("/versions/{}", args.model_version) };
        let base = format!("/v2/models/{}{version}", args.model);
        let road = Road::new(&url, args.ca.as_deref())?;
        let mut target = Self {
            url,
            road,
            token,
            path: format!("{base}/infer"),
            head_length: None,
            body: Bytes::new(),
            message: proto::ModelInferRequest::default(),
            time_limit: args.time_limit(),
            stream: args.stream,
            input: String::new(),
        };
        let inputs =
            if target.url.grpc { target.inputs_by_grpc(args).await? } else { target.inputs_by_http(&base).await? };
        let mut tensors = Vec::new();
        for (name, forms) in &inputs {
            let wanted = args.datatype.as_deref();
            let Some((datatype, shape)) = forms.iter().find(|(d, _)| wanted.is_none_or(|w| w.eq_ignore_ascii_case(d)))
            else {
                let known: Vec<&str> = forms.iter().map(|(d, _)| d.as_str()).collect();
                let message = format!("input '{name}' is not taken as {}", wanted.unwrap_or(""));
                return Err(Failure::new(Exit::Usage, message, format!("it takes {}", known.join(", "))));
            };
            tensors.push(random(name, datatype, shape, args.batch)?);
        }
        let texts: Vec<String> = tensors.iter().map(|t| format!("{} {} {:?}", t.name, t.datatype, t.shape)).collect();
        target.input = texts.join(", ");
        target.message = message(args, &tensors);
        (target.body, target.head_length) = body(args, &tensors);
        Ok(target)
    }

    async fn inputs_by_http(&self, base: &str) -> Result<Vec<Input>, Failure> {
        let mut client = Http::connect(self).await.map_err(|e| self.unreachable(&e))?;
        let metadata = client.document(self, base).await.map_err(|e| self.refused(&e))?;
        // Other servers may have no configuration.
        let config = client.document(self, &format!("{base}/config")).await.unwrap_or_default();
        let inputs = metadata["inputs"].as_array().cloned().unwrap_or_default();
        let input = |i: &Value| {
            let name = i["name"].as_str()?.to_string();
            let dims = i["shape"].as_array()?.iter().map(|d| d.as_i64()).collect::<Option<Vec<_>>>()?;
            let also = config["parameters"][format!("also.{name}")]["string_value"].as_str().unwrap_or("");
            let mut forms = vec![(i["datatype"].as_str()?.to_string(), dims)];
            forms.extend(others(also));
            Some((name, forms))
        };
        inputs
            .iter()
            .map(input)
            .collect::<Option<Vec<_>>>()
            .filter(|i| !i.is_empty())
            .ok_or_else(|| self.refused("no inputs in its metadata"))
    }

    async fn inputs_by_grpc(&self, args: &Args) -> Result<Vec<Input>, Failure> {
        let channel = self.channel().await.map_err(|e| self.unreachable(&e))?;
        let mut client = GrpcInferenceServiceClient::new(channel);
        let (name, version) = (args.model.clone(), args.model_version.clone());
        let asked = proto::ModelMetadataRequest { name: name.clone(), version: version.clone() };
        let metadata =
            client.model_metadata(self.call(asked)).await.map_err(|e| self.refused(e.message()))?.into_inner();
        let config = client.model_config(self.call(proto::ModelConfigRequest { name, version })).await;
        let parameters = config.ok().and_then(|c| c.into_inner().config).map(|c| c.parameters).unwrap_or_default();
        let input = |i: &proto::model_metadata_response::TensorMetadata| {
            let also = parameters.get(&format!("also.{}", i.name)).map_or("", |p| p.string_value.as_str());
            let mut forms = vec![(i.datatype.clone(), i.shape.clone())];
            forms.extend(others(also));
            (i.name.clone(), forms)
        };
        Ok(metadata.inputs.iter().map(input).collect())
    }

    fn unreachable(&self, error: &str) -> Failure {
        let message = format!("no service at {}: {error}", self.url.authority);
        Failure::new(Exit::Unavailable, message, "check that it runs and listens there")
    }

    fn refused(&self, error: &str) -> Failure {
        Failure::new(
            Exit::Unavailable,
            format!("the service at {} said: {error}", self.url.authority),
            "check the model's name",
        )
    }

    /// A connection for gRPC.
    pub async fn channel(&self) -> Result<Channel, String> {
        let endpoint = Endpoint::new(format!("http://{}", self.url.authority)).map_err(|e| e.to_string())?;
        let endpoint = endpoint.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
        // TLS, where there is some, is the connection's.
        let road = self.road.clone();
        let connect = tower::service_fn(move |_| {
            let road = road.clone();
            async move { road.connect().await.map(TokioIo::new) }
        });
        endpoint.connect_with_connector(connect).await.map_err(|e| akida_tools::exit::chain(&e))
    }

    /// Whether it speaks gRPC.
    pub fn is_grpc(&self) -> bool {
        self.url.grpc
    }

    fn call<T>(&self, message: T) -> tonic::Request<T> {
        let mut call = tonic::Request::new(message);
        if let Some(token) = self.token.as_deref().and_then(|t| t.parse().ok()) {
            call.metadata_mut().insert("authorization", token);
        }
        call
    }
}

/// Name, and types with their shapes.
type Input = (String, Vec<(String, Vec<i64>)>);

/// `UINT8[-1,28,28,1] BYTES[-1]`, without strings.
fn others(text: &str) -> Vec<(String, Vec<i64>)> {
    let form = |item: &str| {
        let (datatype, dims) = item.strip_suffix(']')?.split_once('[')?;
        let dims = dims.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
        (datatype != "BYTES").then(|| (datatype.to_string(), dims))
    };
    text.split_whitespace().filter_map(form).collect()
}

/// A tensor of elements that look random and are the same on every run: floats of [0, 1), bytes of all values.
fn random(name: &str, datatype: &str, shape: &[i64], batch: u32) -> Result<NamedTensor, Failure> {
    let cannot = |why: &str| {
        Failure::new(
            Exit::Usage,
            format!("input '{name}' is {datatype} {shape:?}: {why}"),
            "choose another --datatype or model",
        )
    };
    let datatype = tensor::datatype(name, datatype).map_err(|e| cannot(&e.message))?;
    let size = datatype.size().ok_or_else(|| cannot("strings are not made up"))?;
    let dims: Vec<i64> =
        shape.iter().enumerate().map(|(i, &d)| if d < 0 && i == 0 { i64::from(batch) } else { d }).collect();
    let (shape, count) = tensor::shape(name, &dims).map_err(|e| cannot(&e.message))?;
    if count * size > 1 << 30 {
        return Err(cannot("more than 1 GiB for one request; take a smaller --batch"));
    }
    // xorshift of a constant.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let data: Bytes = match datatype {
        DataType::Fp32 => {
            (0..count).flat_map(|_| ((next() >> 40) as f32 / (1u64 << 24) as f32).to_le_bytes()).collect()
        }
        _ => (0..count * size).map(|_| (next() >> 32) as u8).collect(),
    };
    Ok(NamedTensor { name: name.into(), datatype, shape, data })
}

fn message(args: &Args, tensors: &[NamedTensor]) -> proto::ModelInferRequest {
    let input = |t: &NamedTensor| proto::model_infer_request::InferInputTensor {
        name: t.name.clone(),
        datatype: t.datatype.to_string(),
        shape: t.shape.iter().map(|&d| d as i64).collect(),
        ..Default::default()
    };
    proto::ModelInferRequest {
        model_name: args.model.clone(),
        model_version: args.model_version.clone(),
        parameters: HashMap::new(),
        inputs: tensors.iter().map(input).collect(),
        raw_input_contents: tensors.iter().map(|t| t.data.clone()).collect(),
        ..Default::default()
    }
}

/// The body for HTTP, and how much of it is JSON when the rest is not.
fn body(args: &Args, tensors: &[NamedTensor]) -> (Bytes, Option<usize>) {
    let inputs = tensors.iter().map(|t| {
        let mut input = json!({"name": t.name, "datatype": t.datatype.as_str(), "shape": t.shape});
        match args.json {
            // Only our own elements are in it, so it can be written.
            true => input["data"] = tensor::to_json(t, serde_json::value::Serializer).unwrap_or_default(),
            false => input["parameters"] = json!({"binary_data_size": t.data.len()}),
        }
        input
    });
    let document = json!({"parameters": {"binary_data_output": !args.json}, "inputs": inputs.collect::<Vec<_>>()});
    let mut body = document.to_string().into_bytes();
    let head = body.len();
    if args.json {
        return (body.into(), None);
    }
    tensors.iter().for_each(|t| body.extend_from_slice(&t.data));
    (body.into(), Some(head))
}

/// One client: a connection of its own for HTTP, a share of one for gRPC.
pub enum Client {
    Http(Box<Http>),
    Grpc(GrpcInferenceServiceClient<Channel>),
    Stream(Box<InferStream>),
}

impl Client {
    /// A client. `channel` is for gRPC.
    pub async fn new(target: &Target, channel: Option<Channel>) -> Result<Self, String> {
        match channel {
            None => Http::connect(target).await.map(|c| Client::Http(Box::new(c))),
            Some(channel) => {
                let most = usize::MAX;
                let client = GrpcInferenceServiceClient::new(channel).max_decoding_message_size(most);
                match target.stream {
                    false => Ok(Client::Grpc(client)),
                    true => InferStream::open(target, client).await.map(|s| Client::Stream(Box::new(s))),
                }
            }
        }
    }

    /// Asks once and waits for the whole answer.
    ///
    /// # Errors
    ///
    /// In few words, so that equal ones can be counted.
    pub async fn infer(&mut self, target: &Target) -> Result<(), String> {
        let limit = target.time_limit;
        let answer = async {
            match self {
                Client::Http(client) => client.infer(target).await,
                Client::Grpc(client) => {
                    let mut call = target.call(target.message.clone());
                    call.set_timeout(limit);
                    client.model_infer(call).await.map(drop).map_err(|e| format!("{:?}: {}", e.code(), e.message()))
                }
                Client::Stream(stream) => stream.infer(target).await,
            }
        };
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err("no answer within --timeout".into()))
    }
}

/// A stream of inferences, one under way at a time.
pub struct InferStream {
    send: mpsc::Sender<proto::ModelInferRequest>,
    answers: tonic::Streaming<proto::ModelStreamInferResponse>,
}

impl InferStream {
    async fn open(target: &Target, mut client: GrpcInferenceServiceClient<Channel>) -> Result<Self, String> {
        let (send, receive) = mpsc::channel(1);
        let call = target.call(ReceiverStream::new(receive));
        let answers = client.model_stream_infer(call).await.map_err(|e| e.message().to_string())?.into_inner();
        Ok(Self { send, answers })
    }

    async fn infer(&mut self, target: &Target) -> Result<(), String> {
        self.send.send(target.message.clone()).await.map_err(|_| "the stream ended".to_string())?;
        match self.answers.message().await {
            Ok(Some(answer)) if answer.error_message.is_empty() => Ok(()),
            Ok(Some(answer)) => Err(answer.error_message),
            Ok(None) => Err("the stream ended".into()),
            Err(e) => Err(format!("{:?}: {}", e.code(), e.message())),
        }
    }
}

/// One connection of HTTP/1.1, opened again when it ends.
pub struct Http {
    sender: SendRequest<Full<Bytes>>,
}

impl Http {
    async fn connect(target: &Target) -> Result<Self, String> {
        let stream = target.road.connect().await.map_err(|e| e.to_string())?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    async fn send(&mut self, target: &Target, method: Method, path: &str) -> Result<(StatusCode, Bytes), String> {
        if self.sender.is_closed() || self.sender.ready().await.is_err() {
            *self = Self::connect(target).await?;
        }
        let mut request = Request::builder().method(&method).uri(path).header(HOST, &target.url.authority);
        if let Some(token) = &target.token {
            request = request.header(AUTHORIZATION, token);
        }
        let mut body = Bytes::new();
        if method == Method::POST {
            body = target.body.clone();
            request = request.header(CONTENT_TYPE, "application/octet-stream");
            if let Some(length) = target.head_length {
                request = request.header(HEADER_LENGTH, length);
            }
        }
        let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
        let response = self.sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|e| e.to_string())?;
        Ok((status, body.to_bytes()))
    }

    async fn document(&mut self, target: &Target, path: &str) -> Result<Value, String> {
        let (status, body) = self.send(target, Method::GET, path).await?;
        let document: Value = serde_json::from_slice(&body).unwrap_or_default();
        match status {
            StatusCode::OK => Ok(document),
            _ => Err(format!("{status}: {}", document["error"].as_str().unwrap_or("no reason"))),
        }
    }

    async fn infer(&mut self, target: &Target) -> Result<(), String> {
        let (status, body) = self.send(target, Method::POST, &target.path).await?;
        match status {
            StatusCode::OK => Ok(()),
            _ => {
                let document: Value = serde_json::from_slice(&body).unwrap_or_default();
                Err(format!("{status}: {}", document["error"].as_str().unwrap_or("no reason")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let url = |grpc, tls, authority: &str| Ok(Url { grpc, tls, authority: authority.into() });
        for (text, want) in [
            ("http://localhost:8000", url(false, false, "localhost:8000")),
            ("http://[::1]:8000/", url(false, false, "[::1]:8000")),
            ("grpc://10.0.0.1:8001", url(true, false, "10.0.0.1:8001")),
            ("https://localhost:1", url(false, true, "localhost:1")),
            ("grpcs://[::1]:1", url(true, true, "[::1]:1")),
            ("ftp://localhost:1", Err("begins with neither")),
            ("http://localhost", Err("no host and port")),
            ("http://:80", Err("no host and port")),
            ("http://a:80/v2", Err("no host and port")),
            ("http://a:99999", Err("no host and port")),
        ] {
            match (text.parse::<Url>(), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(e), Err(part)) => assert!(e.contains(part), "{text}: {e}"),
                (got, want) => panic!("{text}: {got:?} instead of {want:?}"),
            }
        }
    }

    #[test]
    fn elements_are_the_same_on_every_run_and_within_their_types() {
        let one = random("x", "FP32", &[-1, 3, 2], 4).unwrap();
        assert_eq!((&one.shape[..], &one), (&[4, 3, 2][..], &random("x", "FP32", &[-1, 3, 2], 4).unwrap()));
        let floats: Vec<f32> = one.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert!(floats.iter().all(|v| (0.0..1.0).contains(v)) && floats[0] != floats[1]);
        assert_eq!(random("x", "UINT8", &[-1, 7], 2).unwrap().data.len(), 14);
        assert!(random("x", "BYTES", &[-1], 1).is_err() && random("x", "FP32", &[-1, -1], 1).is_err());
        assert_eq!(others("UINT8[-1,28,28,1] BYTES[-1]"), [("UINT8".to_string(), vec![-1, 28, 28, 1])]);
    }
}
