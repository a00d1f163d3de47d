//! Two tensors into one: bytes of both are brought together, so that one instruction multiplies and adds them.
#![allow(unsafe_code)] // Instruction set intrinsics; every block says why it is sound.

use std::arch::x86_64::*;

use super::super::{CHUNK, Pairs, Shifts, loops};

/// Two tensors into one; all have one length.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn add(a: &[u8], b: &[u8], shifts: &Shifts, out: &mut [u8]) {
    match (&shifts.pairs, shifts.signed[0]) {
        (None, _) => loops::add(a, b, shifts, out),
        (Some(pairs), false) => chunks::<false>(a, b, pairs, [shifts.low, shifts.high], out),
        (Some(pairs), true) => chunks::<true>(a, b, pairs, [shifts.low, shifts.high], out),
    }
}

/// Chunk by chunk, of the last one what there is.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn chunks<const SIGNED: bool>(a: &[u8], b: &[u8], pairs: &Pairs, limits: [i32; 2], out: &mut [u8]) {
    let [low, high] = limits.map(|limit| _mm512_set1_epi8(limit as i8));
    let (factors, half, k) = (pairs.factors.as_chunks::<CHUNK>().0, &*pairs.half, &*pairs.k);
    let halves = [half, k].map(|v| v.as_chunks::<{ CHUNK / 2 }>().0);
    let mut place = 0;
    for ((a, b), out) in a.chunks(CHUNK).zip(b.chunks(CHUNK)).zip(out.chunks_mut(CHUNK)) {
        let there = if out.len() == CHUNK { __mmask64::MAX } else { (1 << out.len()) - 1 };
        // SAFETY: chunks have the bytes that the mask tells, an array all that is loaded of it.
        unsafe {
            let a = _mm512_maskz_loadu_epi8(there, a.as_ptr().cast());
            let b = _mm512_maskz_loadu_epi8(there, b.as_ptr().cast());
            let scaled = |both: __m512i, i: usize| {
                let factors = _mm512_loadu_si512(factors[place + i].as_ptr().cast());
                let [half, k] = halves.map(|v| _mm512_loadu_si512(v[place + i].as_ptr().cast()));
                let sums =
                    if SIGNED { _mm512_maddubs_epi16(factors, both) } else { _mm512_maddubs_epi16(both, factors) };
                _mm512_srav_epi16(_mm512_add_epi16(sums, half), k)
            };
            let bytes =
                _mm512_packs_epi16(scaled(_mm512_unpacklo_epi8(a, b), 0), scaled(_mm512_unpackhi_epi8(a, b), 1));
            let held = _mm512_min_epi8(_mm512_max_epi8(bytes, low), high);
            _mm512_mask_storeu_epi8(out.as_mut_ptr().cast(), there, held);
        }
        place = if place + 2 == factors.len() { 0 } else { place + 2 };
    }
}
