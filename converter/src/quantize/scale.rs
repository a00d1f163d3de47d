//! Scales of integer tensors: integer = real x scale, the reciprocal of ONNX's.

/// The scale of a tensor: one for all of it, or one per channel.
///
/// Whether a single scale is a tensor without dimensions or with one is part of the quantized graph, so it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// One value, or one per channel.
    pub values: Vec<f64>,
    /// A single value without dimensions.
    pub scalar: bool,
}

impl Scale {
    /// One scale per channel (or one for all, kept as a vector of one).
    pub fn vector(values: Vec<f64>) -> Self {
        Self { values, scalar: false }
    }

    /// The same, but a vector of one becomes a scalar.
    pub fn squeezed(values: Vec<f64>) -> Self {
        Self { scalar: values.len() == 1, values }
    }

    /// The scale of channel `index`.
    pub fn at(&self, index: usize) -> f64 {
        if self.values.len() == 1 { self.values[0] } else { self.values[index] }
    }

    /// One value per channel.
    pub fn expanded(&self, channels: usize) -> Vec<f64> {
        (0..channels).map(|c| self.at(c)).collect()
    }

    /// Whether the scale fits a tensor of so many channels.
    pub fn fits(&self, channels: usize) -> bool {
        self.values.len() == 1 || self.values.len() == channels
    }

    /// Its dimensions as a tensor.
    pub fn dims(&self) -> Vec<usize> {
        if self.scalar { vec![] } else { vec![self.values.len()] }
    }
}
