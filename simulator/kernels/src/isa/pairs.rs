//! Weights of 16 bits, two inputs at a time: for inputs that are widened once for all filters.

use super::pack::{BLOCK, Line};

/// Weights of a layer in pairs.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    /// By block, run and pair: two weights of each filter.
    pub(crate) lines: Vec<Line>,
    /// Pairs of a run.
    pub(crate) each: usize,
}

/// Two weights of 16 bits, as the bytes of a line.
#[inline]
pub(crate) fn pair(weights: [i16; 2]) -> [i8; 4] {
    let [[a, b], [c, d]] = weights.map(i16::to_ne_bytes);
    [a, b, c, d].map(u8::cast_signed)
}

impl Pairs {
    /// Of lines of runs of so many quads. A pair behind the last weight of all runs, which fills their last quad, is left out.
    pub(super) fn new(lines: &[Line], quads: usize) -> Self {
        let half = |line: &Line, second: bool| {
            Line(line.0.map(|quad| {
                let [a, b, c, d] = quad.map(i16::from);
                pair(if second { [c, d] } else { [a, b] })
            }))
        };
        let runs = || lines.chunks_exact(quads.max(1));
        let full = runs().any(|run| run.last().is_some_and(|last| half(last, true).0 != [[0; 4]; BLOCK]));
        let each = 2 * quads - usize::from(!full && quads > 0);
        let lines = runs().flat_map(|run| (0..each).map(move |i| half(&run[i / 2], i % 2 > 0))).collect();
        Self { lines, each }
    }
}
