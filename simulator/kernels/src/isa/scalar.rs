//! Plain loops: the oracle, and the kernels of machines without better ones.

use super::{Kernels, Packed};

/// Values per row are padded to a multiple of this, so that a compiler may take them in blocks.
const DEPTH: usize = 16;

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

impl Kernels for Scalar {
    fn name(&self) -> &'static str {
        "any-i16-scalar"
    }

    fn pack(&self, weights: &[i8], rows: usize) -> Packed {
        let row = weights.len() / rows.max(1);
        let depth = row.next_multiple_of(DEPTH);
        let mut data = vec![0; rows * depth];
        if row > 0 {
            for (packed, filter) in data.chunks_exact_mut(depth).zip(weights.chunks_exact(row)) {
                packed.iter_mut().zip(filter).for_each(|(p, &w)| *p = w.into());
            }
        }
        Packed { rows, depth, data }
    }

    fn multiply(&self, x: &[i16], w: &Packed, out: &mut [i32]) {
        if w.depth == 0 {
            return out.fill(0);
        }
        for (x, out) in x.chunks_exact(w.depth).zip(out.chunks_exact_mut(w.rows)) {
            for (w, out) in w.data.chunks_exact(w.depth).zip(out) {
                *out = x.iter().zip(w).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum();
            }
        }
    }

    fn multiply_add_unsigned(&self, x: &[u8], w: &[i16], acc: &mut [i32]) {
        for ((acc, &x), &w) in acc.iter_mut().zip(x).zip(w) {
            *acc += i32::from(x) * i32::from(w);
        }
    }

    fn multiply_add_signed(&self, x: &[i8], w: &[i16], acc: &mut [i32]) {
        for ((acc, &x), &w) in acc.iter_mut().zip(x).zip(w) {
            *acc += i32::from(x) * i32::from(w);
        }
    }
}
