//! What is answered is what `akida-run` gives, bit for bit.

use std::collections::BTreeMap;
use std::io::Cursor;

use akida_serve::engine::Engine;
use akida_serve::request::{DataType, NamedTensor};
use akida_serve::service::Service;
use akida_tools::arrays::{Archive, Array, write_npz};
use akida_tools::run;
use clap::Parser;
use ndarray::{ArrayD, IxDyn};

use crate::support::*;

/// All arrays that `akida-run` writes.
fn akida_run(model: &std::path::Path, device: &str, input: &std::path::Path) -> BTreeMap<String, Array> {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out.npz");
    let path = |p: &std::path::Path| p.to_str().expect("UTF-8").to_owned();
    let args =
        ["akida-run", &path(model), "--device", device, "--input", &path(input), "--output", &path(&out), "--raw"];
    let args = run::Args::parse_from(args);
    run::run(&args, &mut Vec::new()).unwrap_or_else(|e| panic!("{e}"));
    let mut archive = Archive::open(&out).expect("an archive");
    let names = archive.names().to_vec();
    names.iter().map(|n| (n.clone(), archive.get(n).expect("an array").expect("it is there"))).collect()
}

fn bytes(array: &Array) -> Vec<u8> {
    match array {
        Array::F32(a) => a.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Array::I64(a) => a.iter().flat_map(|v| v.to_le_bytes()).collect(),
        other => panic!("an output of {}", other.dtype()),
    }
}

/// A network's integers as INT32.
fn words(array: &Array) -> Vec<u8> {
    let words: Vec<i32> = match array {
        Array::I32(a) => a.iter().copied().collect(),
        Array::I8(a) => a.iter().map(|&v| v.into()).collect(),
        Array::U8(a) => a.iter().map(|&v| v.into()).collect(),
        other => panic!("integers of {}", other.dtype()),
    };
    words.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Whole networks, several outputs, networks that end on the host, flat inputs, streams.
#[test]
fn floats_and_integers_are_those_of_akida_run() {
    let cases = ["mnist_cnn", "yolo_two_heads", "partial_softmax", "mlp", "nhwc_input", "unet_small"];
    let repository = Repository::new();
    for case in cases {
        repository.put(case, 1, case);
    }
    let engine = start(settings(&repository, &["sim:akida2"]));
    let mut compared = 0;
    for name in cases {
        let info = engine.model(name, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        let input = &info.inputs[0];
        let forms = [(input.datatype, input.shape.clone())].into_iter().chain(input.also.iter().cloned());
        for (datatype, shape) in forms.filter(|(datatype, _)| *datatype != DataType::Bytes) {
            let dims: Vec<usize> = [SAMPLES].into_iter().chain(shape[1..].iter().map(|&d| d as usize)).collect();
            let elements = pixels(dims.iter().product(), 7);
            let (array, data) = match datatype {
                DataType::Fp32 => {
                    let floats: Vec<f32> = elements.iter().map(|&p| f32::from(p) / 128.0 - 0.7).collect();
                    let data = floats.iter().flat_map(|v| v.to_le_bytes()).collect();
                    (Array::F32(ArrayD::from_shape_vec(IxDyn(&dims), floats).expect("as many")), data)
                }
                DataType::Uint8 => {
                    (Array::U8(ArrayD::from_shape_vec(IxDyn(&dims), elements.clone()).expect("as many")), elements)
                }
                DataType::Int8 => {
                    let signed = elements.iter().map(|&p| p as i8).collect();
                    (Array::I8(ArrayD::from_shape_vec(IxDyn(&dims), signed).expect("as many")), elements)
                }
                other => panic!("{name} takes {other}"),
            };
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("x.npz");
            write_npz(&file, [("samples".to_owned(), &array)]).expect("a file");
            let expected = akida_run(&repository.file(name, 1), "sim:akida2", &file);
            compared += compare(&engine, name, tensor(&input.name, datatype, &dims, data), &expected);
        }
    }
    assert_eq!(compared, 2 * cases.len());
}

/// Samples of a request.
const SAMPLES: usize = 5;

/// Holds the answers to a request against the arrays of `akida-run`.
fn compare(engine: &Engine, name: &str, tensor: NamedTensor, expected: &BTreeMap<String, Array>) -> usize {
    let outputs = engine.model(name, None).expect("a model").outputs;
    let answer = ask(engine, request(name, tensor.clone())).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(answer.outputs.len(), outputs.len());
    assert_eq!(answer.device, "sim:akida2#0 (simulated)");
    assert_eq!((answer.model.as_str(), answer.version, answer.id.as_str()), (name, 1, "a request"));
    for (index, (output, described)) in answer.outputs.iter().zip(&outputs).enumerate() {
        assert_eq!(output.name, described.name);
        assert_eq!(output.shape[0], SAMPLES);
        let shape: Vec<i64> = output.shape[1..].iter().map(|&d| d as i64).collect();
        assert_eq!(shape, described.shape[1..], "{name}: the shape is what was announced");
        assert!(output.data == bytes(&expected[&format!("out{index}")]), "{name}: output {index} differs");
    }
    // Integers, where a board makes them, and in another order than they are in.
    let raw: Vec<usize> = (0..outputs.len()).rev().filter(|i| expected.contains_key(&format!("raw{i}"))).collect();
    if raw.is_empty() {
        assert_eq!(name, "partial_softmax");
        return 1;
    }
    let names: Vec<String> = raw.iter().map(|&i| format!("{}:raw", outputs[i].name)).collect();
    let asked: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 0)).collect();
    let mut again = request(name, tensor);
    again.outputs = wanted(&asked);
    let answer = ask(engine, again).unwrap_or_else(|e| panic!("{name}: {e}"));
    for ((output, wanted), index) in answer.outputs.iter().zip(&names).zip(&raw) {
        assert_eq!((&output.name, output.datatype), (wanted, DataType::Int32));
        assert!(output.data == words(&expected[&format!("raw{index}")]), "{name}: {wanted} differs");
    }
    1
}

#[test]
fn a_stateful_network_keeps_requests_apart() {
    let repository = Repository::new();
    repository.put("t", 1, "temporal_conv");
    let engine = start(settings(&repository, &["sim:akida2"]));
    let info = engine.model("t", None).expect("a model");
    let shape: Vec<usize> = info.inputs[0].shape[1..].iter().map(|&d| d as usize).collect();
    let one: usize = shape.iter().product();
    let stream = |seed: u64| {
        let values =
            pixels(6 * one, seed).into_iter().flat_map(|p| (f32::from(p) / 64.0 - 2.0).to_le_bytes()).collect();
        let dims: Vec<usize> = [6].iter().chain(&shape).copied().collect();
        request("t", tensor(&info.inputs[0].name, DataType::Fp32, &dims, values))
    };
    let alone = [ask(&engine, stream(1)).expect("an answer"), ask(&engine, stream(2)).expect("an answer")];
    assert!(alone[0].outputs[0].data != alone[1].outputs[0].data);
    let pending: Vec<_> = (0..8).map(|i| (i, send(&engine, stream(1 + i % 2)))).collect();
    for (i, pending) in pending {
        let answer = pending.wait().expect("an answer");
        assert!(answer.outputs == alone[(i % 2) as usize].outputs, "stream {i} saw frames of another");
    }
}

#[test]
fn pixels_images_and_classes() {
    let repository = Repository::new();
    repository.put("mnist", 1, "mnist_cnn");
    repository.put("scaled", 1, "mnist_cnn");
    repository.write("mnist", "model.toml", "labels = \"digits.txt\"\n[image]\nresize = true\n");
    repository.write("mnist", "digits.txt", "zero\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n");
    repository.write("scaled", "model.toml", "[image]\nmean = [0.0]\nstd = [1.0]\n");
    let engine = start(settings(&repository, &["sim:akida2"]));
    let name = input_name(&engine, "mnist");
    let image = pixels(784, 5);
    let raw = ask(&engine, request("mnist", tensor(&name, DataType::Uint8, &[1, 28, 28, 1], image.clone())));
    let raw = raw.expect("an answer");

    // The same picture as PNG.
    let encode = |w: u32, h: u32, p: Vec<u8>| {
        let mut png = Cursor::new(Vec::new());
        image::GrayImage::from_raw(w, h, p)
            .expect("an image")
            .write_to(&mut png, image::ImageFormat::Png)
            .expect("PNG");
        png.into_inner()
    };
    let strings = |images: &[&[u8]]| {
        images
            .iter()
            .flat_map(|i| (i.len() as u32).to_le_bytes().into_iter().chain(i.iter().copied()))
            .collect::<Vec<u8>>()
    };
    let png = encode(28, 28, image.clone());
    let two = ask(&engine, request("mnist", tensor(&name, DataType::Bytes, &[2], strings(&[&png, &png]))));
    let two = two.expect("an answer");
    assert_eq!(two.outputs[0].data, [raw.outputs[0].data.clone(), raw.outputs[0].data.clone()].concat());
    // Another size is scaled where that is allowed, as akida-run does it.
    let large = encode(56, 56, pixels(56 * 56, 1));
    assert!(ask(&engine, request("mnist", tensor(&name, DataType::Bytes, &[1, 1], strings(&[&large])))).is_ok());
    let refused = ask(&engine, request("scaled", tensor(&name, DataType::Bytes, &[1], strings(&[&large]))));
    assert!(refused.expect_err("56 x 56").message.contains("56 x 56 pixels, the model takes 28 x 28"));
    // Normalized: through the input quantizer, as floats that were normalized by the client.
    let scaled: Vec<u8> = image.iter().flat_map(|&p| (f32::from(p) / 255.0).to_le_bytes()).collect();
    let by_client = ask(&engine, request("scaled", tensor(&name, DataType::Fp32, &[1, 1, 28, 28], scaled)));
    let by_service = ask(&engine, request("scaled", tensor(&name, DataType::Bytes, &[1], strings(&[&png]))));
    assert_eq!(by_client.expect("an answer").outputs, by_service.expect("an answer").outputs);

    let mut classes = request("mnist", tensor(&name, DataType::Uint8, &[1, 28, 28, 1], image));
    let output = raw.outputs[0].name.clone();
    classes.outputs = wanted(&[(&output, 3)]);
    let answer = ask(&engine, classes.clone()).expect("an answer");
    assert_eq!((answer.outputs[0].datatype, &answer.outputs[0].shape), (DataType::Bytes, &vec![1, 3]));
    let scores = floats(&raw.outputs[0].data);
    let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("ten");
    let words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    assert_eq!(texts(&answer.outputs[0].data)[0], format!("{:.6}:{}:{}", best.1, best.0, words[best.0]));
    classes.outputs = wanted(&[(&output, 1000)]);
    assert_eq!(ask(&engine, classes).expect("an answer").outputs[0].shape, [1, 10]);
}
