//! Outputs of tiles by [`Convolution`], eight filters at a time.

// Intrinsics and pointers into panels that were checked once; every block says why it is sound.
#![allow(unsafe_code)]
// Arrays of registers stay in them where loops count.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::array;
use std::ops::Range;

use super::super::methods::by_line;
use super::super::winograd::tiles::{Convolution, Place, Sums, To};
use super::super::winograd::{ACROSS, FACTORS, SHIFT, SIDE, back};
use super::super::{BLOCK, End};
use super::ends::{Eight, Line, Sloping};

/// Filters of a register.
const EIGHT: usize = BLOCK / 2;

/// Outputs of eight filters of a tile, by row: what `ended` makes of four columns.
///
/// # Safety
/// The machine has AVX2 and FMA. Eight values follow at `start + filter`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn outputs<T: Copy>(
    sums: &Sums,
    (start, filter): (*const i32, usize),
    nothing: T,
    ended: impl Fn([__m256i; SIDE]) -> T,
) -> [T; SIDE] {
    let back = |m: [__m256i; ACROSS]| {
        let (add, sub) = (|a, b| _mm256_add_epi32(a, b), |a, b| _mm256_sub_epi32(a, b));
        back(m, add, sub, |a| _mm256_slli_epi32::<1>(a))
    };
    let half = filter % BLOCK;
    let mut along = [[_mm256_setzero_si256(); ACROSS]; SIDE];
    for c in 0..ACROSS {
        // SAFETY: eight values follow half of a block.
        let load = |r: usize| unsafe { _mm256_loadu_si256(sums[r * ACROSS + c].as_ptr().add(half).cast()) };
        let y = back(array::from_fn(load));
        for r in 0..SIDE {
            along[r][c] = y[r];
        }
    }
    // SAFETY: the caller's promise.
    let start = unsafe { _mm256_loadu_si256(start.add(filter).cast()) };
    let mut rows = [nothing; SIDE];
    for r in 0..SIDE {
        let mut y = back(along[r]);
        for c in 0..SIDE {
            let scaled = _mm256_mullo_epi32(y[c], _mm256_set1_epi32(FACTORS[r][c]));
            y[c] = _mm256_add_epi32(_mm256_srai_epi32::<SHIFT>(scaled), start);
        }
        rows[r] = ended(y);
    }
    rows
}

/// Sums of some blocks, of which the first begins with filter `first`.
struct Raw<'a> {
    out: &'a mut [i32],
    step: usize,
    first: usize,
}

impl To for Raw<'_> {
    const AT_ONCE: usize = EIGHT;

    /// Blocks are whole.
    fn filters(&self) -> usize {
        self.first + self.step
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn take(&mut self, sums: &Sums, start: *const i32, filter: usize, place: Place) {
        // SAFETY: the caller's promise: there are places for whole blocks.
        unsafe {
            let rows = outputs(sums, (start, filter), [_mm256_setzero_si256(); SIDE], |sums| sums);
            for (r, sums) in rows.iter().enumerate().take(place.rows) {
                let position = place.first + r * place.across;
                for (c, &sums) in sums.iter().enumerate().take(place.columns) {
                    let out = self.out.as_mut_ptr().add((position + c) * self.step + filter - self.first);
                    _mm256_storeu_si256(out.cast(), sums);
                }
            }
        }
    }
}

/// Outputs of all filters, by the rule `S`.
struct Ended<'a, S: Eight> {
    end: &'a S::End,
    filters: usize,
    out: &'a mut [u8],
}

impl<S: Eight> To for Ended<'_, S> {
    const AT_ONCE: usize = EIGHT;

    fn filters(&self) -> usize {
        self.filters
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn take(&mut self, sums: &Sums, start: *const i32, filter: usize, place: Place) {
        let ceiling = _mm256_set1_epi8(S::ceiling(self.end).cast_signed());
        let there = EIGHT.min(self.filters - filter);
        let whole = there == EIGHT && place.columns >= SIDE;
        // SAFETY: the caller's promise; an end has whole blocks.
        let rows = unsafe {
            let rule = S::of(self.end, filter);
            outputs(sums, (start, filter), _mm256_setzero_si256(), |mut sums| {
                for c in 0..SIDE {
                    sums[c] = rule.ended(sums[c]);
                }
                bytes_of_four(sums, S::SIGNED, ceiling)
            })
        };
        for (r, &bytes) in rows.iter().enumerate().take(place.rows) {
            let at = (place.first + r * place.across) * self.filters + filter;
            if whole {
                // SAFETY: there are four positions and eight filters of each.
                unsafe {
                    let out = self.out.as_mut_ptr().add(at);
                    let (low, high) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
                    _mm_storel_epi64(out.cast(), low);
                    _mm_storel_epi64(out.add(self.filters).cast(), _mm_unpackhi_epi64(low, low));
                    _mm_storel_epi64(out.add(2 * self.filters).cast(), high);
                    _mm_storel_epi64(out.add(3 * self.filters).cast(), _mm_unpackhi_epi64(high, high));
                }
                continue;
            }
            let mut four = [[0u8; EIGHT]; SIDE];
            // SAFETY: the array is a register long.
            unsafe { _mm256_storeu_si256(four.as_mut_ptr().cast(), bytes) };
            for (c, eight) in four.iter().enumerate().take(place.columns) {
                self.out[at + c * self.filters..][..there].copy_from_slice(&eight[..there]);
            }
        }
    }
}

/// Saturates results of eight filters of four positions, position by position.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes_of_four(y: [__m256i; SIDE], signed: bool, ceiling: __m256i) -> __m256i {
    let (a, b) = (_mm256_packs_epi32(y[0], y[1]), _mm256_packs_epi32(y[2], y[3]));
    let bytes = if signed { _mm256_packs_epi16(a, b) } else { _mm256_min_epu8(_mm256_packus_epi16(a, b), ceiling) };
    // The first four filters of all positions are in one half, the others in the other.
    _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// Sums of some blocks, as [`Kernels::multiply`](super::super::Kernels::multiply) makes them.
///
/// # Safety
/// As [`Convolution::to`].
pub unsafe fn sums(convolution: &Convolution<'_>, blocks: Range<usize>, out: &mut [i32], step: usize) {
    // SAFETY: the caller's promise.
    unsafe { convolution.to(blocks.clone(), &mut Raw { out, step, first: blocks.start * BLOCK }) }
}

/// Outputs of all filters, as [`Kernels::ended`](super::super::Kernels::ended) makes them.
///
/// # Safety
/// As [`Convolution::to`]; ends and output were checked too.
pub unsafe fn ended(convolution: &Convolution<'_>, filters: usize, end: End<'_>, out: &mut [u8]) -> bool {
    let blocks = 0..filters.div_ceil(BLOCK);
    // SAFETY: the caller's promise.
    unsafe {
        match end {
            End::Affine(end) => {
                by_line!(end, Rule => convolution.to(blocks, &mut Ended::<Rule> { end, filters, out }));
            }
            End::Slope(end) => convolution.to(blocks, &mut Ended::<Sloping> { end, filters, out }),
            End::Wide(_) => return false,
        }
    }
    true
}
