//! The known-answer network of `akida-ctl selftest` and of services: one small layer, in the generation of the board's chip.

use std::sync::Arc;

use akida_hal::Board;
use akida_hal::board::Chip;
use akida_hal::device::{Device, DeviceOptions};
use akida_runtime::model::{
    Activation, Conv, ConvKind, Input, LayerKind, Model, ModelError, ScaleOut, Target, Tensor, Weights,
};
use akida_runtime::session::{Session, SessionError, SessionOptions};

use crate::exit::{Exit, Failure};

/// Filters of the layer, and channels of its input.
const FILTERS: usize = 4;
/// Known inputs that are run.
pub const SAMPLES: usize = 8;

/// Runs the network and compares every integer with the reference. `None` on silicon, whose encoding is not public.
pub fn run(board: Arc<dyn Board>) -> Result<Option<String>, Failure> {
    let chip = board.identity().chip;
    let model =
        network(chip).map_err(|e| Failure::because(Exit::Internal, "the known network", &e, "please report it"))?;
    let device = Device::open(board, DeviceOptions::default())?;
    let options = SessionOptions { self_test: SAMPLES, ..SessionOptions::default() };
    match Session::open(Arc::new(model), device, options) {
        Ok(_) => Ok(Some(format!("{SAMPLES} inputs, every integer"))),
        Err(SessionError::UnknownEncoding { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A 3x3 convolution of 8 x 8 x 4 values, whose outputs are spread over their range.
///
/// # Errors
/// None that a board could cause: the network is always the same.
pub fn network(chip: Chip) -> Result<Model, ModelError> {
    let (target, bits) = match chip {
        Chip::Akd1000 => (Target::Akd1000, 4),
        Chip::Akd1500 => (Target::Akd1500, 4),
        _ => (Target::Akida2, 8),
    };
    let (low, high) = Weights::range(bits);
    let span = i32::from(high) - i32::from(low) + 1;
    let weight = |i: i32| (i32::from(low) + (i * i * 7 + i * 13 + 5) % 251 % span) as i8;
    let values: Vec<i8> = (0..(FILTERS * 9 * FILTERS) as i32).map(weight).collect();
    let weights = Weights::new(bits, [FILTERS, 3, 3, FILTERS], &values);
    let (activation, scale) = match target {
        Target::Akida2 => (Activation::Relu, Some(ScaleOut { m: vec![150, 170, 190, 210], k: vec![17; FILTERS] })),
        _ => (Activation::Steps { threshold: vec![-300, -100, 0, 100], step_16ths: vec![700, 800, 900, 1000] }, None),
    };
    let conv = Conv { pads: [1; 4], activation, scale, ..Conv::new(ConvKind::Standard, weights) };
    let input = Input::integers(Tensor::new("x", [8, 8, FILTERS], bits, false));
    let mut model = Model::new("known answer", target, input);
    let y = model.push("conv", LayerKind::Conv(Box::new(conv)), &[0], bits)?;
    model.output("y", y, None);
    model.validate()?;
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use akida_runtime::reference::{Reference, Rules};

    /// An answer of zeros, or of the largest value only, would test nothing.
    #[test]
    fn answers_are_spread() {
        for chip in [Chip::Akd1000, Chip::Akd1500, Chip::Akida2] {
            let model = network(chip).expect("a model");
            let levels = 1u32 << model.tensor(0).bits;
            let input: Vec<u8> = (0..256u32).map(|i| (i * i * 31 % levels) as u8).collect();
            let output = Reference::new(&model, Rules::Chip).run(&input).expect("fits").swap_remove(1);
            let values: std::collections::BTreeSet<i32> = output.iter().copied().collect();
            assert!(values.len() > 4, "{chip:?}: {values:?}");
        }
    }
}
