//! Observed ranges of tensors.

use std::collections::HashMap;

/// Smallest and largest value of a tensor: one pair for all of it, or one per channel (quantization.md 3.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// Minima; one, or one per index of axis 1.
    pub min: Vec<f32>,
    /// Maxima, as many.
    pub max: Vec<f32>,
}

impl Range {
    /// `max(|min|, |max|)` of each entry.
    pub fn largest(&self) -> Vec<f32> {
        self.min.iter().zip(&self.max).map(|(lo, hi)| lo.abs().max(hi.abs())).collect()
    }

    /// One range for the whole tensor.
    pub fn per_tensor(&self) -> Self {
        let min = self.min.iter().copied().fold(f32::INFINITY, f32::min);
        let max = self.max.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Self { min: vec![min], max: vec![max] }
    }

    /// Makes room for what `other` saw of the same tensor. NaN is ignored.
    pub fn merge(&mut self, other: &Self) {
        for (a, b) in self.min.iter_mut().zip(&other.min) {
            *a = a.min(*b);
        }
        for (a, b) in self.max.iter_mut().zip(&other.max) {
            *a = a.max(*b);
        }
    }
}

/// Ranges of the tensors of a prepared graph, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranges(HashMap<String, Range>);

impl Ranges {
    /// No ranges.
    pub fn new() -> Self {
        Self::default()
    }

    /// The range of `tensor`.
    pub fn get(&self, tensor: &str) -> Option<&Range> {
        self.0.get(tensor)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets the range of a tensor.
    pub fn insert(&mut self, tensor: impl Into<String>, range: Range) {
        self.0.insert(tensor.into(), range);
    }

    /// Adds what was seen of a tensor to what is known of it.
    pub fn merge(&mut self, tensor: &str, range: Range) {
        match self.0.get_mut(tensor) {
            Some(known) => known.merge(&range),
            None => {
                self.0.insert(tensor.to_owned(), range);
            }
        }
    }

    /// The same with one range for each whole tensor.
    pub fn per_tensor(&self) -> Self {
        Self(self.0.iter().map(|(name, range)| (name.clone(), range.per_tensor())).collect())
    }

    /// All ranges, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Range)> {
        let mut all: Vec<_> = self.0.iter().map(|(name, range)| (name.as_str(), range)).collect();
        all.sort_by_key(|(name, _)| *name);
        all.into_iter()
    }
}
