//! The matrix product of every instruction set: a tile of positions and filters at a time, sums in registers.
#![allow(unsafe_code)] // Pointers into panels that were checked once, outside the loops.

use super::pack::{BLOCK, Line};
use super::{Packed, Panel};

/// One register's worth of filters.
///
/// # Safety
/// Functions are called where the machine has the instructions. Pointers are good for what the functions say.
pub(super) unsafe trait Lanes {
    /// Registers of a block of 16 filters.
    const PER_BLOCK: usize;
    /// Sums.
    type Sums: Copy;
    /// Four input bytes in every place.
    type Quad: Copy;
    /// Quads of weights.
    type Weights: Copy;

    /// Reads `BLOCK / PER_BLOCK` values from `at`.
    unsafe fn start(at: *const i32) -> Self::Sums;
    /// Reads four bytes from `at`.
    unsafe fn quad(at: *const u8) -> Self::Quad;
    /// Reads `4 * BLOCK / PER_BLOCK` bytes from `at`.
    unsafe fn weights(at: *const i8) -> Self::Weights;
    /// Adds dot products.
    unsafe fn dot(sums: Self::Sums, x: Self::Quad, w: Self::Weights) -> Self::Sums;
    /// Writes `BLOCK / PER_BLOCK` values to `at`.
    unsafe fn store(sums: Self::Sums, at: *mut i32);
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
    pub start: *const i32,
    pub out: *mut i32,
    pub out_step: usize,
}

/// Computes `P` positions and `N` registers of filters.
///
/// # Safety
/// The machine has the instructions of `L`. For p < P, run r and quad q: bytes `x + p * step + r * run_step + 4 * q` and
/// the three behind are readable; `w` has the lines of all blocks of N registers; `start` and each of `out + p * out_step`
/// have a place for every filter of them.
#[inline(always)]
pub(super) unsafe fn tile<L: Lanes, const P: usize, const N: usize>(t: &Tile) {
    let per = BLOCK / L::PER_BLOCK;
    let block_lines = t.runs * t.quads;
    // SAFETY: all of it is the caller's promise, restated in the module above each access.
    unsafe {
        let mut sums: [[L::Sums; N]; P] = [std::array::from_fn(|n| L::start(t.start.add(n * per))); P];
        // The first of three neighbours each; the others are one and two steps further, which addresses can express.
        let mut x: [*const u8; P] = std::array::from_fn(|p| t.x.wrapping_add(p / 3 * 3 * t.step));
        let mut w: [*const i8; N] = std::array::from_fn(|n| {
            t.w.add(n / L::PER_BLOCK * block_lines).cast::<i8>().add(n % L::PER_BLOCK * per * 4)
        });
        for _ in 0..t.runs {
            for q in 0..t.quads {
                let weights: [L::Weights; N] = std::array::from_fn(|n| L::weights(w[n].add(q * 4 * BLOCK)));
                for p in 0..P {
                    let quad = L::quad(x[p].add(p % 3 * t.step + q * 4));
                    for n in 0..N {
                        sums[p][n] = L::dot(sums[p][n], quad, weights[n]);
                    }
                }
            }
            x = x.map(|x| x.wrapping_add(t.run_step));
            w = w.map(|w| w.wrapping_add(t.quads * 4 * BLOCK));
        }
        for (p, sums) in sums.iter().enumerate() {
            for (n, &sums) in sums.iter().enumerate() {
                L::store(sums, t.out.add(p * t.out_step + n * per));
            }
        }
    }
}

/// Computes a tile of as many positions as its index in its table says, less one.
pub(super) type TileFn = unsafe fn(&Tile);

/// Tiles of so many blocks of filters.
pub(super) struct Shape {
    pub blocks: usize,
    pub tiles: &'static [TileFn],
}

/// The whole product. `shapes` are in falling order of blocks and end with one of one block; of those whose tiles hold
/// all positions, or else of the last ones, the widest that fits is taken.
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
    start: &[i32],
    out: &mut [i32],
    out_step: usize,
) {
    x.check(w, start, out, out_step);
    let blocks = w.width() / BLOCK;
    let most = shapes.iter().map(|s| s.tiles.len()).max().unwrap_or(1);
    let mut block = 0;
    while block < blocks {
        let fits = |s: &&Shape| s.blocks <= blocks - block && (s.tiles.len() >= x.count.min(most));
        let Some(shape) = shapes.iter().find(fits) else { return };
        let parts = x.count.div_ceil(shape.tiles.len());
        let mut position = 0;
        for part in 0..parts {
            let count = (x.count - position).div_ceil(parts - part);
            // SAFETY: `check` has shown that all positions of the panel have their bytes, that all blocks have starts and
            // sums have places; blocks and positions of this tile are among them. Lines of a block lie together.
            unsafe {
                shape.tiles[count - 1](&Tile {
                    x: x.data.as_ptr().wrapping_add(position * x.step),
                    step: x.step,
                    run_step: x.run_step,
                    runs: w.runs(),
                    quads: w.quads(),
                    w: w.lines().as_ptr().add(block * w.runs() * w.quads()),
                    start: start.as_ptr().add(block * BLOCK),
                    out: out.as_mut_ptr().add(position * out_step + block * BLOCK),
                    out_step,
                });
            }
            position += count;
        }
        block += shape.blocks;
    }
}

/// Multiply-adds from registers to registers, `rounds` times `N` instructions: what nothing can be faster than. Gives how
/// many there were.
///
/// # Safety
/// The machine has the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn peak<L: Lanes, const N: usize>(rounds: u64) -> u64 {
    let (mut values, bytes) = ([1i32; BLOCK], [1i8; 4 * BLOCK]);
    // SAFETY: the arrays are as long as the longest reads and writes.
    unsafe {
        let (x, w) = (L::quad(bytes.as_ptr().cast()), L::weights(bytes.as_ptr()));
        let mut sums = [L::start(values.as_ptr()); N];
        for _ in 0..rounds {
            // Opaque, so that rounds are not taken together.
            let x = std::hint::black_box(x);
            for sum in &mut sums {
                *sum = L::dot(*sum, x, w);
            }
        }
        for s in sums {
            L::store(s, values.as_mut_ptr());
            std::hint::black_box(&mut values);
        }
    }
    rounds * (N * BLOCK / L::PER_BLOCK * 4) as u64
}

/// Depthwise sums of one register: rows of quads against rows of weights.
///
/// # Safety
/// Called with checked rows (`check_depthwise`), where the machine has the instructions of `dot`.
macro_rules! elementwise {
    ($load:expr, $start:expr, $dot:expr, $store:expr, $lanes:expr, $x:expr, $w:expr, $first:expr, $out:expr) => {{
        let period = $first.len();
        let mut at = 0;
        for i in (0..$out.len()).step_by($lanes) {
            let mut sums = $start($first.as_ptr().add(at));
            for (r, row) in $x.iter().enumerate() {
                sums = $dot(sums, $load(row.as_ptr().add(i).cast()), $load($w.as_ptr().add(r * period + at).cast()));
            }
            $store($out.as_mut_ptr().add(i), sums);
            at += $lanes;
            if at == period {
                at = 0;
            }
        }
    }};
}
pub(super) use elementwise;

/// The loops that compilers vectorise, compiled for an instruction set.
macro_rules! loops_with {
    ($features:literal) => {
        #[target_feature(enable = $features)]
        fn interleave(x: &[u8], quads: Quads, out: &mut [u32]) {
            loops::interleave(x, quads, out);
        }

        #[target_feature(enable = $features)]
        fn affine(sums: &[i32], affine: &Affine, out: &mut [u8]) {
            loops::affine(sums, affine, out);
        }

        #[target_feature(enable = $features)]
        fn steps(sums: &[i32], edges: &[i32], period: usize, out: &mut [u8]) {
            loops::steps(sums, edges, period, out);
        }

        #[target_feature(enable = $features)]
        fn largest(held: &mut [u8], new: &[u8], signed: bool) {
            loops::largest(held, new, signed);
        }

        #[target_feature(enable = $features)]
        fn offset(bytes: &[u8], out: &mut [u8]) {
            loops::offset(bytes, out);
        }
    };
}
pub(super) use loops_with;

/// A set's methods, by way of the functions of its module.
macro_rules! kernels {
    ($set:ty, $name:literal) => {
        impl Kernels for $set {
            fn name(&self) -> &'static str {
                $name
            }

            fn multiply(&self, x: &Panel<'_>, w: &Packed, start: &[i32], out: &mut [i32], out_step: usize) {
                // SAFETY: a value of this type exists only where its instructions were detected.
                unsafe { tile::multiply(SHAPES, x, w, start, out, out_step) }
            }

            fn peak(&self, rounds: u64) -> u64 {
                // SAFETY: as above.
                unsafe { peak(rounds) }
            }

            fn depthwise(&self, x: &[&[u32]], w: &[u32], start: &[i32], out: &mut [i32]) {
                check_depthwise(x, w, start, out);
                // SAFETY: as above; lengths were checked.
                unsafe { depthwise(x, w, start, out) }
            }

            fn interleave(&self, x: &[u8], quads: Quads, out: &mut [u32]) {
                // SAFETY: as above.
                unsafe { interleave(x, quads, out) }
            }

            fn affine(&self, sums: &[i32], scale: &Affine, out: &mut [u8]) {
                // SAFETY: as above.
                unsafe { affine(sums, scale, out) }
            }

            fn steps(&self, sums: &[i32], edges: &[i32], period: usize, out: &mut [u8]) {
                // SAFETY: as above.
                unsafe { steps(sums, edges, period, out) }
            }

            fn largest(&self, held: &mut [u8], new: &[u8], signed: bool) {
                // SAFETY: as above.
                unsafe { largest(held, new, signed) }
            }

            fn offset(&self, bytes: &[u8], out: &mut [u8]) {
                // SAFETY: as above.
                unsafe { offset(bytes, out) }
            }
        }
    };
}
pub(super) use kernels;
