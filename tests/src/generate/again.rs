//! A layer whose output can be its input again, for programs of several passes.

use akida_runtime::model::{Activation, Conv, ConvKind, Input, LayerKind, Model, ScaleOut, Target, Tensor, Weights};

use super::Random;

/// A convolution 3x3 of random weights that makes 8x8x4 of 8x8x4, signed; without an activation, so that it makes negative values too,
/// for each odd seed.
pub fn again(seed: u64) -> Model {
    let mut model = Model::new("again", Target::Akida2, Input::integers(Tensor::new("x", [8, 8, 4], 8, true)));
    let mut random = Random::new(seed);
    let values: Vec<i8> = (0..4 * 3 * 3 * 4).map(|_| random.between(-60, 90) as i8).collect();
    let conv = Conv {
        pads: [1; 4],
        activation: if seed.is_multiple_of(2) { Activation::Relu } else { Activation::None },
        scale: Some(ScaleOut { m: vec![150, 170, 190, 210], k: vec![-14; 4] }),
        ..Conv::new(ConvKind::Standard, Weights::new(8, [4, 3, 3, 4], &values))
    };
    model.push("conv", LayerKind::Conv(Box::new(conv)), &[0], 8).expect("a layer");
    model.output("y", 1, None);
    model.validate().expect("a model");
    model
}
