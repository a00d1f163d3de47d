//! Asking for memory before it is met.
#![allow(unsafe_code)] // An intrinsic that changes nothing.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

/// Bytes of a cache line.
pub const LINE: usize = 64;

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
    /// From this one on. Where they are not there, nothing is lost.
    pub fn from(at: *const u8) -> Self {
        Self { at, step: LINE }
    }

    /// This one again and again, for who has nothing to ask for but asks: one that is met anyway.
    pub fn only(at: *const u8) -> Self {
        Self { at, step: 0 }
    }

    /// The next.
    #[inline(always)]
    pub fn ask(&mut self) {
        ask(self.at, 1);
        self.at = self.at.wrapping_add(self.step);
    }
}
