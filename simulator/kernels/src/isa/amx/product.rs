//! Sums of products in memory, of layers that have more weights than a first-level cache, or ends of their own.
#![allow(unsafe_code)] // Pointers into panels that were checked once.

use std::ops::Range;

use super::super::pack::Line;
use super::super::{BLOCK, Packed, Panel};
use super::tiles::{ROWS, Shape, Tiling, dot, load, load_once, release, store, zero};

/// Bytes of weights that stay in a first-level cache.
const WEIGHTS: usize = 24 << 10;

/// A few tiles of sums.
struct Work {
    /// First byte of the first position of each tile.
    x: [*const u8; 4],
    /// First sum of each tile.
    out: [*mut i32; 4],
    /// Bytes from a position to the next.
    step: usize,
    /// Bytes from the sums of a position to those of the next.
    out_step: usize,
    /// First lines of weights of each block.
    w: [*const Line; 2],
    /// Lines from a run to the next.
    lines: usize,
    runs: usize,
    /// Bytes from a run to the next.
    run_step: usize,
    /// Whole tiles of a run.
    whole: usize,
    start: Start,
}

/// What sums start with.
#[derive(Clone, Copy)]
enum Start {
    Zero,
    /// These, of each filter of both blocks.
    At(*const i32),
    /// What there is of them.
    GoOn,
}

impl Work {
    /// Nothing yet, of two blocks.
    fn of(
        x: &Panel<'_>,
        w: &Packed,
        block: usize,
        part: &Part,
        (out, out_step): (&mut [i32], usize),
        start: Start,
    ) -> Self {
        let first = w.lines().as_ptr();
        let lines = first.wrapping_add((block * w.runs() + part.run) * w.quads() + part.tile * ROWS);
        Self {
            x: [x.data.as_ptr(); 4],
            out: [out.as_mut_ptr(); 4],
            step: x.step,
            out_step: out_step * size_of::<i32>(),
            w: [lines, lines.wrapping_add(w.runs() * w.quads())],
            lines: w.quads(),
            runs: part.runs,
            run_step: x.run_step,
            whole: part.whole,
            start: if part.run == 0 && part.tile == 0 { start } else { Start::GoOn },
        }
    }

    /// Where the sums of each tile are that it starts with, and how far apart those of two positions are.
    fn first(&self) -> Option<([*const u8; 4], usize)> {
        match self.start {
            Start::Zero => None,
            Start::At(start) => Some(([start.cast(); 4], 0)),
            Start::GoOn => Some((self.out.map(|out| out.cast_const().cast()), self.out_step)),
        }
    }
}

pub const LINE: usize = size_of::<Line>();
pub const TILE: usize = LINE * ROWS;

/// `P` tiles of positions and one block of filters; `REST`: runs end with part of a tile.
///
/// # Safety
/// Registers are shaped; positions, weights, starts and sums are there.
unsafe fn narrow<const P: usize, const REST: bool>(t: &Work) {
    // SAFETY: the caller's promise. Inputs and weights advance by what was loaded of them, inside their runs.
    unsafe {
        match t.first() {
            None => {
                zero::<0>();
                zero::<1>();
                zero::<2>();
                zero::<3>();
            }
            Some((first, step)) => {
                load::<0>(first[0], step);
                if P > 1 {
                    load::<1>(first[1], step);
                }
                if P > 2 {
                    load::<2>(first[2], step);
                }
                if P > 3 {
                    load::<3>(first[3], step);
                }
            }
        }
        for run in 0..t.runs {
            let mut w: *const u8 = t.w[0].wrapping_add(run * t.lines).cast();
            let mut x = t.x.map(|x| x.wrapping_add(run * t.run_step));
            for _ in 0..t.whole {
                load::<6>(w, LINE);
                load::<4>(x[0], t.step);
                dot::<0, 4, 6>();
                if P > 1 {
                    load::<4>(x[1], t.step);
                    dot::<1, 4, 6>();
                }
                if P > 2 {
                    load::<4>(x[2], t.step);
                    dot::<2, 4, 6>();
                }
                if P > 3 {
                    load::<4>(x[3], t.step);
                    dot::<3, 4, 6>();
                }
                w = w.wrapping_add(TILE);
                x = x.map(|x| x.wrapping_add(4 * ROWS));
            }
            if REST {
                load::<7>(w, LINE);
                load::<5>(x[0], t.step);
                dot::<0, 5, 7>();
                if P > 1 {
                    load::<5>(x[1], t.step);
                    dot::<1, 5, 7>();
                }
                if P > 2 {
                    load::<5>(x[2], t.step);
                    dot::<2, 5, 7>();
                }
                if P > 3 {
                    load::<5>(x[3], t.step);
                    dot::<3, 5, 7>();
                }
            }
        }
        store::<0>(t.out[0].cast(), t.out_step);
        if P > 1 {
            store::<1>(t.out[1].cast(), t.out_step);
        }
        if P > 2 {
            store::<2>(t.out[2].cast(), t.out_step);
        }
        if P > 3 {
            store::<3>(t.out[3].cast(), t.out_step);
        }
    }
}

/// `P` (1 or 2) tiles of positions and two blocks of filters, runs of whole tiles.
///
/// # Safety
/// As [`narrow`], with registers 5 and 7 shaped as 4 and 6.
unsafe fn square<const P: usize>(t: &Work) {
    // SAFETY: as above.
    unsafe {
        let next = BLOCK * size_of::<i32>();
        match t.first() {
            None => {
                zero::<0>();
                zero::<1>();
                zero::<2>();
                zero::<3>();
            }
            Some((first, step)) => {
                load::<0>(first[0], step);
                load::<1>(first[0].wrapping_add(next), step);
                if P > 1 {
                    load::<2>(first[1], step);
                    load::<3>(first[1].wrapping_add(next), step);
                }
            }
        }
        for run in 0..t.runs {
            let mut w: [*const u8; 2] = t.w.map(|w| w.wrapping_add(run * t.lines).cast());
            let mut x = [t.x[0], t.x[1]].map(|x| x.wrapping_add(run * t.run_step));
            for _ in 0..t.whole {
                load::<6>(w[0], LINE);
                load_once::<4>(x[0], t.step);
                dot::<0, 4, 6>();
                load::<7>(w[1], LINE);
                dot::<1, 4, 7>();
                if P > 1 {
                    load_once::<5>(x[1], t.step);
                    dot::<2, 5, 6>();
                    dot::<3, 5, 7>();
                }
                w = w.map(|w| w.wrapping_add(TILE));
                x = x.map(|x| x.wrapping_add(4 * ROWS));
            }
        }
        store::<0>(t.out[0].cast(), t.out_step);
        store::<1>(t.out[0].cast::<u8>().wrapping_add(next), t.out_step);
        if P > 1 {
            store::<2>(t.out[1].cast(), t.out_step);
            store::<3>(t.out[1].cast::<u8>().wrapping_add(next), t.out_step);
        }
    }
}

/// Part of the weights of every filter: so many runs, or part of one run.
#[derive(Clone, Copy)]
struct Part {
    run: usize,
    runs: usize,
    /// First tile of a run, and how many.
    tile: usize,
    whole: usize,
    rest: bool,
}

impl Part {
    /// Where the bytes of a position begin that this part meets.
    fn begin(&self, x: &Panel<'_>, row: usize, at: usize) -> *const u8 {
        let byte = row * x.row_step + at * x.step + self.run * x.run_step + self.tile * 4 * ROWS;
        x.data.as_ptr().wrapping_add(byte)
    }
}

/// The parts of weights of `blocks` blocks that fit a first-level cache.
fn parts(w: &Packed, blocks: usize, once: bool) -> impl Iterator<Item = Part> {
    let (runs, whole, rest) = (w.runs(), w.quads() / ROWS, !w.quads().is_multiple_of(ROWS));
    let run_bytes = w.quads() * LINE * blocks;
    let (runs_at_once, tiles_at_once) = match WEIGHTS / run_bytes {
        _ if once => (runs, whole),
        0 => (1, (WEIGHTS / (TILE * blocks)).max(1)),
        runs_at_once => (runs_at_once, whole),
    };
    (0..runs).step_by(runs_at_once).flat_map(move |run| {
        (0..whole.max(1)).step_by(tiles_at_once.max(1)).map(move |tile| {
            let count = tiles_at_once.min(whole - tile);
            Part { run, runs: runs_at_once.min(runs - run), tile, whole: count, rest: rest && tile + count == whole }
        })
    })
}

/// The product of a checked panel, which has positions and runs.
///
/// # Safety
/// The machine has tiles, and the process may use them.
pub unsafe fn product(
    x: &Panel<'_>,
    w: &Packed,
    blocks: Range<usize>,
    start: &[i32],
    out: &mut [i32],
    out_step: usize,
) {
    let tiling = Tiling::of(x);
    let Tiling { rows, tiles, .. } = tiling;
    let rest = w.quads() % ROWS;
    let shape = if rest == 0 { Shape::new(rows, ROWS) } else { Shape::new(rows, rest) };
    // Where tiles overlap, sums must not be made twice by parts: then weights are not parted.
    let overlap = !x.count.is_multiple_of(rows);
    // SAFETY: the caller's promise, and everything a panel's check has shown: all positions have their bytes, all blocks
    // their lines and starts, all sums their places.
    unsafe {
        shape.take();
        let mut block = blocks.start;
        while block < blocks.end {
            let two = rest == 0 && block + 1 < blocks.end;
            let (high, at_once) = if two { (2, 2) } else { (1, 4) };
            let first = block * BLOCK..((block + high) * BLOCK).min(start.len());
            let zero = start[first].iter().all(|&s| s == 0);
            for part in parts(w, high, tiles <= at_once || overlap) {
                let given = if zero { Start::Zero } else { Start::At(start.as_ptr().wrapping_add(block * BLOCK)) };
                let mut work = Work::of(x, w, block, &part, (out, out_step), given);
                let mut tile = 0;
                while tile < tiles {
                    let count = at_once.min(tiles - tile);
                    for i in 0..count {
                        let (row, at) = tiling.position(tile + i);
                        work.x[i] = part.begin(x, row, at);
                        let sum = (row * x.count + at) * out_step + (block - blocks.start) * BLOCK;
                        work.out[i] = out.as_mut_ptr().wrapping_add(sum);
                    }
                    match (two, count, part.rest) {
                        (true, 1, _) => square::<1>(&work),
                        (true, ..) => square::<2>(&work),
                        (_, 1, true) => narrow::<1, true>(&work),
                        (_, 2, true) => narrow::<2, true>(&work),
                        (_, 3, true) => narrow::<3, true>(&work),
                        (_, _, true) => narrow::<4, true>(&work),
                        (_, 1, _) => narrow::<1, false>(&work),
                        (_, 2, _) => narrow::<2, false>(&work),
                        (_, 3, _) => narrow::<3, false>(&work),
                        (..) => narrow::<4, false>(&work),
                    }
                    tile += count;
                }
            }
            block += high;
        }
        release();
    }
}
