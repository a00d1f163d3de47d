//! What `--statistics` says of a network on its chip: sparsity, measured, and cycles and energy, estimated.

use akida_runtime::estimate::{Densities, Estimate, estimate};
use akida_runtime::mapping::Mapping;
use akida_runtime::model::Model;
use serde::Serialize;

use crate::exit::Failure;

/// Of this many samples at most, the first ones: more change nothing, and each is computed once more on the host.
const SAMPLES: usize = 256;

/// One board part.
#[derive(Clone, Debug, Serialize)]
pub struct Activity {
    /// Number of the part of the network.
    pub part: usize,
    /// Samples that sparsity was measured on.
    pub samples: usize,
    /// By layer.
    pub layers: Vec<LayerSparsity>,
    /// Zeros among all activations of all layers.
    pub mean_sparsity_fraction: f64,
    /// Of one inference on the chip, host layers left out; null where there is none.
    pub estimate: Option<Estimate>,
    /// Why not.
    pub no_estimate: Option<&'static str>,
}

/// One layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerSparsity {
    /// Its name.
    pub layer: String,
    /// Zeros among the elements of its output.
    pub sparsity_fraction: f64,
}

impl Activity {
    /// Measures the samples that ran.
    pub fn of(part: usize, model: &Model, mapping: &Mapping, inputs: &[Vec<u8>]) -> Result<Self, Failure> {
        let densities = Densities::measure(model, inputs.iter().take(SAMPLES).map(Vec::as_slice))?;
        let sizes = model.layers.iter().map(|l| l.output.elements() as f64);
        let sparsity: Vec<f64> = (1..=model.layers.len()).map(|tensor| 1.0 - densities.of(tensor)).collect();
        let zeros: f64 = sizes.clone().zip(&sparsity).map(|(size, share)| size * share).sum();
        let (estimate, no_estimate) = match estimate(model, mapping, &densities) {
            Ok(estimate) => (Some(estimate), None),
            Err(why) => (None, Some(why)),
        };
        Ok(Self {
            part,
            samples: densities.samples,
            layers: model
                .layers
                .iter()
                .zip(&sparsity)
                .map(|(layer, &sparsity_fraction)| LayerSparsity { layer: layer.name.clone(), sparsity_fraction })
                .collect(),
            mean_sparsity_fraction: zeros / sizes.sum::<f64>().max(1.0),
            estimate,
            no_estimate,
        })
    }
}
