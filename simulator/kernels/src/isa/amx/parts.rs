//! Products that end as bytes at once, of inputs that do not stay in a first-level cache: a part of the weights of two blocks stays
//! there while the inputs of many positions pass by, then the next part, which is asked for meanwhile. So weights, which may come from
//! behind a second-level cache, are read once for all these positions.
#![allow(unsafe_code)] // Pointers into panels that were checked once.

use std::cell::RefCell;
use std::ops::Range;

use super::super::avx512::Block;
use super::super::{BLOCK, Packed, Panel};
use super::product::LINE;
use super::squares::{Ends, FOURS, HELD, Part, SUMS, Square};
use super::tiles::{ROWS, Shape, Tiling, release, store};
use crate::Bytes;

/// Most tiles of positions that meet a part of the weights one after another, and most bytes of their inputs, about: both are to stay
/// in a second-level cache.
const TILES: usize = 16;
const INPUTS: usize = 512 << 10;
/// Inputs that are so many bytes apart, or a multiple of it, share few sets of a first-level cache and drive weights out of it.
const CROWDED: usize = 16 * LINE;

thread_local! {
    /// Sums and inputs of all those tiles: grow to what the largest layer needs and stay. And whether the next ones meet the last weights
    /// first, which those before them met last, so that some are in a second-level cache that is too small for all.
    static ROOM: RefCell<(Bytes, Bytes, bool)> = RefCell::default();
}

/// Whether inputs would drive weights out of a first-level cache, and are met more than once.
fn crowded(panel: &Panel<'_>, w: &Packed) -> bool {
    w.runs() == 1 && w.width() > 2 * BLOCK && panel.step.is_multiple_of(CROWDED)
}

/// Every position with all filters, of runs that are whole tiles.
///
/// # Safety
/// As [`ended`](super::ended::ended).
pub unsafe fn ended_by<B: Block>(panel: &Panel<'_>, w: &Packed, start: &[i32], end: &B::End, out: &mut [u8]) {
    let tiling = Tiling::of(panel);
    let at_once = (INPUTS / (ROWS * w.len())).clamp(2, TILES);
    ROOM.with_borrow_mut(|(sums, inputs, back)| {
        // And a place for what registers hold before the first.
        let pairs = at_once.min(tiling.tiles).div_ceil(2);
        let near = crowded(panel, w).then(|| {
            let step = w.len() + LINE;
            (inputs.at_least(at_once.min(tiling.tiles) * tiling.rows * step).as_mut_ptr(), step)
        });
        let sums = sums.at_least((pairs + 1) * HELD * size_of::<i32>()).as_mut_ptr().cast();
        // SAFETY: the caller's promise, for the positions of every tile.
        unsafe {
            Shape::new(tiling.rows, ROWS).take();
            for first in (0..tiling.tiles).step_by(at_once) {
                let tiles = first..tiling.tiles.min(first + at_once);
                some_tiles::<B>(panel, &tiling, (tiles, near), (w, *back), start, end, (sums, out));
                *back = !*back;
            }
            release();
        }
    });
}

/// Two tiles of positions, or one: their inputs where they are, where copies of them are, and outputs of their first filter.
#[derive(Clone, Copy)]
struct Pair {
    two: bool,
    given: [*const u8; 2],
    near: [*mut u8; 2],
    out: [*mut u8; 2],
}

/// The same of some tiles, with room for their sums, and maybe for their inputs: then the first blocks leave them there, so far apart.
///
/// # Safety
/// As [`ended_by`]; registers are shaped.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn some_tiles<B: Block>(
    panel: &Panel<'_>,
    tiling: &Tiling,
    (tiles, near): (Range<usize>, Option<(*mut u8, usize)>),
    (w, back): (&Packed, bool),
    start: &[i32],
    end: &B::End,
    (sums, out): (*mut i32, &mut [u8]),
) {
    let filters = w.filters();
    let pairs = tiles.len().div_ceil(2);
    let out = out.as_mut_ptr();
    let mut held = sums.wrapping_add(pairs * HELD);
    // SAFETY: the caller's promise: all blocks have an end.
    let block = |at: usize| unsafe { B::of(end, at * BLOCK, filters) };
    let mut left = Ends {
        blocks: [block(0), block(0)],
        high: 1,
        filters,
        sums: [sums.cast_const(); FOURS],
        out: [out; FOURS],
        fours: 0,
    };
    let none = Pair { two: false, given: [panel.data.as_ptr(); 2], near: [std::ptr::null_mut(); 2], out: [out; 2] };
    let mut all = [none; TILES / 2];
    for (index, pair) in all[..pairs].iter_mut().enumerate() {
        let tile = tiles.start + 2 * index;
        pair.two = tile + 1 < tiles.end;
        for i in 0..2 {
            let of = i & usize::from(pair.two);
            let (row, at) = tiling.position(tile + of);
            pair.given[i] = panel.data.as_ptr().wrapping_add(row * panel.row_step + at * panel.step);
            pair.out[i] = out.wrapping_add((row * panel.count + at) * filters);
            if let Some((near, step)) = near {
                pair.near[i] = near.wrapping_add((2 * index + of) * tiling.rows * step);
            }
        }
    }
    let mut parts = Part::all(w, back).peekable();
    // The blocks that are met first, while inputs are copied.
    let copied = near.and(parts.peek().map(|first| first.block));
    while let Some(part) = parts.next() {
        let next = parts.peek().copied().unwrap_or(Part { runs: 0, ..part });
        let first = &start[part.block * BLOCK..(part.block + part.high) * BLOCK];
        let copy = copied == Some(part.block);
        let step = near.filter(|_| !copy).map_or(panel.step, |(_, step)| step);
        let shift = part.run * panel.run_step + part.tile * 4 * ROWS;
        let mut square = Square {
            part,
            x: none.given,
            step,
            run_step: panel.run_step,
            copies: None,
            copy_step: near.map_or(0, |(_, step)| step),
            w: part.lines(w),
            lines: w.quads(),
            ahead: next.lines(w),
            asked: (next.steps() * ROWS).div_ceil(pairs * part.steps()),
            start: first.iter().any(|&s| s != 0).then_some(first.as_ptr()),
            held,
            sums,
        };
        for (index, pair) in all[..pairs].iter().enumerate() {
            let copies = pair.near.map(|near| near.wrapping_add(shift));
            square.copies = copy.then_some(copies);
            square.x = if near.is_some() && !copy {
                copies.map(<*mut u8>::cast_const)
            } else {
                pair.given.map(|given| given.wrapping_add(shift))
            };
            square.sums = sums.wrapping_add(index * HELD);
            // SAFETY: the caller's promise, for the blocks there are; every two tiles have room for their sums.
            unsafe {
                match (part.high, pair.two, copy) {
                    (2, true, false) => square.products::<B, false, 2, 2>(&left),
                    (2, true, true) => square.products::<B, true, 2, 2>(&left),
                    (2, false, _) => square.products::<B, true, 2, 1>(&left),
                    (_, true, _) => square.products::<B, true, 1, 2>(&left),
                    (_, false, _) => square.products::<B, true, 1, 1>(&left),
                }
            }
            left.fours = 0;
            if part.last(w) {
                if index == 0 {
                    left.blocks = [part.block, part.block + part.high - 1].map(block);
                    left.high = part.high;
                }
                for (i, out) in pair.out.into_iter().enumerate().take(1 + usize::from(pair.two)) {
                    let sums = square.sums.wrapping_add(2 * i * SUMS);
                    left.tile(tiling.rows, sums, out.wrapping_add(part.block * BLOCK));
                }
            }
        }
        held = square.held;
    }
    // SAFETY: the caller's promise.
    unsafe {
        store::<0>(held.cast(), LINE);
        store::<1>(held.wrapping_add(SUMS).cast(), LINE);
        store::<2>(held.wrapping_add(2 * SUMS).cast(), LINE);
        store::<3>(held.wrapping_add(3 * SUMS).cast(), LINE);
        (0..left.fours).for_each(|four| left.end_four(four));
    }
}
