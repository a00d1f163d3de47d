//! From pixels to what the network was trained on.

use ndarray::{ArrayD, IxDyn};

use super::Expected;
use crate::exit::{Exit, Failure};

/// `(pixel / 255 - mean) / std` in float32, in this order; one mean and deviation for all channels or one per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalize {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Normalize {
    /// Values as given to `--mean` and `--std`.
    pub fn new(mean: &[f32], std: &[f32]) -> Result<Self, Failure> {
        let usage = |message: String| {
            Failure::new(Exit::Usage, message, "for example --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225")
        };
        if mean.is_empty() || std.is_empty() || (mean.len() != std.len() && mean.len() != 1 && std.len() != 1) {
            return Err(usage(format!("{} means do not go with {} deviations", mean.len(), std.len())));
        }
        if let Some(bad) = mean.iter().chain(std).find(|v| !v.is_finite()).or(std.iter().find(|v| **v == 0.0)) {
            return Err(usage(format!("{bad} cannot be used to normalize")));
        }
        Ok(Self { mean: mean.to_vec(), std: std.to_vec() })
    }

    /// Pixels (batch, height, width, channels) to floats in the network's layout.
    pub fn apply(&self, pixels: &ArrayD<u8>, expected: &Expected) -> Result<ArrayD<f32>, Failure> {
        let channels = expected.shape[2];
        let given = self.mean.len().max(self.std.len());
        if given != 1 && given != channels {
            return Err(Failure::new(
                Exit::Usage,
                format!("--mean and --std have {given} values, the model has {channels} channels"),
                "give one value, or one per channel",
            ));
        }
        let of = |values: &[f32], channel: usize| values[if values.len() == 1 { 0 } else { channel }];
        let mut floats = pixels.map(|&p| f32::from(p));
        for (channel, mut plane) in floats.axis_iter_mut(ndarray::Axis(3)).enumerate() {
            let (mean, std) = (of(&self.mean, channel), of(&self.std, channel));
            plane.mapv_inplace(|p| (p / 255.0 - mean) / std);
        }
        let batch = pixels.shape()[0];
        let floats = if expected.layout.is_channels_first() {
            floats.permuted_axes(IxDyn(&[0, 3, 1, 2])).as_standard_layout().into_owned()
        } else {
            floats
        };
        let mut shape = vec![batch];
        shape.extend(expected.float_shape());
        floats
            .into_shape_with_order(shape)
            .map_err(|e| Failure::because(Exit::Internal, "cannot normalize", &e, "please report this"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use akida_runtime::model::OnnxLayout;

    #[test]
    fn the_order_of_operations_is_that_of_the_conformance_data() {
        let one = Expected { shape: [1, 256, 1], layout: OnnxLayout::Nchw, signed: false };
        let pixels = ArrayD::from_shape_vec(vec![1, 1, 256, 1], (0..=255u8).collect()).unwrap();
        for (mean, std) in [(0.5f32, 0.5f32), (0.1307, 0.3081)] {
            let floats = Normalize::new(&[mean], &[std]).unwrap().apply(&pixels, &one).unwrap();
            assert_eq!(floats.shape(), [1, 1, 1, 256]);
            for (u8, &x) in floats.iter().enumerate() {
                assert_eq!(x.to_bits(), ((u8 as f32 / 255.0 - mean) / std).to_bits());
            }
        }
    }

    #[test]
    fn channels_move_to_the_front_with_their_own_numbers() {
        let rgb = Expected { shape: [1, 2, 3], layout: OnnxLayout::Nchw, signed: false };
        let pixels = ArrayD::from_shape_vec(vec![1, 1, 2, 3], vec![0u8, 51, 255, 255, 102, 0]).unwrap();
        let floats = Normalize::new(&[0.0, 0.2, 1.0], &[1.0, 2.0, 0.5]).unwrap().apply(&pixels, &rgb).unwrap();
        assert_eq!(floats.shape(), [1, 3, 1, 2]);
        assert_eq!(floats.as_slice().unwrap(), [0.0, 1.0, 0.0, 0.1, 0.0, -2.0]);
    }

    #[test]
    fn numbers_that_cannot_normalize_are_refused() {
        let nan = f32::NAN;
        for (mean, std) in [
            (&[][..], &[1.0][..]),
            (&[0.1, 0.2], &[1.0, 1.0, 1.0]),
            (&[nan], &[1.0]),
            (&[0.5], &[0.0]),
            (&[0.5], &[nan]),
        ] {
            assert_eq!(Normalize::new(mean, std).unwrap_err().exit, Exit::Usage, "{mean:?} {std:?}");
        }
        let rgb = Expected { shape: [1, 1, 3], layout: OnnxLayout::Nchw, signed: false };
        let two = Normalize::new(&[0.1, 0.2], &[1.0]).unwrap();
        assert_eq!(two.apply(&ArrayD::zeros(vec![1, 1, 1, 3]), &rgb).unwrap_err().exit, Exit::Usage);
    }
}
