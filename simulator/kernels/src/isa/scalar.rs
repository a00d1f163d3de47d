//! Plain loops: the oracle, and the kernels of machines without better ones.

use std::ops::Range;

use super::loops::loop_methods;
use super::{
    Affine, BLOCK, Bytewise, Kernels, Lookup, Packed, Panel, Shifts, Slope, Taps, TapsEnd, Terms, Wide, Windows,
    check_depthwise, check_ending, loops,
};

/// Plain loops.
#[derive(Debug)]
pub struct Scalar(());

impl Scalar {
    /// Every machine can run these.
    pub const fn new() -> Self {
        Self(())
    }
}

impl Default for Scalar {
    fn default() -> Self {
        Self::new()
    }
}

/// The dot product of unsigned and signed bytes.
fn dot(x: &[u8], w: &[i8]) -> i32 {
    x.iter().zip(w).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum()
}

impl Kernels for Scalar {
    fn name(&self) -> &'static str {
        "any-u8i8-scalar"
    }

    fn multiply(
        &self,
        x: &Panel<'_>,
        w: &Packed,
        blocks: Range<usize>,
        start: &[i32],
        out: &mut [i32],
        out_step: usize,
    ) {
        x.check(w, &blocks, start, out, out_step);
        for position in 0..x.rows * x.count {
            let at = position / x.count * x.row_step + position % x.count * x.step;
            for (b, block) in blocks.clone().enumerate() {
                let out = &mut out[position * out_step + b * BLOCK..][..BLOCK];
                out.copy_from_slice(&start[block * BLOCK..][..BLOCK]);
                for run in 0..w.runs() {
                    let x = &x.data[at + run * x.run_step..][..w.quads() * 4];
                    let lines = &w.lines()[(block * w.runs() + run) * w.quads()..][..w.quads()];
                    for (x, line) in x.as_chunks::<4>().0.iter().zip(lines) {
                        for (out, w) in out.iter_mut().zip(&line.0) {
                            *out = out.wrapping_add(dot(x, w));
                        }
                    }
                }
            }
        }
    }

    fn peak(&self, rounds: u64) -> u64 {
        let (x, w) = ([1u8; 64], [1i8; 64]);
        let total = (0..rounds).fold(0, |sum: i32, _| sum.wrapping_add(dot(std::hint::black_box(&x), &w)));
        std::hint::black_box(total);
        rounds * 64
    }

    loop_methods!();
}
