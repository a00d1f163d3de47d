//! Random models of every kind of layer and option that a model can have, small enough to run in milliseconds. A model is
//! a function of its target and seed, so a failure is repeated by its number.
//!
//! Nothing is kept away from what a mesh cannot hold: such layers run on the host, between others on the board.
//! [`Census`] tells what was drawn and where it ran.

mod again;
mod akida1;
mod akida2;
mod builder;
mod census;
mod random;

pub use again::again;
pub use census::Census;
pub use random::Random;

use akida_runtime::model::{Model, Target};

/// A random model for a target, with one layer at least.
pub fn model(target: Target, seed: u64) -> Model {
    // Half of them fit, so that long pieces of networks are on a board.
    some(target, seed, Random::new(!seed).once_in(2))
}

/// A random model of options that chips have, mostly, and without layers that keep frames.
pub fn fitting(target: Target, seed: u64) -> Model {
    some(target, seed, true)
}

fn some(target: Target, seed: u64, fits: bool) -> Model {
    let try_with = |seed| match target {
        Target::Akida2 => akida2::model(seed, fits),
        _ => akida1::model(target, seed, fits),
    };
    // Layers that would break a rule of models are left out; rarely none is left.
    (0..).map(|attempt: u64| try_with(seed + (attempt << 32))).find(|m| !m.layers.is_empty()).expect("endless seeds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_valid_and_functions_of_their_seed() {
        for target in [Target::Akida2, Target::Akd1000, Target::Akd1500] {
            let mut census = Census::default();
            for seed in 0..300 {
                let model = model(target, seed);
                model.validate().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                assert_eq!(model, super::model(target, seed));
                census.add(&model, |_| true);
            }
            assert_eq!(census.missing(target), [""; 0], "{census}");
        }
    }
}
