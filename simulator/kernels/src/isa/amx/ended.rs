//! Products that end as bytes at once: while the tile unit makes the sums of some positions and a block of filters, vectors end
//! those of the block before, which never leave the first-level cache.
//!
//! Inputs of four tiles of positions stay in that cache while the weights of all blocks pass by; a tile of weights is loaded once for
//! four products. Sums are stored when their registers are needed again, and ended a few positions at a time between products: both
//! then cost the tile unit nothing.
#![allow(unsafe_code)] // Pointers into panels that were checked once.

use std::mem::MaybeUninit;
use std::slice::Iter;

use super::super::avx512::{Block, Line, Long, Narrow, Sloping};
use super::super::methods::{by_line, by_slope};
use super::super::{BLOCK, End, Packed, Panel};
use super::parts;
use super::places::{Places, Stretch, Stretches};
use super::product::{LINE, TILE};
use super::tiles::{ROWS, Shape, dot, load, load_once, release, store, zero};

/// Tiles of positions that meet weights together, each in a register of sums.
const TILES: usize = 4;
/// Positions that are ended together.
pub const FOUR: usize = 4;
/// Sums of the tiles with a block.
const SUMS: usize = TILES * ROWS * BLOCK;
/// Most bytes of their inputs, of which a first-level cache holds nearly all.
const INPUTS: usize = 56 << 10;

/// Room for sums two times: the one is stored to, the other is ended.
#[repr(C, align(64))]
struct Held([MaybeUninit<i32>; 2 * SUMS]);

/// The products of some tiles and a block.
struct Work {
    /// First byte of each tile.
    x: [*const u8; TILES],
    tiles: usize,
    /// Bytes from a position to the next, and from a run to the next.
    step: usize,
    run_step: usize,
    /// First line of weights; all lie one behind the other.
    w: *const u8,
    runs: usize,
    /// Whole tiles of a run, and lines of the rest.
    whole: usize,
    rest: usize,
    /// What sums start with, if not with 0.
    start: Option<*const i32>,
    /// Where the sums go that the registers hold, and how many of a tile.
    held: *mut i32,
    sums: usize,
}

impl Work {
    /// How often [`step`] makes all sums a little more.
    fn steps(&self) -> usize {
        self.runs * if self.rest == 0 { self.whole.div_ceil(2) } else { self.whole + 1 }
    }

    /// Stores the sums of the registers from `first` on.
    ///
    /// # Safety
    /// Registers are shaped; there is room for all.
    unsafe fn store_from(&self, first: usize) {
        let at = |tile| self.held.wrapping_add(tile * self.sums).cast();
        // SAFETY: the caller's promise.
        unsafe {
            if first < 1 {
                store::<0>(at(0), LINE);
            }
            if first < 2 {
                store::<1>(at(1), LINE);
            }
            if first < 3 {
                store::<2>(at(2), LINE);
            }
            store::<3>(at(3), LINE);
        }
    }
}

/// Sums of some tiles and a block that are not ended yet.
struct Left<'a, B> {
    block: B,
    filters: usize,
    stretches: Iter<'a, Stretch>,
    /// Sums and the block's outputs of the first position.
    sums: *const i32,
    out: *mut u8,
    /// The same of the next position, how many follow it in its stretch, and how many were before it.
    next: (*const i32, *mut u8),
    count: usize,
    before: usize,
    /// How many fours are ended after one or two products.
    at_once: usize,
}

impl<B: Block> Left<'_, B> {
    /// Ends a few fours, if there are any.
    ///
    /// # Safety
    /// The machine has AVX-512 VNNI; all stretches have sums and outputs.
    #[inline(always)]
    unsafe fn end_some(&mut self) {
        for _ in 0..self.at_once {
            // SAFETY: the caller's promise.
            unsafe {
                if self.count < FOUR && !self.find_four() {
                    return;
                }
                self.block.end(self.next.0, FOUR, self.next.1, self.filters);
            }
            self.step(FOUR as isize);
        }
    }

    /// Goes on by so many positions, or back.
    #[inline(always)]
    fn step(&mut self, positions: isize) {
        let (sums, out) = self.next;
        let filters = self.filters as isize;
        self.next = (sums.wrapping_offset(positions * BLOCK as isize), out.wrapping_offset(positions * filters));
        self.count = self.count.wrapping_add_signed(-positions);
        self.before = self.before.wrapping_add_signed(positions);
    }

    /// Where fewer than four positions of a stretch are left: the last four of it once more, or the next stretch. Stretches of fewer are
    /// ended at once.
    ///
    /// # Safety
    /// As [`end_some`](Self::end_some).
    unsafe fn find_four(&mut self) -> bool {
        if self.count > 0 && self.before > 0 {
            self.step(self.count as isize - FOUR as isize);
            return true;
        }
        for stretch in self.stretches.by_ref() {
            let (sums, out) =
                (self.sums.wrapping_add(stretch.sum * BLOCK), self.out.wrapping_add(stretch.output * self.filters));
            if stretch.count >= FOUR {
                (self.next, self.count, self.before) = ((sums, out), stretch.count, 0);
                return true;
            }
            // SAFETY: the caller's promise.
            unsafe { self.block.end(sums, stretch.count, out, self.filters) };
        }
        self.count = 0;
        false
    }

    fn is_empty(&self) -> bool {
        self.count == 0 && self.stretches.as_slice().is_empty()
    }
}

/// Adds to the sums in register `C` the products of a tile of positions: of a whole tile of bytes if `FIRST`, and of the one behind
/// it, or of the rest of a run, if `SECOND`.
///
/// # Safety
/// Registers are shaped, 6 and 7 loaded; the bytes at `x` are there, and room for the sums of all registers.
#[inline(always)]
unsafe fn tile<const C: usize, const FIRST: bool, const SECOND: bool>(t: &Work, x: *const u8, new: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        if FIRST {
            load::<4>(x, t.step);
        }
        if SECOND {
            load::<5>(x.wrapping_add(if FIRST { 4 * ROWS } else { 0 }), t.step);
        }
        if new {
            // Not before: a load behind a store waits for it, and a store for its sums, which take as long as three products.
            store::<C>(t.held.wrapping_add(C * t.sums).cast(), LINE);
            match t.start {
                None => zero::<C>(),
                Some(start) => load::<C>(start.cast(), 0),
            }
        }
        if FIRST {
            dot::<C, 4, 6>();
        }
        if SECOND {
            dot::<C, 5, 7>();
        }
    }
}

/// The same of all tiles of positions, with some ends in between.
///
/// # Safety
/// As [`tile`]; the weights are there, and what [`Left::end_some`] needs.
#[inline(always)]
unsafe fn step<const FIRST: bool, const SECOND: bool, B: Block>(
    t: &Work,
    x: &[*const u8; TILES],
    w: *const u8,
    new: bool,
    left: &mut Left<'_, B>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if FIRST {
            load_once::<6>(w, LINE);
        }
        if SECOND {
            load_once::<7>(w.wrapping_add(if FIRST { TILE } else { 0 }), LINE);
        }
        tile::<0, FIRST, SECOND>(t, x[0], new);
        left.end_some();
        if t.tiles > 1 {
            tile::<1, FIRST, SECOND>(t, x[1], new);
            left.end_some();
        }
        if t.tiles > 2 {
            tile::<2, FIRST, SECOND>(t, x[2], new);
            left.end_some();
        }
        if t.tiles > 3 {
            tile::<3, FIRST, SECOND>(t, x[3], new);
            left.end_some();
        }
    }
}

/// All products of some tiles and a block, and all that is left.
///
/// # Safety
/// As [`step`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn products<B: Block>(t: &Work, mut left: Left<'_, B>) {
    let (mut w, mut new) = (t.w, true);
    for run in 0..t.runs {
        let mut x = t.x.map(|x| x.wrapping_add(run * t.run_step));
        let mut whole = t.whole;
        // SAFETY: the caller's promise. Inputs and weights advance by what was loaded of them, inside their runs.
        unsafe {
            // Registers 5 and 7 are shaped for whole tiles where no run has a rest.
            while t.rest == 0 && whole > 1 {
                step::<true, true, B>(t, &x, w, new, &mut left);
                x = x.map(|x| x.wrapping_add(8 * ROWS));
                (w, whole, new) = (w.wrapping_add(2 * TILE), whole - 2, false);
            }
            while whole > 0 {
                step::<true, false, B>(t, &x, w, new, &mut left);
                x = x.map(|x| x.wrapping_add(4 * ROWS));
                (w, whole, new) = (w.wrapping_add(TILE), whole - 1, false);
            }
            if t.rest > 0 {
                step::<false, true, B>(t, &x, w, new, &mut left);
                (w, new) = (w.wrapping_add(t.rest * LINE), false);
            }
        }
    }
    while !left.is_empty() {
        // SAFETY: the caller's promise.
        unsafe { left.end_some() };
    }
}

/// Whether inputs of a few tiles stay in a first-level cache, as this way needs them to, or runs are no whole tiles, so that
/// there is no other.
fn fits(panel: &Panel<'_>, w: &Packed) -> bool {
    let positions = (panel.count * panel.rows).min(TILES * ROWS);
    // The runs of a position, or where those overlap with others', all bytes from the first to the last.
    let runs = positions * w.len();
    let bytes = positions * panel.step + (w.runs() - 1) * panel.run_step + w.quads() * 4;
    runs.min(bytes) <= INPUTS || !w.quads().is_multiple_of(ROWS)
}

/// Every position with all filters.
///
/// # Safety
/// The machine has tiles, which the process may use, and AVX-512 VNNI. All positions have their bytes and all blocks a start and an
/// end; the output has a place for every filter of every position.
pub unsafe fn ended(panel: &Panel<'_>, w: &Packed, start: &[i32], end: End<'_>, out: &mut [u8]) {
    // SAFETY: the caller's promise.
    unsafe {
        match end {
            End::Affine(end) => by_line!(end, Rule => either::<Narrow<Rule>>(panel, w, start, end, out)),
            End::Slope(end) => by_slope!(end, Rule => either::<Narrow<Rule>>(panel, w, start, end, out)),
            End::Wide(end) => either::<Long>(panel, w, start, end, out),
        }
    }
}

/// The way that keeps inputs of a few tiles in a first-level cache, or the one that keeps a part of the weights there.
///
/// # Safety
/// As [`ended`].
unsafe fn either<B: Block>(panel: &Panel<'_>, w: &Packed, start: &[i32], end: &B::End, out: &mut [u8]) {
    // SAFETY: the caller's promise.
    unsafe {
        if fits(panel, w) {
            ended_by::<B>(panel, w, start, end, out)
        } else {
            parts::ended_by::<B>(panel, w, start, end, out)
        }
    }
}

/// # Safety
/// As [`ended`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn ended_by<B: Block>(panel: &Panel<'_>, w: &Packed, start: &[i32], end: &B::End, out: &mut [u8]) {
    let mut places = Places::of(panel);
    let (tiles, rest) = (places.tiles(), w.quads() % ROWS);
    let shape = Shape::new(places.rows(), if rest == 0 { ROWS } else { rest });
    let (filters, blocks, lines) = (w.filters(), w.width() / BLOCK, w.runs() * w.quads());
    let out = out.as_mut_ptr();
    let mut held = Held([const { MaybeUninit::uninit() }; 2 * SUMS]);
    let (held, other) = held.0.split_at_mut(SUMS);
    let mut other: *mut i32 = other.as_mut_ptr().cast();
    let mut work = Work {
        x: [panel.data.as_ptr(); TILES],
        tiles: 0,
        step: panel.step,
        run_step: panel.run_step,
        w: w.lines().as_ptr().cast(),
        runs: w.runs(),
        whole: w.quads() / ROWS,
        rest,
        start: None,
        held: held.as_mut_ptr().cast(),
        sums: places.rows() * BLOCK,
    };
    // Of a chunk of tiles and of the two before it.
    let mut stretches = [Stretches::default(); 3];
    // Chunk and block of the sums that registers hold, and of those that memory holds.
    let (mut made, mut stored) = (None, None);
    let chunks = tiles.div_ceil(TILES);
    // SAFETY: the caller's promise, for the positions of every tile and the blocks there are. A chunk's stretches are those of what is
    // made or stored: they stay until the chunk after the next.
    unsafe {
        shape.take();
        for chunk in 0..chunks {
            // The larger ones come first.
            let some = tiles / chunks + usize::from(chunk < tiles % chunks);
            if work.tiles > some {
                work.store_from(some);
            }
            work.tiles = some;
            let mut begin = [0; TILES];
            places.next(&mut begin[..some], &mut stretches[chunk % 3]);
            work.x = begin.map(|begin| panel.data.as_ptr().wrapping_add(begin));
            for block in 0..blocks {
                let start = &start[block * BLOCK..(block + 1) * BLOCK];
                work.start = start.iter().any(|&s| s != 0).then_some(start.as_ptr());
                work.w = w.lines().as_ptr().wrapping_add(block * lines).cast();
                products(&work, left::<B>(&stretches, stored, other, work.steps() * some, (end, filters), out));
                (made, stored) = (Some((chunk % 3, block)), made);
                (work.held, other) = (other, work.held);
            }
        }
        work.store_from(0);
        release();
        for (made, sums) in [(stored, other), (made, work.held)] {
            let mut left = left::<B>(&stretches, made, sums, 1, (end, filters), out);
            while !left.is_empty() {
                left.end_some();
            }
        }
    }
}

/// What is left of a chunk and a block, to be ended after so many products.
///
/// # Safety
/// As [`Left::end_some`]; the block has an end.
#[inline(always)]
unsafe fn left<'a, B: Block>(
    stretches: &'a [Stretches; 3],
    made: Option<(usize, usize)>,
    sums: *const i32,
    products: usize,
    (end, filters): (&B::End, usize),
    out: *mut u8,
) -> Left<'a, B> {
    let (block, stretches, fours) =
        made.map_or((0, &[][..], 0), |(chunk, block)| (block, stretches[chunk].all(), stretches[chunk].fours));
    let out = out.wrapping_add(block * BLOCK);
    Left {
        // SAFETY: the caller's promise.
        block: unsafe { B::of(end, block * BLOCK, filters) },
        filters,
        stretches: stretches.iter(),
        sums,
        out,
        next: (sums, out),
        count: 0,
        before: 0,
        at_once: fours.div_ceil(products),
    }
}
