//! The matrix product of every instruction set: a tile of positions and filters at a time, sums in registers.
#![allow(unsafe_code)] // Pointers into panels that were checked once, outside the loops.

use std::ops::Range;
use std::{hint, ptr};

use super::pack::{BLOCK, Line};
use super::{Packed, Panel};

/// One register's worth of filters.
///
/// # Safety
/// Functions are called where the machine has the instructions. Pointers are good for what the functions say.
pub(super) unsafe trait Lanes {
    /// Registers of a block of 16 filters.
    const PER_BLOCK: usize;
    /// Bytes of four inputs, as [`quad`](Self::quad) reads them.
    const QUAD: usize = 4;
    /// Sums.
    type Sums: Copy;
    /// Four input bytes in every place.
    type Quad: Copy;
    /// Quads of weights.
    type Weights: Copy;

    /// Reads `BLOCK / PER_BLOCK` values from `at`.
    unsafe fn start(at: *const i32) -> Self::Sums;
    /// Reads [`QUAD`](Self::QUAD) bytes from `at`.
    unsafe fn quad(at: *const u8) -> Self::Quad;
    /// Reads `4 * BLOCK / PER_BLOCK` bytes from `at`.
    unsafe fn weights(at: *const i8) -> Self::Weights;
    /// Adds dot products.
    unsafe fn dot(sums: Self::Sums, x: Self::Quad, w: Self::Weights) -> Self::Sums;
    /// Writes `BLOCK / PER_BLOCK` values to `at`.
    unsafe fn store(sums: Self::Sums, at: *mut i32);
}

/// Where tiles of some positions each are, one after another.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    pub first: Tile,
    pub count: usize,
}

/// Where a tile is.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// First byte of the first position.
    pub x: *const u8,
    pub step: usize,
    pub run_step: usize,
    pub runs: usize,
    pub quads: usize,
    /// First line of the first block.
    pub w: *const Line,
    /// Lines from a block to the next.
    pub block_lines: usize,
    /// Blocks whose lines lie behind those of this tile.
    pub behind: usize,
    pub start: *const i32,
    pub out: *mut i32,
    pub out_step: usize,
}

impl Tiles {
    /// One after another, of so many positions.
    #[inline(always)]
    pub fn each(&self, positions: usize) -> impl Iterator<Item = Tile> {
        let Self { first, count } = *self;
        (0..count).map(move |i| Tile {
            x: first.x.wrapping_add(i * positions * first.step),
            out: first.out.wrapping_add(i * positions * first.out_step),
            ..first
        })
    }
}

/// The sums of `P` positions and `N` registers of filters.
///
/// # Safety
/// The machine has the instructions of `L`. For p < P, run r and quad q: `QUAD` bytes from `x + p * step + r * run_step + q * QUAD` on
/// are readable; `w` has the lines of all blocks of N registers, `block_lines` apart, `start` a place for every filter of them.
#[inline(always)]
pub(super) unsafe fn sums<L: Lanes, const P: usize, const N: usize>(t: &Tile) -> [[L::Sums; N]; P] {
    // SAFETY: the caller's promise.
    unsafe { sums_beside::<L, P, N>(t, || ()) }
}

/// The same, and something else for each quad of every run.
///
/// # Safety
/// As [`sums`].
#[inline(always)]
pub(super) unsafe fn sums_beside<L: Lanes, const P: usize, const N: usize>(
    t: &Tile,
    mut beside: impl FnMut(),
) -> [[L::Sums; N]; P] {
    let per = BLOCK / L::PER_BLOCK;
    // SAFETY: all of it is the caller's promise, restated in the module above each access.
    unsafe {
        let mut sums: [[L::Sums; N]; P] = [std::array::from_fn(|n| L::start(t.start.add(n * per))); P];
        // The first of three neighbours each; the others are one and two steps further, which addresses can express.
        let mut x: [*const u8; P] = std::array::from_fn(|p| t.x.wrapping_add(p / 3 * 3 * t.step));
        let mut w: [*const i8; N] = std::array::from_fn(|n| {
            t.w.add(n / L::PER_BLOCK * t.block_lines).cast::<i8>().add(n % L::PER_BLOCK * per * 4)
        });
        for _ in 0..t.runs {
            for q in 0..t.quads {
                let weights: [L::Weights; N] = std::array::from_fn(|n| L::weights(w[n].add(q * 4 * BLOCK)));
                beside();
                for p in 0..P {
                    let quad = L::quad(x[p].add(p % 3 * t.step + q * L::QUAD));
                    for n in 0..N {
                        sums[p][n] = L::dot(sums[p][n], quad, weights[n]);
                    }
                }
            }
            x = x.map(|x| x.wrapping_add(t.run_step));
            w = w.map(|w| w.wrapping_add(t.quads * 4 * BLOCK));
        }
        sums
    }
}

/// The same of several tiles, stored.
///
/// # Safety
/// As [`sums`], of all tiles; each of `out + p * out_step` has a place for every filter.
#[inline(always)]
pub(super) unsafe fn tiles<L: Lanes, const P: usize, const N: usize>(t: &Tiles) {
    // SAFETY: the caller's promise.
    unsafe { tiles_beside::<L, P, N, _>(t, |_| || ()) }
}

/// The same, and something else for each quad, by tile.
///
/// # Safety
/// As [`tiles`].
#[inline(always)]
pub(super) unsafe fn tiles_beside<L: Lanes, const P: usize, const N: usize, F: FnMut()>(
    t: &Tiles,
    beside: impl Fn(usize) -> F,
) {
    let per = BLOCK / L::PER_BLOCK;
    for (i, tile) in t.each(P).enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let sums = sums_beside::<L, P, N>(&tile, beside(i));
            for (p, sums) in sums.iter().enumerate() {
                for (n, &sums) in sums.iter().enumerate() {
                    L::store(sums, tile.out.add(p * tile.out_step + n * per));
                }
            }
        }
    }
}

/// Computes tiles of as many positions as its index in its table says, less one.
pub(super) type TileFn = unsafe fn(&Tiles);

/// Tiles of so many blocks of filters.
pub(super) struct Shape<F: 'static = TileFn> {
    pub blocks: usize,
    pub tiles: &'static [F],
    /// The same for half of a block, where that is faster.
    pub half: &'static [F],
}

/// The first shape that has no more blocks than are left, and tiles that hold so many positions, or else as many as any do.
pub(super) fn shape_for<F>(shapes: &[Shape<F>], blocks: usize, positions: usize) -> Option<&Shape<F>> {
    let most = shapes.iter().map(|s| s.tiles.len()).max().unwrap_or(1);
    shapes.iter().find(|s| s.blocks <= blocks && s.tiles.len() >= positions.min(most))
}

/// The whole product. `shapes` are in falling order of blocks and end with one of one block; of those whose tiles hold
/// all positions of a row, or else of the last ones, the widest that fits is taken.
///
/// # Safety
/// The machine has the instructions of the tiles.
///
/// # Panics
/// See [`Panel::check`].
pub(super) unsafe fn multiply(
    shapes: &[Shape],
    x: &Panel<'_>,
    w: &Packed,
    blocks: Range<usize>,
    start: &[i32],
    out: &mut [i32],
    out_step: usize,
) {
    x.check(w, &blocks, start, out, out_step);
    // SAFETY: the caller's promise; positions, filters and sums were checked.
    unsafe { checked(shapes, x, w.in_lines(w.lines()), blocks, start, out, out_step, |tile, t, _| tile(t)) }
}

/// Lines of weights: by block, run and what an input of so many bytes meets at once.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub lines: &'a [Line],
    pub runs: usize,
    pub quads: usize,
    pub filters: usize,
}

impl Packed {
    /// Their own lines, or others of the same shape.
    pub(super) fn in_lines<'a>(&self, lines: &'a [Line]) -> Lines<'a> {
        Lines { lines, runs: self.runs(), quads: self.quads(), filters: self.filters() }
    }
}

/// The same of a panel that was checked, whose quads may have another length than those that were. `run` is given what computes tiles, where
/// they are and their first block.
///
/// # Safety
/// As [`multiply`]; all positions have the bytes that lines meet, all blocks have starts, and sums have places.
#[expect(clippy::too_many_arguments)]
pub(super) unsafe fn checked<F: Copy>(
    shapes: &[Shape<F>],
    x: &Panel<'_>,
    w: Lines<'_>,
    blocks: Range<usize>,
    start: &[i32],
    out: &mut [i32],
    out_step: usize,
    run: impl Fn(F, &Tiles, usize),
) {
    let x = x.joined();
    if x.count == 0 {
        return;
    }
    let mut block = blocks.start;
    while block < blocks.end {
        let Some(shape) = shape_for(shapes, blocks.end - block, x.count) else { return };
        // The last block may have no more than half of its filters.
        let half = shape.blocks == 1 && w.filters <= block * BLOCK + BLOCK / 2 && !shape.half.is_empty();
        let tiles = if half { shape.half } else { shape.tiles };
        let parts = x.count.div_ceil(tiles.len());
        let (each, more) = (x.count / parts, x.count % parts);
        for row in 0..x.rows {
            let mut position = 0;
            // Tiles of two sizes at most, the larger ones first.
            for (parts, count) in [(more, each + 1), (parts - more, each)] {
                if parts == 0 {
                    continue;
                }
                let place = (row * x.count + position) * out_step + (block - blocks.start) * BLOCK;
                // SAFETY: the caller's promise; blocks and positions of these tiles are among them. Lines of a block lie together.
                let first = unsafe {
                    Tile {
                        x: x.data.as_ptr().wrapping_add(row * x.row_step + position * x.step),
                        step: x.step,
                        run_step: x.run_step,
                        runs: w.runs,
                        quads: w.quads,
                        w: w.lines.as_ptr().add(block * w.runs * w.quads),
                        block_lines: w.runs * w.quads,
                        behind: w.filters.div_ceil(BLOCK) - block - shape.blocks,
                        start: start.as_ptr().add(block * BLOCK),
                        out: out.as_mut_ptr().add(place),
                        out_step,
                    }
                };
                run(tiles[count - 1], &Tiles { first, count: parts }, block);
                position += parts * count;
            }
        }
        block += shape.blocks;
    }
}

/// Multiply-adds from registers to registers, `rounds` times two for each of `N`: what nothing can be faster than. Gives how
/// many there were.
///
/// # Safety
/// The machine has the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn peak<L: Lanes, const N: usize>(rounds: u64) -> u64 {
    let (mut values, bytes) = ([1i32; BLOCK], [1i8; 4 * BLOCK]);
    // SAFETY: the arrays are as long as the longest reads and writes.
    unsafe {
        // Opaque, and inputs read anew, so that no product is taken for another, nor rounds together.
        let [v, w] = std::array::from_fn(|_| L::weights(hint::black_box(&bytes).as_ptr()));
        let x = L::quad(bytes.as_ptr().cast());
        let mut sums = [[L::start(values.as_ptr()); 2]; N];
        for _ in 0..rounds {
            for sums in &mut sums {
                let x = ptr::read_volatile(&x);
                *sums = [L::dot(sums[0], x, v), L::dot(sums[1], x, w)];
            }
        }
        for s in sums.into_iter().flatten() {
            L::store(s, values.as_mut_ptr());
            hint::black_box(&mut values);
        }
    }
    rounds * (2 * N * BLOCK / L::PER_BLOCK * 4) as u64
}
