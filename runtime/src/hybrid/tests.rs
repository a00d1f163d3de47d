//! Files and invariants of networks of several parts.

use std::sync::Arc;

use super::*;
use crate::model::{Blob, FormatError, ModelError, sample};

/// A board part, and a segment that takes all it gives.
fn network() -> HybridModel {
    let mut whole = HybridModel::of(sample::akida2());
    let inputs = whole.parts[0].outputs();
    let output = Port { name: "class".into(), dims: vec![1, 1], elements: Elements::I64 };
    let operation =
        Operation { name: "/ArgMax".into(), op: "ArgMax".into(), rule: "a layer".into(), found: "ArgMax".into() };
    whole.parts.push(Part::Host(Segment {
        name: "host segment 1".into(),
        format: "test".into(),
        inputs,
        outputs: vec![output.clone()],
        operations: vec![operation],
        data: Blob::new(b"not for this crate to know".to_vec()),
    }));
    whole.outputs = vec![output];
    whole
}

fn bytes_of(network: &HybridModel) -> Vec<u8> {
    let mut bytes = Vec::new();
    network.write(&mut bytes).expect("memory takes every write");
    bytes
}

fn broken(change: impl FnOnce(&mut HybridModel)) -> ModelError {
    let mut network = network();
    change(&mut network);
    network.validate().expect_err("broken")
}

fn segment(network: &mut HybridModel) -> &mut Segment {
    match &mut network.parts[1] {
        Part::Host(segment) => segment,
        Part::Board(_) => panic!("the second part is a segment"),
    }
}

#[test]
fn what_is_written_is_read() {
    let network = network();
    network.validate().expect("valid");
    let bytes = bytes_of(&network);
    assert_eq!(bytes[8], 2, "version");
    let read = HybridModel::read(Blob::new(bytes.clone())).expect("just written");
    assert_eq!(read, network);
    assert_eq!(bytes_of(&read), bytes, "the same network has the same bytes");
    assert!(matches!(Model::read(Blob::new(bytes)), Err(FormatError::Hybrid)));
}

/// A model knows its output by its place; a network by its name.
#[test]
fn one_model_whose_output_is_called_as_its_input_is_refused() {
    let mut model = sample::akida2();
    model.outputs[0].name = model.input.name.clone();
    let mut bytes = Vec::new();
    model.write(&mut bytes).expect("memory takes every write");
    let error = HybridModel::read(Blob::new(bytes)).expect_err("refused");
    assert!(
        matches!(error, FormatError::Model(ref error) if error.to_string().contains("another tensor")),
        "{error:?}"
    );
}

#[test]
fn one_model_is_written_as_a_model() {
    let model = sample::akida2();
    let bytes = bytes_of(&HybridModel::of(model.clone()));
    assert_eq!(bytes[8], 1, "version");
    assert_eq!(Model::read(Blob::new(bytes.clone())).expect("a model"), model);
    assert_eq!(HybridModel::read(Blob::new(bytes)).expect("a network").whole(), Some(&model));
}

#[test]
fn every_cut_and_every_flipped_bit_of_a_few_is_refused() {
    let bytes = bytes_of(&network());
    for len in 0..bytes.len() {
        assert!(HybridModel::read(Blob::new(bytes[..len].to_vec())).is_err(), "cut at {len}");
    }
    for bit in (0..bytes.len() * 8).step_by(41) {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(HybridModel::read(Blob::new(bytes)).is_err(), "bit {bit}");
    }
}

#[test]
fn broken_networks_are_refused_by_name() {
    let huge = || Port::floats("class", [1, usize::MAX, 3]);
    for (error, names) in [
        (broken(|n| n.parts.clear()), "parts is 0"),
        (broken(|n| n.parts.truncate(1)), "class"),
        (broken(|n| drop(n.parts.remove(0))), "all on the host"),
        (broken(|n| n.parts.swap(0, 1)), "is made by no part before it"),
        (broken(|n| n.outputs.clear()), "outputs is 0"),
        (broken(|n| n.outputs[0].elements = Elements::F32), "network output class"),
        (broken(|n| n.outputs[0].dims[0] = 2), "batch of 1"),
        (broken(|n| n.input.name.clear()), "name is empty"),
        (broken(|n| segment(n).inputs[0].dims.push(2)), "other dimensions"),
        (broken(|n| segment(n).outputs.clear()), "outputs is 0"),
        (broken(|n| segment(n).data = Blob::default()), "bytes is 0"),
        (broken(|n| segment(n).format.clear()), "is empty"),
        (broken(|n| segment(n).outputs[0] = huge()), "elements"),
        (broken(|n| segment(n).outputs[0].name = n_input()), "that of another tensor"),
        (broken(|n| n.target = Target::Akd1000), "target"),
    ] {
        assert!(error.to_string().contains(names), "{error}: {names}");
    }
}

fn n_input() -> String {
    network().input.name
}

#[test]
fn what_crosses_is_counted() {
    let network = network();
    let model = sample::akida2();
    let boundaries = network.boundaries();
    assert_eq!(boundaries.len(), 1 + model.outputs.len());
    assert_eq!((boundaries[0].direction, boundaries[0].bytes), (Direction::HostToBoard, 8 * 8 * 3));
    assert!(boundaries[1..].iter().all(|b| b.direction == Direction::BoardToHost));
}

/// Engines are shared between sessions.
#[test]
fn engines_are_shared() {
    fn shared<T: Send + Sync + ?Sized>() {}
    shared::<dyn HostEngine>();
    shared::<Arc<HybridModel>>();
}
