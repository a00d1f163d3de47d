//! Chains of Akida 1.0 layers, programmed into simulated meshes by packets, against the vectors of
//! tests/data/conformance/akida1.

mod programs;

use std::fs::File;
use std::path::PathBuf;

use akida_hal::mesh::Mesh as Topology;
use akida_hal::np::*;
use ndarray::{ArrayD, Axis};
use ndarray_npy::{NpzReader, ReadableElement};
use serde_json::Value;

use programs::{Board, Records, Whole, conv};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/conformance/akida1")
}

struct Vectors(NpzReader<File>);

impl Vectors {
    fn open(name: &str) -> Self {
        let path = folder().join(name);
        let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(NpzReader::new(file).expect("a zip of arrays"))
    }

    fn get<T: ReadableElement + Clone>(&mut self, name: &str) -> ArrayD<T> {
        self.0
            .by_name(&format!("{name}.npy"))
            .or_else(|_| self.0.by_name(name))
            .unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

fn flat<T: Clone>(array: ArrayD<T>) -> Vec<T> {
    array.as_standard_layout().iter().cloned().collect()
}

fn filters_first(weights: ArrayD<i8>) -> Vec<i8> {
    flat(weights.permuted_axes(vec![3, 0, 1, 2]))
}

fn size(value: &Value) -> u16 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no size")) as u16
}

fn shape(value: &Value) -> [u16; 3] {
    [0, 1, 2].map(|i| size(&value[i]))
}

fn place(n: u16, k: u16, s: u16, same: bool) -> (u16, u8) {
    if same {
        let out = n.div_ceil(s);
        (out, (((out - 1) * s + k).saturating_sub(n) / 2) as u8)
    } else {
        ((n - k) / s + 1, 0)
    }
}

/// One layer of a chain.
fn whole(v: &mut Vectors, p: &Value, id: u8, last: bool) -> Whole {
    let name = |what: &str| format!("l{}_{what}", id - 1);
    let (input, output) = (shape(&p["input_shape"]), shape(&p["output_shape"]));
    let same = p["padding"] == "same";
    let mut np = conv(id, input, output);
    np.input_signed = false;
    np.input_bits = size(&p["input_bits"]) as u8;
    np.weight_bits = size(&p["weights_bits"]) as u8;
    np.accumulator_bits = 32;
    if last {
        np.destination = Destination::Output(OutputFormat::Dense);
    }
    let kind = p["type"].as_str().expect("a layer type");
    let mut weights = v.get::<i8>(&name("weights"));
    let mut pointwise = Vec::new();
    match kind {
        "FullyConnected" => {
            np.op = Op::Dense;
            np.inputs = Span { origin: 0, len: input.iter().product() };
            (np.kernel, np.pad, np.conv) = ([1, 1], [0, 0], [1, 1]);
        }
        _ => {
            let [kernel, stride] = ["kernel", "stride"].map(|k| size(&p[k]));
            let axes = [0, 1].map(|a| place(input[a], kernel, stride, same));
            np.kernel = [kernel as u8; 2];
            np.stride = [stride as u8; 2];
            np.conv = axes.map(|(n, _)| n);
            np.pad = axes.map(|(_, pad)| pad);
            np.pad_value = [p["padding_value"].as_u64().unwrap_or(0) as u8; 3];
            if kind == "SeparableConvolutional" {
                np.op = Op::Separable;
                np.pointwise_bits = np.weight_bits;
                weights = weights.permuted_axes(vec![2, 3, 0, 1]);
                pointwise = filters_first(v.get(&name("weights_pw")));
            }
        }
    }
    np.pool = match p["pool"].as_str() {
        Some("max") => {
            let pair = |k: &str| [0, 1].map(|a| size(&p[k][a]));
            let (window, step) = (pair("pool_size"), pair("pool_stride"));
            let pad = [0, 1].map(|a| place(np.conv[a], window[a], step[a], same).1);
            Pool::Max { size: window.map(|v| v as u8), stride: step.map(|v| v as u8), pad }
        }
        Some("average") => Pool::Global,
        _ => Pool::None,
    };
    let mut records = Records::None;
    match p["act_bits"].as_u64() {
        Some(bits) => {
            (np.activation, np.output_bits, np.output_signed) = (Activation::Steps, bits as u8, false);
            let threshold = flat(v.get::<i32>(&name("threshold")));
            let step = flat(v.get::<f32>(&name("act_step")));
            let record = |(&threshold, &step): (&i32, &f32)| ThresholdRecord {
                threshold,
                step_16ths: (f64::from(step) * 16.0).floor() as u32,
            };
            records = Records::Thresholds(threshold.iter().zip(&step).map(record).collect());
        }
        None => np.output_bits = 32,
    }
    let weights = if kind == "SeparableConvolutional" { flat(weights) } else { filters_first(weights) };
    Whole { pointwise, hrc: kind == "InputConvolutional", ..Whole::new(np, weights, records) }
}

#[test]
fn chains_equal_the_vectors_on_both_chips() {
    let manifest: Value =
        serde_json::from_reader(File::open(folder().join("manifest.json")).expect("the manifest")).expect("JSON");
    let chains = manifest["chains"].as_array().expect("a list of chains");
    assert!(chains.len() >= 14);
    for chain in chains {
        let file = chain["file"].as_str().expect("a file name");
        let mut v = Vectors::open(file);
        let layers = chain["params"]["layers"].as_array().expect("layers");
        let x = v.get::<u8>("x");
        let wholes: Vec<Whole> =
            (1..).zip(layers).map(|(id, p)| whole(&mut v, p, id, usize::from(id) == layers.len())).collect();
        let last = layers.len() - 1;
        let potentials = layers[last]["act_bits"].is_null();
        let expected: Vec<i32> = if potentials {
            flat(v.get::<i32>(&format!("l{last}_potentials")))
        } else {
            flat(v.get::<u8>(&format!("l{last}_activations"))).into_iter().map(i32::from).collect()
        };
        for (topology, cut) in [
            (Topology::akd1000(), [1, 1, 1]),
            (Topology::akd1000(), [2, 1, 1]),
            (Topology::akd1000(), [1, 2, 2]),
            (Topology::akd1500(), [1, 1, 1]),
        ] {
            let mut board = Board::new(topology);
            let chip = board.mesh.topology().version;
            for whole in &wholes {
                let pieces = [0, 1, 2].map(|a| if whole.hrc { 1 } else { cut[a].min(whole.output[a]) });
                let whole = Whole { cut: pieces, ..whole.clone() };
                board.place(&whole).unwrap_or_else(|e| panic!("{file} on {chip}, cut {cut:?}: {e}"));
            }
            let network = board.mesh.network().unwrap_or_else(|e| panic!("{file} on {chip}, cut {cut:?}: {e}"));
            let got: Vec<i32> = x
                .axis_iter(Axis(0))
                .flat_map(|x| board.job(&network, &flat(x.to_owned())).unwrap_or_else(|e| panic!("{file}: {e}")))
                .collect();
            assert_eq!(got, expected, "{file} on {chip}, cut {cut:?}");
        }
    }
}
