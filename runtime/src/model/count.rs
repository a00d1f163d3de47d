//! How much a model computes and holds.

use super::{ConvKind, LayerKind, Model};

impl Model {
    /// Multiplications with accumulation of each layer for one sample. Padding counts as input; additions and
    /// concatenations count nothing.
    pub fn macs(&self) -> Vec<u64> {
        (0..self.layers.len()).map(|index| self.layer_macs(index)).collect()
    }

    fn layer_macs(&self, index: usize) -> u64 {
        let layer = &self.layers[index];
        match &layer.kind {
            LayerKind::Conv(conv) => {
                let [height, width, _] = self.tensor(layer.inputs[0]).shape;
                let [rows, columns] = conv.conv_size([height, width]).unwrap_or([0, 0]);
                // A transposed kernel is applied once per input position, any other once per output position.
                let positions = if conv.kind.transposed() { height * width } else { rows * columns } as u64;
                let kernel = conv.weights.filters() as u64 * conv.weights.filter_len() as u64;
                let pointwise = match (&conv.pointwise, conv.kind) {
                    (Some(pointwise), ConvKind::Separable) => {
                        pointwise.filters() as u64 * pointwise.filter_len() as u64
                    }
                    _ => 0,
                };
                positions * (kernel + pointwise)
            }
            LayerKind::Dense(dense) => dense.weights.filters() as u64 * dense.weights.filter_len() as u64,
            LayerKind::Add(_) | LayerKind::Concat => 0,
        }
    }

    /// Bytes of all weights when every weight takes as many bits as it has.
    pub fn weight_bytes(&self) -> u64 {
        let weights = self.layers.iter().flat_map(|layer| layer.kind.weights());
        weights.map(|w| (w.data.len() as u64 * u64::from(w.bits)).div_ceil(8)).sum()
    }
}
