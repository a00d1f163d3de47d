//! Plain loops: the oracle, and the kernels of machines without better ones.

use super::{Affine, Kernels, Packed, Panel, Quads, check_depthwise, loops};

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

    fn multiply(&self, x: &Panel<'_>, w: &Packed, start: &[i32], out: &mut [i32], out_step: usize) {
        x.check(w, start, out, out_step);
        for position in 0..x.count {
            let out = &mut out[position * out_step..][..w.width()];
            out.copy_from_slice(start);
            for (block, out) in out.as_chunks_mut::<{ super::BLOCK }>().0.iter_mut().enumerate() {
                for run in 0..w.runs() {
                    let x = &x.data[position * x.step + run * x.run_step..][..w.quads() * 4];
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

    fn depthwise(&self, x: &[&[u32]], w: &[u32], start: &[i32], out: &mut [i32]) {
        check_depthwise(x, w, start, out);
        let period = start.len();
        for (i, out) in out.iter_mut().enumerate() {
            let rows = x.iter().zip(w.chunks_exact(period));
            let sums = rows.map(|(x, w)| dot(&x[i].to_le_bytes(), &w[i % period].to_le_bytes().map(u8::cast_signed)));
            *out = sums.fold(start[i % period], i32::wrapping_add);
        }
    }

    fn interleave(&self, x: &[u8], quads: Quads, out: &mut [u32]) {
        loops::interleave(x, quads, out);
    }

    fn affine(&self, sums: &[i32], affine: &Affine, out: &mut [u8]) {
        loops::affine(sums, affine, out);
    }

    fn steps(&self, sums: &[i32], edges: &[i32], period: usize, out: &mut [u8]) {
        loops::steps(sums, edges, period, out);
    }

    fn largest(&self, held: &mut [u8], new: &[u8], signed: bool) {
        loops::largest(held, new, signed);
    }

    fn offset(&self, bytes: &[u8], out: &mut [u8]) {
        loops::offset(bytes, out);
    }
}
