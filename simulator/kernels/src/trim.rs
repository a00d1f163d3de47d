//! Edges of a kernel that no filter uses: a mapper makes a 1x1 convolution that moves by two a 3x3 one whose other weights are 0, where
//! NPs have no other.

use std::borrow::Cow;
use std::ops::Range;

use crate::{Geometry, Kind};

/// The same convolution without rows and columns at the edges of its kernel whose weights are all 0. Those above and to the left go only
/// as far as there is padding to take away. `weights` is (filter, kernel row, kernel column, channel).
pub(crate) fn trimmed(kind: Kind, geometry: Geometry, filters: usize, weights: &[i8]) -> (Geometry, Cow<'_, [i8]>) {
    let Geometry { input: [_, _, channels], kernel: [rows, columns], pad, .. } = geometry;
    // Wrong lengths are somebody else's to tell.
    if kind != Kind::Standard || rows * columns == 1 || weights.len() != filters * rows * columns * channels {
        return (geometry, Cow::Borrowed(weights));
    }
    let pixels = || weights.chunks_exact(channels).enumerate().filter(|(_, w)| w.iter().any(|&w| w != 0));
    let kept =
        [used(pixels().map(|(i, _)| i / columns % rows), pad[0]), used(pixels().map(|(i, _)| i % columns), pad[1])];
    let kernel = [kept[0].len(), kept[1].len()];
    if kernel == geometry.kernel {
        return (geometry, Cow::Borrowed(weights));
    }
    let mut left = Vec::with_capacity(weights.len() / (rows * columns) * kernel[0] * kernel[1]);
    for filter in weights.chunks_exact(rows * columns * channels) {
        for row in filter.chunks_exact(columns * channels).take(kept[0].end).skip(kept[0].start) {
            left.extend_from_slice(&row[kept[1].start * channels..kept[1].end * channels]);
        }
    }
    let pad = [pad[0] - kept[0].start, pad[1] - kept[1].start];
    (Geometry { kernel, pad, ..geometry }, Cow::Owned(left))
}

/// The least range with all places that are used, at least one, that begins no later than at `latest`.
fn used(places: impl Iterator<Item = usize> + Clone, latest: usize) -> Range<usize> {
    let start = places.clone().min().unwrap_or(0).min(latest);
    start..places.max().unwrap_or(0) + 1
}
