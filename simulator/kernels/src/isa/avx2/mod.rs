//! AVX2: products of bytes that are added in 16 bits ([`words`]), or, where inputs and weights are large or positions few, bytes widened to
//! 16 bits and pairs of products (`vpmaddwd`), which cannot saturate here: x <= 255 and |w| <= 128. Inputs are widened once for all
//! filters, weights once for all calls, or when they are met where positions are few. Kernels of 3x3 that move by one go by [`winograd`].
#![allow(unsafe_code)] // Instruction set intrinsics; every block says why it is sound.

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

mod words;

use crate::Bytes;

use super::methods::{kernels, loops_with};
use super::tile::{self, Lanes, Lines, Shape, Tiles};
use super::winograd::CHANNELS;
use super::winograd::tiles::Convolution;
use super::ymm::winograd::{self, squares};
use super::ymm::{Dot, Eights, affine, depthwise, slope};
use super::{
    Affine, Bytewise, End, Kernels, Lookup, Packed, Panel, Shifts, Slope, Taps, TapsEnd, Terms, Wide, Windows,
    check_depthwise, check_ending, loops,
};

/// AVX2 kernels.
#[derive(Debug)]
pub struct Avx2(());

impl Avx2 {
    /// None where the machine lacks AVX2 or FMA.
    pub fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

/// Four filters a register: two sums each, of which the total is taken at the end. For few positions, which take as long as reading
/// weights: those that are bytes.
struct Fours;

/// The totals of neighbours.
#[target_feature(enable = "avx2")]
fn totals_of_two(sums: __m256i) -> __m128i {
    let even = _mm256_add_epi32(sums, _mm256_srli_epi64::<32>(sums));
    _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(even, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6)))
}

// SAFETY: loads and stores touch what the trait says and ask for no alignment.
unsafe impl Lanes for Fours {
    const PER_BLOCK: usize = 4;
    const QUAD: usize = 8;
    type Sums = __m256i;
    type Quad = __m256i;
    type Weights = __m256i;

    #[inline(always)]
    unsafe fn start(at: *const i32) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepu32_epi64(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn quad(at: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_epi64x(at.cast::<i64>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn weights(at: *const i8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn dot(sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(x, w)) }
    }

    #[inline(always)]
    unsafe fn store(sums: __m256i, at: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(at.cast(), totals_of_two(sums)) }
    }
}

/// # Safety
/// As [`tile::tiles`].
#[target_feature(enable = "avx2")]
unsafe fn compute<const P: usize, const N: usize>(t: &Tiles) {
    // SAFETY: the caller's promise.
    unsafe { tile::tiles::<Fours, P, N>(t) }
}

/// One or two positions.
const SHAPES: &[Shape] = &[
    Shape { blocks: 2, tiles: &[compute::<1, 8>], half: &[] },
    Shape { blocks: 1, tiles: &[compute::<1, 4>, compute::<2, 4>], half: &[compute::<1, 2>, compute::<2, 2>] },
];

/// Products of pairs of 16 bits.
struct Pairs;

// SAFETY: instructions of registers.
unsafe impl Dot for Pairs {
    #[inline(always)]
    unsafe fn dot(sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(x, w)) }
    }
}

/// # Safety
/// As [`tile::tiles`].
#[target_feature(enable = "avx2")]
unsafe fn of_pairs<const P: usize, const N: usize>(t: &Tiles) {
    // SAFETY: the caller's promise.
    unsafe { tile::tiles::<Eights<Pairs>, P, N>(t) }
}

/// 16 registers: 12 sums, two of weights, one of inputs, one of products.
const PAIRS: &[Shape] = &[
    Shape { blocks: 2, tiles: &[of_pairs::<1, 4>, of_pairs::<2, 4>], half: &[] },
    Shape {
        blocks: 1,
        tiles: &[
            of_pairs::<1, 2>,
            of_pairs::<2, 2>,
            of_pairs::<3, 2>,
            of_pairs::<4, 2>,
            of_pairs::<5, 2>,
            of_pairs::<6, 2>,
        ],
        half: &[
            of_pairs::<1, 1>,
            of_pairs::<2, 1>,
            of_pairs::<3, 1>,
            of_pairs::<4, 1>,
            of_pairs::<5, 1>,
            of_pairs::<6, 1>,
        ],
    },
];

squares!("avx2", Pairs);

/// Bytes as 16 bits.
#[target_feature(enable = "avx2")]
fn widen(bytes: &[u8], words: &mut [u8]) {
    let ((bytes, rest), (words, others)) = (bytes.as_chunks::<16>(), words.as_chunks_mut::<32>());
    for (bytes, words) in bytes.iter().zip(&mut *words) {
        // SAFETY: the arrays are as long as what is read and written.
        unsafe {
            let wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(bytes.as_ptr().cast()));
            _mm256_storeu_si256(words.as_mut_ptr().cast(), wide);
        }
    }
    for (&byte, word) in rest.iter().zip(others.as_chunks_mut::<2>().0) {
        *word = [byte, 0];
    }
}

thread_local! {
    /// Inputs that are widened.
    static WORDS: RefCell<Bytes> = RefCell::default();
}

/// # Safety
/// The machine has AVX2.
unsafe fn multiply(x: &Panel<'_>, w: &Packed, blocks: Range<usize>, start: &[i32], out: &mut [i32], out_step: usize) {
    x.check(w, &blocks, start, out, out_step);
    if let Some(kernels) = x.squares(w, CHANNELS) {
        // SAFETY: the caller's promise; the panel was checked.
        return unsafe { Convolution { products: SQUARES, kernels, x, start }.sums::<__m256i>(blocks, out, out_step) };
    }
    // One or two positions take as long as reading weights, of which words and pairs have more.
    let few = x.count * x.rows <= 2;
    if !few && let Some(words) = w.words() {
        // SAFETY: the caller's promise; the panel was checked.
        return unsafe { words::multiply(words, x, w, blocks, start, out, out_step) };
    }
    let bytes = &x.data[..x.met(w)];
    WORDS.with_borrow_mut(|words| {
        let data = words.at_least(2 * bytes.len());
        // SAFETY: the caller's promise.
        unsafe { widen(bytes, data) };
        let wide = Panel {
            data,
            step: 2 * x.step,
            row_step: 2 * x.row_step,
            run_step: 2 * x.run_step,
            count: x.count,
            rows: x.rows,
        };
        let (shapes, lines) = if few {
            (SHAPES, w.in_lines(w.lines()))
        } else {
            let pairs = w.pairs();
            (PAIRS, Lines { quads: pairs.each, ..w.in_lines(&pairs.lines) })
        };
        // SAFETY: the caller's promise; the panel was checked, every byte of it has become two, and pairs meet no more than quads.
        unsafe { tile::checked(shapes, &wide, lines, blocks, start, out, out_step, |tile, t, _| tile(t)) }
    });
}

#[target_feature(enable = "avx2")]
fn peak(rounds: u64) -> u64 {
    // SAFETY: called where the instructions were detected.
    unsafe { tile::peak::<words::Bytes, 6>(rounds) }
}

loops_with!("avx2,fma", all);
kernels!(Avx2, "x86_64-u8i8-avx2", {
    fn ended(&self, x: &Panel<'_>, w: &Packed, start: &[i32], end: End<'_>, out: &mut [u8]) -> bool {
        x.check_ended(w, start, end, out);
        let Some(kernels) = x.squares(w, CHANNELS) else { return false };
        // SAFETY: a value of this type exists only where its instructions were detected; panel, starts, end and output are checked.
        unsafe { winograd::ended(&Convolution { products: SQUARES, kernels, x, start }, w.filters(), end, out) }
    }
});
