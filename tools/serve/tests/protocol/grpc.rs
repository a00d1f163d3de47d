//! Open Inference Protocol over gRPC.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use akida_serve::net::Options;
use akida_serve::proto::health::health_check_response::ServingStatus;
use akida_serve::proto::health::health_client::HealthClient;
use akida_serve::proto::health::{HealthCheckRequest, HealthCheckResponse};
use akida_serve::proto::inference as proto;
use akida_serve::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use akida_serve::proto::inference::infer_parameter::ParameterChoice as Choice;
use akida_serve::proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use bytes::Bytes;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::scripted::{Bench, FAILURES};

type Client = GrpcInferenceServiceClient<Channel>;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn channel(bench: &Bench) -> Channel {
    Endpoint::new(format!("http://{}", bench.address)).unwrap().connect().await.unwrap()
}

async fn client(bench: &Bench) -> Client {
    GrpcInferenceServiceClient::new(channel(bench).await)
}

/// Runs a test's calls, with a time limit of their own.
fn run(test: impl AsyncFnOnce(Bench)) {
    runtime().block_on(async {
        let bench = tokio::task::spawn_blocking(|| Bench::new(Options::default())).await.unwrap();
        let mut bench = bench;
        let server = bench.server.take();
        tokio::time::timeout(Duration::from_secs(60), test(bench)).await.expect("the calls end");
        tokio::task::spawn_blocking(move || server.map(|s| s.drain(Duration::ZERO))).await.unwrap();
    });
}

fn floats(values: &[f32]) -> Bytes {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn parameter(choice: Choice) -> proto::InferParameter {
    proto::InferParameter { parameter_choice: Some(choice) }
}

fn input(datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor { name: "x".into(), datatype: datatype.into(), shape: shape.to_vec(), ..Default::default() }
}

fn ask(model: &str, id: &str) -> proto::ModelInferRequest {
    proto::ModelInferRequest {
        model_name: model.into(),
        id: id.into(),
        inputs: vec![input("FP32", &[1, 4])],
        raw_input_contents: vec![floats(&[1.0, 2.5, -3.0, 0.0])],
        ..Default::default()
    }
}

#[test]
fn what_is_known_of_server_and_models() {
    run(async |bench| {
        let mut client = client(&bench).await;
        assert!(client.server_live(proto::ServerLiveRequest {}).await.unwrap().into_inner().live);
        assert!(client.server_ready(proto::ServerReadyRequest {}).await.unwrap().into_inner().ready);
        let server = client.server_metadata(proto::ServerMetadataRequest {}).await.unwrap().into_inner();
        assert!(server.extensions.iter().any(|e| e == "statistics"));
        let model = |version: &str| proto::ModelMetadataRequest { name: "double".into(), version: version.into() };
        let metadata = client.model_metadata(model("")).await.unwrap().into_inner();
        assert_eq!(
            (metadata.versions, &metadata.inputs[0].shape[..]),
            (vec!["1".to_string(), "2".into()], &[-1, 4][..])
        );
        for (version, code) in [("9", Code::NotFound), ("x", Code::InvalidArgument)] {
            assert_eq!(client.model_metadata(model(version)).await.unwrap_err().code(), code);
        }
        let ready = |version: &str| proto::ModelReadyRequest { name: "double".into(), version: version.into() };
        assert!(client.model_ready(ready("2")).await.unwrap().into_inner().ready);
        assert!(!client.model_ready(ready("1")).await.unwrap().into_inner().ready);
        let config = proto::ModelConfigRequest { name: "double".into(), version: String::new() };
        let config = client.model_config(config).await.unwrap().into_inner().config.unwrap();
        assert_eq!((config.max_batch_size, config.input[0].data_type), (64, proto::DataType::TypeFp32 as i32));
        assert_eq!(config.parameters["also.x"].string_value, "UINT8[-1,4] BYTES[-1]");
        let statistics = client.model_statistics(proto::ModelStatisticsRequest::default()).await.unwrap().into_inner();
        let stats = statistics.model_stats[0].inference_stats.as_ref().unwrap();
        assert_eq!(stats.success, Some(proto::StatisticDuration { count: 3, ns: 4000 }));
        let index = |ready| proto::RepositoryIndexRequest { repository_name: String::new(), ready };
        for (ready, count) in [(false, 2), (true, 1)] {
            assert_eq!(client.repository_index(index(ready)).await.unwrap().into_inner().models.len(), count);
        }
        let load = |model: &str| proto::RepositoryModelLoadRequest { model_name: model.into(), ..Default::default() };
        client.repository_model_load(load("double")).await.unwrap();
        assert_eq!(client.repository_model_load(load("none")).await.unwrap_err().code(), Code::NotFound);
        let mut with_file = load("double");
        with_file.parameters.insert("file:1/model.akm".into(), proto::ModelRepositoryParameter::default());
        assert_eq!(client.repository_model_load(with_file).await.unwrap_err().code(), Code::InvalidArgument);
        let unload = proto::RepositoryModelUnloadRequest { model_name: "double".into(), ..Default::default() };
        client.repository_model_unload(unload).await.unwrap();
        assert_eq!(*bench.service.loads.lock().unwrap(), ["load double", "unload double"]);
    });
}

#[test]
fn health_as_orchestrators_ask_for_it() {
    run(async |bench| {
        let mut health = HealthClient::new(channel(&bench).await);
        let of = |service: &str| HealthCheckRequest { service: service.into() };
        let is = |status: ServingStatus| HealthCheckResponse { status: status as i32 };
        for service in ["", "inference.GRPCInferenceService"] {
            assert_eq!(health.check(of(service)).await.unwrap().into_inner(), is(ServingStatus::Serving));
        }
        assert_eq!(health.check(of("other")).await.unwrap_err().code(), Code::NotFound);
        let mut watch = health.watch(of("")).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap(), Some(is(ServingStatus::Serving)));
        bench.service.not_ready.store(true, Ordering::SeqCst);
        assert_eq!(watch.message().await.unwrap(), Some(is(ServingStatus::NotServing)));
        assert_eq!(health.check(of("")).await.unwrap().into_inner(), is(ServingStatus::NotServing));
    });
}

#[test]
fn inference_with_raw_and_typed_contents() {
    run(async |bench| {
        let mut client = client(&bench).await;
        let answer = client.model_infer(ask("double", "7")).await.unwrap().into_inner();
        assert_eq!((answer.id.as_str(), answer.model_version.as_str()), ("7", "2"));
        assert_eq!(answer.parameters["device"], parameter(Choice::StringParam("sim:scripted (simulated)".into())));
        assert_eq!(answer.raw_output_contents, [floats(&[2.0, 5.0, -6.0, 0.0]), Bytes::copy_from_slice(&[1, 0, 0, 0])]);

        let mut typed = ask("double", "");
        typed.raw_input_contents.clear();
        let contents = proto::InferTensorContents { fp32_contents: vec![1.0, 2.5, -3.0, 0.0], ..Default::default() };
        typed.inputs[0].contents = Some(contents);
        let answer = client.model_infer(typed).await.unwrap().into_inner();
        assert_eq!(answer.raw_output_contents[0], floats(&[2.0, 5.0, -6.0, 0.0]));

        let mut best = ask("double", "");
        let parameters = HashMap::from([("classification".to_string(), parameter(Choice::Int64Param(1)))]);
        best.outputs = vec![InferRequestedOutputTensor { name: "y".into(), parameters }];
        let answer = client.model_infer(best).await.unwrap().into_inner();
        assert_eq!((answer.outputs[0].datatype.as_str(), &answer.outputs[0].shape[..]), ("BYTES", &[1, 1][..]));
        assert_eq!(&answer.raw_output_contents[0][..], b"\x03\0\0\x005:1");

        let mut text = ask("echo", "");
        text.raw_input_contents.clear();
        let bytes_contents = vec![Bytes::from_static(b"\xff\xd8"), Bytes::new()];
        text.inputs = vec![input("BYTES", &[2])];
        text.inputs[0].contents = Some(proto::InferTensorContents { bytes_contents, ..Default::default() });
        let answer = client.model_infer(text).await.unwrap().into_inner();
        assert_eq!(&answer.raw_output_contents[0][..], b"\x02\0\0\0\xff\xd8\0\0\0\0");
    });
}

#[test]
fn requests_that_are_wrong() {
    type Change = fn(&mut proto::ModelInferRequest);
    let cases: [(&str, Change, &str); 15] = [
        ("short", |r| r.raw_input_contents[0] = floats(&[1.0]), "16 bytes, 4 came"),
        ("count", |r| r.raw_input_contents.push(Bytes::new()), "2 raw_input_contents for 1 inputs"),
        ("both", |r| r.inputs[0].contents = Some(Default::default()), "beside raw_input_contents"),
        ("none", |r| r.raw_input_contents.clear(), "no contents"),
        ("type", |r| r.inputs[0].datatype = "FP16".into(), "none of FP32"),
        ("negative", |r| r.inputs[0].shape[0] = -1, "none is negative"),
        ("huge", |r| r.inputs[0].shape = vec![i64::MAX, 4], "memory"),
        ("flat", |r| r.inputs[0].shape.clear(), "0 dimensions"),
        ("version", |r| r.model_version = "two".into(), "whole number above 0"),
        (
            "sequence",
            |r| drop(r.parameters.insert("sequence_id".into(), parameter(Choice::Int64Param(7)))),
            "no such extension",
        ),
        ("priority", |r| drop(r.parameters.insert("priority".into(), parameter(Choice::Int64Param(-1)))), "0 or more"),
        (
            "memory",
            |r| {
                drop(
                    r.inputs[0]
                        .parameters
                        .insert("shared_memory_region".into(), parameter(Choice::StringParam("a".into()))),
                )
            },
            "no such extension",
        ),
        ("tensors", |r| r.outputs = vec![Default::default(); 257], "more than 256"),
        (
            "other list",
            |r| {
                r.raw_input_contents.clear();
                r.inputs[0].contents =
                    Some(proto::InferTensorContents { int_contents: vec![1; 4], ..Default::default() });
            },
            "FP32 comes in fp32_contents",
        ),
        (
            "outside",
            |r| {
                r.raw_input_contents.clear();
                r.inputs[0].datatype = "UINT8".into();
                r.inputs[0].contents =
                    Some(proto::InferTensorContents { uint_contents: vec![1, 2, 3, 256], ..Default::default() });
            },
            "256 is outside UINT8",
        ),
    ];
    run(async |bench| {
        let mut client = client(&bench).await;
        for (name, change, why) in cases {
            let mut request = ask("double", "");
            change(&mut request);
            let refused = client.model_infer(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{name}");
            assert!(refused.message().contains(why), "{name}: {}", refused.message());
        }
        assert!(bench.service.seen.lock().unwrap().is_empty(), "a wrong request reached the scheduler");
    });
}

#[test]
fn failures_of_the_scheduler() {
    let codes = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::InvalidArgument,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Cancelled,
        Code::Internal,
    ];
    run(async |bench| {
        let mut client = client(&bench).await;
        for ((model, _), code) in FAILURES.into_iter().zip(codes) {
            let failed = client.model_infer(ask(model, "")).await.unwrap_err();
            assert_eq!((failed.code(), failed.message()), (code, format!("this is {model}").as_str()));
            let pushback = failed.metadata().get("grpc-retry-pushback-ms").map(|v| v.to_str().unwrap().to_string());
            assert_eq!(pushback, (model == "busy").then(|| "1500".to_string()));
        }
        let unknown = tonic::client::Grpc::new(channel(&bench).await);
        let refused = call_unknown(unknown).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented);
    });
}

async fn call_unknown(mut grpc: tonic::client::Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|e| Status::unknown(e.to_string()))?;
    let codec = tonic_prost::ProstCodec::<proto::ServerLiveRequest, proto::ServerLiveResponse>::default();
    let path = "/inference.GRPCInferenceService/SystemSharedMemoryStatus".parse().unwrap();
    grpc.unary(Request::new(proto::ServerLiveRequest {}), path, codec).await.map(drop)
}

#[test]
fn deadlines_and_traces_of_a_call() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    run(async |bench| {
        let mut client = client(&bench).await;
        let mut request = Request::new(ask("double", ""));
        request.set_timeout(Duration::from_secs(30));
        request.metadata_mut().insert("traceparent", trace.parse().unwrap());
        client.model_infer(request).await.unwrap();
        let seen = bench.service.seen.lock().unwrap();
        let left = seen[0].deadline.unwrap().saturating_duration_since(std::time::Instant::now()).as_secs();
        assert!((1..=30).contains(&left), "{left} s left");
        assert_eq!((seen[0].trace.as_deref(), seen[0].client.as_str()), (Some(trace), "127.0.0.1"));
    });
}

#[test]
fn packed_messages() {
    run(async |bench| {
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
            let mut client = client(&bench).await.send_compressed(encoding).accept_compressed(encoding);
            let answer = client.model_infer(ask("double", "")).await.unwrap();
            let packed = answer.metadata().get("grpc-encoding").map(|v| v.to_str().unwrap().to_string());
            assert_eq!(packed, Some(encoding.to_string()));
            assert_eq!(answer.into_inner().raw_output_contents[0], floats(&[2.0, 5.0, -6.0, 0.0]));
        }
    });
}

#[test]
fn a_caller_that_goes_away_withdraws_its_request() {
    run(async |bench| {
        let mut client = client(&bench).await;
        let mut other = client.clone();
        let call = tokio::spawn(async move { other.model_infer(ask("hold", "")).await });
        let service = bench.service.clone();
        tokio::task::spawn_blocking(move || service.wait_for_held(1)).await.unwrap();
        call.abort();
        let service = bench.service.clone();
        tokio::task::spawn_blocking(move || service.wait_for_cancelled(1)).await.unwrap();
        // The connection goes on.
        client.model_infer(ask("double", "")).await.unwrap();
    });
}

#[test]
fn streams_answer_in_order_and_go_on_after_failures() {
    run(async |bench| {
        let mut client = client(&bench).await;
        let models = ["hold", "busy", "hold", "double", "none"];
        let requests: Vec<_> = models.iter().enumerate().map(|(n, m)| ask(m, &n.to_string())).collect();
        let mut wrong = ask("double", "5");
        wrong.inputs[0].shape = vec![3];
        let requests = tokio_stream::iter(requests.into_iter().chain([wrong]));
        let mut answers = client.model_stream_infer(requests).await.unwrap().into_inner();
        let service = bench.service.clone();
        // Later requests are under way while the first waits, and held ones end in the wrong order.
        tokio::task::spawn_blocking(move || {
            service.wait_for_held(2);
            service.release();
        })
        .await
        .unwrap();
        let errors = ["", "this is busy", "", "", "there is no model 'none'", "12 bytes, 16 came"];
        for (n, error) in errors.iter().enumerate() {
            let answer = answers.message().await.unwrap().unwrap();
            assert!(
                answer.error_message.contains(error) && error.is_empty() == answer.error_message.is_empty(),
                "{answer:?}"
            );
            let message = answer.infer_response.unwrap();
            assert_eq!(message.id, n.to_string());
            assert_eq!(message.raw_output_contents.is_empty(), !error.is_empty());
            assert_eq!(message.parameters.contains_key("triton_final_response"), error.is_empty());
        }
        assert_eq!(answers.message().await.unwrap(), None);
    });
}

#[test]
fn a_drain_answers_what_streams_sent_and_ends_them() {
    let mut bench = Bench::new(Options::default());
    let (server, service) = (bench.server.take().unwrap(), bench.service.clone());
    let drain = runtime().block_on(async {
        let mut client = client(&bench).await;
        let (send, receive) = tokio::sync::mpsc::channel(1);
        let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
        send.send(ask("hold", "taken")).await.unwrap();
        let mut answers = client.model_stream_infer(requests).await.unwrap().into_inner();
        let (send_nothing, nothing) = tokio::sync::mpsc::channel(1);
        let requests = tokio_stream::wrappers::ReceiverStream::new(nothing);
        let mut idle = client.model_stream_infer(requests).await.unwrap().into_inner();
        let mut watch = HealthClient::new(channel(&bench).await).watch(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(watch.get_mut().message().await.unwrap().unwrap().status, ServingStatus::Serving as i32);
        let held = service.clone();
        tokio::task::spawn_blocking(move || held.wait_for_held(1)).await.unwrap();
        let drain = std::thread::spawn(move || server.drain(Duration::from_secs(30)));
        // A stream that carries nothing ends at once, while another waits for its answer.
        assert_eq!(idle.message().await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(watch.get_mut().message().await.unwrap().unwrap().status, ServingStatus::NotServing as i32);
        assert_eq!(watch.get_mut().message().await.unwrap(), None);
        service.release();
        assert_eq!(answers.message().await.unwrap().unwrap().infer_response.unwrap().id, "taken");
        let end = answers.message().await.unwrap_err();
        assert!(end.code() == Code::Unavailable && end.message().contains("not taken"), "{end:?}");
        drop((send, send_nothing));
        drain
    });
    assert_eq!(drain.join().unwrap(), 0, "no connection was cut");
}

#[test]
fn a_strict_stream_ends_with_the_status_of_its_first_failure() {
    run(async |bench| {
        let mut client = client(&bench).await;
        let requests = ["double", "none", "double"].map(|m| ask(m, m));
        let mut call = Request::new(tokio_stream::iter(requests));
        call.metadata_mut().insert("triton_grpc_error", "true".parse().unwrap());
        let mut answers = client.model_stream_infer(call).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().error_message, "");
        assert_eq!(answers.message().await.unwrap_err().code(), Code::NotFound);
    });
}

#[test]
fn a_stream_that_is_dropped_withdraws_what_is_under_way() {
    run(async |bench| {
        let mut client = client(&bench).await;
        let (send, receive) = tokio::sync::mpsc::channel(5);
        for _ in 0..5 {
            send.send(ask("hold", "")).await.unwrap();
        }
        let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
        let answers = client.model_stream_infer(requests).await.unwrap();
        let service = bench.service.clone();
        tokio::task::spawn_blocking(move || service.wait_for_held(5)).await.unwrap();
        // The client's library tells the server only when both directions are dropped.
        drop((send, answers));
        let service = bench.service.clone();
        tokio::task::spawn_blocking(move || service.wait_for_cancelled(5)).await.unwrap();
    });
}

#[test]
fn a_thousand_streams_at_once() {
    run(async |bench| {
        let channels = [channel(&bench).await, channel(&bench).await];
        let mut streams = Vec::new();
        for n in 0..1000 {
            let mut client = GrpcInferenceServiceClient::new(channels[n % 2].clone());
            let (send, receive) = tokio::sync::mpsc::channel(1);
            let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
            let answers = client.model_stream_infer(requests).await.unwrap().into_inner();
            streams.push((send, answers));
        }
        for round in 0..3 {
            for (n, (send, _)) in streams.iter().enumerate() {
                send.send(ask("double", &format!("{round}.{n}"))).await.unwrap();
            }
            for (n, (_, answers)) in streams.iter_mut().enumerate() {
                let answer = answers.message().await.unwrap().unwrap().infer_response.unwrap();
                assert_eq!(answer.id, format!("{round}.{n}"));
            }
        }
    });
}
