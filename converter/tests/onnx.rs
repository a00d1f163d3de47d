//! The ONNX reader and writer on files of the conformance data.

use std::path::{Path, PathBuf};

use akida_converter::onnx::{self, Attribute};

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/conformance").join(path)
}

/// What the error of each damaged file must contain. None would mean that the file is accepted.
const MALFORMED: [(&str, &str); 20] = [
    ("01_empty.onnx", "no graph"),
    ("02_truncated_10pct.onnx", "not an ONNX model"),
    ("03_truncated_50pct.onnx", "not an ONNX model"),
    ("04_truncated_last_byte.onnx", "not an ONNX model"),
    ("05_bitflip_1.onnx", "node 'Conv_4' (Conv): it reads 'u2'"),
    ("06_bitflip_2.onnx", "not an ONNX model"),
    ("07_random_bytes.onnx", "not an ONNX model"),
    ("08_text.onnx", "not an ONNX model"),
    ("09_huge_dim.onnx", "tensor 'w0': dimensions [1099511627776, "),
    ("10_negative_dim.onnx", "tensor 'w0': dimension -8 is negative"),
    ("11_dim_overflow.onnx", "tensor 'w0': dimensions ["),
    ("12_short_raw_data.onnx", "tensor 'w0': dimensions [8, 3, 3, 3] of FLOAT need 864 bytes, it has 860"),
    ("13_cycle.onnx", "node 'Conv_1' (Conv): it reads 'conv_4', which node 'Conv_4' makes later"),
    ("14_missing_initializer.onnx", "node 'Conv_1' (Conv): it reads 'w0'"),
    ("15_duplicate_output.onnx", "it makes 'conv_1', which exists already"),
    ("16_int64_weights.onnx", "its constant 'w0' has type INT64, FLOAT is needed"),
    ("17_external_traversal.onnx", "'../../etc/passwd' is not inside the model's folder"),
    ("18_external_absolute.onnx", "'/etc/passwd' is not inside the model's folder"),
    ("19_no_graph.onnx", "no graph"),
    ("20_deep_nesting.onnx", "the depth of nested messages is 25, the limit is 24"),
];

#[test]
fn malformed_files_are_refused_with_the_place() {
    let listed = std::fs::read_dir(data("malformed"))
        .unwrap()
        .filter(|f| f.as_ref().unwrap().file_name().to_string_lossy().ends_with(".onnx"));
    assert_eq!(listed.count(), MALFORMED.len());
    for (file, expected) in MALFORMED {
        let path = data("malformed").join(file);
        let error = onnx::load(&path).expect_err(file).to_string();
        assert!(error.contains(expected), "{file}: {error}");
        assert!(error.contains(file), "{file}: the error does not name the file: {error}");
    }
}

#[test]
fn every_truncation_and_many_bit_flips_end_in_a_result() {
    let whole = std::fs::read(data("malformed/04_truncated_last_byte.onnx")).unwrap();
    for end in 0..whole.len() {
        let _ = onnx::parse(whole[..end].to_vec().into(), "cut", None);
    }
    for bit in (0..whole.len() * 8).step_by(7) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = onnx::parse(bytes.into(), "flipped", None);
    }
}

#[test]
fn a_written_graph_reads_back_the_same() {
    for case in ["mnist_cnn/model.onnx", "mnist_cnn/quantized.onnx"] {
        let graph = onnx::load(&data(case)).unwrap();
        let again = onnx::parse(graph.to_bytes().unwrap().into(), "again", None).unwrap();
        assert!(graph == again, "{case}");
    }
}

#[test]
fn graphs_print_as_the_onnx_package_prints_them() {
    let graph = onnx::load(&data("mnist_cnn/quantized.onnx")).unwrap();
    let expected = std::fs::read_to_string(data("mnist_cnn/quantized.graph.txt")).unwrap();
    assert_eq!(format!("{graph}\n"), expected);
    assert_eq!(graph.functions.len(), 6);
}

#[test]
fn nodes_attributes_and_constants_are_those_of_the_file() {
    let graph = onnx::load(&data("mnist_cnn/model.onnx")).unwrap();
    let conv = graph.node("/0/Conv").unwrap();
    assert_eq!(conv.ints("kernel_shape"), Some(&[5, 5][..]));
    assert_eq!(conv.attributes["group"], Attribute::Int(1));
    assert_eq!(graph.initializers["0.weight"].dims(), [32, 1, 5, 5]);
    assert_eq!(graph.initializers["0.weight"].values::<f32>("0.weight").unwrap().len(), 800);
    assert!(graph.initializers["0.weight"].values::<i8>("0.weight").unwrap_err().to_string().contains("0.weight"));
    assert_eq!(graph.inputs[0].ty.without_batch(), Some(vec![1, 28, 28]));
}

#[test]
fn external_data_is_read_from_the_models_folder_only() {
    let folder = std::env::temp_dir().join(format!("akida-external-{}", std::process::id()));
    let outside = folder.with_extension("outside");
    std::fs::create_dir_all(&folder).unwrap();
    let model = std::fs::read(data("malformed/17_external_traversal.onnx")).unwrap();
    let at = model.windows(16).position(|w| w == b"../../etc/passwd").unwrap();
    let with = |name: &[u8; 16]| {
        let mut bytes = model.clone();
        bytes[at..at + 16].copy_from_slice(name);
        std::fs::write(folder.join("m.onnx"), bytes).unwrap();
        onnx::load(&folder.join("m.onnx"))
    };
    let values: Vec<u8> = (0..216).flat_map(|i| (i as f32).to_le_bytes()).collect();
    std::fs::write(folder.join("weights_here.bin"), &values).unwrap();
    let graph = with(b"weights_here.bin").unwrap();
    assert_eq!(graph.initializers["w0"].values::<f32>("w0").unwrap()[215], 215.0);

    assert!(with(b"weights_gone.bin").unwrap_err().to_string().contains("weights_gone.bin"));
    std::fs::write(folder.join("weights_shrt.bin"), &values[..860]).unwrap();
    assert!(with(b"weights_shrt.bin").unwrap_err().to_string().contains("has 860 bytes, 864 are needed"));
    std::fs::write(&outside, &values).unwrap();
    std::os::unix::fs::symlink(&outside, folder.join("weights_link.bin")).unwrap();
    assert!(with(b"weights_link.bin").unwrap_err().to_string().contains("leaves the model's folder"));
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::remove_file(&outside).unwrap();
}
