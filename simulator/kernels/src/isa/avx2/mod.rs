//! AVX2: products of bytes that are added in 16 bits ([`words`]), or, where inputs and weights are large or positions few, bytes widened to
//! 16 bits and pairs of products (`vpmaddwd`), which cannot saturate here: x <= 255 and |w| <= 128. Inputs are widened once for all
//! filters, weights for five positions.
#![allow(unsafe_code)] // Instruction set intrinsics; every block says why it is sound.

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

mod words;

use crate::Bytes;

use super::methods::{kernels, loops_with};
use super::tile::{self, Lanes, Shape, Tile, Tiles};
use super::ymm::{affine, depthwise, slope};
use super::{
    Affine, BLOCK, Kernels, Lookup, Packed, Panel, Shifts, Slope, Taps, TapsEnd, Terms, Wide, Windows, check_depthwise,
    check_ending, loops,
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

/// Four filters a register: two sums each, of which the total is taken at the end.
struct Pairs;

/// The totals of neighbours.
#[target_feature(enable = "avx2")]
fn of_pairs(sums: __m256i) -> __m128i {
    let even = _mm256_add_epi32(sums, _mm256_srli_epi64::<32>(sums));
    _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(even, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6)))
}

// SAFETY: loads and stores touch what the trait says and ask for no alignment.
unsafe impl Lanes for Pairs {
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
        unsafe { _mm_storeu_si128(at.cast(), of_pairs(sums)) }
    }
}

/// # Safety
/// As [`tile::tiles`].
#[target_feature(enable = "avx2")]
unsafe fn compute<const P: usize, const N: usize>(t: &Tiles) {
    // SAFETY: the caller's promise.
    unsafe { tile::tiles::<Pairs, P, N>(t) }
}

/// A block in two halves, so that more positions meet weights that are widened.
///
/// # Safety
/// As [`tile::tiles`].
#[target_feature(enable = "avx2")]
unsafe fn halves<const P: usize>(t: &Tiles) {
    let filters = BLOCK / 2;
    // SAFETY: the caller's promise; filters of the second half follow those of the first everywhere.
    unsafe {
        tile::tiles::<Pairs, P, 2>(t);
        let first = Tile {
            w: t.first.w.cast::<[i8; 4]>().add(filters).cast(),
            start: t.first.start.add(filters),
            out: t.first.out.add(filters),
            ..t.first
        };
        tile::tiles::<Pairs, P, 2>(&Tiles { first, ..*t });
    }
}

/// 16 registers: ten sums, two of weights, one of inputs, two of products; or eight and four.
const SHAPES: &[Shape] = &[
    Shape { blocks: 2, tiles: &[compute::<1, 8>], half: &[] },
    Shape {
        blocks: 1,
        tiles: &[compute::<1, 4>, compute::<2, 4>, halves::<3>, halves::<4>, halves::<5>],
        half: &[compute::<1, 2>, compute::<2, 2>, compute::<3, 2>, compute::<4, 2>, compute::<5, 2>],
    },
];

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
    // One or two positions take as long as reading weights, of which words have more.
    if x.count * x.rows > 2
        && let Some(words) = w.words()
    {
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
        // SAFETY: the caller's promise; the panel was checked, and every byte of it has become two.
        unsafe { tile::checked(SHAPES, &wide, (w, w.lines()), blocks, start, out, out_step, |tile, t, _| tile(t)) }
    });
}

#[target_feature(enable = "avx2")]
fn peak(rounds: u64) -> u64 {
    // SAFETY: called where the instructions were detected.
    unsafe { tile::peak::<words::Bytes, 6>(rounds) }
}

loops_with!("avx2,fma", all);
kernels!(Avx2, "x86_64-u8i8-avx2");
