//! Outputs of tiles by [`Convolution`], sixteen filters at a time.

// Intrinsics and pointers into panels that were checked once; every block says why it is sound.
#![allow(unsafe_code)]
// Arrays of registers stay in them where loops count.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::array;
use std::ops::Range;

use super::super::methods::by_line;
use super::super::tile::{Shape, Tile};
use super::super::winograd::tiles::{Convolution, Place, Product, Sums, To, product};
use super::super::winograd::{ACROSS, FACTORS, SHIFT, SIDE, back};
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

/// 32 registers: 28 sums, two of weights, one of inputs.
pub const SQUARES: &[Shape<Product>] = &[
    Shape {
        blocks: 4,
        tiles: &[
            of_squares::<1, 4>,
            of_squares::<2, 4>,
            of_squares::<3, 4>,
            of_squares::<4, 4>,
            of_squares::<5, 4>,
            of_squares::<6, 4>,
        ],
        half: &[],
    },
    Shape {
        blocks: 2,
        tiles: &[
            of_squares::<1, 2>,
            of_squares::<2, 2>,
            of_squares::<3, 2>,
            of_squares::<4, 2>,
            of_squares::<5, 2>,
            of_squares::<6, 2>,
            of_squares::<7, 2>,
            of_squares::<8, 2>,
            of_squares::<9, 2>,
            of_squares::<10, 2>,
            of_squares::<11, 2>,
            of_squares::<12, 2>,
        ],
        half: &[],
    },
    Shape {
        blocks: 1,
        tiles: &[
            of_squares::<1, 1>,
            of_squares::<2, 1>,
            of_squares::<3, 1>,
            of_squares::<4, 1>,
            of_squares::<5, 1>,
            of_squares::<6, 1>,
            of_squares::<7, 1>,
            of_squares::<8, 1>,
            of_squares::<9, 1>,
            of_squares::<10, 1>,
            of_squares::<11, 1>,
            of_squares::<12, 1>,
        ],
        half: &[],
    },
];

/// Outputs of a block of a tile, by row: what `ended` makes of four columns.
///
/// # Safety
/// The machine has AVX-512 VNNI. Sixteen values follow at `start`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn outputs<T: Copy>(
    sums: &Sums,
    start: *const i32,
    nothing: T,
    ended: impl Fn([__m512i; SIDE]) -> T,
) -> [T; SIDE] {
    let back = |m: [__m512i; ACROSS]| {
        let (add, sub) = (|a, b| _mm512_add_epi32(a, b), |a, b| _mm512_sub_epi32(a, b));
        back(m, add, sub, |a| _mm512_slli_epi32::<1>(a))
    };
    let mut along = [[_mm512_setzero_si512(); ACROSS]; SIDE];
    for c in 0..ACROSS {
        // SAFETY: sums are those of a block.
        let load = |r: usize| unsafe { _mm512_loadu_si512(sums[r * ACROSS + c].as_ptr().cast()) };
        let y = back(array::from_fn(load));
        for r in 0..SIDE {
            along[r][c] = y[r];
        }
    }
    // SAFETY: the caller's promise.
    let start = unsafe { _mm512_loadu_si512(start.cast()) };
    let mut rows = [nothing; SIDE];
    for r in 0..SIDE {
        let mut y = back(along[r]);
        for c in 0..SIDE {
            let scaled = _mm512_mullo_epi32(y[c], _mm512_set1_epi32(FACTORS[r][c]));
            y[c] = _mm512_add_epi32(_mm512_srai_epi32::<{ SHIFT as u32 }>(scaled), start);
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
    const AT_ONCE: usize = BLOCK;

    /// Blocks are whole.
    fn filters(&self) -> usize {
        self.first + self.step
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn take(&mut self, sums: &Sums, start: *const i32, filter: usize, place: Place) {
        // SAFETY: the caller's promise: there are places for whole blocks.
        unsafe {
            let rows = outputs(sums, start.add(filter), [_mm512_setzero_si512(); SIDE], |sums| sums);
            for (r, sums) in rows.iter().enumerate().take(place.rows) {
                let position = place.first + r * place.across;
                for (c, &sums) in sums.iter().enumerate().take(place.columns) {
                    let out = self.out.as_mut_ptr().add((position + c) * self.step + filter - self.first);
                    _mm512_storeu_si512(out.cast(), sums);
                }
            }
        }
    }
}

/// Outputs of all filters, by the rule `S`.
struct Ended<'a, S: Sixteen> {
    end: &'a S::End,
    filters: usize,
    out: &'a mut [u8],
}

impl<S: Sixteen> To for Ended<'_, S> {
    const AT_ONCE: usize = BLOCK;

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
            let rows = outputs(sums, start.add(filter), _mm512_setzero_si512(), |mut sums| {
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
