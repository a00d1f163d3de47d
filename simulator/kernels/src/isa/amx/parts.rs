//! Products that end as bytes at once, of inputs that do not stay in a first-level cache: a part of the weights of two blocks stays
//! there while the inputs of many positions pass by, then the next part. So weights, which may come from behind a second-level cache,
//! are read once for all these positions.
#![allow(unsafe_code)] // Pointers into panels that were checked once.

use std::cell::RefCell;
use std::ops::Range;

use super::super::{BLOCK, End, Packed, Panel, avx512};
use super::product::{Start, Work, narrow, parts, square};
use super::tiles::{ROWS, Shape, Tiling, release};

/// Sums of a position that are made together.
const FILTERS: usize = 2 * BLOCK;
/// Sums of a tile.
const SUMS: usize = ROWS * FILTERS;
/// Most tiles of positions that meet a part of the weights one after another, and most bytes of their inputs, about: both are to stay
/// in a second-level cache.
const TILES: usize = 32;
const INPUTS: usize = 1 << 20;

thread_local! {
    /// Sums of all those tiles: grows to what the largest layer needs and stays.
    static ROOM: RefCell<Vec<i32>> = const { RefCell::new(Vec::new()) };
}

/// Ends the sums of a tile.
///
/// # Safety
/// The machine has AVX-512 VNNI; every position has its sums and outputs, every filter its end.
unsafe fn finish(end: End<'_>, sums: &[i32], filters: Range<usize>, out: &mut [u8], out_step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match end {
            End::Affine(end) => avx512::affine(sums, FILTERS, end, filters, out, out_step),
            End::Slope(end) => avx512::slope(sums, FILTERS, end, filters, out, out_step),
            End::Wide(end) => avx512::wide(sums, FILTERS, end, filters, out, out_step),
        }
    }
}

/// Every position with all filters, of runs that are whole tiles.
///
/// # Safety
/// As [`ended`](super::ended::ended).
pub unsafe fn ended(panel: &Panel<'_>, w: &Packed, start: &[i32], end: End<'_>, out: &mut [u8]) {
    let tiling = Tiling::of(panel);
    let at_once = (INPUTS / (ROWS * w.len())).clamp(2, TILES);
    ROOM.with_borrow_mut(|room| {
        let needed = at_once.min(tiling.tiles) * SUMS;
        if room.len() < needed {
            room.resize(needed, 0);
        }
        // SAFETY: the caller's promise, for the positions of every tile.
        unsafe {
            Shape::new(tiling.rows, ROWS).take();
            for first in (0..tiling.tiles).step_by(at_once) {
                let tiles = first..tiling.tiles.min(first + at_once);
                some_tiles(panel, &tiling, tiles, w, start, end, (room, out));
            }
            release();
        }
    });
}

/// The same of some tiles, with room for their sums.
///
/// # Safety
/// As [`ended`]; registers are shaped.
unsafe fn some_tiles(
    panel: &Panel<'_>,
    tiling: &Tiling,
    tiles: Range<usize>,
    w: &Packed,
    start: &[i32],
    end: End<'_>,
    (sums, out): (&mut [i32], &mut [u8]),
) {
    let (filters, blocks) = (w.filters(), w.width() / BLOCK);
    for block in (0..blocks).step_by(2) {
        let high = (blocks - block).min(2);
        let some = block * BLOCK..filters.min((block + high) * BLOCK);
        let start = &start[block * BLOCK..(block + high) * BLOCK];
        let given = if start.iter().all(|&s| s == 0) { Start::Zero } else { Start::At(start.as_ptr()) };
        for part in parts(w, high, false) {
            let mut work = Work::of(panel, w, block, &part, (&mut *sums, FILTERS), given);
            for tile in tiles.clone().step_by(2) {
                let two = tile + 1 < tiles.end;
                for i in 0..1 + usize::from(two) {
                    let (row, at) = tiling.position(tile + i);
                    work.x[i] = part.begin(panel, row, at);
                    work.out[i] = sums.as_mut_ptr().wrapping_add((tile + i - tiles.start) * SUMS);
                }
                // SAFETY: the caller's promise, for the blocks there are; every tile has room for its sums.
                unsafe {
                    match (high, two) {
                        (2, true) => square::<2>(&work),
                        (2, false) => square::<1>(&work),
                        (_, true) => narrow::<2, false>(&work),
                        (_, false) => narrow::<1, false>(&work),
                    }
                }
            }
        }
        for (tile, sums) in tiles.clone().zip(sums.chunks_exact(SUMS)) {
            let (row, at) = tiling.position(tile);
            let out = &mut out[(row * panel.count + at) * filters + some.start..];
            // SAFETY: the caller's promise.
            unsafe { finish(end, &sums[..tiling.rows * FILTERS], some.clone(), out, filters) };
        }
    }
}
