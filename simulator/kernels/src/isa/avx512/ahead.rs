//! Asking for memory before it is met.
#![allow(unsafe_code)] // An intrinsic that changes nothing.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use super::super::tile::Tile;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for so many lines, wherever they are.
#[inline(always)]
pub fn ask(at: *const u8, lines: usize) {
    for line in 0..lines {
        // SAFETY: every x86-64 has the instruction, which is a hint and cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(line * LINE).cast()) };
    }
}

/// Bytes that are met next, asked for in turns while others are met.
pub struct Ahead {
    at: *const u8,
    lines: usize,
    each: usize,
}

impl Ahead {
    /// `len` bytes in so many turns. Where they are not there, nothing is lost but time.
    pub fn new(at: *const u8, len: usize, turns: usize) -> Self {
        let lines = len.div_ceil(LINE);
        Self { at, lines, each: lines.div_ceil(turns.max(1)) }
    }

    /// A turn.
    #[inline]
    pub fn ask(&mut self) {
        let now = self.each.min(self.lines);
        ask(self.at, now);
        self.at = self.at.wrapping_add(now * LINE);
        self.lines -= now;
    }
}

/// Lines that are asked for one by one, so far apart that nothing waits: a burst of them holds up the loads behind it.
#[derive(Clone, Copy)]
pub struct Lines {
    at: *const u8,
    step: usize,
}

impl Lines {
    /// For tile `i` of those that meet the same blocks: each of the first asks for the weights of one of the next blocks. Others ask for
    /// a line that is met anyway, again and again.
    pub fn behind(tile: &Tile, blocks: usize, i: usize) -> Self {
        let (line, step) = if i < blocks.min(tile.behind) { ((blocks + i) * tile.block_lines, LINE) } else { (0, 0) };
        Self { at: tile.w.wrapping_add(line).cast(), step }
    }

    /// The next.
    #[inline(always)]
    pub fn ask(&mut self) {
        ask(self.at, 1);
        self.at = self.at.wrapping_add(self.step);
    }
}
