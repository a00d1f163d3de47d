//! A run on a service's boards: samples go there over Open Inference Protocol v2 (HTTP, binary tensors), results come back.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use akida_runtime::model::OnnxLayout;
use ndarray::{ArrayD, Axis, IxDyn, Slice, concatenate};
use serde_json::{Value, json};

use super::args::{Args, Show};
use super::report::{self, Report, Throughput};
use crate::arrays::Array;
use crate::exit::{Exit, Failure};
use crate::samples::{Data, Expected};
use crate::terminal::{Picture, progress};

/// Longest that one batch may take: a service that waits for a board says so much earlier.
const LIMIT: Duration = Duration::from_secs(300);
/// Largest answer to one batch.
const LARGEST: u64 = 1 << 30;
/// Samples of a request, where the model takes so many.
const BATCH: usize = 64;

/// The command.
pub fn run(args: &Args, server: &str, out: &mut dyn Write) -> Result<Exit, Failure> {
    let (Some(model), Some(input)) = (&args.model, &args.input) else {
        return Err(Failure::new(Exit::Usage, "a model and --input are needed", "akida-run --help"));
    };
    let service = Service::new(server, args.token_file.as_ref(), model)?;
    let known = Known::ask(&service)?;
    let samples = super::read_samples(args, &known.expected, input)?;
    let labels = super::read_labels(args, known.classes, &samples)?;
    let names = args.class_names.as_deref().map(crate::samples::read_names).transpose()?;
    let shown = Show::indices(args.show.as_ref(), samples.data.len())
        .map_err(|e| Failure::new(Exit::Usage, format!("--show: {e}"), "samples count from 0"))?;

    let wanted: Vec<String> = match args.raw {
        false => known.outputs.clone(),
        true => known.outputs.iter().flat_map(|name| [name.clone(), format!("{name}:raw")]).collect(),
    };
    let bar = progress(samples.data.len() as u64, server, !args.common.bars());
    let start = Instant::now();
    let mut answers = Vec::new();
    for first in (0..samples.data.len()).step_by(known.batch) {
        let last = samples.data.len().min(first + known.batch);
        answers.push(service.infer(&known, &samples.data, first..last, &wanted)?);
        bar.inc((last - first) as u64);
    }
    let elapsed = start.elapsed();
    bar.finish_and_clear();
    let device = answers.first().map_or(String::new(), |a| a.device.clone());
    let outputs = joined(answers)?;
    let scores = floats(&outputs[0])?;

    let report = Report {
        schema: report::SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        board: report::Board {
            simulated: device.contains("(simulated)"),
            name: device,
            hardware_version: None,
            nps: None,
            server: Some(server.to_string()),
        },
        model: report::Model {
            file: service.model.clone(),
            name: known.name.clone(),
            target: known.target.clone(),
            sequences: Vec::new(),
            boundaries: Vec::new(),
        },
        input: report::Input {
            file: input.display().to_string(),
            samples: samples.data.len(),
            dtype: samples.data.dtype(),
            shape: samples.data.shape()[1..].to_vec(),
            quantized: matches!(samples.data, Data::Floats(_)),
        },
        outputs: wanted
            .iter()
            .zip(&outputs)
            .filter(|(name, _)| known.outputs.contains(name))
            .map(|(name, array)| report::Output { name: name.clone(), shape: array.shape()[1..].to_vec() })
            .collect(),
        samples: shown
            .iter()
            .map(|&i| super::sample_report(i, &samples, labels.as_ref(), names.as_deref(), &scores, args.top))
            .collect(),
        accuracy: labels.as_ref().map(|l| super::accuracy(&scores, l)).transpose()?,
        throughput: Throughput::new(samples.data.len(), elapsed),
        statistics: None,
        verify: None,
    };
    let each = if args.raw { 2 } else { 1 };
    let name = |i: usize| format!("{}{}", if i.is_multiple_of(each) { "out" } else { "raw" }, i / each);
    let arrays = outputs.into_iter().enumerate().map(|(i, array)| (name(i), array)).collect();
    let picture = |index| Picture::of(&samples.data, known.expected.layout, index);
    super::deliver(args, &report, arrays, &scores, &shown, picture, out)?;
    Ok(Exit::Done)
}

/// A model on a service.
struct Service {
    agent: ureq::Agent,
    /// `http://HOST:PORT/v2/models/NAME[/versions/N]`.
    url: String,
    model: String,
    token: Option<String>,
}

/// What is known of the model.
struct Known {
    name: String,
    target: String,
    expected: Expected,
    input: String,
    outputs: Vec<String>,
    /// Elements of a sample of the first output.
    classes: usize,
    batch: usize,
}

/// What came back for a batch.
struct Answer {
    device: String,
    outputs: Vec<Array>,
}

impl Service {
    fn new(server: &str, token_file: Option<&PathBuf>, model: &Path) -> Result<Self, Failure> {
        let server = server.trim_end_matches('/');
        let secure = cfg!(feature = "https") && server.starts_with("https://");
        if !secure && !server.starts_with("http://") {
            let message = format!("--server {server}: akida-run speaks HTTP, as http://HOST:PORT");
            let help = match server.starts_with("https://") {
                true => "this akida-run was built without the feature https",
                false => "give the service's HTTP address; gRPC carries the same results (akida-bench measures it)",
            };
            return Err(Failure::new(Exit::Usage, message, help));
        }
        let model = model.to_string_lossy().into_owned();
        let (name, version) = model.split_once('/').unwrap_or((&model, ""));
        if name.is_empty() || !(version.is_empty() || version.parse::<u32>().is_ok()) {
            let message = format!("{model:?} names no model of a service");
            return Err(Failure::new(Exit::Usage, message, "with --server the model is NAME or NAME/VERSION"));
        }
        let version = if version.is_empty() { String::new() } else { format!("/versions/{version}") };
        let url = format!("{server}/v2/models/{}{version}", encoded(name));
        let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(|e| Failure::input(path, &e));
        let token = token_file.map(read).transpose()?.map(|t| format!("Bearer {}", t.trim()));
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(LIMIT));
        Ok(Self { agent: config.build().into(), url, model, token })
    }

    /// The body of an answer, and how much of it is JSON where the rest is not.
    fn ask(&self, path: &str, body: Option<(usize, &[u8])>) -> Result<(Vec<u8>, Option<usize>), Failure> {
        let url = format!("{}{path}", self.url);
        let unreachable = |e: ureq::Error| {
            let exit = if matches!(e, ureq::Error::Timeout(_)) { Exit::Retry } else { Exit::Unavailable };
            Failure::because(
                exit,
                format_args!("no answer of {url}"),
                &e,
                "check that the service runs and listens there",
            )
        };
        let authorization = self.token.as_deref().map(|t| ("authorization", t));
        let response = match body {
            None => {
                let request = authorization.into_iter().fold(self.agent.get(&url), |r, (n, v)| r.header(n, v));
                request.call()
            }
            Some((head, body)) => {
                let request = self.agent.post(&url).header("inference-header-content-length", head.to_string());
                let request = request.header("content-type", "application/octet-stream");
                authorization.into_iter().fold(request, |r, (n, v)| r.header(n, v)).send(body)
            }
        };
        let mut response = response.map_err(unreachable)?;
        let status = response.status().as_u16();
        let head = response.headers().get("inference-header-content-length");
        let head = head.and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let body = response.body_mut().with_config().limit(LARGEST).read_to_vec().map_err(unreachable)?;
        if status == 200 {
            return Ok((body, head));
        }
        let document: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = format!("{url}: {status}: {}", document["error"].as_str().unwrap_or("no reason given"));
        let (exit, help) = match status {
            401 | 403 => (Exit::Permission, "give a token with --token-file; the operator has them"),
            404 => (Exit::Data, "the names of models are in the service's index, /v2/repository/index"),
            503 | 504 => (Exit::Retry, "the service is busy or not ready; try again later"),
            500.. => (Exit::Board, "see what the service logs"),
            _ => (Exit::Data, "check the samples against what the model takes"),
        };
        Err(Failure::new(exit, message, help))
    }

    fn document(&self, path: &str) -> Result<Value, Failure> {
        let (body, _) = self.ask(path, None)?;
        serde_json::from_slice(&body).map_err(|e| wrong(&format!("{}{path} is no JSON: {e}", self.url)))
    }

    fn infer(
        &self,
        known: &Known,
        data: &Data,
        samples: std::ops::Range<usize>,
        wanted: &[String],
    ) -> Result<Answer, Failure> {
        let count = samples.len();
        let slice = Slice::from(samples);
        let bytes: Vec<u8> = match data {
            Data::Floats(a) => a.slice_axis(Axis(0), slice).iter().flat_map(|v| v.to_le_bytes()).collect(),
            Data::Pixels(a) => a.slice_axis(Axis(0), slice).iter().copied().collect(),
            Data::Integers(a) => a.slice_axis(Axis(0), slice).iter().map(|&v| v as u8).collect(),
        };
        let datatype = match data {
            Data::Floats(_) => "FP32",
            Data::Pixels(_) => "UINT8",
            Data::Integers(_) => "INT8",
        };
        let mut shape = data.shape().to_vec();
        shape[0] = count;
        let parameters = json!({"binary_data_size": bytes.len()});
        let input = json!({"name": known.input, "datatype": datatype, "shape": shape, "parameters": parameters});
        let output = |name: &String| json!({"name": name, "parameters": {"binary_data": true}});
        let outputs: Vec<Value> = wanted.iter().map(output).collect();
        let mut body = json!({"inputs": [input], "outputs": outputs}).to_string().into_bytes();
        let head = body.len();
        body.extend_from_slice(&bytes);
        let (answer, head) = self.ask("/infer", Some((head, &body)))?;
        parse(&answer, head, wanted, count)
    }
}

impl Known {
    fn ask(service: &Service) -> Result<Self, Failure> {
        let (metadata, config) = (service.document("")?, service.document("/config")?);
        let incomplete = || wrong(&format!("the metadata of {} is incomplete: {metadata}", service.url));
        let [input] = metadata["inputs"].as_array().map_or(&[][..], Vec::as_slice) else { return Err(incomplete()) };
        let name = input["name"].as_str().ok_or_else(incomplete)?;
        let parameter = |name: &str| config["parameters"][name]["string_value"].as_str().unwrap_or("");
        // The types the input takes, each with its shape without the batch.
        let mut forms = vec![(input["datatype"].as_str().unwrap_or(""), dims(&input["shape"]))];
        forms.extend(parameter(&format!("also.{name}")).split_whitespace().filter_map(form));
        let of = |types: &[&str]| forms.iter().find(|(d, _)| types.contains(d)).map(|(d, shape)| (*d, shape.clone()));
        let (shape, signed) = match (of(&["UINT8", "INT8"]), of(&["FP32"])) {
            (Some((datatype, shape)), _) => (shape, datatype == "INT8"),
            // The host computes first: floats as they are.
            (None, Some((_, shape))) => (
                match shape[..] {
                    [c, h, w] => vec![h, w, c],
                    _ => vec![1, 1, shape.iter().product()],
                },
                false,
            ),
            (None, None) => return Err(incomplete()),
        };
        let layout = match (parameter("layout"), of(&["FP32"]).map_or(0, |(_, shape)| shape.len())) {
            ("nhwc", _) => OnnxLayout::Nhwc,
            ("flat", _) => OnnxLayout::Flat,
            ("nchw", _) | ("", 3) => OnnxLayout::Nchw,
            _ => OnnxLayout::Flat,
        };
        let shape: [usize; 3] = shape.try_into().map_err(|_| incomplete())?;
        let outputs = metadata["outputs"].as_array().ok_or_else(incomplete)?;
        let names = outputs.iter().map(|o| o["name"].as_str().map(str::to_string));
        let batch = config["max_batch_size"].as_u64().map_or(1, |n| n.clamp(1, BATCH as u64) as usize);
        Ok(Self {
            name: metadata["name"].as_str().unwrap_or("").to_string(),
            target: parameter("target").to_string(),
            expected: Expected { shape, layout, signed },
            input: name.to_string(),
            classes: outputs.first().map_or(0, |o| dims(&o["shape"]).iter().product()),
            outputs: names.collect::<Option<Vec<_>>>().filter(|n| !n.is_empty()).ok_or_else(incomplete)?,
            batch,
        })
    }
}

/// Dimensions without the batch.
fn dims(shape: &Value) -> Vec<usize> {
    let all = shape.as_array().map_or(&[][..], Vec::as_slice);
    all.iter().skip(1).map(|d| d.as_u64().map_or(0, |d| d as usize)).collect()
}

/// `UINT8[-1,28,28,1]`.
fn form(text: &str) -> Option<(&str, Vec<usize>)> {
    let (datatype, dims) = text.strip_suffix(']')?.split_once('[')?;
    Some((datatype, dims.split(',').skip(1).map(str::parse).collect::<Result<_, _>>().ok()?))
}

/// Takes an answer apart: JSON, then the elements of outputs in the order asked for.
fn parse(body: &[u8], head: Option<usize>, wanted: &[String], count: usize) -> Result<Answer, Failure> {
    let head = head.unwrap_or(body.len());
    let Some((head, mut rest)) = body.split_at_checked(head) else {
        return Err(wrong("the answer is shorter than its JSON"));
    };
    let document: Value = serde_json::from_slice(head).map_err(|e| wrong(&format!("the answer is no JSON: {e}")))?;
    let mut outputs = Vec::new();
    for (i, name) in wanted.iter().enumerate() {
        let output = &document["outputs"][i];
        if output["name"] != **name {
            return Err(wrong(&format!("output {i} is {} instead of {name}", output["name"])));
        }
        let dims = output["shape"].as_array().map_or(&[][..], Vec::as_slice);
        let shape: Vec<usize> = dims.iter().map(|d| d.as_u64().map_or(0, |d| d as usize)).collect();
        let size = output["parameters"]["binary_data_size"].as_u64().map_or(usize::MAX, |n| n as usize);
        let split = rest.split_at_checked(size).filter(|_| shape.first() == Some(&count));
        let Some((bytes, after)) = split else {
            return Err(wrong(&format!("output '{name}' is not of {count} samples, or cut: {output}")));
        };
        rest = after;
        let array = elements(output["datatype"].as_str().unwrap_or(""), &shape, bytes);
        outputs.push(array.ok_or_else(|| wrong(&format!("output '{name}' is not what it says: {output}")))?);
    }
    let device = document["parameters"]["device"].as_str().unwrap_or("a board that was not named").to_string();
    Ok(Answer { device, outputs })
}

fn elements(datatype: &str, shape: &[usize], bytes: &[u8]) -> Option<Array> {
    fn array<T, const N: usize>(shape: &[usize], bytes: &[u8], of: fn([u8; N]) -> T) -> Option<ArrayD<T>> {
        let (items, []) = bytes.as_chunks::<N>() else { return None };
        ArrayD::from_shape_vec(IxDyn(shape), items.iter().map(|&b| of(b)).collect()).ok()
    }
    Some(match datatype {
        "FP32" => Array::F32(array(shape, bytes, f32::from_le_bytes)?),
        "UINT8" => Array::U8(array(shape, bytes, u8::from_le_bytes)?),
        "INT8" => Array::I8(array(shape, bytes, i8::from_le_bytes)?),
        "INT32" => Array::I32(array(shape, bytes, i32::from_le_bytes)?),
        "INT64" => Array::I64(array(shape, bytes, i64::from_le_bytes)?),
        _ => return None,
    })
}

/// Joins the batches of each output.
fn joined(answers: Vec<Answer>) -> Result<Vec<Array>, Failure> {
    fn all<T: Clone>(parts: Option<Vec<ArrayD<T>>>) -> Option<ArrayD<T>> {
        let parts = parts?;
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        concatenate(Axis(0), &views).ok()
    }
    macro_rules! join {
        ($parts:expr, $($kind:ident)*) => {
            match &$parts[0] {
                $(Array::$kind(_) => {
                    let of = |a: Array| if let Array::$kind(a) = a { Some(a) } else { None };
                    all($parts.into_iter().map(of).collect()).map(Array::$kind)
                })*
            }
        };
    }
    let count = answers.first().map_or(0, |a| a.outputs.len());
    let mut columns: Vec<Vec<Array>> = (0..count).map(|_| Vec::new()).collect();
    for answer in answers {
        columns.iter_mut().zip(answer.outputs).for_each(|(column, array)| column.push(array));
    }
    let join = |parts: Vec<Array>| join!(parts, F32 F64 U8 I8 I32 I64);
    let joined = columns.into_iter().map(join).collect::<Option<Vec<_>>>();
    joined.filter(|j| !j.is_empty()).ok_or_else(|| wrong("batches of different shapes"))
}

fn floats(array: &Array) -> Result<ArrayD<f32>, Failure> {
    Ok(match array {
        Array::F32(a) => a.clone(),
        Array::U8(a) => a.mapv(f32::from),
        Array::I8(a) => a.mapv(f32::from),
        Array::I32(a) => a.mapv(|v| v as f32),
        Array::I64(a) => a.mapv(|v| v as f32),
        Array::F64(_) => return Err(wrong("the first output is float64")),
    })
}

/// A name as a part of a path.
fn encoded(name: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~".contains(b);
    name.bytes().map(|b| if plain(&b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

fn wrong(message: &str) -> Failure {
    Failure::new(Exit::Board, format!("the service answered wrongly: {message}"), "is it an akida-serve?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_right_and_that_are_not() {
        let good = r#"{"parameters": {"device": "sim:a (simulated)"}, "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2, 1], "parameters": {"binary_data_size": 8}},
            {"name": "z", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}}]}"#;
        let wanted = ["y".to_string(), "z".to_string()];
        let data = [&1f32.to_le_bytes()[..], &2f32.to_le_bytes(), &[255, 3]].concat();
        let body = |text: &str, data: &[u8]| [text.as_bytes(), data].concat();
        let answer = parse(&body(good, &data), Some(good.len()), &wanted, 2).unwrap();
        assert_eq!(answer.device, "sim:a (simulated)");
        assert_eq!(answer.outputs[1], Array::I8(ndarray::array![-1i8, 3].into_dyn()));
        let joined = joined(vec![answer, parse(&body(good, &data), Some(good.len()), &wanted, 2).unwrap()]).unwrap();
        assert_eq!(joined[0], Array::F32(ndarray::array![[1f32], [2.], [1.], [2.]].into_dyn()));
        let change = |from, to| good.replace(from, to);
        for (text, data, count) in [
            (good.to_string(), &data[..9], 2),
            (good.to_string(), &data[..], 3),
            (change("\"z\"", "\"q\""), &data[..], 2),
            (change("INT8", "INT32"), &data[..], 2),
            (change("[2, 1]", "[2, 7]"), &data[..], 2),
            (change("size\": 2", "size\": -2"), &data[..], 2),
            ("{}".into(), &data[..], 2),
            ("{".into(), &data[..], 2),
        ] {
            let refused = parse(&body(&text, data), Some(text.len()), &wanted, count).err();
            assert_eq!(refused.map(|e| e.exit), Some(Exit::Board), "{text}");
        }
        assert!(parse(b"{}", Some(7), &wanted, 2).is_err());
    }

    #[test]
    fn names_and_addresses() {
        let url = |server: &str, model: &str| Service::new(server, None, Path::new(model)).map(|s| s.url);
        let base = "http://a:1/v2/models/";
        assert_eq!(url("http://a:1/", "m").unwrap(), format!("{base}m"));
        assert_eq!(url("http://a:1", "a b/3").unwrap(), format!("{base}a%20b/versions/3"));
        for (server, model) in
            [("grpc://a:1", "m"), ("a:1", "m"), ("http://a:1", ""), ("http://a:1", "m/x"), ("http://a:1", "m/1/2")]
        {
            assert_eq!(url(server, model).unwrap_err().exit, Exit::Usage, "{server} {model}");
        }
        assert_eq!(form("UINT8[-1,28,28,1]"), Some(("UINT8", vec![28, 28, 1])));
        assert_eq!(form("BYTES[-1]"), Some(("BYTES", vec![])));
    }
}
