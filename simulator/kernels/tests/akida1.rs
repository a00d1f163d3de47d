//! Single layers of Akida 1.0 against the vectors of tests/data/conformance/akida1, whole and cut into tiles.

mod sets;

use std::fs::File;
use std::path::PathBuf;

use akida_kernels::*;
use ndarray::{ArrayD, Axis};
use ndarray_npy::{NpzReader, ReadableElement};
use serde_json::Value;

use sets::sets;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/conformance/akida1")
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

    fn params(&mut self) -> Value {
        serde_json::from_slice(&flat(self.get::<u8>("params"))).expect("JSON")
    }
}

fn flat<T: Clone>(array: ArrayD<T>) -> Vec<T> {
    array.as_standard_layout().iter().cloned().collect()
}

/// (kh, kw, channels, neurons) to (neurons, kh, kw, channels).
fn filters_first(weights: ArrayD<i8>) -> Vec<i8> {
    flat(weights.permuted_axes(vec![3, 0, 1, 2]))
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no size")) as usize
}

fn shape(value: &Value) -> [usize; 3] {
    [0, 1, 2].map(|i| size(&value[i]))
}

/// (output size, rows before) of SAME or VALID.
fn place(n: usize, k: usize, s: usize, same: bool) -> (usize, usize) {
    if same {
        let out = n.div_ceil(s);
        (out, ((out - 1) * s + k).saturating_sub(n) / 2)
    } else {
        ((n - k) / s + 1, 0)
    }
}

fn spec(p: &Value, activation: Activation, output_bits: u8) -> (LayerSpec, [usize; 3]) {
    let (input, output) = (shape(&p["input_shape"]), shape(&p["output_shape"]));
    let dense = p["type"] == "FullyConnected";
    let same = p["padding"] == "same";
    let axis = |a: usize| if dense { (1, 0) } else { place(input[a], size(&p["kernel"]), size(&p["stride"]), same) };
    let axes = [axis(0), axis(1)];
    let conv = axes.map(|(n, _)| n);
    let pool = match p["pool"].as_str() {
        Some("max") => {
            let (window, step) = ([0, 1].map(|a| size(&p["pool_size"][a])), [0, 1].map(|a| size(&p["pool_stride"][a])));
            Pool::Max { size: window, stride: step, pad: [0, 1].map(|a| place(conv[a], window[a], step[a], same).1) }
        }
        Some("average") => Pool::Global { after_activation: false },
        _ => Pool::None,
    };
    let geometry = if dense {
        Geometry { input: [1, 1, input.iter().product()], kernel: [1; 2], stride: [1; 2], pad: [0; 2], conv: [1; 2] }
    } else {
        let [kernel, stride] = ["kernel", "stride"].map(|k| [size(&p[k]); 2]);
        Geometry { input, kernel, stride, pad: axes.map(|(_, pad)| pad), conv }
    };
    let kind = if p["type"] == "SeparableConvolutional" { Kind::Separable } else { Kind::Standard };
    let pad_value = p["padding_value"].as_u64().filter(|v| *v != 0).map_or(Vec::new(), |v| vec![v as u8; input[2]]);
    let spec = LayerSpec {
        kind,
        geometry,
        input_bits: size(&p["input_bits"]) as u8,
        input_signed: false,
        pad_value,
        pool,
        tile: Tile { rows: 0..output[0], columns: 0..output[1], filters: 0..output[2] },
        finish: Finish {
            arithmetic: Arithmetic::Chip { accumulator_bits: 32 },
            bias: Vec::new(),
            activation,
            scale: None,
            output_bits,
            output_signed: output_bits == 32,
        },
    };
    (spec, output)
}

fn run(layer: &Layer, x: &[u8], input: [usize; 3]) -> Vec<i32> {
    let view = View::whole(x, input).expect("the case's input");
    let mut scratch = Scratch::default();
    let len = layer.tile().len();
    if layer.output_bits() > 8 {
        let mut out = vec![0; len];
        layer.run(&view, &mut scratch, Output::Words(&mut out)).expect("a run");
        out
    } else {
        let mut out = vec![0; len];
        layer.run(&view, &mut scratch, Output::Bytes(&mut out)).expect("a run");
        out.into_iter().map(i32::from).collect()
    }
}

fn steps(v: &mut Vectors) -> Steps {
    let step_16ths = flat(v.get::<f32>("act_step")).iter().map(|s| (f64::from(*s) * 16.0).floor() as u32).collect();
    Steps { threshold: flat(v.get("threshold")), step_16ths }
}

#[test]
fn single_layers_equal_the_vectors() {
    let manifest: Value =
        serde_json::from_reader(File::open(folder().join("manifest.json")).expect("the manifest")).expect("JSON");
    let cases = manifest["single"].as_array().expect("a list of cases");
    assert!(cases.len() > 100, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["file"].as_str().expect("a file name");
        let mut v = Vectors::open(name);
        let p = v.params();
        let x = v.get::<u8>("x");
        let main = v.get::<i8>("weights");
        let (main, pointwise) = if p["type"] == "SeparableConvolutional" {
            (flat(main.permuted_axes(vec![2, 3, 0, 1])), filters_first(v.get("weights_pw")))
        } else {
            (filters_first(main), Vec::new())
        };
        let mut variants = vec![(Activation::None, 32, flat(v.get::<i32>("potentials")))];
        if let Some(bits) = p["act_bits"].as_u64() {
            let expected = flat(v.get::<u8>("activations")).into_iter().map(i32::from).collect();
            variants.push((Activation::Steps(steps(&mut v)), bits as u8, expected));
        }
        for (activation, bits, expected) in variants {
            let (spec, output) = spec(&p, activation, bits);
            let weights = Weights { main: &main, pointwise: &pointwise };
            for kernels in sets().iter().copied() {
                let layer = Layer::prepare(spec.clone(), weights, kernels).unwrap_or_else(|e| panic!("{name}: {e}"));
                let input = spec.geometry.input;
                let got: Vec<i32> =
                    x.axis_iter(Axis(0)).flat_map(|x| run(&layer, &flat(x.to_owned()), input)).collect();
                if got != expected {
                    wrong.push(format!("{name}, {bits} bits, {}", kernels.name()));
                }
            }
            // The lower half alone.
            let rows = output[0] / 2..output[0];
            let tile = Tile { rows: rows.clone(), ..spec.tile.clone() };
            let layer = Layer::prepare(LayerSpec { tile, ..spec.clone() }, weights, best()).expect("a tile of a layer");
            let row = output[1] * output[2];
            let first = run(&layer, &flat(x.index_axis(Axis(0), 0).to_owned()), spec.geometry.input);
            if first != expected[rows.start * row..rows.end * row] {
                wrong.push(format!("{name}, {bits} bits, lower half"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ: {wrong:#?}", wrong.len());
}

#[test]
fn steps_equal_the_activation_table() {
    let mut v = Vectors::open("activation_table.npz");
    let potential = flat(v.get::<i32>("potential"));
    let bits = flat(v.get::<u8>("act_bits"));
    let expected = flat(v.get::<u8>("activation"));
    let steps = steps(&mut v);
    for b in [1, 2, 4] {
        let rows: Vec<usize> = (0..bits.len()).filter(|&i| bits[i] == b).collect();
        assert!(rows.len() > 1000);
        // No weights: the potential is the bias.
        let activation = Activation::Steps(Steps {
            threshold: rows.iter().map(|&i| steps.threshold[i]).collect(),
            step_16ths: rows.iter().map(|&i| steps.step_16ths[i]).collect(),
        });
        let spec = LayerSpec {
            kind: Kind::Standard,
            geometry: Geometry { input: [1; 3], kernel: [1; 2], stride: [1; 2], pad: [0; 2], conv: [1; 2] },
            input_bits: 8,
            input_signed: false,
            pad_value: Vec::new(),
            pool: Pool::None,
            tile: Tile { rows: 0..1, columns: 0..1, filters: 0..rows.len() },
            finish: Finish {
                arithmetic: Arithmetic::Chip { accumulator_bits: 32 },
                bias: rows.iter().map(|&i| potential[i]).collect(),
                activation,
                scale: None,
                output_bits: b,
                output_signed: false,
            },
        };
        let weights = Weights { main: &vec![0; rows.len()], pointwise: &[] };
        let layer = Layer::prepare(spec, weights, scalar()).expect("a layer of steps");
        let got = run(&layer, &[0], [1; 3]);
        for (got, i) in got.into_iter().zip(rows) {
            assert_eq!(
                got,
                i32::from(expected[i]),
                "potential {}, threshold {}, step {}/16, {b} bits",
                potential[i],
                steps.threshold[i],
                steps.step_16ths[i]
            );
        }
    }
}
