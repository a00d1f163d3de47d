//! The reference arithmetic against the Akida 1.0 vectors: potentials, activations and floats, bit for bit.

use akida_runtime::{
    edge,
    model::{Activation, Conv, ConvKind, Input, LayerKind, Model, Target, Tensor, Weights},
    reference::{Reference, Rules},
};
use akida_tests::akida1::{Chain, cases, chain, npz};
use ndarray::Axis;

fn values<T: Copy>(array: &ndarray::ArrayD<T>, sample: usize) -> Vec<T> {
    array.index_axis(Axis(0), sample).iter().copied().collect()
}

fn wide(values: &[i32]) -> Vec<i64> {
    values.iter().map(|&v| v.into()).collect()
}

#[test]
fn every_layer_and_chain() {
    let mut compared = 0;
    for (file, params) in cases() {
        let Chain { model, inputs, outputs, potentials, predict } = chain(&file, &params);
        let mut reference = Reference::new(&model, Rules::Chip);
        // The same layer without activation gives its potentials.
        let mut bare = model.clone();
        if potentials.is_some() {
            match &mut bare.layers[0].kind {
                LayerKind::Conv(conv) => conv.activation = Activation::None,
                LayerKind::Dense(dense) => dense.activation = Activation::None,
                other => panic!("{file}: {other:?}"),
            }
            (bare.layers[0].output.bits, bare.layers[0].output.signed) = (32, true);
            bare.validate().unwrap_or_else(|e| panic!("{file}: {e}"));
        }
        let mut bare = Reference::new(&bare, Rules::Chip);
        for sample in 0..inputs.len_of(Axis(0)) {
            let input: Vec<u8> = values(&inputs, sample).into_iter().map(|v| v as u8).collect();
            let tensors = reference.run(&input).unwrap_or_else(|e| panic!("{file}: {e}"));
            for (index, expected) in outputs.iter().enumerate().filter(|(_, array)| sample < array.len_of(Axis(0))) {
                assert_eq!(
                    wide(&tensors[index + 1]),
                    values(expected, sample),
                    "{file}, layer {index}, sample {sample}"
                );
                compared += tensors[index + 1].len();
            }
            if let Some(expected) = &potentials {
                let found = bare.run(&input).unwrap_or_else(|e| panic!("{file}: {e}"));
                assert!(wide(&found[1]) == values(expected, sample), "{file}, potentials, sample {sample}");
                compared += found[1].len();
            }
            if let Some(expected) = &predict {
                let output = &model.outputs[0];
                let tensor = model.tensor(output.tensor);
                let found = edge::dequantize(&model, output, &tensors[output.tensor]);
                let found: Vec<f32> = found.into_iter().collect();
                let bits = |v: &f32| v.to_bits();
                let found: Vec<u32> = tensor.layout.to_chip(&found, tensor.shape).iter().map(bits).collect();
                let expected: Vec<u32> = values(expected, sample).iter().map(bits).collect();
                assert!(found == expected, "{file}, floats, sample {sample}");
            }
        }
    }
    println!("{compared} integers are equal");
    assert!(compared > 100_000, "only {compared} integers were compared");
}

/// Every row as a filter of its own: the weight is 0, the bias is the potential.
#[test]
fn every_row_of_the_activation_table() {
    let mut npz = npz("activation_table.npz");
    let [potential, threshold, bits, expected] =
        ["potential", "threshold", "act_bits", "activation"].map(|key| npz.integers(key).into_raw_vec_and_offset().0);
    let steps = npz.floats("act_step").into_raw_vec_and_offset().0;
    let mut compared = 0;
    for width in [1, 2, 4] {
        let rows: Vec<usize> = (0..bits.len()).filter(|&row| bits[row] == i64::from(width)).collect();
        let conv = Conv {
            bias: rows.iter().map(|&row| potential[row] as i32).collect(),
            activation: Activation::Steps {
                threshold: rows.iter().map(|&row| threshold[row] as i32).collect(),
                step_16ths: rows.iter().map(|&row| (steps[row] * 16.0).floor() as u32).collect(),
            },
            ..Conv::new(ConvKind::Input, Weights::new(8, [rows.len(), 1, 1, 1], &vec![0; rows.len()]))
        };
        let mut model = Model::new("table", Target::Akd1000, Input::integers(Tensor::new("x", [1, 1, 1], 8, false)));
        let last = model.push("rows", LayerKind::Conv(Box::new(conv)), &[0], width).expect("within the limits");
        model.output("y", last, None);
        let found = Reference::new(&model, Rules::Chip).run(&[0]).expect("one byte");
        for (&row, &found) in rows.iter().zip(&found[1]) {
            assert_eq!(
                i64::from(found),
                expected[row],
                "row {row}: {} {} {}",
                potential[row],
                threshold[row],
                steps[row]
            );
        }
        compared += rows.len();
    }
    assert_eq!(compared, expected.len(), "every row has 1, 2 or 4 bits");
}
