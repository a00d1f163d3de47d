//! Models on meshes: every output made exactly once, within the SRAM there is, the same bytes every time.

use std::collections::HashMap;

use akida_hal::mesh::{Mesh, NpTypes};
use akida_hal::np::{NpLayer, Op, Span};
use akida_hal::packet::packets;
use akida_runtime::mapping::{
    HardwareOutput, HardwareSequence, HostStep, MapError, MapOptions, Mapping, Mode, Sequence, Sequences, map,
};
use akida_runtime::model::{
    Activation, Conv, ConvKind, Dense, Input, LayerKind, Model, Pool, ScaleOut, Target, Tensor, Weights,
};
use akida_tests::generate;

fn meshes(target: Target) -> Vec<Mesh> {
    match target {
        Target::Akd1000 => vec![Mesh::akd1000()],
        Target::Akd1500 => vec![Mesh::akd1500()],
        Target::Akida2 => vec![Mesh::akida2_two_nodes(), Mesh::akida2_six_nodes()],
    }
}

fn scale(n: usize) -> Option<ScaleOut> {
    Some(ScaleOut { m: vec![200; n], k: vec![14; n] })
}

fn weights(shape: [usize; 4]) -> Weights {
    Weights::new(8, shape, &(0..shape.iter().product::<usize>()).map(|i| (i % 15) as i8 - 7).collect::<Vec<_>>())
}

/// The shapes of the tutorial network everybody starts from.
fn mnist_cnn() -> Model {
    let mut m = Model::new("mnist", Target::Akida2, Input::integers(Tensor::new("x", [28, 28, 1], 8, false)));
    let first = Conv {
        pads: [2; 4],
        pad_value: vec![128],
        pool: Pool::Max { size: [2; 2], stride: [2; 2], pads: [0; 4] },
        activation: Activation::ReluClipped(vec![1000; 32]),
        scale: scale(32),
        ..Conv::new(ConvKind::Input, weights([32, 5, 5, 1]))
    };
    m.push("/0/Conv", LayerKind::Conv(Box::new(first)), &[0], 8).unwrap();
    let second = Conv {
        stride: [2; 2],
        activation: Activation::Relu,
        scale: scale(64),
        ..Conv::new(ConvKind::Standard, weights([64, 3, 3, 32]))
    };
    m.push("/3/Conv", LayerKind::Conv(Box::new(second)), &[1], 8).unwrap();
    let third = Dense { activation: Activation::Relu, scale: scale(512), ..Dense::new(weights([512, 6, 6, 64])) };
    m.push("/7/Gemm", LayerKind::Dense(third), &[2], 8).unwrap();
    m.push("/10/Gemm", LayerKind::Dense(Dense::new(weights([10, 1, 1, 512]))), &[3], 32).unwrap();
    m.output("y", 4, None);
    m.validate().unwrap();
    m
}

fn inside(span: Span, n: usize) -> bool {
    span.len > 0 && span.origin as usize + span.len as usize <= n
}

fn range(span: Span) -> std::ops::Range<usize> {
    span.origin as usize..span.origin as usize + span.len as usize
}

/// Everything a mapping promises, checked from the outside.
fn check(model: &Model, mesh: &Mesh, mapping: &Mapping, what: &str) {
    let generation = mesh.version.generation();
    let mut done: Vec<usize> = Vec::new();
    for sequence in &mapping.sequences {
        match sequence {
            Sequence::Hardware(h) => {
                done.extend(&h.layers);
                check_hardware(model, mesh, h, generation, what);
            }
            Sequence::Host(h) => {
                for (step, reason) in &h.steps {
                    assert!(!reason.rule.is_empty() && !reason.value.is_empty(), "{what}");
                    match step {
                        HostStep::Layer(layer) => done.push(*layer),
                        HostStep::Finish { layer, .. } => assert!(done.contains(layer), "{what}"),
                    }
                }
            }
        }
    }
    // Every layer once, and in an order in which inputs are made first.
    let mut sorted = done.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), done.len(), "{what}");
    for (at, &layer) in done.iter().enumerate() {
        for &input in &model.layers[layer].inputs {
            assert!(input == 0 || done[..at].contains(&(input - 1)), "{what}: layer {layer} before tensor {input}");
        }
    }
    for &output in &mapping.outputs {
        assert!(output == 0 || done.contains(&(output - 1)), "{what}");
    }
}

fn check_hardware(model: &Model, mesh: &Mesh, h: &HardwareSequence, generation: u8, what: &str) {
    for (plan, pass) in h.passes.iter().zip(&h.program.passes) {
        let mut used = Vec::new();
        let mut made: HashMap<u8, Vec<&NpLayer>> = HashMap::new();
        for placed in &plan.placed {
            let (l, np) = (&placed.part, placed.np);
            assert!(!used.contains(&np), "{what}: {np} twice");
            used.push(np);
            if placed.kind.is_empty() {
                assert!(l.hrc_words(generation) * 4 <= mesh.sram.hrc as usize, "{what}");
            } else {
                let types = mesh.nps.iter().find(|(a, _)| *a == np).unwrap().1;
                assert!(types.contains(placed.kind), "{what}: {np} is no {:?}", placed.kind);
                assert!(l.packet_bytes() <= mesh.sram.packet as usize, "{what}: packet {}", l.packet_bytes());
                assert!(l.filter_bytes() <= mesh.sram.filter as usize, "{what}: filter {}", l.filter_bytes());
                assert!(l.parameter_bytes(generation) <= mesh.sram.parameter as usize, "{what}");
            }
            assert!(inside(l.in_rows, l.input[0].into()) && inside(l.in_columns, l.input[1].into()), "{what}: {l:?}");
            made.entry(l.layer).or_default().push(l);
        }
        // What is in the tracks is what the plan says. Of a pass among several, tracks are put together.
        assert!(h.passes.len() > 1 || pass.tracks.len() == plan.placed.len(), "{what}");
        let mut written: HashMap<_, [u32; akida_hal::np::registers::COUNT]> = HashMap::new();
        for packet in pass.tracks.iter().flat_map(|track| packets(&track.words)) {
            let packet = packet.expect("well-formed");
            let registers = written.entry(packet.header.target).or_insert([0; akida_hal::np::registers::COUNT]);
            if packet.header.uid == akida_hal::packet::Uid::Registers {
                registers[packet.header.start as usize..][..packet.payload.len()].copy_from_slice(packet.payload);
            }
        }
        assert_eq!(written.len(), plan.placed.len(), "{what}");
        for placed in &plan.placed {
            let registers = &written[&placed.np.into()];
            assert_eq!(NpLayer::from_registers(registers).unwrap().as_ref(), Some(&placed.part), "{what}");
        }
        for parts in made.values() {
            cover(parts, what);
        }
    }
    if let Some(plan) = h.passes.last() {
        // The last layer makes the output of the sequence.
        let last = parts_of_output(plan.placed.iter().map(|p| &p.part).collect());
        let elements: usize = last.iter().map(|l| volume(l)).sum();
        let port: usize = h.program.output.shape.iter().map(|&n| n as usize).product();
        assert_eq!(elements, port, "{what}");
        if let HardwareOutput::Tensor(t) = h.output {
            assert_eq!(h.program.output.shape.map(|n| n as usize), model.tensor(t).shape, "{what}");
        }
    }
}

fn parts_of_output(parts: Vec<&NpLayer>) -> Vec<&NpLayer> {
    let last = parts.iter().map(|l| l.layer).max().unwrap();
    parts.into_iter().filter(|l| l.layer == last).collect()
}

fn volume(l: &NpLayer) -> usize {
    range(l.out_rows).len() * range(l.out_columns).len() * range(l.filters).len()
}

/// Parts of one layer make every element of a box exactly once; slices of a dense layer take every input once per unit.
fn cover(parts: &[&NpLayer], what: &str) {
    let mut seen: HashMap<(usize, usize, usize), u32> = HashMap::new();
    for l in parts {
        for r in range(l.out_rows) {
            for c in range(l.out_columns) {
                for f in range(l.filters) {
                    *seen.entry((r, c, f)).or_default() += 1;
                }
            }
        }
    }
    assert!(seen.values().all(|&n| n == 1), "{what}: made twice: {parts:?}");
    let bounds = |axis: fn(&(usize, usize, usize)) -> usize| {
        let low = seen.keys().map(axis).min().unwrap();
        seen.keys().map(axis).max().unwrap() - low + 1
    };
    assert_eq!(seen.len(), bounds(|k| k.0) * bounds(|k| k.1) * bounds(|k| k.2), "{what}: holes");
    assert_eq!(seen.keys().map(|k| k.0).min().unwrap(), parts[0].crop[0] as usize, "{what}");
    assert_eq!(seen.keys().map(|k| k.1).min().unwrap(), parts[0].crop[1] as usize, "{what}");
    if parts[0].op == Op::Dense {
        let inputs: usize = parts[0].input.iter().map(|&n| n as usize).product();
        let mut slices: Vec<_> = parts.iter().map(|l| (l.inputs.origin, l.inputs.len)).collect();
        slices.sort_unstable();
        slices.dedup();
        let mut at = 0;
        for (origin, len) in slices {
            assert_eq!(origin as usize, at, "{what}");
            at += len as usize;
        }
        assert_eq!(at, inputs, "{what}");
    }
}

#[test]
fn random_models_keep_every_promise() {
    let (mut layers, mut on_board) = (0, 0);
    for target in [Target::Akida2, Target::Akd1000, Target::Akd1500] {
        for seed in 0..150 {
            let model = generate::model(target, seed);
            for mesh in meshes(target) {
                for mode in [Mode::Minimal, Mode::AllNps] {
                    let options = MapOptions { mode, sequences: Sequences::All, ..MapOptions::default() };
                    let what = format!("{target} seed {seed} {mode:?} {} NPs", mesh.nps.len());
                    let mapping = map(&model, &mesh, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
                    check(&model, &mesh, &mapping, &what);
                    assert_eq!(mapping, map(&model, &mesh, &options).unwrap(), "{what}");
                    layers += model.layers.len();
                    on_board += mapping.hardware().map(|h| h.layers.len()).sum::<usize>();
                    assert!(!mapping.text(&model).is_empty());
                    assert!(mapping.json(&model)["sequences"].is_array());
                }
            }
        }
    }
    assert!(on_board * 10 > layers * 6, "{on_board} of {layers} layers on the board");
}

#[test]
fn any_tensor_can_be_the_output() {
    for target in [Target::Akida2, Target::Akd1000] {
        for seed in 0..60 {
            let model = generate::model(target, seed);
            let mesh = Mesh::of(if target == Target::Akida2 {
                akida_hal::board::Chip::Akida2
            } else {
                akida_hal::board::Chip::Akd1000
            });
            for tensor in 0..=model.layers.len() {
                let options = MapOptions { upto: Some(tensor), ..MapOptions::default() };
                let what = format!("{target} seed {seed} tensor {tensor}");
                let mapping = map(&model, &mesh, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(mapping.outputs, [tensor]);
                check(&model, &mesh, &mapping, &what);
            }
            let beyond = MapOptions { upto: Some(model.layers.len() + 1), ..MapOptions::default() };
            assert!(matches!(map(&model, &mesh, &beyond), Err(MapError::NoSuchTensor { .. })));
        }
    }
}

/// The dense layer of 2304 inputs fills the six-node board to the last byte: 2048 inputs on the FNP2, 256 on the two
/// FNP3s.
#[test]
fn the_tutorial_network_is_one_sequence_on_six_nodes() {
    let (model, mesh) = (mnist_cnn(), Mesh::akida2_six_nodes());
    for mode in [Mode::Minimal, Mode::AllNps] {
        let mapping = map(&model, &mesh, &MapOptions { mode, ..MapOptions::default() }).unwrap();
        check(&model, &mesh, &mapping, "mnist_cnn");
        let hardware: Vec<_> = mapping.hardware().collect();
        assert_eq!(hardware.len(), 1, "{}", mapping.text(&model));
        assert_eq!(hardware[0].layers, [0, 1, 2]);
        assert_eq!(hardware[0].output, HardwareOutput::Slices { layer: 2, slices: 2 });
        assert_eq!(hardware[0].program.output.shape, [1, 1, 1024]);
        let dense: Vec<_> = hardware[0].passes[0].placed.iter().filter(|p| p.part.op == Op::Dense).collect();
        let kinds: Vec<_> = dense.iter().map(|p| (p.kind, p.part.inputs.len, p.sram.filter)).collect();
        assert_eq!(kinds, [(NpTypes::FNP2, 2048, 0), (NpTypes::FNP3, 256, 64 * 1024), (NpTypes::FNP3, 256, 64 * 1024)]);
        let host: Vec<_> = mapping.host_steps().map(|(s, r)| (*s, r.rule)).collect();
        assert_eq!(
            host,
            [(HostStep::Finish { layer: 2, slices: 2 }, "akida2.dense.inputs"), (HostStep::Layer(3), "host.cost"),]
        );
        let share = hardware[0].macs() as f64 / model.macs().iter().sum::<u64>() as f64;
        assert!(share > 0.99, "{share}");
    }
    let all = MapOptions { sequences: Sequences::All, ..MapOptions::default() };
    assert_eq!(map(&model, &mesh, &all).unwrap().hardware().count(), 2);
    // However many samples share its programming, moving its tensors takes longer than its few multiply-adds.
    let many = map(&model, &mesh, &MapOptions { batch: 1_000_000, ..MapOptions::default() }).unwrap();
    assert_eq!(many.hardware().count(), 1);
    match map(&model, &mesh, &MapOptions { hw_only: true, ..MapOptions::default() }) {
        Err(MapError::NotOnHardware { layer, reason }) => {
            assert_eq!((layer.as_str(), reason.rule), ("/7/Gemm", "akida2.dense.inputs"));
            assert!(reason.value.contains("2304"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    // One FNP3 is not enough for the rest: the two-node board leaves the layer to the host and says what was short.
    let two = map(&model, &Mesh::akida2_two_nodes(), &MapOptions::default()).unwrap();
    check(&model, &Mesh::akida2_two_nodes(), &two, "two nodes");
    let (_, reason) = two.host_steps().find(|(s, _)| s.layer() == 2).unwrap();
    assert_eq!(reason.rule, "mesh.nps.fnp3", "{reason}");
}

#[test]
fn a_slice_that_could_saturate_stays_on_the_host() {
    let mut m = Model::new("wide", Target::Akida2, Input::integers(Tensor::new("x", [3, 3, 1200], 8, true)));
    let shape = [2, 3, 3, 1200];
    let dense = |value: i8| Dense {
        scale: scale(2),
        ..Dense::new(Weights::new(8, shape, &vec![value; shape.iter().product()]))
    };
    m.push("d", LayerKind::Dense(dense(127)), &[0], 8).unwrap();
    m.output("y", 1, None);
    let mesh = Mesh::akida2_six_nodes();
    let (step, reason) = map(&m, &mesh, &MapOptions::default()).unwrap().host_steps().next().unwrap().clone();
    assert_eq!((step, reason.rule), (HostStep::Layer(0), "akida2.dense.saturation"));
    m.layers[0].kind = LayerKind::Dense(dense(90));
    // Within the bound; what is short now is FNPs.
    let (_, reason) = map(&m, &mesh, &MapOptions::default()).unwrap().host_steps().next().unwrap().clone();
    assert_eq!(reason.rule, "mesh.nps.fnp3");
}

#[test]
fn a_model_for_another_target_is_refused_by_name() {
    for (target, mesh, names) in [
        (Target::Akida2, Mesh::akd1000(), ["akida2", "akd1000"]),
        (Target::Akd1000, Mesh::akd1500(), ["akd1000", "akd1500"]),
        (Target::Akd1500, Mesh::akida2_six_nodes(), ["akd1500", "akida2"]),
    ] {
        let model = generate::model(target, 3);
        let error = map(&model, &mesh, &MapOptions::default()).unwrap_err();
        assert!(matches!(error, MapError::Target { .. }));
        assert!(names.iter().all(|n| error.to_string().contains(n)), "{error}");
    }
}
