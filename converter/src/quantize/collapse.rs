//! Parameters the reference computes although nothing right can come of them (quantization.md 9.1.4 and 9.1.10): here
//! they are refused.

use super::QuantizeError;
use super::layer::{Kind, Layer};
use super::parameters::Context;
use super::weights::Weights;

/// The largest weight of a layer must reach this part of its integers' range: of 8 bits, 4 must be left.
const LEAST: f64 = 1.0 / 16.0;

impl Context<'_> {
    /// Amplitudes are floored at 2^-16, so weights far below it lose their bits, and with them the layer its output.
    pub(super) fn check_amplitude(
        &self,
        layer: &Layer,
        weights: &Weights,
        floats: &[f32],
    ) -> Result<(), QuantizeError> {
        let largest = weights.values.iter().map(|w| w.unsigned_abs()).max().unwrap_or(0);
        let float = floats.iter().fold(0f32, |largest, w| largest.max(w.abs()));
        let least = (layer.widths.weight_levels() * LEAST).round().max(1.0) as u8;
        if float == 0.0 || largest >= least {
            return Ok(());
        }
        let rule = format!("its largest weight must become at least {least} over an amplitude floor of 2^-16");
        let found = format!("{float:e} becomes {largest}");
        Err(self.refuse(layer, rule, found, "Scale its weights up and those of the next layer down, then export again"))
    }

    /// A first layer on int8 pads with 0, whatever the graph pads with.
    pub(super) fn check_padding(&self, layer: &Layer) -> Result<(), QuantizeError> {
        let Some(pad) = layer.pad.filter(|_| layer.kind != Kind::Conv { input: true }) else { return Ok(()) };
        let name = self.graph.nodes[pad].input(2).unwrap_or_default();
        let values = match self.graph.initializers.get(name) {
            Some(tensor) => tensor.values::<f32>(name)?,
            None => Vec::new(),
        };
        match values.iter().find(|&&value| value != 0.0) {
            None => Ok(()),
            Some(value) => {
                let rule = "padding on an int8 input must be zero".to_owned();
                let found = format!("the folded normalization pads with {value}");
                Err(self.refuse(layer, rule, found, "Use a uint8 input, or normalize samples before the network"))
            }
        }
    }
}
