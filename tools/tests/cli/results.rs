//! Numbers and files of runs: those of the conformance vectors, bit for bit.

use std::fs;

use akida_tools::arrays::{Array, npy_bytes};
use ndarray::{ArrayD, Axis, Slice};

use crate::support::*;

fn first(array: Array, count: usize) -> Array {
    let all = Slice::from(..count);
    match array {
        Array::F32(a) => Array::F32(a.slice_axis(Axis(0), all).to_owned()),
        Array::I32(a) => Array::I32(a.slice_axis(Axis(0), all).to_owned()),
        Array::I8(a) => Array::I8(a.slice_axis(Axis(0), all).to_owned()),
        Array::U8(a) => Array::U8(a.slice_axis(Axis(0), all).to_owned()),
        other => other,
    }
}

/// Pixels normalized by `--mean` and `--std`, and the same floats in a file: both are the reference's integers.
#[test]
fn floats_give_the_reference_integers() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let (out, npy) = (d.join("out.npz"), d.join("x.npy"));
    let count = 300;
    let digits = digits(d, count);
    let run = "{} --device sim:akida2 --input {} --output {} --raw";
    akida_run(&format!("{run} --mean 0.5 --std 0.5"), &[model(), &digits, &out]).ok();
    let reference = case("quantized_outputs.npz");
    assert_eq!(array(&out, "raw0"), first(array(&reference, "raw0"), count));
    assert_eq!(array(&out, "out0"), first(array(&reference, "out0"), count));

    let Array::U8(pixels) = array(&digits, "samples") else { panic!("uint8") };
    let floats = pixels.mapv(|p| (f32::from(p) / 255.0 - 0.5) / 0.5).insert_axis(Axis(1));
    fs::write(&npy, npy_bytes(&Array::F32(floats)).unwrap()).unwrap();
    akida_run(run, &[model(), &npy, &out]).ok();
    assert_eq!(array(&out, "raw0"), first(array(&reference, "raw0"), count));
}

/// Every layer's integers under its ONNX name, for the samples the vectors have.
#[test]
fn intermediates_are_the_reference_vectors() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.npz");
    let digits = digits(dir.path(), 4);
    let arguments = "{} --device sim:akida2 --input {} --mean 0.5 --std 0.5 --output {} --raw --intermediates --verify";
    akida_run(arguments, &[model(), &digits, &out]).ok();
    let vectors = case("intermediates.npz");
    for (name, key) in
        [("/2/MaxPool_output_0", "t1"), ("/4/Relu_output_0", "t2"), ("/8/Relu_output_0", "t3"), ("outputs", "t4")]
    {
        assert_eq!(array(&out, name), array(&vectors, key), "{name}");
    }
}

/// All roads for pixels end in the same integers.
#[test]
fn pixels_come_as_arrays_images_raw_bytes_and_directories() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let digits = digits(d, 3);
    let Array::U8(pixels) = array(&digits, "samples") else { panic!("uint8") };
    let nhwc = d.join("nhwc.npy");
    fs::write(&nhwc, npy_bytes(&Array::U8(pixels.clone().insert_axis(Axis(3)))).unwrap()).unwrap();
    let raw = d.join("digits.raw");
    fs::write(&raw, pixels.iter().copied().collect::<Vec<u8>>()).unwrap();
    let folder = d.join("images");
    fs::create_dir(&folder).unwrap();
    for (i, digit) in pixels.outer_iter().enumerate() {
        let image = image::GrayImage::from_raw(28, 28, digit.iter().copied().collect()).unwrap();
        image.save(folder.join(format!("{i}.png"))).unwrap();
    }
    let mut all: Vec<Array> = Vec::new();
    for input in [&digits, &nhwc, &raw, &folder] {
        let out = d.join("out.npz");
        akida_run("{} --device sim:akida2 --input {} --output {} --raw", &[model(), input, &out]).ok();
        all.push(array(&out, "raw0"));
    }
    assert!(all.iter().all(|a| *a == all[0]));
    let out = d.join("out.npz");
    akida_run("{} -d sim -i {} -o {} --raw", &[model(), &folder.join("0.png"), &out]).ok();
    assert_eq!(array(&out, "raw0"), first(all[0].clone(), 1));
}

/// The quantized ONNX file runs as its imported model does.
#[test]
fn a_quantized_onnx_file_runs_directly() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.npz"), dir.path().join("b.npz"));
    let digits = digits(dir.path(), 2);
    akida_run("{} -d sim:akida2 -i {} -o {}", &[model(), &digits, &a]).ok();
    akida_run("{} -d sim:akida2 -i {} -o {}", &[&case("quantized.onnx"), &digits, &b]).ok();
    assert_eq!(array(&a, "out0"), array(&b, "out0"));
}

/// Other boards of the target, other mappings, real time, interrupts: the same integers.
#[test]
fn every_way_to_run_gives_the_same_integers() {
    let dir = tempfile::tempdir().unwrap();
    let digits = digits(dir.path(), 3);
    for more in [
        "--device sim:akida2-2node",
        "--device sim:akida2 --sequences all",
        "--device sim:akida2 --nps minimal",
        "--device sim:akida2 --real-time",
        "--device sim:akida2 --interrupts --real-time",
        "--device sim:akida2 --jobs 1",
    ] {
        let ended = akida_run(&format!("{{}} --input {{}} --verify {more}"), &[model(), &digits]).ok();
        assert!(ended.out.contains("all 30 integers of 3 samples equal the reference"), "{more}: {}", ended.out);
    }
}

#[test]
fn text_names_the_board_and_shows_the_digit() {
    let dir = tempfile::tempdir().unwrap();
    let png = dir.path().join("digit.png");
    let digits = digits(dir.path(), 5);
    let arguments = "{} -d auto -i {} --picture always --show 0,2-3 --top 3 --statistics --save-image {}";
    let ended = akida_run(arguments, &[model(), &digits, &png]).ok();
    for part in ["SIMULATED board", "accuracy   1.0000 (5 of 5 right)", "sample 3: class 0, right", "█", "copy in"] {
        assert!(ended.out.contains(part), "{part:?} is not in:\n{}", ended.out);
    }
    assert!(!ended.out.contains('\x1b'), "no escape codes outside a terminal");
    assert!(ended.err.contains("auto chose sim:akida2"), "{}", ended.err);
    assert_eq!(image::open(&png).unwrap().width(), 28);
    let quiet = akida_run("{} -d auto -i {} -q", &[model(), &digits]).ok();
    assert_eq!(quiet.err, "");
    assert!(!quiet.out.contains('█') || quiet.out.contains("sample 0"));
}

#[test]
fn npy_goes_to_standard_output_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (digits, npy) = (digits(dir.path(), 2), dir.path().join("y.npy"));
    let mut command = command(env!("CARGO_BIN_EXE_akida-run"), "{} -d sim -i {} --format npy", &[model(), &digits]);
    fs::write(&npy, command.output().unwrap().stdout).unwrap();
    let Array::F32(scores) = akida_tools::arrays::read_file(&npy).unwrap() else { panic!("float32") };
    assert_eq!(scores.shape(), [2, 10]);
    assert_ne!(scores, ArrayD::<f32>::zeros(vec![2, 10]));
}

/// Nothing but the asked-for files is left in the directory.
#[test]
fn no_temporary_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let digits = digits(d, 1);
    let (out, text) = (d.join("out.npz"), d.join("labels.txt"));
    akida_run("{} -d sim -i {} -o {}", &[model(), &digits, &out]).ok();
    let before = fs::read(&out).unwrap();
    fs::write(&text, "11\n").unwrap();
    akida_run("{} -d sim -i {} -o {} --labels {}", &[model(), &digits, &out, &text]).expect(65, "10 classes");
    assert_eq!(fs::read(&out).unwrap(), before, "a refused run leaves the old file");
    assert_eq!(files(d), ["digits1.npz", "labels.txt", "out.npz"]);
}
