//! Products that end as bytes at once: sums stay in registers until they are bytes.
#![allow(unsafe_code)] // Intrinsics and pointers into panels that were checked once; every block says why it is sound.

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::Range;

use super::super::methods::{by_line, by_slope};
use super::super::tile::{Tile, sums, sums_beside};
use super::super::{BLOCK, End, Packed, Panel};
use super::Zmm;
use super::ahead::Lines;
use super::ends::{Line, Sixteen, Sloping, bytes, lanes, sixteen_bytes, store_four};

/// Fewest positions for which this is worth it: of fewer, more blocks of filters are needed than registers have room for.
const FEWEST: usize = 5;
/// Positions that meet a few blocks of filters before the next do: so few that their inputs stay in a second-level cache, so many that
/// weights, which may come from behind it, are read seldom.
const POSITIONS: usize = 256;
/// Bytes of a filter's weights up to which four blocks are met at once.
const FEW: usize = 256;

/// Where the bytes of a tile go.
struct To {
    /// First filter of the first position.
    out: *mut u8,
    /// Bytes from a position to the next.
    step: usize,
    /// Filters there are of a last block.
    lanes: __mmask16,
    /// What is asked for meanwhile, a line for each quad.
    ahead: Lines,
}

/// Positions that the runs of one are made of, where neighbours meet the same bytes.
const TAPS: usize = 3;

/// The sums of neighbours, whose runs are those of [`TAPS`] positions, with `N` blocks: four bytes are loaded once for all that meet
/// them.
///
/// # Safety
/// As [`sums`]; runs are as long as so many steps, which are whole quads.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn sliding<const P: usize, const N: usize>(t: &Tile) -> [[__m512i; N]; P] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut starts = [_mm512_setzero_si512(); N];
        for (n, start) in starts.iter_mut().enumerate() {
            *start = _mm512_loadu_si512(t.start.add(n * BLOCK).cast());
        }
        let (mut sums, quads) = ([starts; P], t.step / 4);
        for run in 0..t.runs {
            let (x, w) = (t.x.add(run * t.run_step), t.w.add(run * t.quads));
            for q in 0..quads {
                let quad =
                    |column: usize| _mm512_set1_epi32(x.add(column * t.step + q * 4).cast::<i32>().read_unaligned());
                let mut weights = [[_mm512_setzero_si512(); TAPS]; N];
                for (n, weights) in weights.iter_mut().enumerate() {
                    for (tap, weights) in weights.iter_mut().enumerate() {
                        *weights = _mm512_load_si512(w.add(n * t.runs * t.quads + tap * quads + q).cast());
                    }
                }
                let (mut first, mut second) = (quad(0), quad(1));
                for (p, sums) in sums.iter_mut().enumerate() {
                    let third = quad(p + 2);
                    for (sum, weights) in sums.iter_mut().zip(&weights) {
                        *sum = _mm512_dpbusd_epi32(*sum, first, weights[0]);
                        *sum = _mm512_dpbusd_epi32(*sum, second, weights[1]);
                        *sum = _mm512_dpbusd_epi32(*sum, third, weights[2]);
                    }
                    (first, second) = (second, third);
                }
            }
        }
        sums
    }
}

/// `P` positions with `N` blocks of filters.
///
/// # Safety
/// As [`sums`], and as [`sliding`] if they slide; there is room for the bytes of all positions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile<S: Sixteen, const P: usize, const N: usize, const SLIDE: bool>(t: &Tile, ends: &[S; 4], to: &To) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut ahead = to.ahead;
        let sums = match N {
            _ if SLIDE => sliding::<P, N>(t),
            1 => sums::<Zmm<false>, P, N>(t),
            _ => sums_beside::<Zmm<false>, P, N>(t, || ahead.ask()),
        };
        let ceiling = ends[0].ceiling();
        let at = |p: usize| to.out.add(p * to.step);
        match N {
            4 => {
                for (p, sums) in sums.iter().enumerate() {
                    let mut y = [sums[0]; 4];
                    for n in 0..N {
                        y[n] = ends[n].ended(sums[n]);
                    }
                    _mm512_storeu_si512(at(p).cast(), bytes(y, S::SIGNED, ceiling));
                }
            }
            2 => {
                for p in (0..P).step_by(2) {
                    // The last of an odd number is made twice.
                    let next = (p + 1).min(P - 1);
                    let [a, b] = [p, next].map(|p| [sums[p][0], sums[p][N - 1]]);
                    let y = [ends[0].ended(a[0]), ends[1].ended(a[1]), ends[0].ended(b[0]), ends[1].ended(b[1])];
                    let y = bytes(y, S::SIGNED, ceiling);
                    _mm256_storeu_si256(at(p).cast(), _mm512_castsi512_si256(y));
                    _mm256_storeu_si256(at(next).cast(), _mm512_extracti64x4_epi64::<1>(y));
                }
            }
            _ => {
                let whole = to.lanes == __mmask16::MAX;
                let mut p = 0;
                while p + 4 <= P && whole {
                    let mut y = [sums[0][0]; 4];
                    for i in 0..4 {
                        y[i] = ends[0].ended(sums[p + i][0]);
                    }
                    store_four(bytes(y, S::SIGNED, ceiling), at(p), to.step);
                    p += 4;
                }
                for (p, sums) in sums.iter().enumerate().skip(p) {
                    let y = sixteen_bytes(ends[0].ended(sums[0]), S::SIGNED, ceiling);
                    _mm_mask_storeu_epi8(at(p).cast(), to.lanes, y);
                }
            }
        }
    }
}

type TileFn<S> = unsafe fn(&Tile, &[S; 4], &To);

/// Tiles of so many blocks, by one less than how many positions they have.
macro_rules! tiles {
    ($end:ty, $blocks:literal, $slide:literal; $($positions:literal)*) => {
        &[$(tile::<$end, $positions, $blocks, $slide>),*]
    };
}

/// Tiles by how many blocks they have and one less than how many positions.
struct Tiles<S>(PhantomData<S>);

impl<S: Sixteen + 'static> Tiles<S> {
    const FOUR: &[TileFn<S>] = tiles!(S, 4, false; 1 2 3 4 5 6);
    const TWO: &[TileFn<S>] = tiles!(S, 2, false; 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    const ONE: &[TileFn<S>] = tiles!(S, 1, false; 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
    const TWO_SLIDING: &[TileFn<S>] = tiles!(S, 2, true; 1 2 3 4 5 6 7 8 9 10);
    const ONE_SLIDING: &[TileFn<S>] = tiles!(S, 1, true; 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);

    /// Those for the blocks there are, and how many blocks they take.
    fn of(x: &Panel<'_>, w: &Packed, positions: usize, whole_blocks: usize) -> (&'static [TileFn<S>], usize) {
        let slides = x.step.is_multiple_of(4) && w.quads() * 4 == TAPS * x.step;
        match whole_blocks {
            4.. if w.len() <= FEW || positions <= Self::FOUR.len() => (Self::FOUR, 4),
            2.. if slides => (Self::TWO_SLIDING, 2),
            2.. => (Self::TWO, 2),
            _ if slides => (Self::ONE_SLIDING, 1),
            _ => (Self::ONE, 1),
        }
    }
}

/// Every position with all filters; false, and nothing done, where that is no better than sums first and ends after them.
///
/// # Safety
/// The machine has AVX-512 VNNI. All positions have their bytes and all blocks a start and an end; the output has a place for every
/// filter of every position.
pub unsafe fn ended(x: &Panel<'_>, w: &Packed, start: &[i32], end: End<'_>, out: &mut [u8]) -> bool {
    if x.count * x.rows < FEWEST || w.runs() == 0 {
        return false;
    }
    // SAFETY: the caller's promise.
    unsafe {
        match end {
            End::Affine(end) => by_line!(end, Rule => ended_by::<Rule>(x, w, start, end, out)),
            End::Slope(end) => by_slope!(end, Rule => ended_by::<Rule>(x, w, start, end, out)),
            End::Wide(_) => return false,
        }
    }
    true
}

/// # Safety
/// As [`ended`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn ended_by<S: Sixteen + 'static>(x: &Panel<'_>, w: &Packed, start: &[i32], end: &S::End, out: &mut [u8]) {
    let x = x.joined();
    let (rows, columns) = if x.rows == 1 { (1, POSITIONS) } else { ((POSITIONS / x.count).max(1), x.count) };
    for row in (0..x.rows).step_by(rows) {
        for column in (0..x.count).step_by(columns) {
            let (rows, columns) = (row..x.rows.min(row + rows), column..x.count.min(column + columns));
            let mut block = 0;
            while block * BLOCK < w.filters() {
                let whole = (w.filters() - block * BLOCK) / BLOCK;
                let (tiles, blocks) = Tiles::<S>::of(&x, w, columns.len(), whole);
                // SAFETY: the caller's promise, for these positions and blocks.
                unsafe {
                    let ends = std::array::from_fn(|n| S::of(end, (block + n.min(blocks - 1)) * BLOCK));
                    some::<S>(&x, w, start, (tiles, block, blocks, &ends), [&rows, &columns], out);
                }
                block += blocks;
            }
        }
    }
}

/// Some positions with some blocks.
///
/// # Safety
/// As [`ended`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn some<S: Sixteen>(
    x: &Panel<'_>,
    w: &Packed,
    start: &[i32],
    (tiles, block, blocks, ends): (&[TileFn<S>], usize, usize, &[S; 4]),
    [rows, columns]: [&Range<usize>; 2],
    out: &mut [u8],
) {
    let (step, out) = (w.filters(), out.as_mut_ptr());
    let lanes = lanes(block * BLOCK, step);
    let parts = columns.len().div_ceil(tiles.len());
    let (lines, start) = (w.lines().as_ptr(), start.as_ptr());
    let each = w.runs() * w.quads();
    let behind = step.div_ceil(BLOCK) - block - blocks;
    for row in rows.clone() {
        let mut column = columns.start;
        for part in 0..parts {
            let count = (columns.end - column).div_ceil(parts - part);
            let tile = Tile {
                x: x.data.as_ptr().wrapping_add(row * x.row_step + column * x.step),
                step: x.step,
                run_step: x.run_step,
                runs: w.runs(),
                quads: w.quads(),
                w: lines.wrapping_add(block * each),
                block_lines: each,
                behind,
                start: start.wrapping_add(block * BLOCK),
                out: std::ptr::null_mut(),
                out_step: 0,
            };
            let ahead = Lines::behind(&tile, blocks, (row - rows.start) * parts + part);
            let out = out.wrapping_add((row * x.count + column) * step + block * BLOCK);
            let to = To { out, step, lanes, ahead };
            // SAFETY: the caller's promise, for the positions of this tile.
            unsafe { tiles[count - 1](&tile, ends, &to) };
            column += count;
        }
    }
}
