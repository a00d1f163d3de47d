//! Comparison of a model with its float network: what is broken on purpose is found.

mod support;

use akida_converter::calibrate::Calibration;
use akida_converter::compare::{CompareError, Comparison, compare};
use akida_converter::onnx::{self, Graph};
use akida_converter::{akida1, convert};
use akida_runtime::model::{LayerKind, Model, Target, Weights};
use ndarray::{ArrayD, Axis, Slice};
use support::{Case, samples};

/// The prepared float network and 10 of its calibration samples.
fn float(name: &str) -> (Case, Graph, ArrayD<f32>) {
    let case = Case::load(name);
    let samples = samples(&case).slice_axis(Axis(0), Slice::from(..10)).to_owned();
    let graph = onnx::load(&case.model()).unwrap();
    let prepared = akida_converter::prepare::prepare(graph, Some(&samples.shape()[1..])).unwrap().0;
    (case, prepared, samples)
}

fn akida2(case: &Case, samples: &ArrayD<f32>) -> Model {
    let converted =
        convert(&case.model(), &Calibration::Samples(samples.view()), &case.options(), &mut |_, _| {}).unwrap();
    converted.network.whole().expect("a network without host segments").clone()
}

/// Puts the filters of a layer in the opposite order.
fn damage(model: &mut Model, layer: usize) -> bool {
    let weights = match &mut model.layers[layer].kind {
        LayerKind::Conv(conv) => &mut conv.weights,
        LayerKind::Dense(dense) => &mut dense.weights,
        _ => return false,
    };
    let mixed: Vec<i8> = (0..weights.filters()).rev().flat_map(|f| weights.filter(f).to_vec()).collect();
    *weights = Weights::new(weights.bits, weights.shape, &mixed);
    true
}

fn run(prepared: &Graph, model: &Model, samples: &ArrayD<f32>) -> Comparison {
    compare(prepared, model, samples.view(), &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn the_damaged_layer_is_ranked_first() {
    for name in ["mnist_cnn", "resnet8"] {
        let (case, prepared, samples) = float(name);
        let good = akida2(&case, &samples);
        let sound = run(&prepared, &good, &samples);
        assert!(sound.outputs[0].top1 >= 0.9 && sound.outputs[0].cosine > 0.999, "{:?}", sound.outputs);
        assert!(sound.layers.iter().all(|l| l.noise < 0.05), "{name}: {:?}", sound.ranking()[0]);
        let mut found = 0;
        for layer in 0..good.layers.len() {
            let mut bad = good.clone();
            // A layer whose output is not in the float network, or whose sums are another's input, cannot be told.
            if sound.without_counterpart.contains(&bad.layers[layer].name) || !damage(&mut bad, layer) {
                continue;
            }
            let broken = run(&prepared, &bad, &samples);
            assert_eq!(broken.ranking()[0].layer, good.layers[layer].name, "{name}: {:?}", broken.ranking());
            found += 1;
        }
        assert!(found >= 4, "{name}: {found} layers");
    }
}

#[test]
fn networks_for_akida_1_are_compared_too() {
    let (case, prepared, samples) = float("mnist_cnn");
    let options = akida1::Options::new(Target::Akd1000);
    let good = akida1::convert(&case.model(), samples.view(), &options, &mut |_, _| {}).unwrap().model;
    let sound = run(&prepared, &good, &samples);
    assert!(sound.outputs[0].top1 > 0.9, "{:?}", sound.outputs);
    let mut bad = good.clone();
    assert!(damage(&mut bad, 1));
    assert_eq!(run(&prepared, &bad, &samples).ranking()[0].layer, good.layers[1].name);
}

#[test]
fn strangers_are_told() {
    let (case, _, samples) = float("mnist_cnn");
    let (_, other, _) = float("lenet5");
    let mut model = akida2(&case, &samples);
    model.layers.iter_mut().for_each(|l| l.output.name.push_str("/renamed"));
    let result = compare(&other, &model, samples.view(), &mut |_, _| {});
    assert!(matches!(result, Err(CompareError::NothingInCommon { layers: 4 })), "{result:?}");
}
