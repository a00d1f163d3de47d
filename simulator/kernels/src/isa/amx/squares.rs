//! Products of two tiles of positions with a part of the weights of two blocks, and ends of those before them.
//!
//! As in [`ended`](super::ended), sums are stored when their registers are needed again, and ended a few positions at a time between
//! products.
#![allow(unsafe_code)] // Pointers into panels that were checked once.

use super::super::avx512::{Block, ask};
use super::super::{BLOCK, Packed};
use super::ended::FOUR;
use super::product::{LINE, TILE};
use super::tiles::{ROWS, dot, load, load_once, store, zero};

/// Sums of a tile.
pub const SUMS: usize = ROWS * BLOCK;
/// Those of two tiles of positions with two blocks, which registers hold.
pub const HELD: usize = 4 * SUMS;
/// Tiles of weights of a block that stay in a first-level cache: two thirds of it are those of two blocks.
const WEIGHTS: usize = 16;

/// Part of the weights of a few blocks: so many runs, or part of one run.
#[derive(Clone, Copy)]
pub struct Part {
    pub block: usize,
    /// How many.
    pub high: usize,
    pub run: usize,
    pub runs: usize,
    /// First tile of a run, and how many.
    pub tile: usize,
    pub whole: usize,
}

impl Part {
    /// Of all weights, in the order in which they are used: the first blocks first, or the last.
    pub fn all(w: &Packed, back: bool) -> impl Iterator<Item = Self> {
        let (blocks, runs, whole) = (w.width() / BLOCK, w.runs(), w.quads() / ROWS);
        let (some_runs, some_tiles) = match WEIGHTS / whole {
            0 => (1, whole.div_ceil(whole.div_ceil(WEIGHTS))),
            some => (some, whole),
        };
        let pairs = blocks.div_ceil(2);
        (0..pairs).map(move |pair| 2 * if back { pairs - 1 - pair } else { pair }).flat_map(move |block| {
            (0..runs).step_by(some_runs).flat_map(move |run| {
                (0..whole).step_by(some_tiles).map(move |tile| {
                    let (runs, whole) = (some_runs.min(runs - run), some_tiles.min(whole - tile));
                    Self { block, high: (blocks - block).min(2), run, runs, tile, whole }
                })
            })
        })
    }

    /// How often sums become a little more.
    pub fn steps(&self) -> usize {
        self.runs * self.whole
    }

    pub fn first(&self) -> bool {
        self.run == 0 && self.tile == 0
    }

    pub fn last(&self, w: &Packed) -> bool {
        self.run + self.runs == w.runs() && (self.tile + self.whole) * ROWS == w.quads()
    }

    /// First lines of its blocks.
    pub fn lines(&self, w: &Packed) -> [*const u8; 2] {
        [0, self.high - 1].map(|high| {
            let line = ((self.block + high) * w.runs() + self.run) * w.quads() + self.tile * ROWS;
            w.lines().as_ptr().wrapping_add(line).cast()
        })
    }
}

/// The products of two tiles of positions, or one, and a part.
pub struct Square {
    pub part: Part,
    /// First byte of each tile that the part meets.
    pub x: [*const u8; 2],
    /// Bytes from a position to the next, and from a run to the next.
    pub step: usize,
    pub run_step: usize,
    /// Where they are copied to, and bytes from a position to the next there.
    pub copies: Option<[*mut u8; 2]>,
    pub copy_step: usize,
    /// First line of each block, and lines from a run to the next.
    pub w: [*const u8; 2],
    pub lines: usize,
    /// What is asked for: the next lines of each block, and how many at each step. Where there are fewer, any address will do.
    pub ahead: [*const u8; 2],
    pub asked: usize,
    /// What sums of a new position start with, if not with 0; else they go on.
    pub start: Option<*const i32>,
    /// Where the sums go that the registers hold.
    pub held: *mut i32,
    /// Where those of these tiles will.
    pub sums: *mut i32,
}

impl Square {
    /// Gives a register to other sums. Not before: a load behind a store waits for it, and a store for its sums, which take as long as
    /// three products.
    ///
    /// # Safety
    /// Registers are shaped; there is room for the sums.
    #[inline(always)]
    unsafe fn renew<const C: usize>(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            store::<C>(self.held.wrapping_add(C * SUMS).cast(), LINE);
            match self.start {
                _ if !self.part.first() => load_once::<C>(self.sums.wrapping_add(C * SUMS).cast_const().cast(), LINE),
                None => zero::<C>(),
                Some(start) => load::<C>(start.wrapping_add(C % 2 * BLOCK).cast(), 0),
            }
        }
    }

    /// Makes the sums of `P` tiles of positions and `H` blocks a little more, `NEW` ones to begin with. `COPY`: inputs may be asked to be
    /// copied; without it nobody looks.
    ///
    /// # Safety
    /// Registers are shaped; positions and weights are there, and room for the sums.
    #[inline(always)]
    unsafe fn step<const NEW: bool, const COPY: bool, const H: usize, const P: usize>(
        &self,
        x: [*const u8; 2],
        w: [*const u8; 2],
    ) {
        let copy = |tile: usize| {
            self.copies.map(|copies| copies[tile].wrapping_add(x[tile].addr().wrapping_sub(self.x[tile].addr())))
        };
        // SAFETY: the caller's promise.
        unsafe {
            load::<6>(w[0], LINE);
            load_once::<4>(x[0], self.step);
            if NEW {
                self.renew::<0>();
            }
            if COPY && let Some(copy) = copy(0) {
                store::<4>(copy, self.copy_step);
            }
            dot::<0, 4, 6>();
            if H > 1 {
                load::<7>(w[1], LINE);
                if NEW {
                    self.renew::<1>();
                }
                dot::<1, 4, 7>();
            }
            if P > 1 {
                load_once::<5>(x[1], self.step);
                if COPY && let Some(copy) = copy(1) {
                    store::<5>(copy, self.copy_step);
                }
                if NEW {
                    self.renew::<2>();
                }
                dot::<2, 5, 6>();
                if H > 1 {
                    if NEW {
                        self.renew::<3>();
                    }
                    dot::<3, 5, 7>();
                }
            }
        }
    }

    /// All products, and all ends that are left. Registers hold their sums then, and more is asked for by the next.
    ///
    /// # Safety
    /// As [`step`](Self::step), the machine has AVX-512 VNNI, and once registers are stored there is what [`Ends::end_four`] needs.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub unsafe fn products<B: Block, const COPY: bool, const H: usize, const P: usize>(&mut self, left: &Ends<B>) {
        let [mut low, mut high] = self.ahead;
        let mut four = 0;
        // SAFETY: the caller's promise. Inputs and weights advance by what was loaded of them, inside their runs.
        unsafe {
            if H == 1 {
                store::<1>(self.held.wrapping_add(SUMS).cast(), LINE);
            }
            if P == 1 {
                store::<2>(self.held.wrapping_add(2 * SUMS).cast(), LINE);
            }
            if H == 1 || P == 1 {
                store::<3>(self.held.wrapping_add(3 * SUMS).cast(), LINE);
            }
            for run in 0..self.part.runs {
                let mut x = self.x.map(|x| x.wrapping_add(run * self.run_step));
                let mut w = self.w.map(|w| w.wrapping_add(run * self.lines * LINE));
                let mut whole = self.part.whole;
                if run == 0 {
                    self.step::<true, COPY, H, P>(x, w);
                } else {
                    self.step::<false, COPY, H, P>(x, w);
                }
                loop {
                    ask(low, self.asked);
                    ask(high, self.asked);
                    low = low.wrapping_add(self.asked * LINE);
                    high = high.wrapping_add(self.asked * LINE);
                    w = w.map(|w| w.wrapping_add(TILE));
                    x = x.map(|x| x.wrapping_add(4 * ROWS));
                    whole -= 1;
                    if whole == 0 {
                        break;
                    }
                    self.step::<false, COPY, H, P>(x, w);
                    if four < left.fours {
                        left.end_four(four);
                        four += 1;
                    }
                }
            }
            (four..left.fours).for_each(|four| left.end_four(four));
        }
        (self.ahead, self.held) = ([low, high], self.sums);
    }
}

/// Most times four positions of two tiles.
pub const FOURS: usize = 2 * ROWS / FOUR;

/// Sums of two tiles that are ended next, four positions at a time.
pub struct Ends<B> {
    pub blocks: [B; 2],
    /// How many.
    pub high: usize,
    pub filters: usize,
    /// Sums of the first block of each four positions, and outputs.
    pub sums: [*const i32; FOURS],
    pub out: [*mut u8; FOURS],
    pub fours: usize,
}

impl<B: Block> Ends<B> {
    /// Four positions.
    ///
    /// # Safety
    /// The machine has AVX-512 VNNI; all sums are stored, and have their outputs.
    #[inline(always)]
    pub unsafe fn end_four(&self, four: usize) {
        let (sums, out) = (self.sums[four % FOURS], self.out[four % FOURS]);
        // SAFETY: the caller's promise.
        unsafe {
            self.blocks[0].end(sums, FOUR, out, self.filters);
            if self.high > 1 {
                self.blocks[1].end(sums.wrapping_add(SUMS), FOUR, out.wrapping_add(BLOCK), self.filters);
            }
        }
    }

    /// Positions of a tile, whose sums and outputs begin there. The last four may be some of those before once more.
    pub fn tile(&mut self, rows: usize, sums: *const i32, out: *mut u8) {
        for at in (0..rows).step_by(FOUR).map(|at| at.min(rows - FOUR)) {
            self.sums[self.fours] = sums.wrapping_add(at * BLOCK);
            self.out[self.fours] = out.wrapping_add(at * self.filters);
            self.fours += 1;
        }
    }
}
