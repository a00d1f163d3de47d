use super::{finish::scale_out, *};
use crate::model::{Activation, Conv, ConvKind, Dense, LayerKind, Pool, ScaleOut, Target, Weights, sample};

#[test]
fn scale_out_rounds_half_up_and_saturates() {
    for (a, m, k, expected) in [
        (1, 1, 1, 1),   // 0.5
        (-1, 1, 1, 0),  // -0.5
        (3, 1, 1, 2),   // 1.5
        (-3, 1, 1, -1), // -1.5
        (5, 255, 8, 5), // 4.98
        (1000, 128, 7, 127),
        (-1000, 128, 7, -128),
        (3, 2, 0, 6),
        (3, 2, -2, 24),
        (1, 1, -31, 127),
        (i64::from(i32::MAX), 1, 32, 0), // 0.4999...
        (1 << 32, 1, 32, 1),
    ] {
        assert_eq!(scale_out(a, m, k, 8, Rules::Graph), expected, "{a} * {m} / 2^{k}");
    }
    // The chip's product saturates at 32 bits: 2^31 - 1 instead of 2^24 * 255, divided by 2^25.
    assert_eq!(scale_out(1 << 24, 255, 25, 8, Rules::Graph), 127);
    assert_eq!(scale_out(1 << 24, 255, 25, 8, Rules::Chip), 64);
    assert_eq!(scale_out(-(1 << 24), 255, 25, 8, Rules::Chip), -64);
    assert_eq!(scale_out(600, 1, 0, 11, Rules::Chip), 600);
    assert_eq!(scale_out(6000, 1, 0, 11, Rules::Chip), 1023);
}

/// A dense layer with one weight of 1 and this activation, on one input byte.
fn one_weight(activation: Activation, bits: u8) -> Model {
    let input = crate::model::Input::integers(Tensor::new("x", [1, 1, 1], 8, false));
    let mut model = Model::new("one", Target::Akd1000, input);
    let dense = Dense { activation, ..Dense::new(Weights::new(2, [1, 1, 1, 1], &[1])) };
    let last = model.push("dense", LayerKind::Dense(dense), &[0], bits).expect("valid");
    model.output("y", last, None);
    model
}

#[test]
fn steps_are_open_below_and_closed_above() {
    // (potential, threshold, step in 1/16, bits, activation)
    for (potential, threshold, step_16ths, bits, expected) in [
        (10, 10, 16, 4, 0),
        (11, 10, 16, 4, 1),
        (12, 10, 16, 4, 2),
        (9, 10, 16, 4, 0),
        (200, 10, 16, 4, 15),
        (13, 10, 40, 4, 2), // 3 / 2.5
        (15, 10, 40, 4, 2), // 5 / 2.5
        (16, 10, 40, 4, 3), // 6 / 2.5
        (20, 10, 40, 2, 1), // 10 / (2.5 * 4)
        (21, 10, 40, 2, 2),
        (255, 10, 40, 2, 3),
        (11, 10, 40, 1, 1),
        (0, -1, 1, 4, 15), // 1 / (1/16), held
    ] {
        let model = one_weight(Activation::Steps { threshold: vec![threshold], step_16ths: vec![step_16ths] }, bits);
        let tensors = Reference::new(&model, Rules::Chip).run(&[potential]).expect("one byte");
        assert_eq!(tensors[1], [expected], "{potential}, {threshold}, {step_16ths}/16, {bits} bits");
    }
}

#[test]
fn chip_and_graph_differ_where_the_accumulator_saturates() {
    let input = crate::model::Input::integers(Tensor::new("x", [1, 1, 20_000], 8, true));
    let mut model = Model::new("wide", Target::Akida2, input);
    let dense = Dense { bias: vec![7], ..Dense::new(Weights::new(8, [1, 1, 1, 20_000], &[127; 20_000])) };
    let last = model.push("dense", LayerKind::Dense(dense), &[0], 32).expect("valid");
    model.output("y", last, None);
    let run = |rules| Reference::new(&model, rules).run(&[127; 20_000]).expect("right length")[1][0];
    assert_eq!(run(Rules::Graph), 127 * 127 * 20_000 + 7);
    // The sum saturates, then the bias is added.
    assert_eq!(run(Rules::Chip), (1 << 27) - 1 + 7);
}

#[test]
fn global_pool_stands_before_the_activation_on_v1_and_after_it_on_v2() {
    let conv = |target, activation, scale| {
        let input = crate::model::Input::integers(Tensor::new("x", [1, 2, 1], 8, false));
        let mut model = Model::new("pool", target, input);
        let conv = Conv {
            pool: Pool::Global,
            bias: vec![-10],
            activation,
            scale,
            ..Conv::new(ConvKind::Standard, Weights::new(2, [1, 1, 1, 1], &[1]))
        };
        let bits = if target == Target::Akida2 { 8 } else { 4 };
        let last = model.push("conv", LayerKind::Conv(Box::new(conv)), &[0], bits).expect("valid");
        model.output("y", last, None);
        Reference::new(&model, Rules::Chip).run(&[1, 15]).expect("two bytes")[1][0]
    };
    // Sums -9 and 5: their sum is -4, activated 0; activated first they are 0 and 5.
    let steps = Activation::Steps { threshold: vec![0], step_16ths: vec![16] };
    assert_eq!(conv(Target::Akd1500, steps, None), 0);
    assert_eq!(conv(Target::Akida2, Activation::Relu, Some(ScaleOut { m: vec![1], k: vec![0] })), 5);
}

#[test]
fn every_tensor_has_its_shape_and_range() {
    for model in sample::all() {
        let mut reference = Reference::new(&model, Rules::Chip);
        let input: Vec<u8> = (0..model.input.tensor.elements()).map(|i| (i * 91) as u8).collect();
        let tensors = reference.run(&input).expect("right length");
        assert_eq!(tensors.len(), model.layers.len() + 1);
        for (id, values) in tensors.iter().enumerate() {
            let tensor = model.tensor(id);
            let (min, max) = tensor.range();
            assert_eq!(values.len(), tensor.elements(), "{}", tensor.name);
            assert!(values.iter().all(|v| (min..=max).contains(v)), "{}", tensor.name);
            assert!(values.iter().any(|&v| v != values[0]), "{} says nothing: {values:?}", tensor.name);
        }
    }
}

#[test]
fn temporal_layers_remember_until_reset() {
    let model = sample::temporal();
    let mut reference = Reference::new(&model, Rules::Chip);
    let input = [3; 12];
    let first = reference.run(&input).expect("right length");
    let second = reference.run(&input).expect("right length");
    assert_ne!(first, second, "the second frame sees the first");
    assert!(matches!(reference.run(&[0; 11]), Err(InputError::Length { found: 11, expected: 12, .. })));
    reference.reset();
    assert_eq!(reference.run(&input).expect("right length"), first);
}

#[test]
fn values_beyond_the_bits_are_refused() {
    let input = crate::model::Input::integers(Tensor::new("x", [1, 1, 2], 4, false));
    let mut model = Model::new("small", Target::Akd1000, input);
    let last = model.push("dense", LayerKind::Dense(Dense::new(Weights::new(2, [1, 1, 1, 2], &[1, 1]))), &[0], 32);
    model.output("y", last.expect("valid"), None);
    let error = Reference::new(&model, Rules::Chip).run(&[15, 16]).expect_err("16 has five bits");
    assert!(matches!(error, InputError::Range { index: 1, value: 16, max: 15, .. }), "{error}");
}

#[test]
fn long_sums_are_exact() {
    let (x, weights) = (vec![255; 200_000], vec![-128; 200_000]);
    assert_eq!(dot(&x, &weights), -255 * 128 * 200_000);
}
