//! Products that end as bytes at once: while the tile unit makes the sums of some positions, vectors end those of the ones before,
//! which never leave the first-level cache.
#![allow(unsafe_code)] // Pointers into panels that were checked once.

use std::ops::Range;

use super::super::pack::Line;
use super::super::{BLOCK, End, Packed, Panel, avx512};
use super::product::{LINE, Start, TILE, Work, narrow, parts, square};
use super::tiles::{ROWS, Shape, Tiling, dot, load, release, store, zero};

/// Most bytes of weights of two blocks: they are read for every sixteen positions, from a first-level cache.
const WEIGHTS: usize = 32 << 10;
/// Sums of a position that are made together.
const FILTERS: usize = 2 * BLOCK;

/// Tiles of positions that meet a part of the weights one after another, where all do not stay in the first-level cache.
const TILES: usize = 4;

/// Whether there is a way for these weights.
pub fn fits(w: &Packed) -> bool {
    few(w) || w.quads().is_multiple_of(ROWS)
}

fn few(w: &Packed) -> bool {
    w.runs() * w.quads() * LINE * 2 <= WEIGHTS
}

/// Sums of two tiles: of one they are stored, of the other they are ended.
#[repr(C, align(64))]
struct Held([[i32; ROWS * FILTERS]; 2]);

/// The weights of one or two blocks.
struct Blocks {
    first: [*const Line; 2],
    runs: usize,
    /// Lines of a run.
    quads: usize,
    /// What sums start with, if not with 0.
    start: Option<*const i32>,
}

/// Sums of one tile of positions, of one block in tile register `C` or of `TWO` in `C` and `D`.
///
/// # Safety
/// Registers are shaped; the positions at `x` and the weights are there.
#[inline(always)]
unsafe fn sums<const C: usize, const D: usize, const TWO: bool>(panel: &Panel<'_>, x: *const u8, w: &Blocks) {
    let (whole, rest) = (w.quads / ROWS, !w.quads.is_multiple_of(ROWS));
    // SAFETY: the caller's promise. Inputs and weights advance by what was loaded of them, inside their runs.
    unsafe {
        match w.start {
            None => {
                zero::<C>();
                zero::<D>();
            }
            Some(start) => {
                load::<C>(start.cast(), 0);
                if TWO {
                    load::<D>(start.wrapping_add(BLOCK).cast(), 0);
                }
            }
        }
        for run in 0..w.runs {
            let mut x = x.wrapping_add(run * panel.run_step);
            let mut w: [*const u8; 2] = w.first.map(|first| first.wrapping_add(run * w.quads).cast());
            for _ in 0..whole {
                load::<4>(x, panel.step);
                load::<6>(w[0], LINE);
                dot::<C, 4, 6>();
                if TWO {
                    load::<6>(w[1], LINE);
                    dot::<D, 4, 6>();
                }
                x = x.wrapping_add(4 * ROWS);
                w = w.map(|w| w.wrapping_add(TILE));
            }
            if rest {
                load::<5>(x, panel.step);
                load::<7>(w[0], LINE);
                dot::<C, 5, 7>();
                if TWO {
                    load::<7>(w[1], LINE);
                    dot::<D, 5, 7>();
                }
            }
        }
    }
}

/// Stores what [`sums`] made.
///
/// # Safety
/// Registers are shaped.
#[inline(always)]
unsafe fn hold<const C: usize, const D: usize, const TWO: bool>(held: &mut [i32; ROWS * FILTERS]) {
    let step = if TWO { FILTERS } else { BLOCK } * size_of::<i32>();
    // SAFETY: the caller's promise; `held` has room for all rows of both.
    unsafe {
        store::<C>(held.as_mut_ptr().cast(), step);
        if TWO {
            store::<D>(held.as_mut_ptr().wrapping_add(BLOCK).cast(), step);
        }
    }
}

/// Ends the sums of a tile.
///
/// # Safety
/// The machine has AVX-512 VNNI; every position has its sums and outputs, every filter its end.
#[inline(always)]
unsafe fn finish(end: End<'_>, sums: &[i32], step: usize, filters: Range<usize>, out: &mut [u8], out_step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match end {
            End::Affine(end) => avx512::affine(sums, step, end, filters, out, out_step),
            End::Wide(end) => avx512::wide(sums, step, end, filters, out, out_step),
        }
    }
}

/// Every position with all filters.
///
/// # Safety
/// The machine has tiles, which the process may use, and AVX-512 VNNI. All positions have their bytes and all blocks a start and an
/// end; the output has a place for every filter of every position.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn ended(panel: &Panel<'_>, w: &Packed, start: &[i32], end: End<'_>, out: &mut [u8]) {
    if !few(w) {
        // SAFETY: the caller's promise.
        return unsafe { in_parts(panel, w, start, end, out) };
    }
    let tiling = Tiling::of(panel);
    let Tiling { rows, tiles, .. } = tiling;
    let rest = w.quads() % ROWS;
    let shape = Shape::new(rows, if rest == 0 { ROWS } else { rest });
    let (filters, blocks, lines) = (w.filters(), w.width() / BLOCK, w.runs() * w.quads());
    let mut held = Held([[0; ROWS * FILTERS]; 2]);
    // SAFETY: the caller's promise, for the positions of every tile and the blocks there are.
    unsafe {
        shape.take();
        for block in (0..blocks).step_by(2) {
            let two = block + 1 < blocks;
            let some = block * BLOCK..filters.min((block + 2) * BLOCK);
            let start = &start[some.start..w.width().min(some.start + FILTERS)];
            let first = w.lines().as_ptr().wrapping_add(block * lines);
            let weights = Blocks {
                first: [first, first.wrapping_add(lines)],
                runs: w.runs(),
                quads: w.quads(),
                start: start.iter().any(|&s| s != 0).then_some(start.as_ptr()),
            };
            let step = start.len();
            for turn in 0..tiles + 2 {
                if turn < tiles {
                    let (row, at) = tiling.position(turn);
                    let x = panel.data.as_ptr().wrapping_add(row * panel.row_step + at * panel.step);
                    match (turn % 2, two) {
                        (0, true) => sums::<0, 1, true>(panel, x, &weights),
                        (0, false) => sums::<0, 1, false>(panel, x, &weights),
                        (_, true) => sums::<2, 3, true>(panel, x, &weights),
                        (_, false) => sums::<2, 3, false>(panel, x, &weights),
                    }
                }
                let [even, odd] = &mut held.0;
                if (1..=tiles).contains(&turn) {
                    match (turn % 2, two) {
                        (1, true) => hold::<0, 1, true>(even),
                        (1, false) => hold::<0, 1, false>(even),
                        (_, true) => hold::<2, 3, true>(odd),
                        (_, false) => hold::<2, 3, false>(odd),
                    }
                }
                if let Some(tile) = turn.checked_sub(2) {
                    let (row, at) = tiling.position(tile);
                    let sums = if tile.is_multiple_of(2) { even } else { odd };
                    let out = &mut out[(row * panel.count + at) * filters + some.start..];
                    finish(end, &sums[..rows * step], step, some.clone(), out, filters);
                }
            }
        }
        release();
    }
}

/// Sums of some tiles, made in parts, and ended while those of the next are made.
#[repr(C, align(64))]
struct Chunks([[i32; TILES * ROWS * FILTERS]; 2]);

/// The same with more weights: a part of them meets some tiles, then the next part.
///
/// # Safety
/// As [`ended`]; runs are whole tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn in_parts(panel: &Panel<'_>, w: &Packed, start: &[i32], end: End<'_>, out: &mut [u8]) {
    let tiling = Tiling::of(panel);
    let Tiling { rows, tiles, .. } = tiling;
    let (filters, blocks) = (w.filters(), w.width() / BLOCK);
    let mut held = Chunks([[0; TILES * ROWS * FILTERS]; 2]);
    // SAFETY: the caller's promise, for the positions of every tile and the blocks there are.
    unsafe {
        Shape::new(rows, ROWS).take();
        for block in (0..blocks).step_by(2) {
            let high = (blocks - block).min(2);
            let some = block * BLOCK..filters.min((block + high) * BLOCK);
            let start = &start[block * BLOCK..(block + high) * BLOCK];
            let given = if start.iter().all(|&s| s == 0) { Start::Zero } else { Start::At(start.as_ptr()) };
            let mut end_tile = |tile: usize, sums: &[i32]| {
                let (row, at) = tiling.position(tile);
                let out = &mut out[(row * panel.count + at) * filters + some.start..];
                finish(end, &sums[..rows * FILTERS], FILTERS, some.clone(), out, filters);
            };
            // Tiles whose sums are made and not ended.
            let mut left = 0..0;
            for first in (0..tiles).step_by(TILES) {
                let chunk = first..tiles.min(first + TILES);
                let [even, odd] = &mut held.0;
                let (made, before) = if (first / TILES).is_multiple_of(2) { (even, odd) } else { (odd, even) };
                for part in parts(w, high, false) {
                    let mut work = Work::of(panel, w, block, &part, (&mut made[..], FILTERS), given);
                    for tile in chunk.clone().step_by(2) {
                        let two = tile + 1 < chunk.end;
                        for i in 0..1 + usize::from(two) {
                            let (row, at) = tiling.position(tile + i);
                            work.x[i] = part.begin(panel, row, at);
                            work.out[i] = made.as_mut_ptr().wrapping_add((tile + i - first) * ROWS * FILTERS);
                        }
                        match (high, two) {
                            (2, true) => square::<2>(&work),
                            (2, false) => square::<1>(&work),
                            (_, true) => narrow::<2, false>(&work),
                            (_, false) => narrow::<1, false>(&work),
                        }
                        if let Some(tile) = left.next() {
                            end_tile(tile, &before[tile % TILES * ROWS * FILTERS..]);
                        }
                    }
                }
                for tile in std::mem::replace(&mut left, chunk) {
                    end_tile(tile, &before[tile % TILES * ROWS * FILTERS..]);
                }
            }
            let last = &held.0[(tiles - 1) / TILES % 2];
            for tile in left {
                end_tile(tile, &last[tile % TILES * ROWS * FILTERS..]);
            }
        }
        release();
    }
}
