//! Tile registers: shapes, loads, stores, products.
#![allow(unsafe_code)] // Instructions that Rust has no names for yet; every block says why it is sound.

use std::arch::asm;

use super::super::{BLOCK, Panel};
use crate::Bytes;

/// Rows of a tile, which are positions, or quads of weights.
pub const ROWS: usize = 16;

// Tile registers hold what they hold between the blocks of assembly below: the compiler has none to give to others, as
// those who wrote the C intrinsics also rely on.

/// How the positions of a panel lie in tiles. Those at the end of a row overlap with those before: both make the same.
#[derive(Clone, Copy)]
pub struct Tiling {
    /// Tiles of a row of the panel.
    pub across: usize,
    /// Positions of a row of the panel.
    count: usize,
    /// Positions of a tile.
    pub rows: usize,
    /// Tiles there are.
    pub tiles: usize,
}

impl Tiling {
    /// Of a panel that has positions.
    pub fn of(panel: &Panel<'_>) -> Self {
        let across = panel.count.div_ceil(ROWS);
        Self { across, count: panel.count, rows: panel.count.div_ceil(across), tiles: panel.rows * across }
    }

    /// Row of the panel and first position of a tile.
    pub fn position(&self, tile: usize) -> (usize, usize) {
        (tile / self.across, self.first(tile % self.across))
    }

    /// First position of a tile of a row.
    pub fn first(&self, tile: usize) -> usize {
        (tile * self.rows).min(self.count - self.rows)
    }
}

/// What the eight tile registers are: 0 to 3 sums, 4 and 5 inputs, 6 and 7 weights.
#[repr(C, align(64))]
pub struct Shape([u8; 64]);

impl Shape {
    /// `rows` positions; 5 and 7 have `rest` quads.
    pub fn new(rows: usize, rest: usize) -> Self {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = |register: usize, rows: usize, quads: usize| {
            bytes[16 + 2 * register] = (quads * 4) as u8;
            bytes[48 + register] = rows as u8;
        };
        (0..4).for_each(|sums| tile(sums, rows, BLOCK));
        tile(4, rows, ROWS);
        tile(5, rows, rest);
        tile(6, ROWS, BLOCK);
        tile(7, rest, BLOCK);
        Self(bytes)
    }

    /// Gives the registers this shape.
    ///
    /// # Safety
    /// The machine has tiles.
    pub unsafe fn take(&self) {
        // SAFETY: the caller's promise; 64 bytes are read.
        unsafe { asm!("ldtilecfg [{}]", in(reg) self.0.as_ptr(), options(nostack, readonly)) }
    }
}

/// Empties all tiles.
///
/// # Safety
/// The machine has tiles.
pub unsafe fn release() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
}

/// Loads a tile, `step` bytes from a row to the next.
///
/// # Safety
/// Every row of the tile is readable.
#[inline(always)]
pub unsafe fn load<const T: usize>(at: *const u8, step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tileloadd tmm{t}, [{at} + 1*{step}]", t = const T, at = in(reg) at, step = in(reg) step,
            options(nostack, readonly));
    }
}

/// The same, once.
///
/// # Safety
/// Every row of the tile is readable.
#[inline(always)]
pub unsafe fn load_once<const T: usize>(at: *const u8, step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tileloaddt1 tmm{t}, [{at} + 1*{step}]", t = const T, at = in(reg) at, step = in(reg) step,
            options(nostack, readonly));
    }
}

/// Stores a tile.
///
/// # Safety
/// Every row of the tile is writable.
#[inline(always)]
pub unsafe fn store<const T: usize>(at: *mut u8, step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tilestored [{at} + 1*{step}], tmm{t}", t = const T, at = in(reg) at, step = in(reg) step, options(nostack));
    }
}

/// Sums C of unsigned inputs A and signed weights B.
///
/// # Safety
/// The shapes of the three go together.
#[inline(always)]
pub unsafe fn dot<const C: usize, const A: usize, const B: usize>() {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tdpbusd tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B, options(nostack, nomem));
    }
}

/// Clears a tile.
///
/// # Safety
/// The machine has tiles.
#[inline(always)]
pub unsafe fn zero<const T: usize>() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilezero tmm{t}", t = const T, options(nostack, nomem)) }
}

/// Products of registers and nothing else; how many multiply-adds there were.
///
/// # Safety
/// The machine has tiles, and the process may use them.
pub unsafe fn peak(rounds: u64) -> u64 {
    let zeros = [0u8; 64];
    // SAFETY: the caller's promise; every row of a tile that is loaded is the same 64 bytes.
    unsafe {
        Shape::new(ROWS, ROWS).take();
        load::<4>(zeros.as_ptr(), 0);
        load::<5>(zeros.as_ptr(), 0);
        load::<6>(zeros.as_ptr(), 0);
        load::<7>(zeros.as_ptr(), 0);
        for _ in 0..rounds {
            dot::<0, 4, 6>();
            dot::<1, 4, 7>();
            dot::<2, 5, 6>();
            dot::<3, 5, 7>();
        }
        release();
    }
    rounds * (4 * ROWS * BLOCK * 4 * ROWS) as u64
}

/// The same with tiles that are loaded for each four products. With zeros this takes as long as [`peak`], so loads cost no time.
///
/// # Safety
/// As [`peak`].
pub unsafe fn peak_of_bytes(rounds: u64) -> u64 {
    /// Tiles of inputs and of weights.
    const SOME: usize = 8;
    const TILE: usize = 64 * ROWS;
    let mut panel = Bytes::default();
    panel.resize(2 * SOME * TILE);
    panel.iter_mut().enumerate().for_each(|(i, x)| *x = (i * 37 % 251) as u8);
    let (x, w) = panel.split_at(SOME * TILE);
    // SAFETY: the caller's promise; every tile that is loaded is one of those above.
    unsafe {
        Shape::new(ROWS, ROWS).take();
        for round in 0..rounds as usize {
            let at = round % (SOME / 2) * 2 * TILE;
            load::<6>(w[at..].as_ptr(), 64);
            load::<4>(x[at..].as_ptr(), 64);
            dot::<0, 4, 6>();
            load::<7>(w[at + TILE..].as_ptr(), 64);
            dot::<1, 4, 7>();
            load::<5>(x[at + TILE..].as_ptr(), 64);
            dot::<2, 5, 6>();
            dot::<3, 5, 7>();
        }
        release();
    }
    rounds * (4 * ROWS * BLOCK * 4 * ROWS) as u64
}
