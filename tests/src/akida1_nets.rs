//! Trained networks for Akida 1.0 with digits and the accuracy of a peer (tests/data/conformance/akida1_nets and its
//! README).

use std::path::PathBuf;

use ndarray::{ArrayD, Axis};
use serde_json::Value;

use crate::conformance::{Case, root};

/// One network.
pub struct Net {
    /// Its folder's name.
    pub name: String,
    /// The float network.
    pub model: PathBuf,
    /// Calibration samples, (batch, 1, height, width).
    pub calibration: ArrayD<f32>,
    /// `test` and, for most, `test_hard`: the same digits, moved, faded and noisy.
    pub tests: Vec<Test>,
    manifest: Value,
}

/// Digits to recognize.
pub struct Test {
    /// Name of the set.
    pub name: &'static str,
    /// (batch, 1, height, width).
    pub samples: ArrayD<f32>,
    /// The digits.
    pub labels: Vec<usize>,
}

/// Names of all networks.
pub const NAMES: [&str; 4] = ["mnist_cnn", "vgg_mnist", "vgg_digits8", "dscnn_mnist"];

/// Reads a network.
pub fn net(name: &str) -> Net {
    let folder = root().join("akida1_nets").join(name);
    let file = folder.join("manifest.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let manifest: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let case = Case { name: name.to_owned(), folder: folder.clone(), json: Value::Null };
    let mut npz = case.npz("data.npz").unwrap_or_else(|| panic!("{name}: data.npz is missing"));
    let number = |key: &str| manifest["input"][key].as_f64().unwrap_or_else(|| panic!("{name}: no {key}")) as f32;
    let (mean, deviation) = (number("mean"), number("std"));
    let mut floats = |key: &str| npz.floats(key).mapv(|byte| (byte - mean) / deviation).insert_axis(Axis(1));
    let calibration = floats("calibration");
    let hard = manifest["images"]["test_hard"].as_u64().unwrap_or(0) > 0;
    let sets = ["test", "test_hard"].into_iter().take(1 + usize::from(hard));
    let samples: Vec<_> = sets.map(|set| (set, floats(set))).collect();
    let labels: Vec<usize> = npz.integers("labels").iter().map(|&label| label as usize).collect();
    let test = |(name, samples)| Test { name, samples, labels: labels.clone() };
    let model = folder.join(manifest["model"].as_str().unwrap_or("model.onnx"));
    let tests = samples.into_iter().map(test).collect();
    Net { name: name.to_owned(), model, calibration, tests, manifest }
}

impl Net {
    /// Correct answers of the float network on a set.
    pub fn float(&self, set: &str) -> usize {
        self.manifest["float"][set][0].as_u64().unwrap_or(0) as usize
    }

    /// Correct answers of the peer on a set, at bits such as `8/4/4`, calibrated on the same 128 images: the best of its
    /// integer graph and of that on Akida 1.0 layers.
    pub fn peer(&self, bits: &str, set: &str) -> usize {
        let results = |kind: &str| self.manifest["peer"][kind].as_object().or(self.manifest[kind].as_object()).cloned();
        let ours = |results: serde_json::Map<String, Value>| {
            let same = results.into_iter().filter(|(key, _)| key.starts_with(&format!("{bits} n128 ")));
            same.filter_map(|(_, value)| value[set][0].as_u64()).max()
        };
        ["keras", "akida1"].into_iter().filter_map(|kind| results(kind).and_then(ours)).max().unwrap_or(0) as usize
    }
}

/// How many rows of (batch, classes) have their largest value at the label.
pub fn correct(outputs: &ArrayD<f32>, labels: &[usize]) -> usize {
    let largest = |row: ndarray::ArrayViewD<f32>| {
        row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &v)| if v > best.1 { (i, v) } else { best }).0
    };
    outputs.outer_iter().zip(labels).filter(|(row, label)| largest(row.view()) == **label).count()
}
