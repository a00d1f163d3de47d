//! AVX2: pairs of 16-bit products (`vpmaddwd`), which cannot saturate here: |x| <= 2^15 and |w| <= 2^7.
#![allow(unsafe_code)] // Instruction set intrinsics; every block says why it is sound.

use std::arch::x86_64::*;

use zerocopy::IntoBytes;

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
        unsafe { multiply_add::<false>(x, w, acc) }
    }

    fn multiply_add_signed(&self, x: &[i8], w: &[i16], acc: &mut [i32]) {
        // SAFETY: as above.
        unsafe { multiply_add::<true>(x.as_bytes(), w, acc) }
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

/// Products added element by element, eight at a time. `SIGNED` says whether the bytes of x are.
#[target_feature(enable = "avx2")]
fn multiply_add<const SIGNED: bool>(x: &[u8], w: &[i16], acc: &mut [i32]) {
    let len = x.len().min(w.len()).min(acc.len());
    let (xs, x) = x[..len].as_chunks::<8>();
    let (ws, w) = w[..len].as_chunks::<8>();
    let (sums, acc) = acc[..len].as_chunks_mut::<8>();
    for ((sums, x), w) in sums.iter_mut().zip(xs).zip(ws) {
        // SAFETY: x is the 8 bytes that are loaded, w the 8 values of 16 bits, and `sums` 8 of 32 bits, which are loaded and
        // stored; none of these instructions asks for an alignment.
        unsafe {
            let x = _mm_loadl_epi64(x.as_ptr().cast());
            let x = if SIGNED { _mm_cvtepi8_epi16(x) } else { _mm_cvtepu8_epi16(x) };
            // With zeros in every second place a sum of two products is the one product.
            let x = _mm256_cvtepu16_epi32(x);
            let w = _mm256_cvtepi16_epi32(_mm_loadu_si128(w.as_ptr().cast()));
            let at = sums.as_mut_ptr().cast::<__m256i>();
            _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), _mm256_madd_epi16(x, w)));
        }
    }
    for ((acc, &x), &w) in acc.iter_mut().zip(x).zip(w) {
        let x = if SIGNED { i32::from(x.cast_signed()) } else { i32::from(x) };
        *acc += x * i32::from(w);
    }
}
