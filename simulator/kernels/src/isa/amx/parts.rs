//! Products that end as bytes at once, of inputs that do not stay in a first-level cache: a part of the weights of two blocks meets
//! some tiles of positions, then the next part.
#![allow(unsafe_code)] // Pointers into panels that were checked once.

use std::ops::Range;

use super::super::{BLOCK, End, Packed, Panel, avx512};
use super::product::{Start, Work, narrow, parts, square};
use super::tiles::{ROWS, Shape, Tiling, release};

/// Sums of a position that are made together.
const FILTERS: usize = 2 * BLOCK;
/// Tiles of positions that meet a part of the weights one after another.
const TILES: usize = 4;

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

/// Sums of some tiles, made in parts, and ended while those of the next are made.
#[repr(C, align(64))]
struct Chunks([[i32; TILES * ROWS * FILTERS]; 2]);

/// Every position with all filters, of runs that are whole tiles.
///
/// # Safety
/// As [`ended`](super::ended::ended).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn ended(panel: &Panel<'_>, w: &Packed, start: &[i32], end: End<'_>, out: &mut [u8]) {
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
