//! Products of bytes that are added in 16 bits, group by group (`vpmaddubsw`), by weights that are in groups for it ([`Words`]).

// Intrinsics and pointers into panels that were checked once; every block says why it is sound.
#![allow(unsafe_code)]
// Sums in arrays stay in registers where loops count.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::ops::Range;
use std::ptr;

use super::super::tile::{self, Lanes, Shape, Tiles};
use super::super::words::Words;
use super::super::ymm::{Dot, Eights};
use super::super::{BLOCK, Packed, Panel};

/// Filters of a register, and bytes of a line of all filters of a block.
const EIGHT: usize = BLOCK / 2;
const LINE: usize = 4 * BLOCK;

/// Products of two bytes, added in 16 bits.
pub struct Two;

// SAFETY: instructions of registers.
unsafe impl Dot for Two {
    #[inline(always)]
    unsafe fn dot(sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(x, w)) }
    }
}

/// Two sums of 16 bits for each of eight filters.
pub type Bytes = Eights<Two>;

/// Adds sums of 16 bits to those of 32 that are `before`, two to one.
///
/// # Safety
/// The machine has AVX2. Eight values are readable and writable there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add(before: *const i32, sums: __m256i, out: *mut i32) {
    // SAFETY: the caller's promise.
    unsafe {
        let wide = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
        _mm256_storeu_si256(out.cast(), _mm256_add_epi32(_mm256_loadu_si256(before.cast()), wide));
    }
}

/// Sums of tiles of `P` positions and `N` registers of filters, of which the first block is given. Those of 16 bits are in registers, those
/// of 32 where they leave to, which is what takes the fewest registers.
///
/// # Safety
/// The machine has AVX2. As [`tile::tiles`]; lines are those of the words.
#[target_feature(enable = "avx2")]
unsafe fn compute<const P: usize, const N: usize>(tiles: &Tiles, words: &Words, block: usize) {
    let t = tiles.first;
    let (block_lines, groups) = (t.runs * t.quads, t.runs * t.quads.div_ceil(words.each));
    // What the sums of every position begin with.
    let mut begin = [[0i32; EIGHT]; N];
    // SAFETY: the caller's promise; words have all there is of a block's filters, half a line a register.
    unsafe {
        let back = words.back.as_ptr().add(block * BLOCK);
        for n in 0..N {
            let [start, back] = [t.start, back].map(|v| Bytes::start(v.add(n * EIGHT)));
            Bytes::store(_mm256_add_epi32(start, back), begin[n].as_mut_ptr());
        }
        let half = |line: *const u8, n: usize| line.add(n % 2 * LINE / 2);
        for tile in 0..tiles.count {
            let out = t.out.wrapping_add(tile * P * t.out_step);
            // Of three neighbours the first, as in `tile`.
            let x: [*const u8; P] = std::array::from_fn(|p| t.x.wrapping_add((tile * P + p / 3 * 3) * t.step));
            let mut w: [*const u8; N] = std::array::from_fn(|n| half(t.w.add(n / 2 * block_lines).cast(), n));
            let starts = words.starts.as_ptr();
            let mut starts: [*const u8; N] =
                std::array::from_fn(|n| half(starts.add((block + n / 2) * groups).cast(), n));
            // Where sums are so far.
            let (mut before, mut step) = (begin.as_ptr().cast::<i32>(), 0);
            for run in 0..t.runs {
                let mut x = x.map(|x| x.wrapping_add(run * t.run_step));
                let mut left = t.quads;
                while left > 0 {
                    let group = left.min(words.each);
                    let start: [__m256i; N] = std::array::from_fn(|n| _mm256_load_si256(starts[n].cast()));
                    let mut sums = [start; P];
                    for _ in 0..group {
                        let weights: [__m256i; N] = std::array::from_fn(|n| _mm256_load_si256(w[n].cast()));
                        for p in 0..P {
                            let x = Bytes::quad(x[p].add(p % 3 * t.step));
                            for n in 0..N {
                                sums[p][n] = Bytes::dot(sums[p][n], x, weights[n]);
                            }
                        }
                        x = x.map(|x| x.wrapping_add(4));
                        w = w.map(|w| w.wrapping_add(LINE));
                    }
                    for p in 0..P {
                        for n in 0..N {
                            let at = n * EIGHT;
                            add(before.add(p * step + at), sums[p][n], out.add(p * t.out_step + at));
                        }
                    }
                    (before, step) = (out, t.out_step);
                    starts = starts.map(|s| s.wrapping_add(LINE));
                    left -= group;
                }
            }
            for n in (0..N).step_by(2) {
                let mut rest = words.first[block + n / 2]..words.first[block + n / 2 + 1];
                while !rest.is_empty() {
                    let mut sums = [[_mm256_setzero_si256(); 2]; P];
                    for i in rest.by_ref().take(words.rest_each) {
                        let [run, quad] = *words.places.get_unchecked(i);
                        let offset = run as usize * t.run_step + quad as usize * 4;
                        let line: *const __m256i = ptr::from_ref(words.rest.get_unchecked(i)).cast();
                        let weights = [0, 1].map(|i| _mm256_load_si256(line.add(i)));
                        for p in 0..P {
                            let x = Bytes::quad(x[p].add(p % 3 * t.step + offset));
                            for i in 0..N.min(2) {
                                sums[p][i] = Bytes::dot(sums[p][i], x, weights[i]);
                            }
                        }
                    }
                    for p in 0..P {
                        for i in 0..N.min(2) {
                            let at = out.add(p * t.out_step + (n + i) * EIGHT);
                            add(at, sums[p][i], at);
                        }
                    }
                }
            }
        }
    }
}

/// Computes tiles of words, from a block on.
type TileFn = unsafe fn(&Tiles, &Words, usize);

/// 16 registers: 12 sums, two of weights, one of inputs, one of products.
const SHAPES: &[Shape<TileFn>] = &[
    Shape { blocks: 4, tiles: &[compute::<1, 8>], half: &[] },
    Shape { blocks: 2, tiles: &[compute::<1, 4>, compute::<2, 4>], half: &[] },
    Shape {
        blocks: 1,
        tiles: &[compute::<1, 2>, compute::<2, 2>, compute::<3, 2>, compute::<4, 2>, compute::<5, 2>, compute::<6, 2>],
        half: &[compute::<1, 1>, compute::<2, 1>, compute::<3, 1>, compute::<4, 1>, compute::<5, 1>, compute::<6, 1>],
    },
];

/// # Safety
/// The machine has AVX2; the panel was checked. Words are those of the weights.
pub unsafe fn multiply(
    words: &Words,
    x: &Panel<'_>,
    w: &Packed,
    blocks: Range<usize>,
    start: &[i32],
    out: &mut [i32],
    out_step: usize,
) {
    let lines = if words.lines.is_empty() { w.lines() } else { &words.lines };
    // SAFETY: the caller's promise.
    unsafe {
        tile::checked(SHAPES, x, w.in_lines(lines), blocks, start, out, out_step, |tile, t, block| {
            tile(t, words, block)
        });
    }
}
