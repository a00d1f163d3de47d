//! AVX2: pairs of 16-bit products (`vpmaddwd`), which cannot saturate here: |x| <= 2^15 and |w| <= 2^7.
#![allow(unsafe_code)] // Instruction set intrinsics; every block says why it is sound.

use std::arch::x86_64::*;

use super::{Kernels, Packed};

/// Filters of a block: two registers of eight sums.
const FILTERS: usize = 16;
/// Rows of x that share a load of weights.
const ROWS: usize = 4;

/// AVX2 kernels. Filters lie in blocks of 16: for each pair of inputs, 16 pairs of weights.
#[derive(Debug)]
pub struct Avx2(());

impl Avx2 {
    /// None where the machine lacks AVX2.
    pub fn new() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Kernels for Avx2 {
    fn name(&self) -> &'static str {
        "x86_64-i16-avx2"
    }

    fn pack(&self, weights: &[i8], rows: usize) -> Packed {
        let row = weights.len() / rows.max(1);
        let depth = row.next_multiple_of(2);
        let mut data = vec![0; rows.next_multiple_of(FILTERS) * depth];
        if row > 0 {
            for (filter, weights) in weights.chunks_exact(row).enumerate() {
                let block = &mut data[filter / FILTERS * FILTERS * depth..][..FILTERS * depth];
                for (i, &w) in weights.iter().enumerate() {
                    block[i / 2 * 2 * FILTERS + filter % FILTERS * 2 + i % 2] = w.into();
                }
            }
        }
        Packed { rows, depth, data }
    }

    fn multiply(&self, x: &[i16], w: &Packed, out: &mut [i32]) {
        if w.depth == 0 {
            return out.fill(0);
        }
        let count = x.len() / w.depth;
        assert!(x.len() == count * w.depth && out.len() == count * w.rows, "rows of x and out");
        for (block, packed) in w.data.chunks_exact(FILTERS * w.depth).enumerate() {
            let filters = block * FILTERS..w.rows.min((block + 1) * FILTERS);
            let mut row = 0;
            while row < count {
                let n = (count - row).min(ROWS);
                let x = &x[row * w.depth..][..n * w.depth];
                // SAFETY: a value of this type exists only where AVX2 was detected.
                let sums = unsafe {
                    match n {
                        ROWS => multiply_block::<ROWS>(x, w.depth, packed),
                        3 => multiply_block::<3>(x, w.depth, packed),
                        2 => multiply_block::<2>(x, w.depth, packed),
                        _ => multiply_block::<1>(x, w.depth, packed),
                    }
                };
                for (r, sums) in sums.iter().take(n).enumerate() {
                    out[(row + r) * w.rows..][filters.clone()].copy_from_slice(&sums[..filters.len()]);
                }
                row += n;
            }
        }
    }

    fn multiply_add_unsigned(&self, x: &[u8], w: &[i16], acc: &mut [i32]) {
        // SAFETY: a value of this type exists only where AVX2 was detected.
        unsafe { multiply_add(x, w, acc) }
    }

    fn multiply_add_signed(&self, x: &[i8], w: &[i16], acc: &mut [i32]) {
        // SAFETY: as above.
        unsafe { multiply_add(x, w, acc) }
    }
}

/// The sums of `N` rows with the 16 filters of a block.
#[target_feature(enable = "avx2")]
fn multiply_block<const N: usize>(x: &[i16], depth: usize, packed: &[i16]) -> [[i32; FILTERS]; ROWS] {
    let (pairs, _) = packed.as_chunks::<{ 2 * FILTERS }>();
    let mut rows: [&[[i16; 2]]; N] = [&[]; N];
    for (row, x) in rows.iter_mut().zip(x.chunks_exact(depth)) {
        *row = &x.as_chunks::<2>().0[..pairs.len()];
    }
    let mut sums = [[_mm256_setzero_si256(); 2]; N];
    for (i, pair) in pairs.iter().enumerate() {
        // SAFETY: `pair` is 32 values of 16 bits, which are two registers; unaligned loads take any address.
        let w = unsafe {
            let first = pair.as_ptr().cast::<__m256i>();
            [_mm256_loadu_si256(first), _mm256_loadu_si256(first.add(1))]
        };
        for (row, sums) in rows.iter().zip(&mut sums) {
            let [low, high] = row[i];
            let x = _mm256_set1_epi32(i32::from(low.cast_unsigned()) | i32::from(high) << 16);
            sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(x, w[0]));
            sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(x, w[1]));
        }
    }
    let mut out = [[0; FILTERS]; ROWS];
    for (out, sums) in out.iter_mut().zip(sums) {
        // SAFETY: `out` is 16 values of 32 bits, which are two registers; unaligned stores take any address.
        unsafe {
            let first = out.as_mut_ptr().cast::<__m256i>();
            _mm256_storeu_si256(first, sums[0]);
            _mm256_storeu_si256(first.add(1), sums[1]);
        }
    }
    out
}

/// Left to the compiler, which may use AVX2 here.
#[target_feature(enable = "avx2")]
fn multiply_add<T: Copy + Into<i32>>(x: &[T], w: &[i16], acc: &mut [i32]) {
    for ((acc, &x), &w) in acc.iter_mut().zip(x).zip(w) {
        *acc += x.into() * i32::from(w);
    }
}
