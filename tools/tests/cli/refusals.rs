//! Bad input is refused with its place and leaves no file.

use std::fs;
use std::path::Path;

use akida_tools::arrays::{Array, npy_bytes};
use akida_tools::exit::Exit;
use ndarray::ArrayD;

use crate::support::*;

const DATA: i32 = Exit::Data as i32;

fn save(path: &Path, array: Array) {
    fs::write(path, npy_bytes(&array).unwrap()).unwrap();
}

#[test]
fn wrong_shapes_and_types_name_what_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    let x = dir.path().join("x.npy");
    let f32s = |shape: &[usize]| Array::F32(ArrayD::zeros(shape));
    let u8s = |shape: &[usize]| Array::U8(ArrayD::zeros(shape));
    let cases = [
        (f32s(&[2, 28, 28, 1]), "float32 (2, 28, 28, 1)"),
        (f32s(&[28, 28]), "float32 (28, 28)"),
        (u8s(&[2, 27, 28, 1]), "uint8 (2, 27, 28, 1)"),
        (u8s(&[0, 28, 28, 1]), "no samples"),
        (Array::F64(ArrayD::zeros(vec![1, 1, 28, 28])), "float64 (1, 1, 28, 28)"),
        (Array::I32(ArrayD::zeros(vec![1, 28, 28, 1])), "int32 (1, 28, 28, 1)"),
        (Array::F32(ArrayD::from_elem(vec![1, 1, 28, 28], f32::NAN)), "NaN at (0, 0, 0, 0)"),
    ];
    for (array, said) in cases {
        save(&x, array);
        let ended = akida_run("{} --device sim --input {}", &[model(), &x]).expect(DATA, said);
        if !said.contains("samples") && !said.contains("NaN") {
            let expected = "the model takes float32 (N, 1, 28, 28) or uint8 (N, 28, 28, 1)";
            assert!(ended.err.contains(expected), "{}", ended.err);
        }
    }
}

#[test]
fn damaged_models_are_refused_wherever_they_are_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (bad, digits) = (dir.path().join("bad.akm"), digits(dir.path(), 1));
    let good = fs::read(model()).unwrap();
    let step = good.len() / 40;
    for cut in (0..good.len()).step_by(step) {
        fs::write(&bad, &good[..cut]).unwrap();
        akida_run("{} --device sim --input {}", &[&bad, &digits]).expect(DATA, "bad.akm");
    }
    for at in (0..good.len()).step_by(step) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        fs::write(&bad, &flipped).unwrap();
        akida_convert("show {}", &[&bad]).expect(DATA, "bad.akm");
    }
}

#[test]
fn malformed_onnx_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.akm");
    let mut files: Vec<_> = fs::read_dir(malformed()).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "onnx"));
    assert_eq!(files.len(), 20);
    for file in files {
        let ended = akida_convert("import {} --target akida2 -o {}", &[&file, &out]);
        assert_eq!(ended.code, DATA, "{}: {}", file.display(), ended.err);
        assert!(!out.exists());
    }
}

#[test]
fn a_model_for_another_target_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (digits, out) = (digits(dir.path(), 1), dir.path().join("out.akm"));
    for board in ["akd1000", "akd1500"] {
        let arguments = format!("{{}} --device sim:{board} --input {{}}");
        let ended = akida_run(&arguments, &[model(), &digits]).expect(DATA, "made for akida2");
        assert!(ended.err.contains(board), "{}", ended.err);
        akida_convert(&format!("check {{}} --target {board}"), &[model()]).expect(DATA, "made for akida2");
        let import = format!("import {{}} --target {board} -o {{}}");
        akida_convert(&import, &[&case("quantized.onnx"), &out]).expect(DATA, "quantized for akida2");
    }
    assert!(!out.exists());
}

#[test]
fn float_and_quantized_networks_are_not_mixed_up() {
    let dir = tempfile::tempdir().unwrap();
    let (digits, out) = (digits(dir.path(), 1), dir.path().join("out.akm"));
    akida_convert("import {} --target akida2 -o {}", &[&case("model.onnx"), &out]).expect(DATA, "not quantized");
    akida_run("{} --device sim --input {}", &[&case("model.onnx"), &digits]).expect(DATA, "not quantized");
    akida_convert(
        "quantize {} --target akida2 --samples {} -o {}",
        &[&case("quantized.onnx"), &case("calib.npz"), &out],
    )
    .expect(DATA, "quantized already");
    assert!(!out.exists());
}

#[test]
fn labels_must_belong_to_samples_and_classes() {
    let dir = tempfile::tempdir().unwrap();
    let (digits, labels) = (digits(dir.path(), 3), dir.path().join("labels.txt"));
    for (text, said) in
        [("7\n2\n", "2 labels for 3 samples"), ("7\n2\n10\n", "10 classes"), ("7\nx\n1\n", "labels.txt:2")]
    {
        fs::write(&labels, text).unwrap();
        akida_run("{} --device sim --input {} --labels {}", &[model(), &digits, &labels]).expect(DATA, said);
    }
}

/// What was asked for cannot be had on hardware alone: refused, and the layer named.
#[test]
fn hw_only_names_the_layer_that_stands_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let (digits, out) = (digits(dir.path(), 1), dir.path().join("out.npz"));
    let mapped = akida_convert("map {}", &[model()]).ok();
    let ended = akida_run("{} --device sim --input {} --hw-only --output {}", &[model(), &digits, &out]);
    if mapped.out.contains("(Software)") {
        assert_eq!(ended.code, DATA, "{}", ended.err);
        assert!(ended.err.contains("Gemm"), "{}", ended.err);
        assert!(!out.exists());
    } else {
        assert_eq!(ended.code, 0, "{}", ended.err);
    }
}
