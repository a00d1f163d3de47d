//! Outputs of tiles by [`Convolution`], eight filters at a time.

// Intrinsics and pointers into panels that were checked once; every block says why it is sound.
#![allow(unsafe_code)]
// Arrays of registers stay in them where loops count.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::super::methods::{by_line, by_slope};
use super::super::winograd::tiles::{Convolution, Place, Raw, Sums, To, Vector, outputs};
use super::super::winograd::{SHIFT, SIDE};
use super::super::{BLOCK, End};
use super::ends::{Eight, Line, Sloping};

/// A set's products of tiles, by its products of pairs of 16 bits: 16 registers, of which 12 are sums, two weights, one inputs, and one is
/// for a product where that is not added at once.
macro_rules! squares {
    ($features:literal, $pairs:ty) => {
        /// # Safety
        /// As [`product`](super::winograd::tiles::product).
        #[target_feature(enable = $features)]
        unsafe fn of_squares<const P: usize>(first: &$crate::isa::tile::Tile) {
            // SAFETY: the caller's promise.
            unsafe { $crate::isa::winograd::tiles::product::<Eights<$pairs>, P, 2>(first) }
        }

        const SQUARES: &[Shape<$crate::isa::winograd::tiles::Product>] = &[Shape {
            blocks: 1,
            tiles: &[
                of_squares::<1>,
                of_squares::<2>,
                of_squares::<3>,
                of_squares::<4>,
                of_squares::<5>,
                of_squares::<6>,
            ],
            half: &[],
        }];
    };
}
pub(in super::super) use squares;

/// Filters of a register.
const EIGHT: usize = __m256i::FILTERS;

// SAFETY: instructions of registers; loads and stores ask for no alignment.
unsafe impl Vector for __m256i {
    const FILTERS: usize = BLOCK / 2;

    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm256_add_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm256_sub_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn twice(self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm256_slli_epi32::<1>(self) }
    }

    #[inline(always)]
    unsafe fn scaled(self, factor: i32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm256_srai_epi32::<SHIFT>(_mm256_mullo_epi32(self, _mm256_set1_epi32(factor))) }
    }
}

impl To for Raw<'_, __m256i> {
    type Vector = __m256i;

    fn filters(&self) -> usize {
        self.filters()
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn take(&mut self, sums: &Sums, start: *const i32, filter: usize, place: Place) {
        // SAFETY: the caller's promise.
        unsafe { self.rows(sums, start, filter, place) }
    }
}

/// Outputs of all filters, by the rule `S`.
struct Ended<'a, S: Eight> {
    end: &'a S::End,
    filters: usize,
    out: &'a mut [u8],
}

impl<S: Eight> To for Ended<'_, S> {
    type Vector = __m256i;

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
            outputs(sums, (start, filter), _mm256_setzero_si256(), |mut sums: [__m256i; SIDE]| {
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
            End::Slope(end) => {
                by_slope!(end, Rule => convolution.to(blocks, &mut Ended::<Rule> { end, filters, out }));
            }
            End::Wide(_) => return false,
        }
    }
    true
}
