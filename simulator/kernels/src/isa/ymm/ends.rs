//! Sums to bytes: eight filters of two positions at a time.

// Intrinsics and pointers into slices whose lengths were checked; every block says why it is sound.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::methods::{by_line, by_slope};
use super::super::{Affine, Slope, loops};

/// Filters that are ended at once.
const EIGHT: usize = 8;

/// The rule of eight filters.
pub trait Eight: Copy {
    /// What it is part of.
    type End;
    /// Whether bytes are signed.
    const SIGNED: bool;

    /// Where bytes without a sign saturate.
    fn ceiling(end: &Self::End) -> u8;

    /// That of the filters from `at` on.
    ///
    /// # Safety
    /// The machine has AVX2; all vectors of the end have these filters.
    unsafe fn of(end: &Self::End, at: usize) -> Self;

    /// Results, not yet saturated to bytes.
    ///
    /// # Safety
    /// The machine has AVX2 and FMA.
    unsafe fn ended(&self, sums: __m256i) -> __m256i;

    /// The result of one filter, as a byte.
    fn one(end: &Self::End, filter: usize, sum: i32) -> u8;
}

/// An [`Affine`] end, whose bytes may be signed; `LIMITED` where sums come near its limits.
#[derive(Clone, Copy)]
pub struct Line<const SIGNED: bool, const LIMITED: bool> {
    low: __m256i,
    high: __m256i,
    m: __m256i,
    add: __m256i,
    k: __m256i,
}

impl<const SIGNED: bool, const LIMITED: bool> Eight for Line<SIGNED, LIMITED> {
    type End = Affine;
    const SIGNED: bool = SIGNED;

    fn ceiling(end: &Affine) -> u8 {
        end.ceiling
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn of(end: &Affine, at: usize) -> Self {
        // SAFETY: the caller's promise.
        let load = |from: &[i32]| unsafe { _mm256_loadu_si256(from.as_ptr().add(at).cast()) };
        Self { low: load(&end.low), high: load(&end.high), m: load(&end.m), add: load(&end.add), k: load(&end.k) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn ended(&self, sums: __m256i) -> __m256i {
        let held = if LIMITED { _mm256_min_epi32(_mm256_max_epi32(sums, self.low), self.high) } else { sums };
        _mm256_srav_epi32(_mm256_add_epi32(_mm256_mullo_epi32(held, self.m), self.add), self.k)
    }

    fn one(end: &Affine, filter: usize, sum: i32) -> u8 {
        let (limits, add) = ((end.low[filter], end.high[filter]), end.add[filter]);
        loops::affine_of(sum, limits, end.m[filter], add, end.k[filter], loops::bounds(end))
    }
}

/// A [`Slope`]; whether its ceilings matter.
#[derive(Clone, Copy)]
pub struct Sloping<const LIMITED: bool> {
    a: __m256,
    b: __m256,
    ceiling: __m256,
}

impl<const LIMITED: bool> Eight for Sloping<LIMITED> {
    type End = Slope;
    const SIGNED: bool = false;

    fn ceiling(end: &Slope) -> u8 {
        end.most
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn of(end: &Slope, at: usize) -> Self {
        // SAFETY: the caller's promise.
        let load = |from: &[f32]| unsafe { _mm256_loadu_ps(from.as_ptr().add(at)) };
        Self { a: load(&end.a), b: load(&end.b), ceiling: load(&end.ceiling) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn ended(&self, sums: __m256i) -> __m256i {
        // What is far below 0 becomes the least integer, and saturates as it should.
        let y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), self.a, self.b);
        _mm256_cvttps_epi32(if LIMITED { _mm256_min_ps(y, self.ceiling) } else { y })
    }

    fn one(end: &Slope, filter: usize, sum: i32) -> u8 {
        loops::slope_of(sum, end.a[filter], end.b[filter], end.ceiling[filter])
    }
}

/// Saturates results of eight filters of two positions: bytes of the first in the lower half.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn bytes(a: __m256i, b: __m256i, signed: bool, ceiling: __m128i) -> __m128i {
    // (a low, b low, a high, b high) by fours.
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a, b));
    let (first, second) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    if signed { _mm_packs_epi16(first, second) } else { _mm_min_epu8(_mm_packus_epi16(first, second), ceiling) }
}

/// # Safety
/// The machine has AVX2 and FMA; lengths were checked.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn ended<S: Eight>(
    (sums, step): (&[i32], usize),
    end: &S::End,
    filters: Range<usize>,
    (out, out_step): (&mut [u8], usize),
) {
    let (positions, ceiling) = (sums.len() / step, _mm_set1_epi8(S::ceiling(end).cast_signed()));
    let mut at = 0;
    while at + EIGHT <= filters.len() {
        // SAFETY: eight of the filters follow in every vector, in the sums of every position and in its outputs.
        unsafe {
            let rule = S::of(end, filters.start + at);
            let (from, to) = (sums.as_ptr().add(at), out.as_mut_ptr().add(at));
            let ended = |position: usize| rule.ended(_mm256_loadu_si256(from.add(position * step).cast()));
            for position in (0..positions).step_by(2) {
                // The last of an odd number is made twice.
                let next = (position + 1).min(positions - 1);
                let y = bytes(ended(position), ended(next), S::SIGNED, ceiling);
                _mm_storel_epi64(to.add(position * out_step).cast(), y);
                _mm_storel_epi64(to.add(next * out_step).cast(), _mm_unpackhi_epi64(y, y));
            }
        }
        at += EIGHT;
    }
    for position in 0..if at < filters.len() { positions } else { 0 } {
        for f in at..filters.len() {
            out[position * out_step + f] = S::one(end, filters.start + f, sums[position * step + f]);
        }
    }
}

/// Sums to bytes, as [`loops::affine`].
///
/// # Safety
/// The machine has AVX2 and FMA; lengths were checked.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn affine(sums: &[i32], step: usize, end: &Affine, filters: Range<usize>, out: &mut [u8], out_step: usize) {
    let (from, to) = ((sums, step), (out, out_step));
    // SAFETY: the caller's promise.
    unsafe { by_line!(end, Rule => ended::<Rule>(from, end, filters, to)) }
}

/// The same by a [`Slope`], as [`loops::slope`].
///
/// # Safety
/// As [`affine`].
#[target_feature(enable = "avx2,fma")]
pub unsafe fn slope(sums: &[i32], step: usize, end: &Slope, filters: Range<usize>, out: &mut [u8], out_step: usize) {
    // SAFETY: the caller's promise.
    unsafe { by_slope!(end, Rule => ended::<Rule>((sums, step), end, filters, (out, out_step))) }
}
