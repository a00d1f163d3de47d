//! Depthwise convolutions: two rows of bytes are shuffled together and widened, so that one instruction adds two taps.

// Intrinsics and pointers into rows that were checked once; every block says why it is sound.
#![allow(unsafe_code)]
// Sums in arrays stay in registers where loops count.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::super::{BLOCK, CHUNK, Taps, TapsEnd};

/// Elements that are computed at once: half of a chunk, and as many in each of four registers as in half of a block.
const HALF: usize = CHUNK / 2;
const EIGHT: usize = BLOCK / 2;

/// Where the parameters of half a chunk begin, in the order of registers: register j has elements `16 * lane + 4 * j ..` of it. Found once:
/// stores of bytes might change where vectors are, for all that a compiler knows.
#[derive(Clone, Copy)]
struct Parameters {
    start: *const i32,
    weights: *const [[i16; 2]; EIGHT],
    low: *const i32,
    high: *const i32,
    m: *const i32,
    add: *const i32,
    k: *const i32,
}

impl Parameters {
    fn new(w: &Taps, end: &TapsEnd) -> Self {
        let lanes = &end.lanes;
        Self {
            start: w.lanes().as_ptr(),
            weights: w.pairs().as_ptr(),
            low: lanes.low.as_ptr(),
            high: lanes.high.as_ptr(),
            m: lanes.m.as_ptr(),
            add: lanes.add.as_ptr(),
            k: lanes.k.as_ptr(),
        }
    }

    /// Those of the half that begins at element `place` of the period.
    fn at(self, place: usize, pairs: usize) -> Self {
        let (chunk, half) = (place / CHUNK, place % CHUNK / HALF);
        let of = |from: *const i32| from.wrapping_add(chunk * CHUNK + half * EIGHT);
        Self {
            start: of(self.start),
            weights: self.weights.wrapping_add((chunk * pairs * 2 + half) * 4),
            low: of(self.low),
            high: of(self.high),
            m: of(self.m),
            add: of(self.add),
            k: of(self.k),
        }
    }
}

/// Sums of half a chunk, which begins at element `at` of every row.
///
/// # Safety
/// The machine has AVX2. Rows have the elements; there are weights for as many taps.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn sums(x: &[&[u8]], p: &Parameters, at: usize) -> [__m256i; 4] {
    let zero = _mm256_setzero_si256();
    let mut sums = [zero; 4];
    // SAFETY: the caller's promise; there are four registers of starts, and of weights for each pair.
    unsafe {
        for j in 0..4 {
            sums[j] = _mm256_loadu_si256(p.start.add(j * BLOCK).cast());
        }
        let mut weights = p.weights;
        for pair in x.chunks(2) {
            // Behind the last tap there is a weight of 0 for whatever is read.
            let (first, second) = (pair[0], pair[pair.len() - 1]);
            let a = _mm256_loadu_si256(first.as_ptr().add(at).cast());
            let b = _mm256_loadu_si256(second.as_ptr().add(at).cast());
            let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
            let words = [
                _mm256_unpacklo_epi8(low, zero),
                _mm256_unpackhi_epi8(low, zero),
                _mm256_unpacklo_epi8(high, zero),
                _mm256_unpackhi_epi8(high, zero),
            ];
            for j in 0..4 {
                let w = _mm256_loadu_si256(weights.add(j).cast());
                sums[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(words[j], w));
            }
            // The other half's lie between.
            weights = weights.add(2 * 4);
        }
    }
    sums
}

/// Ends sums of half a chunk, and packs them, which undoes what shuffling did to the order of filters.
///
/// # Safety
/// The machine has AVX2; there are parameters for the half.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn ended<const SIGNED: bool>(mut sums: [__m256i; 4], p: &Parameters, ceiling: __m256i) -> __m256i {
    for j in 0..4 {
        // SAFETY: the caller's promise.
        unsafe {
            let low = _mm256_loadu_si256(p.low.add(j * BLOCK).cast());
            let high = _mm256_loadu_si256(p.high.add(j * BLOCK).cast());
            let m = _mm256_loadu_si256(p.m.add(j * BLOCK).cast());
            let add = _mm256_loadu_si256(p.add.add(j * BLOCK).cast());
            let k = _mm256_loadu_si256(p.k.add(j * BLOCK).cast());
            let held = _mm256_min_epi32(_mm256_max_epi32(sums[j], low), high);
            sums[j] = _mm256_srav_epi32(_mm256_add_epi32(_mm256_mullo_epi32(held, m), add), k);
        }
    }
    let (low, high) = (_mm256_packs_epi32(sums[0], sums[1]), _mm256_packs_epi32(sums[2], sums[3]));
    if SIGNED { _mm256_packs_epi16(low, high) } else { _mm256_min_epu8(_mm256_packus_epi16(low, high), ceiling) }
}

/// A depthwise convolution.
///
/// # Safety
/// The machine has AVX2 and FMA; rows are checked.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn depthwise(x: &[&[u8]], w: &Taps, end: &TapsEnd, out: &mut [u8]) {
    assert!(end.width() == w.period(), "an end for every element");
    // SAFETY: the caller's promise.
    unsafe {
        match end.lanes.signed {
            false => depthwise_by::<false>(x, w, end, out),
            true => depthwise_by::<true>(x, w, end, out),
        }
    }
}

/// # Safety
/// As [`depthwise`]; parameters are for the weights' period.
#[target_feature(enable = "avx2,fma")]
unsafe fn depthwise_by<const SIGNED: bool>(x: &[&[u8]], w: &Taps, end: &TapsEnd, out: &mut [u8]) {
    let (all, pairs, period) = (Parameters::new(w, end), x.len().div_ceil(2), w.period());
    let ceiling = _mm256_set1_epi8(end.lanes.ceiling.cast_signed());
    let (halves, rest) = out.as_chunks_mut::<HALF>();
    let (mut at, mut place) = (0, 0);
    for half in halves {
        let p = all.at(place, pairs);
        // SAFETY: the caller's promise; rows have whole chunks for every element of the output, and the array is a register long.
        unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), ended::<SIGNED>(sums(x, &p, at), &p, ceiling)) };
        at += HALF;
        place = if place + HALF == period { 0 } else { place + HALF };
    }
    if !rest.is_empty() {
        let (p, mut whole) = (all.at(place, pairs), [0u8; HALF]);
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(whole.as_mut_ptr().cast(), ended::<SIGNED>(sums(x, &p, at), &p, ceiling)) };
        rest.copy_from_slice(&whole[..rest.len()]);
    }
}
