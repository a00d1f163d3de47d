//! Outputs of tiles by [`Convolution`], sixteen filters at a time.

// Intrinsics and pointers into panels that were checked once; every block says why it is sound.
#![allow(unsafe_code)]
// Arrays of registers stay in them where loops count.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::super::methods::{by_line, by_slope};
use super::super::tile::{Shape, Tile};
use super::super::winograd::tiles::{Convolution, Place, Product, Raw, Sums, To, Vector, outputs, product};
use super::super::winograd::{SHIFT, SIDE};
use super::super::{BLOCK, End};
use super::Zmm;
use super::ends::{Line, Sixteen, Sloping, bytes, lanes, quarters, store_four};

/// Channels of which fewer are faster without: what is made of tiles and sums takes as long as what products spare.
pub const CHANNELS: usize = 32;

/// # Safety
/// As [`product`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn of_squares<const P: usize, const N: usize>(first: &Tile) {
    // SAFETY: the caller's promise.
    unsafe { product::<Zmm<true>, P, N>(first) }
}

/// Products of so many blocks and tiles.
macro_rules! squares {
    ($blocks:literal; $($tiles:literal)*) => {
        Shape { blocks: $blocks, tiles: &[$(of_squares::<$tiles, $blocks>),*], half: &[] }
    };
}

/// 32 registers: 24 sums, four of weights, one of inputs.
pub const SQUARES: &[Shape<Product>] =
    &[squares!(4; 1 2 3 4 5 6), squares!(2; 1 2 3 4 5 6 7 8 9 10 11 12), squares!(1; 1 2 3 4 5 6 7 8 9 10 11 12)];

// SAFETY: instructions of registers; loads and stores ask for no alignment.
unsafe impl Vector for __m512i {
    const FILTERS: usize = BLOCK;

    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast(), self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm512_add_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm512_sub_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn twice(self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm512_slli_epi32::<1>(self) }
    }

    #[inline(always)]
    unsafe fn scaled(self, factor: i32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm512_srai_epi32::<{ SHIFT as u32 }>(_mm512_mullo_epi32(self, _mm512_set1_epi32(factor))) }
    }
}

impl To for Raw<'_, __m512i> {
    type Vector = __m512i;

    fn filters(&self) -> usize {
        self.filters()
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn take(&mut self, sums: &Sums, start: *const i32, filter: usize, place: Place) {
        // SAFETY: the caller's promise.
        unsafe { self.rows(sums, start, filter, place) }
    }
}

/// Outputs of all filters, by the rule `S`.
struct Ended<'a, S: Sixteen> {
    end: &'a S::End,
    filters: usize,
    out: &'a mut [u8],
}

impl<S: Sixteen> To for Ended<'_, S> {
    type Vector = __m512i;

    fn filters(&self) -> usize {
        self.filters
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn take(&mut self, sums: &Sums, start: *const i32, filter: usize, place: Place) {
        let lanes = lanes(filter, self.filters);
        let whole = lanes == __mmask16::MAX && place.columns >= SIDE;
        // SAFETY: the caller's promise; an end has whole blocks, and positions places for the filters that there are.
        unsafe {
            let rule = S::of(self.end, filter);
            let rows = outputs(sums, (start, filter), _mm512_setzero_si512(), |mut sums: [__m512i; SIDE]| {
                for c in 0..SIDE {
                    sums[c] = rule.ended(sums[c]);
                }
                bytes(sums, S::SIGNED, rule.ceiling())
            });
            for (r, &y) in rows.iter().enumerate().take(place.rows) {
                let out = self.out.as_mut_ptr().add((place.first + r * place.across) * self.filters + filter);
                if whole {
                    store_four(y, out, self.filters);
                    continue;
                }
                for (c, y) in quarters(y).into_iter().enumerate().take(place.columns) {
                    _mm_mask_storeu_epi8(out.add(c * self.filters).cast(), lanes, y);
                }
            }
        }
    }
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
